"""Routed models: error at the largest size, with the capacity learnt, with active or total parameters alone, and with a published law.

    python benchmarks/accuracy/routed.py FOLDER [--starts 4] [--resamples 64]

On ``moe_routed.csv`` of FOLDER, fits below each size but the two smallest predict that size. CAMEL's capacity is
M = N^rho N_total^(1 - rho), with rho learnt and its interval by bootstrap, with N alone (rho = 1) and with N_total alone (rho = 0).
The published law is that of Clark et al. 2022 (arXiv 2202.01169) in the number of experts E, fitted with the same objective:

    log L = a log N + b log E' + c log N log E' + d,     1 / E' = 1 / (E - 1 + 1 / (1 / E_start - 1 / E_max)) + 1 / E_max

The table has total parameters in place of E; by its reading a third of the dense parameters is routed, E = 1 + 3 (N_total / N - 1).
Writes benchmarks/results/routed.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from camel_jax import laws
from camel_jax.fitting import fit
from camel_jax.laws.law import Law
from camel_jax.laws.scaling import gaussian
from camel_jax.prediction.residual_field import no_field
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import scales, select

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import write

ROUTED = 1 / 3  # share of the dense parameters that is there once an expert


@lru_cache(maxsize=1)
def clark() -> Law:
    """The published law of routed language models, with priors that say next to nothing."""
    centers = {
        "level": 0.0,
        "by_size": -0.1,
        "by_experts": -0.05,
        "by_both": 0.0,
        "first": np.log(2.0),
        "last": np.log(300.0),
    }

    def init(key, runs):
        drawn = jax.random.normal(key, (len(centers), len(runs.sets)))
        return {name: center + 0.1 * x for (name, center), x in zip(centers.items(), drawn, strict=True)}

    def predict(params, recipe):
        experts = 1.0 + (recipe.n_total / recipe.n_active - 1.0) / ROUTED
        first, last = jnp.exp(params["first"]), jnp.exp(params["first"]) + jnp.exp(params["last"])
        worth = -jnp.log(1.0 / (experts - 1.0 + 1.0 / (1.0 / first - 1.0 / last)) + 1.0 / last)
        log_size = jnp.log(recipe.n_active)
        slope = params["by_experts"] + params["by_both"] * log_size
        return jnp.exp(params["level"] + params["by_size"] * log_size + slope * worth)

    def log_prior(raw):
        weak = {"first": 0.25, "last": 0.25}
        return sum(gaussian(raw[name], center, weak.get(name, 1e-3)) for name, center in centers.items())

    return Law("clark", init, predict, lambda raw: raw, log_prior, separable=True)


def with_sizes(runs, active, total):
    """The same table with other sizes."""
    return dataclasses.replace(runs, recipe=dataclasses.replace(runs.recipe, n_active=active, n_total=total))


def bare(fitted):
    """The same fit without its residual field."""
    return dataclasses.replace(fitted, field=no_field(len(fitted.domains), len(fitted.sets)))


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--resamples", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "routed.json")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    head = provenance()
    runs = read_runs(args.folder / "moe_routed.csv")
    active, total = (np.asarray(x, float) for x in (runs.recipe.n_active, runs.recipe.n_total))
    tables = {
        "learnt": (laws.camel(), runs),
        "active": (laws.camel(), with_sizes(runs, active, active)),
        "total": (laws.camel(), with_sizes(runs, total, total)),
        "clark": (clark(), runs),
    }
    rows = []
    for size in scales(runs)[2:]:
        below, there = active < size * (1 - 1e-9), np.isclose(active, size, rtol=1e-9)
        for name, (law, table) in tables.items():
            resamples = args.resamples if name in ("learnt", "clark") else 0
            options = {"key": jax.random.key(0), "starts": args.starts, "resamples": resamples, "backtests": 0}
            fitted = fit(law, select(table, below), **options)
            unseen = select(table, there)
            measured = np.asarray(unseen.losses)[:, 0]
            row = {"size": float(size), "law": name, "fitted": int(below.sum()), "predicted": int(there.sum())}
            for suffix, one in (("", bare(fitted)), ("_with_field", fitted)):
                predicted = np.asarray(one.predict(unseen.recipe))[:, 0]
                row[f"error{suffix}"] = float(100 * np.mean(np.abs(predicted / measured - 1)))
                row[f"bias{suffix}"] = float(100 * np.mean(predicted / measured - 1))
                alike = (
                    np.ptp(predicted) < 1e-9
                )  # of one size and one token count, active parameters tell nothing apart
                row[f"rank{suffix}"] = None if alike else float(spearmanr(predicted, measured)[0])
            if name == "learnt":
                shares = 1 / (1 + np.exp(-np.asarray(fitted.resampled["active_share"])))
                row["rho"] = float(fitted.best().active_share)
                row["rho_90"] = [float(x) for x in np.quantile(shares, [0.05, 0.95])]
            if name == "clark":
                row["coefficients"] = {k: float(np.ravel(v)[0]) for k, v in fitted.best().items()}
            rows.append(row)
            print(row, flush=True)
    write(args.out, {**head, "starts": args.starts, "resamples": args.resamples, "rows": rows})


if __name__ == "__main__":
    main()
