"""One wrong loss: what it does to predictions elsewhere, to the width of intervals, and whether it is named.

    python benchmarks/accuracy/one_bad_row.py FOLDER [--tables a,b] [--law camel]

In each table one loss of one run in the middle of the table is multiplied by 10, 3, 1.5 and 0.1 in turn. The law is fitted to the table
as it is and as altered; predictions of all other rows and at four times the largest size are compared: the largest movement, in
half-widths of the 90 % interval, and the largest change of a width. Writes benchmarks/results/one_bad_row.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

import jax
import numpy as np
from error_residuals import tables

from camel_jax import laws
from camel_jax.fitting.fit import fit
from camel_jax.fitting.intervals import predict_interval
from camel_jax.recipes.recipe import select_recipe
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import final_rows

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import write

FACTORS = (10.0, 3.0, 1.5, 0.1)
TABLES = "kempner6,marin3,openlm_benchmarks,pile5,proxy_runs"


def main() -> None:
    """Fit, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default=TABLES)
    parser.add_argument("--law", default="camel")
    parser.add_argument("--starts", type=int, default=2)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    head, rows = provenance() | {"law": args.law, "starts": args.starts}, []
    law = laws.CONSTRUCTORS[args.law]()
    for path in tables(args.folder, args.tables):
        runs = read_runs(path)
        losses, active = np.asarray(runs.losses, float), np.asarray(runs.recipe.n_active, float)
        final = np.flatnonzero(final_rows(runs) & np.isfinite(losses[:, 0]))
        row = int(final[np.argsort(active[final], kind="stable")][len(final) // 2])
        far = select_recipe(runs.recipe, np.flatnonzero(active == active.max())[:8])
        far = dataclasses.replace(far, n_active=4 * np.asarray(far.n_active), n_total=4 * np.asarray(far.n_total))

        def said(table):
            found = fit(law, table, key=jax.random.key(0), starts=args.starts)
            near, beyond = (predict_interval(found, recipe) for recipe in (table.recipe, far))  # noqa: B023
            points = [
                np.log(np.concatenate([getattr(x, part) for x in (near, beyond)])) for part in ("point", "low", "high")
            ]
            return points, found.notes

        (point, low, high), _ = said(runs)
        others = np.arange(len(point)) != row
        for factor in FACTORS:
            altered = losses.copy()
            altered[row, 0] *= factor
            (moved, lower, upper), notes = said(dataclasses.replace(runs, losses=altered))
            shift = np.abs(moved - point)[others] / ((high - low) / 2)[others]
            wider = ((upper - lower) / (high - low))[others]
            name, column = runs.run_names[int(runs.run[row])], f"loss/{runs.sets[0]}"
            rows.append(
                {
                    "table": path.stem,
                    "factor": factor,
                    "largest_move_in_half_widths": float(shift.max()),
                    "median_move_in_half_widths": float(np.median(shift)),
                    "largest_width_ratio": float(wider.max()),
                    "smallest_width_ratio": float(wider.min()),
                    "named": any(name in note and column in note for note in notes),
                }
            )
            print(rows[-1], flush=True)
            write(RESULTS / "one_bad_row.json", {**head, "rows": rows})
        jax.clear_caches()


if __name__ == "__main__":
    main()
