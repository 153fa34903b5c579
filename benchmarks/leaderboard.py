"""The leaderboard over a folder of public run tables, as JSON: python benchmarks/leaderboard.py FOLDER [--holdout 1] [--laws a,b].

Tables: slimpajama, pile5 and redpajama7 with their largest sizes held out; regmix_pile17 fitted on its 1.3M runs and 25 of its
59M runs, and judged on the other 59M runs. Writes benchmarks/results/leaderboard_holdout<k>.json.
"""

from __future__ import annotations

import argparse
import json
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
    parser.add_argument("--laws", default="")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--resamples", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    from camel_jax.cli.console import start_engine

    start_engine()
    import jax
    import jaxlib

    from camel_jax.cli.leaderboard import print_rows
    from camel_jax.evaluate import judge, methods
    from camel_jax.runs import split_by_scale
    from camel_jax.tables import read_runs

    key = jax.random.key(args.seed)
    chosen = methods([x for x in args.laws.split(",") if x], starts=args.starts, resamples=args.resamples)
    rows = []
    for name in args.tables.split(","):
        runs = read_runs(args.folder / f"{name}.csv")
        below, above = few_large(runs) if name.startswith("regmix") else split_by_scale(runs, args.holdout)
        mine = []
        for label, method in chosen.items():
            mine.append(judge(name, label, method, below, above, key))
            print(mine[-1], flush=True)
        print_rows(name, mine)
        rows += mine
        result = {
            "settings": {k: str(v) for k, v in vars(args).items() if k != "folder"},
            "commit": subprocess.run(
                ["git", "rev-parse", "HEAD"], check=False, capture_output=True, text=True
            ).stdout.strip(),
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "device": jax.devices()[0].device_kind,
            "dtype": "float64",
            "python": platform.python_version(),
            "rows": [row._asdict() for row in rows],
        }
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"leaderboard_holdout{args.holdout}.json"
        path.write_text(json.dumps(result, indent=1, default=float) + "\n")


def few_large(runs, count: int = 25):
    """The smaller size and the first ``count`` runs of the larger one, and the rest of the larger one."""
    import numpy as np

    from camel_jax.runs import select

    active = np.asarray(runs.recipe.n_active)
    large = np.flatnonzero(active == active.max())
    taken = np.random.default_rng(0).permutation(large)[:count]
    fitted = (active < active.max()) | np.isin(np.arange(len(active)), taken)
    return select(runs, fitted), select(runs, ~fitted)


if __name__ == "__main__":
    main()
