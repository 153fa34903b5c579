"""Swarms of one size: mixtures held out in four folds, for the default, the floor for swarms, and ridge on roots of shares.

    python benchmarks/accuracy/swarms.py FOLDER [--tables olmix24] [--seeds 2]

Ridge has its strength chosen set by set by leave-one-out error, on losses or on their logarithms. Mean relative error in % of every
fold. Writes benchmarks/results/swarms.json.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import jax
import numpy as np

from camel_jax import laws
from camel_jax.fitting import fit
from camel_jax.recipes.recipe import select_recipe
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import mixture_ids, select

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import write

FOLDS, STRENGTHS = 4, 10.0 ** np.arange(-4, 4.01, 0.25)


def ridge(features: np.ndarray, values: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Predictions of ridge regression with the strength of least leave-one-out error."""
    center, mean = features.mean(0), values.mean()
    left, size, right = np.linalg.svd(features - center, full_matrices=False)
    best = None
    for strength in STRENGTHS:
        keep = size**2 / (size**2 + strength)
        along = left.T @ (values - mean)
        lever = (left**2 * keep).sum(1) + 1 / len(values)
        error = np.sum(((values - mean - left @ (keep * along)) / (1 - lever)) ** 2)
        if best is None or error < best[0]:
            best = error, right.T @ (size / (size**2 + strength) * along)
    return mean + (unseen - center) @ best[1]


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default="olmix24")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "swarms.json")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    head, rows = provenance(), []
    for table in args.tables.split(","):
        runs = read_runs(args.folder / f"{table}.csv")
        ids, root, losses = mixture_ids(runs), np.sqrt(np.asarray(runs.recipe.weights)), np.asarray(runs.losses, float)
        for seed in range(args.seeds):
            order = np.argsort(np.unique(ids, return_index=True)[1])  # mixtures in the order of the table
            fold = np.empty(len(order), int)
            fold[order[np.random.default_rng(seed).permutation(len(order))]] = np.arange(len(order)) % FOLDS
            fold = fold[ids]
            for k in range(FOLDS):
                kept, began = fold != k, time.process_time()
                part, unseen = select(runs, kept), select_recipe(runs.recipe, ~kept)
                fitted = fit(laws.concave(), part, key=jax.random.key(0), starts=1, backtests=0, field=False)
                said = {"concave": np.asarray(fitted.predict(unseen))}
                default = fit(laws.blend(), part, key=jax.random.key(0), starts=1, backtests=0)
                said["default"] = np.asarray(default.predict(unseen))
                seconds = time.process_time() - began
                sets = range(losses.shape[1])
                said["ridge"] = np.stack([ridge(root[kept], losses[kept, v], root[~kept]) for v in sets], 1)
                logs = np.log(losses)
                said["ridge_log"] = np.exp(np.stack([ridge(root[kept], logs[kept, v], root[~kept]) for v in sets], 1))
                errors = {name: float(100 * np.mean(np.abs(x / losses[~kept] - 1))) for name, x in said.items()}
                power = float(np.ravel(fitted.best()["power"])[0])
                rows.append(
                    {
                        "table": table,
                        "seed": seed,
                        "fold": k,
                        "cpu_seconds": seconds,
                        "power": power,
                        "weights": default.part_weights,
                        "errors": errors,
                    }
                )
                print(rows[-1], flush=True)
    write(args.out, {**head, "rows": rows})


if __name__ == "__main__":
    main()
