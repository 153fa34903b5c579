"""A floor for swarms: the log loss of every set is linear in a concave power of the shares, shrunk by the evidence.

    log L_v = log S_v(N, D) + sum_i b_vi (f(r_i) - f(1/K)),   f(r) = (r + eps)^g - eps^g,   b_vi ~ Normal(0, spread_v^2)

S_v is the coupled Chinchilla law of the set, or a constant where the table varies neither size nor tokens. With many domains and
few runs, a ridge on the square roots of shares is hard to beat; here its strength (``spread``), set by set, and the power g, one for
the table, are those under which the table is most probable (empirical Bayes; see ``fitting.evidence``). A set that says nothing
about mixtures gets a spread near zero, and is predicted alike for all of them. eps makes the derivative at zero shares finite.

===========  =========================================================  =====
symbol       in the code                                                unit
===========  =========================================================  =====
S_v          ``floor``, ``size_scale``, ... as in ``chinchilla``        nats
b_vi         ``slope``, (V, K)
g            ``power``, (V,), the same for all sets
spread_v     ``spread``, (V,)
eps          ``SMALLEST``                                               share
===========  =========================================================  =====
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.law import Law, LogLinear
from camel_jax.laws.scaling import (
    gaussian,
    scaling_constrain,
    scaling_init,
    scaling_log_prior,
    scaling_loss,
)
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array, PerSet

SMALLEST = 1e-4  # share at which the power turns into a line, so that its slope at zero is finite
USUAL_POWER, POWER_SPREAD = 0.5, 0.5  # center and spread of the prior on log g
USUAL_SPREAD = 0.1  # where a start begins
OWN = ("slope", "power", "spread")
KNOWN = 1e6  # precision of what the evidence has set: it is not to be learnt again from curvature


def concave_features(weights: Array, power: Array) -> Array:
    """A concave power of shares, zero for the uniform mixture.

    Args:
      weights: shares, (..., K); zeros are legal, and derivatives there are finite.
      power: g, scalar or broadcastable against ``weights``.

    Returns:
      f(r_i) - f(1 / K), (..., K).

    >>> concave_features(jnp.array([0.5, 0.5]), 0.5).tolist()
    [0.0, 0.0]
    >>> bool(jnp.isfinite(jax.grad(lambda r: concave_features(r, 0.5)[0])(jnp.array([0.0, 1.0]))).all())
    True
    """
    weights = jnp.asarray(weights)
    return (weights + SMALLEST) ** power - (1.0 / weights.shape[-1] + SMALLEST) ** power


@lru_cache(maxsize=64)
def concave() -> Law:
    """Log losses linear in a concave power of the shares, with ridge strengths by the evidence of the table.

    >>> concave().name
    'concave'
    """

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        raw = scaling_init(key, runs, True)
        shape = len(runs.sets), len(runs.domains)
        raw["slope"] = 0.1 * jax.random.normal(jax.random.fold_in(key, 7), shape)
        raw["power"] = jnp.full(shape[:1], np.log(USUAL_POWER))
        raw["spread"] = jnp.full(shape[:1], np.log(USUAL_SPREAD))
        return raw

    def constrain(raw: dict[str, Array]) -> dict[str, Array]:
        return scaling_constrain({k: v for k, v in raw.items() if k != "slope"}) | {"slope": raw["slope"]}

    def predict(params: dict[str, Array], recipe: Recipe) -> PerSet:
        effect = jnp.sum(params["slope"] * concave_features(recipe.weights, params["power"][:, None]), -1)
        return scaling_loss(params, recipe) * jnp.exp(effect)

    def log_prior(raw: dict[str, Array]) -> Array:
        n_domains, spread = raw["slope"].shape[1], raw["spread"]
        total = scaling_log_prior({k: v for k, v in raw.items() if k not in OWN})
        total += -0.5 * jnp.sum((raw["slope"] / jnp.exp(jax.lax.stop_gradient(spread))[:, None]) ** 2)
        total -= n_domains * jnp.sum(jax.lax.stop_gradient(spread))
        for name in ("power", "spread"):
            total += gaussian(raw[name] - jax.lax.stop_gradient(raw[name]), 0.0, KNOWN)
        return total

    def of_base(raw: dict[str, Array], recipe: Recipe) -> Array:
        return jnp.log(scaling_loss(scaling_constrain(raw), recipe))

    return Law(
        "concave",
        init,
        predict,
        constrain,
        log_prior,
        separable=True,
        min_runs=lambda runs: 4,
        loglinear=LogLinear(of_base, scaling_log_prior, concave_features, USUAL_POWER, POWER_SPREAD),
    )
