"""How wrong a law is expected to be: by its error within a table, and by how far a recipe lies beyond it.

The error of log loss of set v at a recipe is a random slope times the leverage of the recipe, plus an error within the range:

    e_v = slope_v leverage(N, D) + scale_v near(r) early(D) z          slope_v = common + own_v
    leverage^2 = (log+(N / N_max))^2 / (span_N^2 + width^2) + (share log+(D / D_max))^2 / (span_D^2 + width^2)
    near^2     = 1 + (mixture_growth distance to the nearest measured mixture / 0.2)^2
    early      = max(1, finished / D)^0.4 / typical

``span`` is the logarithm of the largest over the smallest fitted value, so that a table of one size knows little about larger
ones. How large slopes are on a table is uncertain itself: scenarios (``weights``) from small to large make the tails of the error
heavy. ``scale_errors`` finds their weights, and the slopes that are expected, from the back-tests of the table.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.prediction.measured import thin
from camel_jax.prediction.residual_field import early_amplitude, shortest_run
from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

EARLY = 0.4  # power of early(D): less than the residual field's, which has taken its part off
NEAR = 0.2  # distance between mixtures in which ``mixture_growth`` is stated
MOST_MIXTURES = 512  # measured mixtures that are kept


class Discrepancy(NamedTuple):
    """How wrong a law is expected to be, in log loss.

    Attributes:
      scale: (V,) standard deviation of the error within the table, at a measured mixture.
      size: (), largest fitted active size.
      tokens: (), largest fitted token count.
      size_span: (), logarithm of the largest over the smallest fitted size.
      tokens_span: (), the same of token counts.
      width: (), what is added to the spans: how much the prior of a law knows of sizes and tokens by itself.
      tokens_share: (), leverage of tokens over that of sizes.
      mixture_growth: (), how fast the error grows with the distance to the nearest measured mixture.
      mixtures: (G, K) measured mixtures.
      mean: (K,) mean mixture of the table.
      spread: (K,) standard deviation of its shares.
      mixture_share: (), share of the variance of draws that changes with the mixture.
      finished: (), tokens of the shortest run, below which errors are larger; 0 for errors that do not know of it.
      typical: (), root mean square of max(1, finished / D)^0.4 over the rows that made up ``scale``.
      weights: (H,) of scenarios, adding up to 1.
      common: (H,) expected slopes, the part that all sets share.
      own: (H, V) expected slopes, the part of each set.
      common_variance: (H,) of the former.
      own_variance: (H,) of the latter.
      slowing: (V,) share of the law's fall beyond the table that back-tests make expect to be missing; see ``beyond``.

    The further beyond the table, the larger the error is thought to be:

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> from camel_jax.prediction.discrepancy import discrepancy_scale
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1)
    >>> near, far = (discrepancy_scale(fitted.discrepancy, cj.dense(n, 2e9, [0.5, 0.5])) for n in (1e8, 1e9))
    >>> bool((far > near).all())
    True
    """

    scale: Array
    size: Array
    tokens: Array
    size_span: Array
    tokens_span: Array
    width: Array
    tokens_share: Array
    mixture_growth: Array
    mixtures: Array
    mean: Array
    spread: Array
    mixture_share: Array
    finished: Array
    typical: Array
    weights: Array
    common: Array
    own: Array
    common_variance: Array
    own_variance: Array
    slowing: Array

    __repr__ = brief_repr


class Slopes(NamedTuple):
    """Error per unit of leverage in H scenarios: weights (H,), means (H,) and (H, V), variances (H,) and (H,)."""

    weights: Array
    common: Array
    own: Array
    common_variance: Array
    own_variance: Array


def leverage(d: Discrepancy, recipe: Recipe) -> Array:
    """How far a recipe lies beyond the fitted sizes and tokens, in units of what was fitted; 0 within them."""
    return jnp.sqrt(_squared(d, recipe, jnp) + 1e-20)


def _squared(d: Discrepancy, recipe: Recipe, xp: Any) -> Array:
    size = xp.maximum(xp.log(recipe.n_active) - xp.log(d.size), 0.0)
    tokens = xp.maximum(xp.log(recipe.tokens) - xp.log(d.tokens), 0.0)
    return squared_leverage(size, tokens, d.size_span, d.tokens_span, d.width, d.tokens_share)


def squared_leverage(
    size: Array, tokens: Array, size_span: Array, tokens_span: Array, width: Array, share: Array
) -> Array:
    """Square of the leverage of log sizes and log tokens beyond a table with these spans."""
    return size**2 / (size_span**2 + width**2) + share**2 * tokens**2 / (tokens_span**2 + width**2)


def leverages(d: Discrepancy, recipe: Recipe) -> np.ndarray:
    """``leverage`` of recipes with a leading axis R, on the host."""
    plain = Discrepancy(*(np.asarray(x) for x in d))
    host = Recipe(*(np.asarray(x, float) for x in (recipe.n_total, recipe.n_active, recipe.tokens, recipe.weights)))
    return np.sqrt(_squared(plain, host, np))


def expected_slope(d: Discrepancy) -> Array:
    """Expected error of log loss per unit of leverage, (V,)."""
    return d.weights @ (d.common[:, None] + d.own)


def distance(d: Discrepancy, weights: Array) -> Array:
    """Euclidean distance of a mixture to the nearest measured one."""
    return jnp.sqrt(jnp.min(jnp.sum((d.mixtures - weights) ** 2, axis=-1)) + 1e-20)


def near_variance(growth: Array, distance: Array) -> Array:
    """Variance of the error within the table at a distance from the measured mixtures, over that at one of them."""
    return 1.0 + (growth * distance / NEAR) ** 2


def error_within(d: Discrepancy, recipe: Recipe) -> Array:
    """Standard deviation of log loss at one recipe apart from the slopes, (V,)."""
    near = jnp.sqrt(near_variance(d.mixture_growth, distance(d, recipe.weights)))
    early = early_amplitude(d.finished, jnp.log(recipe.tokens), jnp, EARLY) / d.typical
    return d.scale * early * near


@jax.jit
def rows_within(d: Discrepancy, recipe: Recipe) -> Array:
    """``error_within`` of recipes with a leading axis R, (R, V)."""
    return jax.lax.map(partial(error_within, d), recipe, batch_size=256)


def slope_variance(d: Discrepancy) -> Array:
    """Variance of the slopes over scenarios and within them, (V,)."""
    each = d.common[:, None] + d.own
    within = d.weights @ (d.common_variance + d.own_variance)
    return within + d.weights @ (each - d.weights @ each) ** 2


def discrepancy_scale(d: Discrepancy, recipe: Recipe) -> Array:
    """Standard deviation of log loss per set for one recipe, shape (V,)."""
    return jnp.sqrt(error_within(d, recipe) ** 2 + leverage(d, recipe) ** 2 * slope_variance(d))


def error_quantiles(
    d: Discrepancy, recipe: Recipe, least: Array, remaining: Array, level: float
) -> tuple[Array, Array]:
    """Bounds of a central interval of the error about its expectation, for recipes with a leading axis R; (R, V) each.

    Args:
      d: the discrepancy. recipe: recipes.
      least: (R, V) standard deviation that is known from elsewhere, such as a bootstrap; none is smaller.
      remaining: share of the variance within the table that is still open, (R, V) or (1, 1).
      level: probability mass of the interval.
    """
    reach = leverages(d, recipe)[:, None, None]
    within = (
        np.asarray(rows_within(d, dataclasses.replace(recipe, supply=None)))[:, None] ** 2
        * np.asarray(remaining)[:, None]
    )
    d = Discrepancy(*(np.asarray(x) for x in d))
    weights = d.weights[:, None]
    means = reach * (d.common[:, None] + d.own - expected_slope(d))
    variance = reach**2 * (d.common_variance + d.own_variance)[:, None] + within
    deviation = np.sqrt(np.maximum(variance, np.asarray(least)[:, None] ** 2))  # (R, H, V)
    low, high = (_quantile(means, deviation, weights, p) for p in (0.5 - level / 2, 0.5 + level / 2))
    return low, high


def _quantile(means: np.ndarray, deviation: np.ndarray, weights: np.ndarray, mass: float) -> np.ndarray:
    """Quantile of mixtures of normals along axis 1, by bisection."""
    from scipy.special import ndtr, ndtri

    each = means + ndtri(mass) * deviation
    low, high = each.min(1), each.max(1)
    for _ in range(30):
        middle = 0.5 * (low + high)
        below = (weights * ndtr((middle[:, None] - means) / deviation)).sum(1) < mass
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def table_discrepancy(
    runs: Runs,
    scale: Array,
    weights: Array,
    slopes: Slopes,
    *,
    width: float,
    tokens_share: float,
    mixture_growth: float,
    mixture_share: float,
) -> Discrepancy:
    """The discrepancy of a law on the table it was fitted on.

    Args:
      runs: the table, in raw units.
      scale: (V,) standard deviation of log loss within the table.
      weights: (R,) row weights.
      slopes: what is known of the error beyond the table.
      width, tokens_share, mixture_growth, mixture_share: see ``Discrepancy``.
    """
    w = np.asarray(weights)[:, None]
    finished = shortest_run(runs)
    tokens, sizes = (np.asarray(x, float) for x in (runs.recipe.tokens, runs.recipe.n_active))
    early = early_amplitude(finished, np.log(tokens), np, EARLY)[:, None]
    typical = max(1.0, float(np.sqrt((w * early**2).sum() / np.maximum(w.sum(), 1e-300))))
    shares = np.asarray(runs.recipe.weights, float)
    mixtures = np.unique(shares.round(3), axis=0)
    if len(mixtures) > MOST_MIXTURES:
        mixtures = thin(mixtures, MOST_MIXTURES)
    return Discrepancy(
        scale=jnp.asarray(np.maximum(scale, 1e-5)),
        size=jnp.asarray(sizes.max()),
        tokens=jnp.asarray(tokens.max()),
        size_span=jnp.asarray(np.log(sizes.max() / sizes.min())),
        tokens_span=jnp.asarray(np.log(tokens.max() / tokens.min())),
        width=jnp.asarray(width),
        tokens_share=jnp.asarray(tokens_share),
        mixture_growth=jnp.asarray(mixture_growth),
        mixtures=jnp.asarray(mixtures / mixtures.sum(1, keepdims=True)),
        mean=jnp.asarray(shares.mean(0) / shares.mean(0).sum()),
        spread=jnp.asarray(np.maximum(shares.std(0), 0.02)),
        mixture_share=jnp.asarray(float(mixture_share)),
        finished=jnp.asarray(finished),
        typical=jnp.asarray(typical),
        slowing=jnp.zeros(len(scale)),
        **{name: jnp.asarray(x) for name, x in slopes._asdict().items()},
    )
