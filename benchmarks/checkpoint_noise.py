"""How much the checkpoints of a run scatter about a smooth curve: what no law of size, tokens and mixture can predict.

    python benchmarks/checkpoint_noise.py FOLDER [--tables slimpajama,pile5,redpajama7]

Each checkpoint in the later part of a run is compared with the line, in log loss against log tokens, through its two neighbors,
and the gap divided by what independent noise of equal size at all three would make of it. No law is fitted. Writes
benchmarks/results/checkpoint_noise.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess

import jax
import numpy as np

from camel_jax.storage import replacing
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import progress, scales

RESULTS = pathlib.Path(__file__).parent / "results"
LATE = 0.4  # progress from which a run is taken as smooth
APART = 0.02  # least distance in log tokens of two checkpoints


def scatter(runs, size: float) -> np.ndarray:
    """Noise of single checkpoints at one size, in log loss: (gaps, V)."""
    tokens, losses = np.log(np.asarray(runs.recipe.tokens, float)), np.log(np.asarray(runs.losses, float))
    done, gaps = progress(runs), []
    for run in np.unique(np.asarray(runs.run)[np.asarray(runs.recipe.n_active) == size]):
        rows = np.flatnonzero((np.asarray(runs.run) == run) & (done >= LATE))
        rows = rows[np.argsort(tokens[rows])]
        rows = rows[np.concatenate([[True], np.diff(tokens[rows]) > APART])]
        for before, here, after in zip(rows, rows[1:], rows[2:], strict=False):
            w = (tokens[here] - tokens[before]) / (tokens[after] - tokens[before])
            line = (1 - w) * losses[before] + w * losses[after]
            gaps.append((losses[here] - line) / np.sqrt(1 + w**2 + (1 - w) ** 2))
    return np.array(gaps)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    for table in args.tables.split(","):
        runs = read_runs(args.folder / f"{table}.csv")
        for size in scales(runs):
            gaps = scatter(runs, size)
            row = {"table": table, "size": float(size), "gaps": int(np.isfinite(gaps).sum())}
            row["mean_absolute"] = 100 * float(np.nanmean(np.abs(gaps)))
            row["root_mean_square"] = 100 * float(np.sqrt(np.nanmean(gaps**2)))
            rows.append(row)
            print(row, flush=True)
    asked = ["git", "-C", str(RESULTS.parent), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    head = {"commit": commit, "python": platform.python_version(), "numpy": np.__version__, "dtype": "float64"}
    with replacing(RESULTS / "checkpoint_noise.json") as part:
        part.write_text(json.dumps({**head, "device": "cpu", "unit": "% of the loss", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
