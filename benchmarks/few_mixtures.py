"""How laws do on tables of few mixtures: error at an unseen size against the number of mixtures a domain.

    python benchmarks/few_mixtures.py FOLDER [--tables slimpajama,pile5,redpajama7] [--draws 3]
    python benchmarks/few_mixtures.py camel_jax/data --tables proxy_runs

Runs of all sizes but the two largest, of mixtures drawn at random; error on all runs of the second largest, most of whose mixtures were
not fitted. The largest size is left alone. The public tables have two sizes to fit, the package's own three. Each draw is the same for
all laws, at their defaults. Writes benchmarks/results/few_mixtures.json, row by row, and goes on from what it holds.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess

import jax
import numpy as np

from camel_jax import laws
from camel_jax.fitting import fit
from camel_jax.storage import replacing
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import final_rows, select, split_by_scale

RESULTS = pathlib.Path(__file__).parent / "results"
RATIOS = (1.3, 2.0, 3.0)  # mixtures a domain; then all there are
LAWS = {"camel": laws.camel, "sodm": laws.sodm, "blend": laws.blend, "dml": laws.dml}


def draw(runs, n_mixtures: int, seed: int):
    """The runs of so many mixtures, drawn at random, and the number drawn."""
    mixtures, which = np.unique(np.asarray(runs.recipe.weights).round(6), axis=0, return_inverse=True)
    some = np.random.default_rng(seed).permutation(len(mixtures))[:n_mixtures]
    return select(runs, np.isin(which.ravel(), some)), len(some)


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "few_mixtures.json")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    machine = {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}
    rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    for table in args.tables.split(","):
        below, _ = split_by_scale(read_runs(args.folder / f"{table}.csv"), 1)
        below, unseen = split_by_scale(below, 1)
        n_domains, finished = len(below.domains), final_rows(unseen)
        for ratio in (*RATIOS, np.inf):
            for seed in range(args.draws if np.isfinite(ratio) else 1):
                wanted = int(min(round(ratio * n_domains), len(below))) if np.isfinite(ratio) else len(below)
                some, n_mixtures = draw(below, wanted, seed)
                place = {"table": table, "domains": n_domains, "mixtures": n_mixtures, "draw": seed}
                if any(place.items() <= row.items() for row in rows):
                    continue
                errors = {}
                for name, law in LAWS.items():
                    fitted = fit(law(), some, key=jax.random.key(seed), starts=4, backtests=0)
                    gap = 100 * np.abs(np.asarray(fitted.predict(unseen.recipe)) / np.asarray(unseen.losses) - 1)
                    errors[name] = {"all": float(np.nanmean(gap)), "final": float(np.nanmean(gap[finished]))}
                jax.clear_caches()  # every cell has shapes, and so programs, of its own, and a process may map only so many
                rows.append({**place, "runs": len(np.unique(some.run)), "rows": len(some), "errors": errors})
                print(place, {k: {what: round(x, 3) for what, x in v.items()} for k, v in errors.items()}, flush=True)
                result = {"commit": commit, "versions": machine, "rows": rows}
                with replacing(args.out) as path:
                    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
