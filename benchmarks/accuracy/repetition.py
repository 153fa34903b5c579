"""Repeated data: laws fitted below each size of the public table of Muennighoff et al., judged on all larger ones.

    python benchmarks/accuracy/repetition.py FOLDER [--laws camel,sodm] [--sizes 2.8e8,6e8,1e9,1.5e9,2e9]

Mean relative error in % on all rows of ``datablations.csv`` at the size and above, on rows of at most 16 epochs, and rank correlation
there, with the residual field and without. Writes benchmarks/results/repetition.json, row by row, and goes on from what it holds.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
import time

import jax
import numpy as np
from scipy.stats import spearmanr

from camel_jax import laws
from camel_jax.fitting import fit
from camel_jax.prediction.residual_field import no_field
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import select

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import stored, write

FEW_EPOCHS = 16.0


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--laws", default="camel,sodm")
    parser.add_argument("--sizes", default="2.8e8,6e8,1e9,1.5e9,2e9")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "repetition.json")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    head = provenance()
    rows = stored(args.out, {"rows": []})["rows"]
    runs = read_runs(args.folder / "datablations.csv")
    active = np.asarray(runs.recipe.n_active, float)
    for size in (float(x) for x in args.sizes.split(",")):
        unseen = select(runs, active >= size)
        r, measured = unseen.recipe, np.asarray(unseen.losses)
        epochs = np.nanmax(np.asarray(r.weights) * np.asarray(r.tokens)[:, None] / np.asarray(r.supply), 1)
        few = epochs <= FEW_EPOCHS
        for name in args.laws.split(","):
            place = {"law": name, "below": size}
            if any(place.items() <= row.items() for row in rows):
                continue
            began = time.process_time()
            starts = 4 if name in ("camel", "blend") else 8
            fitted = fit(
                laws.CONSTRUCTORS[name](),
                select(runs, active < size),
                key=jax.random.key(0),
                starts=starts,
                backtests=0,
            )
            row = {**place, "fitted": int((active < size).sum()), "predicted": len(unseen), "few": int(few.sum())}
            row["seconds"] = time.process_time() - began
            plain = dataclasses.replace(fitted, field=no_field(len(runs.domains), len(runs.sets)))
            for suffix, one in (("", plain), ("_with_field", fitted)):
                predicted = np.asarray(one.predict(r))
                gap = 100 * np.abs(predicted / measured - 1)
                row[f"error{suffix}"], row[f"error_few{suffix}"] = float(gap.mean()), float(gap[few].mean())
                row[f"rank_few{suffix}"] = float(spearmanr(predicted[few, 0], measured[few, 0])[0])
            rows.append(row)
            print(row, flush=True)
            write(args.out, {**head, "rows": rows})


if __name__ == "__main__":
    main()
