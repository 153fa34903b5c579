"""How wrong a law is expected to be: its error within a table, and how that grows with the distance beyond it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from camel_jax.prediction.residual_field import early_amplitude, shortest_run
from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

EARLY = 0.4  # power of s: less than the residual field's, which has taken its part off


class Discrepancy(NamedTuple):
    """How wrong a law is expected to be, as a standard deviation of log loss.

    Attributes:
      scale: (V,) robust in-sample log residual of each set.
      level: (), multiple of ``scale`` within the range of the table.
      growth: (), added per unit of log distance beyond the largest size.
      size: (), largest fitted active size. tokens: (), largest fitted token count.
      mean: (K,) mean mixture of the table. spread: (K,) standard deviation of its shares.
      mixture_share: (), share c of the variance that changes with the mixture.
      finished: (), tokens of the shortest run, below which errors are larger; 0 for errors that do not know of it.
      typical: (), root mean square of s over the rows that made up ``scale``.

    The last two have defaults for fits that were saved before there were such settings.
    """

    scale: Array
    level: Array
    growth: Array
    size: Array
    tokens: Array
    mean: Array
    spread: Array
    mixture_share: Array
    finished: Array = np.asarray(0.0)
    typical: Array = np.asarray(1.0)

    __repr__ = brief_repr


def discrepancy_factor(d: Discrepancy, recipe: Recipe) -> Array:
    """g(N, D): how far off a law is expected to be at a recipe, as a multiple of the in-sample residual."""
    beyond = jnp.maximum(jnp.log(recipe.n_active / d.size), 0.0)
    beyond += 0.5 * jnp.maximum(jnp.log(recipe.tokens / d.tokens), 0.0)
    early = early_amplitude(d.finished, jnp.log(recipe.tokens), jnp, EARLY) / d.typical
    return early * (d.level + d.growth * beyond)


def discrepancy_scale(d: Discrepancy, recipe: Recipe) -> Array:
    """Standard deviation of log loss per set for one recipe, shape (V,), the mixture's distance included."""
    away = jnp.mean(((recipe.weights - d.mean) / d.spread) ** 2)
    return d.scale * discrepancy_factor(d, recipe) * jnp.sqrt(1.0 - d.mixture_share + d.mixture_share * away)


def table_discrepancy(
    runs: Runs, residuals: Array, weights: Array, level: float, growth: float, share: float
) -> Discrepancy:
    """The discrepancy of a law on the table it was fitted on.

    Args:
      runs: the table, in raw units.
      residuals: (R, V) log residuals, NaN where not measured.
      weights: (R,) row weights.
      level: multiple of the in-sample residual within the range of the table.
      growth: multiple added per unit of log distance.
      share: of the variance, that follows the mixture.
    """
    seen = np.isfinite(residuals)
    w = np.where(seen, np.asarray(weights)[:, None], 0.0)
    rms = np.sqrt((w * np.where(seen, residuals, 0.0) ** 2).sum(0) / np.maximum(w.sum(0), 1e-300))
    finished = shortest_run(runs)
    early = early_amplitude(finished, np.log(np.asarray(runs.recipe.tokens, float)), np, EARLY)
    typical = max(1.0, float(np.sqrt((w * early[:, None] ** 2).sum() / np.maximum(w.sum(), 1e-300))))
    mixtures = np.asarray(runs.recipe.weights, float)
    spread = mixtures.std(0)
    return Discrepancy(
        jnp.asarray(np.maximum(rms, 1e-4)),
        jnp.asarray(float(level)),
        jnp.asarray(float(growth)),
        jnp.asarray(float(np.max(runs.recipe.n_active))),
        jnp.asarray(float(np.max(runs.recipe.tokens))),
        jnp.asarray(mixtures.mean(0) / mixtures.mean(0).sum()),
        jnp.asarray(np.maximum(spread, 0.02)),
        jnp.asarray(float(share)),
        jnp.asarray(finished),
        jnp.asarray(typical),
    )
