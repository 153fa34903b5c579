"""Does the 90 % interval of the equivalent compute cover the true one? Simulated studies, each with a random truth of its own.

The studies are those of benchmarks/posterior/gain_calibration.py: a random exact capacity law that is not the form that is fitted, a
table of runs at 20M to 420M parameters with the noise of repeated real runs, and CAMEL fitted to it. A mixture is chosen for 3B
parameters on 60B tokens, and the share of that compute with which it reaches the loss of the mean mixture of the table is compared
with what the truth gives.

    python benchmarks/decisions/equivalent_compute.py [--studies 100] [--resamples 16] [--seed 0] [--out PATH]
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS
from common.studies import run_studies
from posterior.gain_calibration import TARGET, TARGET_TOKENS, random_truth, simulate, true_losses

RESULT = RESULTS / "equivalent_compute.json"
TESTED = "camel_jax.budget.equivalent", "camel_jax.fitting.fit", "camel_jax.laws.camel", "camel_jax.mixture.optimize"


def study(seed: int, number: int, resamples: int) -> dict[str, float]:
    """One study: equivalent compute with its interval, and the true one of the same two mixtures."""
    import jax

    from camel_jax import equivalent_compute, laws, optimize_mixture
    from camel_jax.fitting import fit

    rng = np.random.default_rng([seed, number])
    truth = random_truth(rng)
    runs = simulate(truth, rng)
    fitted = fit(laws.camel(skills=8), runs, key=jax.random.key(number), starts=1, resamples=resamples)
    best = optimize_mixture(fitted.losses_at(TARGET, TARGET_TOKENS), starts=8)
    pair = best.weights, best.reference
    found = equivalent_compute(fitted.losses_at, *pair, TARGET, TARGET_TOKENS)
    true = equivalent_compute(
        lambda size, tokens: jax.tree_util.Partial(_truly, truth, float(size), float(tokens)),
        *pair,
        TARGET,
        TARGET_TOKENS,
    )
    return {
        "ratio": float(found.ratio.point),
        "lower": float(found.ratio.low),
        "upper": float(found.ratio.high),
        "true": float(true.ratio.point),
    }


def _truly(truth, size, tokens, weights):
    return true_losses(truth, weights, size, tokens)


def summarize(rows: list[dict[str, float]]) -> dict[str, float]:
    """Coverage with its binomial 90 % interval (Wilson), errors and widths."""
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    covered = (table["lower"] <= table["true"]) & (table["true"] <= table["upper"])
    n, z = len(rows), 1.6448536269514722
    middle = (covered.mean() + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(covered.mean() * (1 - covered.mean()) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return {
        "studies": n,
        "coverage90": float(covered.mean()),
        "coverage90_low": float(middle - half),
        "coverage90_high": float(middle + half),
        "below_interval": float((table["true"] < table["lower"]).mean()),
        "above_interval": float((table["true"] > table["upper"]).mean()),
        "median_ratio": float(np.median(table["ratio"])),
        "median_true_ratio": float(np.median(table["true"])),
        "median_width": float(np.median(table["upper"] - table["lower"])),
        "mean_absolute_error": float(np.mean(np.abs(table["ratio"] - table["true"]))),
    }


if __name__ == "__main__":
    run_studies(__doc__, 100, RESULT, TESTED, study, summarize)
