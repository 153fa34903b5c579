"""The leaderboard over a folder of public run tables, as JSON: python benchmarks/leaderboard.py FOLDER [--holdout 1] [--laws a,b].

Tables: slimpajama, pile5 and redpajama7 with their largest sizes held out; regmix_pile17 fitted on its 1.3M runs and 25 of its
59M runs, and judged on the other 59M runs. Writes benchmarks/results/leaderboard_holdout<k>.json; with --update only the rows
that are run again or anew change there, and what made them is noted under "updates". The shipped table of proxy runs:
python benchmarks/leaderboard.py camel_jax/data --tables proxy_runs --resamples 32 --name proxy.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import subprocess

RESULTS = pathlib.Path(__file__).parent / "results"


def main() -> None:
    """Fit, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7,regmix_pile17")
    parser.add_argument("--holdout", type=int, default=1)
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
    from camel_jax.evaluation.methods import methods
    from camel_jax.evaluation.scores import Row

    # of the code that runs, so asked before it does
    asked = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    tables = args.tables.split(",")
    laws = list(methods([x for x in args.laws.split(",") if x]))
    tasks = [(args, table, law) for law in laws for table in tables]
    path = RESULTS / f"leaderboard_{args.name or f'holdout{args.holdout}'}.json"
    old = json.loads(path.read_text()) if args.update else None
    found: dict[tuple[str, str], dict] = {}
    with multiprocessing.get_context("spawn").Pool(args.jobs, pin, (args.jobs,)) as pool:
        for row, versions in pool.imap_unordered(judge_one, tasks):
            found[row["table"], row["method"]] = row
            print(f"{len(found)} of {len(tasks)}", row, flush=True)
            ordered = [found[table, law] for table in tables for law in laws if (table, law) in found]
            settings = {k: str(v) for k, v in vars(args).items() if k not in ("folder", "update")}
            made = {"commit": commit, "settings": settings, **versions}
            write(path, made | {"rows": ordered} if old is None else updated(old, made, ordered))
    for table in tables:
        print_rows(table, [Row(**row) for row in ordered if row["table"] == table])


def pin(jobs: int) -> None:
    """One core for each of several processes."""
    if jobs > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[(multiprocessing.current_process()._identity[0] - 1) % len(cores)]})


def judge_one(task: tuple[argparse.Namespace, str, str]) -> tuple[dict, dict]:
    """One law on one table: its row, and the versions that made it."""
    from camel_jax.runtime import start_engine

    start_engine()
    import jax
    import jaxlib

    from camel_jax.evaluation.leaderboard import judge
    from camel_jax.evaluation.methods import methods
    from camel_jax.tables.read import read_runs
    from camel_jax.tables.runs import split_by_scale

    args, table, law = task
    runs = read_runs(args.folder / f"{table}.csv")
    below, above = few_large(runs) if table.startswith("regmix") else split_by_scale(runs, args.holdout)
    method = methods([law], starts=args.starts, resamples=args.resamples)[law]
    row = judge(table, law, method, below, above, jax.random.key(args.seed))
    versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "device": jax.devices()[0].device_kind}
    return row._asdict(), versions | {"dtype": "float64", "python": platform.python_version()}


def updated(old: dict, made: dict, rows: list[dict]) -> dict:
    """An earlier result with some rows run again, or for the first time."""
    fresh = {(row["table"], row["method"]): row for row in rows}
    names = [" ".join(key) for key in fresh]
    kept = [fresh.pop((row["table"], row["method"]), row) for row in old["rows"]]
    kept += fresh.values()
    return old | {"rows": kept, "updates": [*old.get("updates", []), made | {"rows": names}]}


def write(path: pathlib.Path, result: dict) -> None:
    """The result so far, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(result, indent=1, default=float) + "\n")
    path.with_suffix(".part").replace(path)


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
