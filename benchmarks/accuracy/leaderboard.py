"""The leaderboard over a folder of public run tables, as JSON.

    python benchmarks/accuracy/leaderboard.py FOLDER [--holdout 1] [--laws a,b]
    python benchmarks/accuracy/leaderboard.py FOLDER --tables olmix24 --holdout mixtures=0.25 --laws ridge,sodm --name mixtures
    python benchmarks/accuracy/leaderboard.py camel_jax/data --tables proxy_runs --resamples 32 --name proxy

Tables: slimpajama, pile5 and redpajama7 with their largest sizes held out; regmix_pile17 fitted on its 1.3M runs and 25 of its
59M runs, and judged on the other 59M runs. Writes benchmarks/results/leaderboard_holdout<k>.json; with --update only the rows
that are run again or anew change there, and what made them is noted under "updates". The second command is for the table that comes
with the package.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.pages import read
from common.provenance import RESULTS, commit, provenance
from common.results import write


def main() -> None:
    """Fit, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7,regmix_pile17")
    parser.add_argument("--holdout", default="1", help="sizes=K or K, mixtures=0.25 or tokens")
    parser.add_argument("--laws", default="", help="names with commas; all if empty")
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--resamples", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="", help="of the result, leaderboard_<name>.json; holdout<k> if empty")
    parser.add_argument("--update", action="store_true", help="keep the other rows of the file")
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes, one core each; seconds are then those of one core"
    )
    args = parser.parse_args()

    from camel_jax.cli.leaderboard import print_rows
    from camel_jax.evaluation.leaderboard import mean_over_folds
    from camel_jax.evaluation.methods import methods
    from camel_jax.evaluation.scores import Row

    begun = commit()  # of the code that runs, so asked before it does
    tables = args.tables.split(",")
    laws = list(methods([x for x in args.laws.split(",") if x]))
    tasks = [(args, table, law) for law in laws for table in tables]
    path = RESULTS / f"leaderboard_{args.name or f'holdout{args.holdout}'}.json"
    old = read(path.stem) if args.update else None
    found: dict[tuple[str, str], list[dict]] = {}
    with multiprocessing.get_context("spawn").Pool(args.jobs, pin, (args.jobs,)) as pool:
        for judged, made_by in pool.imap_unordered(judge_one, tasks):
            found[judged[0]["table"], judged[0]["method"]] = judged
            print(f"{len(found)} of {len(tasks)}", *judged, sep="\n", flush=True)
            ordered = [row for table in tables for law in laws for row in found.get((table, law), ())]
            settings = {k: str(v) for k, v in vars(args).items() if k not in ("folder", "update")}
            made = made_by | begun | {"settings": settings}
            write(path, made | {"rows": ordered} if old is None else updated(old, made, ordered))
    for table in tables:
        print_rows(table, mean_over_folds([Row(**row) for row in ordered if row["table"] == table]))


def pin(jobs: int) -> None:
    """One core for each of several processes."""
    if jobs > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[(multiprocessing.current_process()._identity[0] - 1) % len(cores)]})


def judge_one(task: tuple[argparse.Namespace, str, str]) -> tuple[list[dict], dict]:
    """One law on one table: its rows, one a fold, and what made them."""
    from camel_jax.runtime import start_engine

    start_engine()
    import jax

    from camel_jax.evaluation.leaderboard import judge
    from camel_jax.evaluation.methods import methods
    from camel_jax.evaluation.splits import Split, split
    from camel_jax.tables.read import read_runs

    args, table, law = task
    runs = read_runs(args.folder / f"{table}.csv")
    special = table.startswith("regmix") and args.holdout.isdecimal()
    splits = [Split("most 59M runs", *few_large(runs))] if special else split(runs, args.holdout)
    method = methods([law], starts=args.starts, resamples=args.resamples)[law]
    key = jax.random.key(args.seed)
    return [judge(table, law, method, s.below, s.above, key, s.name)._asdict() for s in splits], provenance()


def updated(old: dict, made: dict, rows: list[dict]) -> dict:
    """An earlier result with some rows run again, or for the first time; rows that name no holdout have the file's only one."""
    fresh = {place(row) for row in rows}
    names = [" ".join(key) for key in sorted(fresh)]
    alone = {key[:2] for key in fresh}
    again = [
        (row["table"], row["method"]) in alone if "holdout" not in row else place(row) in fresh for row in old["rows"]
    ]
    kept = [row for row, anew in zip(old["rows"], again, strict=True) if not anew] + rows
    return old | {"rows": kept, "updates": [*old.get("updates", []), made | {"rows": names}]}


def place(row: dict) -> tuple[str, str, str]:
    """What was judged."""
    return row["table"], row["method"], row["holdout"]


def few_large(runs, count: int = 25):
    """The smaller size and the first ``count`` runs of the larger one, and the rest of the larger one."""
    import numpy as np

    from camel_jax.tables.runs import select

    active = np.asarray(runs.recipe.n_active)
    large = np.flatnonzero(active == active.max())
    taken = np.random.default_rng(0).permutation(large)[:count]
    fitted = (active < active.max()) | np.isin(np.arange(len(active)), taken)
    return select(runs, fitted), select(runs, ~fitted)


if __name__ == "__main__":
    main()
