"""Does the 90 % interval of a predicted gain cover the true gain? Simulated studies, each with a random truth of its own.

A study: a random exact capacity law with additive terms (not the form that is fitted), 5 domains, 6 validation sets, runs at 20M to
420M parameters with the noise of repeated real runs; CAMEL is fitted, a mixture for 3B parameters is chosen, and its predicted gain
over the mean mixture of the table is compared with what the truth gives.

    python benchmarks/posterior/gain_calibration.py [--studies 200] [--resamples 16] [--seed 0] [--out PATH]
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS
from common.studies import run_studies

RESULT = RESULTS / "gain_calibration.json"
TESTED = "camel_jax.fitting.fit", "camel_jax.laws.camel", "camel_jax.mixture.optimize"
DOMAINS, SETS, SKILLS = 5, 6, 7
SIZES, MIXTURES, CHECKPOINTS = (20e6, 60e6, 160e6, 420e6), 16, (0.4, 0.7, 1.0)
RUN_NOISE, SET_NOISE, CHECKPOINT_NOISE = 0.0028, 0.0022, 0.0012
TARGET, TARGET_TOKENS = 3e9, 60e9


def random_truth(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Demands of domains and sets, exponents, sizes of the terms and floors of one study."""
    demand = 0.7 * np.eye(DOMAINS, SKILLS) + 0.3 * rng.dirichlet(np.ones(SKILLS), DOMAINS)
    return {
        "demand": demand,
        "read": np.concatenate([demand, rng.dirichlet(np.ones(SKILLS), SETS - DOMAINS)]),
        "alpha": rng.uniform(0.14, 0.46, SKILLS),
        "beta": rng.uniform(0.18, 0.42, SKILLS),
        "size_term": rng.uniform(0.25, 0.55, SKILLS),
        "data_term": rng.uniform(0.25, 0.55, SKILLS),
        "floor": rng.uniform(0.7, 2.1, SETS),
    }


def true_losses(truth: dict[str, np.ndarray], weights, size, tokens):
    """Losses (V,) of one recipe, without noise: capacity split exactly, terms added."""
    import jax.numpy as jnp

    from camel_jax.laws.allocation import log_allocate
    from camel_jax.numerics.stable import safe_log

    demand = weights @ truth["demand"]
    log_size = jnp.log(size / 1e8)
    log_m = log_allocate(safe_log(demand), jnp.log(truth["size_term"]), truth["alpha"], log_size) + np.log(SKILLS)
    log_d = safe_log(demand * tokens / 4e9) + np.log(SKILLS)
    terms = truth["size_term"] * jnp.exp(-truth["alpha"] * log_m)
    terms += truth["data_term"] * jnp.exp(-truth["beta"] * log_d)
    return truth["floor"] + truth["read"] @ terms


def _at_target(truth, weights):
    return true_losses(truth, weights, TARGET, TARGET_TOKENS)


def simulate(truth: dict[str, np.ndarray], rng: np.random.Generator):
    """The table of one study."""
    import jax

    from camel_jax.recipes.recipe import Recipe
    from camel_jax.tables.runs import Runs

    size = np.repeat(SIZES, MIXTURES)
    center = rng.dirichlet(np.full(DOMAINS, 2.5))
    mixtures = rng.dirichlet(7.0 * center + 0.1, len(size))
    tokens = size * np.where(np.arange(len(size)) % 2, 50.0, 20.0)
    index = np.repeat(np.arange(len(size)), len(CHECKPOINTS))
    seen = tokens[index] * np.tile(CHECKPOINTS, len(size))
    recipe = Recipe(size[index], size[index], seen, mixtures[index])
    clean = jax.vmap(lambda r: true_losses(truth, r.weights, r.n_active, r.tokens))(recipe)
    noise = (
        RUN_NOISE * rng.standard_normal((len(size), 1))[index]
        + SET_NOISE * rng.standard_normal((len(size), SETS))[index]
        + CHECKPOINT_NOISE * rng.standard_normal((len(index), SETS))
    )
    names = tuple(f"d{i}" for i in range(DOMAINS)), tuple(f"v{i}" for i in range(SETS))
    return Runs(recipe, np.asarray(clean) * np.exp(noise), np.zeros((len(index), 0)), index, *names)


def study(seed: int, number: int, resamples: int) -> dict[str, float]:
    """One study: predicted gain with its interval, true gain, and what the best mixture would truly have gained."""
    import jax

    from camel_jax import laws, optimize_mixture
    from camel_jax.fitting import fit

    rng = np.random.default_rng([seed, number])
    truth = random_truth(rng)
    runs = simulate(truth, rng)
    fitted = fit(laws.camel(skills=8), runs, key=jax.random.key(number), starts=1, resamples=resamples)
    best = optimize_mixture(fitted.losses_at(TARGET, TARGET_TOKENS), starts=8)
    target = jax.tree_util.Partial(_at_target, truth)  # a pytree, so that all studies share one compiled program
    at = [float(np.mean(target(w))) for w in (best.reference, best.weights)]
    ideal = optimize_mixture(target, domains=runs.domains, starts=8)
    return {
        "predicted": float(best.gain.point),
        "lower": float(best.gain.low),
        "upper": float(best.gain.high),
        "true": at[0] - at[1],
        "possible": at[0] - float(ideal.value.point),
        "probability_better": best.probability_better,
    }


def summarize(rows: list[dict[str, float]]) -> dict[str, float]:
    """Coverage with its binomial 90 % interval (Wilson), and how good the decisions are."""
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
        "median_width": float(np.median(table["upper"] - table["lower"])),
        "mean_predicted_gain": float(table["predicted"].mean()),
        "mean_true_gain": float(table["true"].mean()),
        "mean_possible_gain": float(table["possible"].mean()),
        "truly_better": float((table["true"] > 0).mean()),
        "mean_probability_better": float(table["probability_better"].mean()),
    }


if __name__ == "__main__":
    run_studies(__doc__, 200, RESULT, TESTED, study, summarize)
