"""How far fitted laws lie from the center of their priors: python benchmarks/design_belief.py FOLDER [--laws a,b] [--tables a,b].

Each law is fitted to a public table without its largest size. For every kind of parameter, in standard deviations of the prior:
  each    root mean square over the parameters of their distance from the center of the prior
  common  distance of their mean, whose standard deviation under the prior is smaller
A prior that was also a belief would give about 1 for both. What is found sets ``knowledge.SPREAD``. One JSON, written after every fit.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "design_belief.json"
SCALING = ("exponent", "coupling")  # names of the parameters that rule what size and tokens do


def distances(law, raw) -> dict[str, dict[str, float]]:
    """By kind of parameter; raw of one fit, and the prior normal in it."""
    import jax
    from jax.flatten_util import ravel_pytree

    from camel_jax.design.information import prior_precision

    flat, unravel = ravel_pytree(raw)
    slope = ravel_pytree(jax.grad(law.log_prior)(unravel(flat)))[0]
    precision = np.asarray(prior_precision(law, jax.tree.map(lambda x: x[None], raw)))[0]
    away = -np.linalg.solve(precision, np.asarray(slope))
    out, at = {}, 0
    for name, leaf in sorted(raw.items()):
        own = slice(at, at := at + leaf.size)
        spread = np.linalg.inv(precision[own, own])  # priors of different kinds are independent
        each = away[own] @ np.linalg.solve(spread, away[own]) / leaf.size
        out[name] = {"each": float(np.sqrt(each)), "common": float(abs(away[own].mean()) / np.sqrt(spread.mean()))}
    return out


def main() -> None:
    """Fit, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--laws", default="dml,sodm,camel")
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7")
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    import jax
    from design_tables import Market

    from camel_jax import laws
    from camel_jax.fitting.fit import fit

    asked = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    told = {
        "commit": subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "dtype": "float64",
        "rows": [],
    }
    for name in args.laws.split(","):
        for table in args.tables.split(","):
            options = {"starts": 2, "backtests": 0, "field": False}
            runs = Market(args.folder, table).runs  # 5 checkpoints a run, without the largest size
            fitted = fit(laws.CONSTRUCTORS[name](), runs, key=jax.random.key(0), **options).only_best()
            found = distances(fitted.inner_law, jax.tree.map(lambda x: x[0], fitted.raw))
            told["rows"].append({"law": name, "table": table, "distances": found})
            print(name, table, {k: {n: round(x, 1) for n, x in v.items()} for k, v in found.items()}, flush=True)
            RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    for kind in ("each", "common"):
        values = [d[kind] for row in told["rows"] for n, d in row["distances"].items() if any(s in n for s in SCALING)]
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        print(
            f"exponents and couplings, {kind}: median {middle:.1f} standard deviations, quartiles {low:.1f} and {high:.1f}"
        )


if __name__ == "__main__":
    main()
