"""What each part of the default law is worth: CAMEL with one thing changed at a time, fitted below a held-out scale and judged there.

    python benchmarks/ablations.py FOLDER [--tables slimpajama,pile5,redpajama7] [--settings a,b] [--holdout 1]

Without the residual field, which would hide differences between laws. Writes benchmarks/results/ablations_holdout<k>.json after every
fit, and continues from what is there if it was made by the same code.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import platform
import subprocess
import time
from typing import Any

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results"


def variants() -> dict[str, dict[str, Any]]:
    """Settings of a fit by name; the law is under "law"."""
    from camel_jax.laws.camel import camel

    return {
        "default": {"law": camel()},
        "8 skills": {"law": camel(skills=8)},
        "24 skills": {"law": camel(skills=24)},
        "exact split": {"law": camel(exact=True)},
        "terms added in place of coupled": {"law": camel(coupled=False)},
        "data term blind to the mixture": {"law": blind_data(), "solver": "lbfgs"},
        "rows weighted alike": {"law": camel(), "weighting": "uniform"},
        "final checkpoints only": {"law": camel(), "weighting": "final"},
        "every set on its own": {"law": camel(), "per_set": True},
    }


def blind_data() -> Any:
    """CAMEL whose data term reads all tokens, D, in place of those that serve a skill, q_s D."""
    import jax.numpy as jnp

    from camel_jax.laws.allocation import log_allocate_closed
    from camel_jax.laws.camel import camel, log_demand

    law = camel()

    def predict(params: Any, recipe: Any) -> Any:
        demand, amplitudes = log_demand(params.transfer, recipe), jnp.log(params.amplitudes)
        log_m = log_allocate_closed(demand, amplitudes, params.capacity_exponents, jnp.log(recipe.n_active))
        capacity = -params.capacity_exponents * log_m
        data = jnp.log(params.data_scales) - params.data_exponents * jnp.log(recipe.tokens)
        p = params.couplings
        return params.floors + params.coefficients @ jnp.exp(jnp.logaddexp(p * capacity, p * data) / p)

    return law._replace(predict=predict)


def predictions(runs: Any, recipe: Any, seed: int, starts: int, law: Any, per_set: bool = False, **options: Any) -> Any:
    """Predicted losses (R, V) of a variant fitted to a table."""
    import jax

    from camel_jax.fitting import fit

    options = {"key": jax.random.key(seed), "starts": starts, "backtests": 0, "field": False, **options}
    if not per_set:
        return np.asarray(fit(law, runs, **options).predict(recipe))
    columns = []
    for v, name in enumerate(runs.sets):
        one = dataclasses.replace(runs, losses=runs.losses[:, v : v + 1], sets=(name,))
        columns.append(np.asarray(fit(law, one, **options).predict(recipe))[:, 0])
    return np.stack(columns, 1)


def main() -> None:
    """Fit, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7")
    parser.add_argument("--settings", default="", help="names with commas; all if empty")
    parser.add_argument("--holdout", type=int, default=1)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    asked = ["git", "-C", str(RESULTS.parent), "rev-parse", "HEAD:camel_jax"]  # of the code that fits
    code = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()

    from camel_jax.runtime import start_engine
    from camel_jax.storage import replacing

    start_engine()
    import jax

    from camel_jax.tables.read import read_runs
    from camel_jax.tables.runs import final_rows, split_by_scale

    path = RESULTS / f"ablations_holdout{args.holdout}.json"
    rows = []
    if path.exists() and (known := json.loads(path.read_text()))["code"] == code:
        rows = known["rows"]
    wanted = [name for name in args.settings.split(",") if name] or list(variants())
    for name in wanted:
        for table in args.tables.split(","):
            if any(row["setting"] == name and row["table"] == table for row in rows):
                continue
            below, above = split_by_scale(read_runs(args.folder / f"{table}.csv"), args.holdout)
            begun = time.perf_counter()
            predicted = predictions(below, above.recipe, args.seed, args.starts, **variants()[name])
            error, last = np.abs(predicted / above.losses - 1), final_rows(above)
            row = {"setting": name, "table": table, "error": 100 * float(np.nanmean(error))}
            row |= {"error_final": 100 * float(np.nanmean(error[last])), "seconds": time.perf_counter() - begun}
            rows.append(row)
            print(row, flush=True)
            with replacing(path) as part:
                head = {
                    "code": code,
                    "jax": jax.__version__,
                    "starts": args.starts,
                    "seed": args.seed,
                    "dtype": "float64",
                }
                head |= {"device": jax.devices()[0].device_kind, "python": platform.python_version()}
                part.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
