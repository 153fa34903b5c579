"""From validation losses to benchmark accuracy: one sigmoid of several losses per task.

    A_t = f_t + (u_t - f_t) sigmoid(b_t - sum_v w_tv z_v),    z_v = (L_v - center_v) / scale_v

====================  =======================================================================
symbol                meaning
====================  =======================================================================
f_t, u_t              floor and ceiling of task t, shares in [0, 1]
b_t                   bias, logits
w_tv                  weight of set v, logits per standard deviation of its loss; signs free
====================  =======================================================================

Fitting moves ``RawAccuracy`` (unconstrained, order one); ``constrain`` turns it into ``AccuracyParams``. A prior keeps
every number that the table does not determine:

    floor       around the chance level of the task (real floors differ from the listed one by several points)
    ceiling     logit((u - f) / (1 - f)) ~ N(1.5, 1): no small model shows its ceiling
    weights     w = basis @ coefficients; coefficients of a ridge or of principal components (``Basis``)

Sources: sigmoid between a floor and a ceiling as in Llama 3 (arXiv 2407.21783) and Ruan et al. (arXiv 2405.10938);
the exponential of one loss it replaces is Gadre et al. (arXiv 2403.08540).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.types import Array

CEILING_MEAN, CEILING_SPREAD = 1.5, 1.0
FLOOR_SPREAD = 0.05  # accuracy; how far a real floor lies from the listed chance level
SLOPE_MEAN, SLOPE_SPREAD = 2.0, 2.0
BIAS_MEAN, BIAS_SPREAD = -1.0, 3.0
Z_LIMIT = 1e4  # standardised losses beyond this change nothing: the sigmoid is flat there


class AccuracyParams(NamedTuple):
    """Parameters of the law for T tasks and V sets, in natural units.

    Attributes:
      floor: (..., T) accuracy far above the fitted losses.
      ceiling: (..., T) accuracy far below them.
      bias: (..., T) logits.
      weights: (..., T, V) logits per standardised loss.
      center: (V,) nats per token.
      scale: (V,) nats per token.
    """

    floor: Array
    ceiling: Array
    bias: Array
    weights: Array
    center: Array
    scale: Array

    __repr__ = brief_repr


class RawAccuracy(NamedTuple):
    """Unconstrained parameters of one task: floor, ceiling, bias (scalars) and Q basis coefficients."""

    floor: Array
    ceiling: Array
    bias: Array
    coefficients: Array


class Basis(NamedTuple):
    """Directions in which the weights of a task may lie, and how tightly each is held.

    Attributes:
      directions: (V, Q); a column of zeros switches a coefficient off.
      mean: (Q,) prior mean of the coefficients.
      spread: (Q,) prior standard deviation of the coefficients.
    """

    directions: Array
    mean: Array
    spread: Array


def standardise(losses: Array, center: Array, scale: Array) -> Array:
    """Losses (..., V) in standard deviations from the fitted table, limited so that no loss overflows.

    >>> standardise(jnp.array([3.0, jnp.inf]), jnp.array([3.0, 3.0]), jnp.array([0.5, 0.5])).tolist()
    [0.0, 10000.0]
    """
    losses = jnp.asarray(losses, float)
    # Clipped before the division too, else the derivative at an infinite loss is 0 * inf.
    losses = jnp.clip(losses, center - Z_LIMIT * scale, center + Z_LIMIT * scale)
    return (losses - center) / scale


def predict_accuracy(params: AccuracyParams, losses: Array) -> Array:
    """Accuracies of all tasks from validation losses.

        A_t = f_t + (u_t - f_t) sigmoid(b_t - sum_v w_tv z_v)

    Args:
      params: law for T tasks and V sets, without leading axes (vmap for draws of it).
      losses: (..., V) nats per token; NaN gives NaN in every task that reads the set.

    Returns:
      (..., T) accuracies between floor and ceiling; finite, with finite derivatives, for any loss that is not NaN.

    >>> one = AccuracyParams(*map(jnp.array, ([0.25], [0.85], [0.0], [[1.0, 1.0]], [3.0, 3.0], [1.0, 1.0])))
    >>> predict_accuracy(one, jnp.array([[3.0, 3.0], [1e300, 3.0], [0.0, -jnp.inf]])).round(3).tolist()
    [[0.55], [0.25], [0.85]]
    """
    z = standardise(losses, params.center, params.scale)
    # A set with weight zero is not read, so its loss may be missing.
    z = jnp.where((params.weights == 0) & jnp.isnan(z)[..., None, :], 0.0, z[..., None, :])
    score = params.bias - (z * params.weights).sum(-1)
    return params.floor + (params.ceiling - params.floor) * jax.nn.sigmoid(score)


def floor_prior(chance: Array) -> tuple[Array, Array]:
    """Mean and spread of the floor's prior in logits, from the chance level (NaN: not known, then a wide prior).

    >>> mean, spread = floor_prior(0.25)
    >>> round(float(jax.nn.sigmoid(mean)), 3), round(float(spread), 3)
    (0.25, 0.267)
    """
    known = jnp.isfinite(chance)
    level = jnp.clip(jnp.where(known, chance, 0.2), 0.005, 0.995)
    # In accuracy the spread is the same for every task; near zero, where logits stretch, it is a factor of e.
    spread = jnp.minimum(FLOOR_SPREAD / (level * (1 - level)), 1.0)
    return jnp.log(level) - jnp.log1p(-level), jnp.where(known, spread, 1.5)


def constrain(raw: RawAccuracy, chance: Array, basis: Basis) -> tuple[Array, Array, Array, Array]:
    """Floor, ceiling, bias (scalars) and weights (V,) of one task from its raw parameters."""
    mean, spread = floor_prior(chance)
    floor = jax.nn.sigmoid(mean + spread * raw.floor)
    ceiling = floor + (1 - floor) * jax.nn.sigmoid(CEILING_MEAN + CEILING_SPREAD * raw.ceiling)
    coefficients = basis.mean + basis.spread * raw.coefficients
    return floor, ceiling, BIAS_MEAN + BIAS_SPREAD * raw.bias, basis.directions @ coefficients


def residuals(raw: RawAccuracy, z: Array, accuracy: Array, precision: Array, chance: Array, basis: Basis) -> Array:
    """Weighted residuals of one task, followed by its priors' (standard normal in raw space), to be squared and summed.

    Args:
      raw: parameters of one task.
      z: (R, V) standardised losses, finite.
      accuracy: (R,) measured accuracies, finite.
      precision: (R,) one over the variance of each accuracy times its multiplicity; 0 leaves a row out.
      chance: scalar chance level.
      basis: directions of the weights.

    Returns:
      (R + Q + 3,) residuals.
    """
    floor, ceiling, bias, weights = constrain(raw, chance, basis)
    predicted = floor + (ceiling - floor) * jax.nn.sigmoid(bias - z @ weights)
    prior = jnp.concatenate([jnp.stack([raw.floor, raw.ceiling, raw.bias]), raw.coefficients])
    return jnp.concatenate([jnp.sqrt(precision) * (accuracy - predicted), prior])


def normal_equations(
    raw: RawAccuracy, z: Array, accuracy: Array, precision: Array, chance: Array, basis: Basis
) -> tuple[Array, Array, Array]:
    """Half the sum of squares of ``residuals``, J'J and J'r, with the derivatives written out; arguments as there.

    Returns:
      Cost (), matrix (Q + 3, Q + 3) and gradient (Q + 3,), in the order floor, ceiling, bias, coefficients.
    """
    floor, ceiling, bias, weights = constrain(raw, chance, basis)
    reach = jax.nn.sigmoid(CEILING_MEAN + CEILING_SPREAD * raw.ceiling)
    rise = jax.nn.sigmoid(bias - z @ weights)
    error = floor + (ceiling - floor) * rise - accuracy
    by_floor = floor * (1 - floor) * floor_prior(chance)[1] * (1 - rise * reach)
    by_ceiling = rise * ((1 - floor) * reach * (1 - reach) * CEILING_SPREAD)
    slope = (ceiling - floor) * rise * (1 - rise)
    by_weights = -slope[:, None] * (z @ (basis.directions * basis.spread))
    jacobian = jnp.concatenate([jnp.stack([by_floor, by_ceiling, BIAS_SPREAD * slope], 1), by_weights], 1)
    prior = jnp.concatenate([jnp.stack([raw.floor, raw.ceiling, raw.bias]), raw.coefficients])
    weighted = jacobian * precision[:, None]
    cost = 0.5 * (jnp.sum(precision * error**2) + prior @ prior)
    return cost, weighted.T @ jacobian + jnp.eye(prior.size), error @ weighted + prior


def ridge_basis(n_sets: int, spread: Array) -> Basis:
    """Equal weights of free size, plus a deviation of each set held to zero by a ridge of the given spread (logits).

    >>> ridge_basis(3, 0.5).directions.shape
    (3, 4)
    """
    directions = np.concatenate([np.full((n_sets, 1), 1 / n_sets), np.eye(n_sets)], 1)
    mean = np.r_[SLOPE_MEAN, np.zeros(n_sets)]
    return Basis(directions, mean, np.r_[SLOPE_SPREAD, np.full(n_sets, float(spread))])


def component_basis(z: Array, n_components: int) -> Basis:
    """The first principal components of standardised losses ``z`` (R, V), as a basis of the same shape as a ridge's.

    Components are scaled to unit variance, so a coefficient is in logits per standard deviation of its component.
    """
    z = np.asarray(z, float)
    n_sets = z.shape[1]
    _, singular, rows = np.linalg.svd(z - z.mean(0), full_matrices=False)
    used = min(n_components, len(singular))
    directions = np.zeros((n_sets, n_sets + 1))
    deviation = np.maximum(singular[:used] / np.sqrt(max(len(z), 1)), 1e-6)
    signs = np.where(rows[:used].sum(1) < 0, -1.0, 1.0)
    directions[:, :used] = (rows[:used] * (signs / deviation)[:, None]).T
    mean = np.zeros(n_sets + 1)
    mean[0] = SLOPE_MEAN
    return Basis(directions, mean, np.r_[SLOPE_SPREAD, np.full(n_sets, 1.0)])
