"""Scales of a law's terms, solved again at every trial point of a least squares fit (variable projection).

Where L = sum_i s_i term_i, the best scales s given all else are a small least squares problem whose solution costs no exponential:
terms, and the slopes of every parameter inside them, are proportional to s. Solved again after each step, the scales follow the curved
valleys that sums of exponentials have, where a step along a tangent must be short. Golub & Pereyra 1973; Ruhe & Wedin 1980.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from camel_jax.numerics.batched import eliminate, log_near_one
from camel_jax.types import Array

LARGEST = 0.25  # change of a logarithm at one trial: without a limit one of two like terms is driven to nothing and never returns


class Scale(NamedTuple):
    """One term whose scale is a parameter; static and hashable.

    Attributes:
      moves: (parameter, change) pairs: what one unit of log scale adds to the raw parameters.
      groups: groups of parameters whose slope is proportional to the scale.
    """

    moves: tuple[tuple[int, float], ...]
    groups: tuple[int, ...]


class Moved(NamedTuple):
    """Outcome of ``rescale``: change of the raw parameters (P, L), log predictions (R, L) and slopes of the groups there."""

    change: Array
    value: Array
    slopes: list[Array]


def rescale(
    scales: Sequence[Scale],
    shares: Sequence[Array],
    slopes: Sequence[Array],
    value: Array,
    residual: Array,
    weights: Array,
    pull: Array,
    prior_matrix: Array,
) -> Moved:
    """One Gauss-Newton step in the logarithms of the scales, and the law there.

    Args:
      scales: the terms with a scale, I of them.
      shares: I arrays (R, L), term_i / L.
      slopes: derivative of log L by the linear function of each group, (R, L).
      value: log predictions (R, L). residual, weights: (R, L).
      pull: (P, L), derivative of the prior's penalty. prior_matrix: (P, P).
    """
    n, n_params = len(scales), pull.shape[0]
    moves = np.zeros((n, n_params))
    for i, scale in enumerate(scales):
        for k, change in scale.moves:
            moves[i, k] = change
    weighted = [weights * share for share in shares]
    ones = np.ones(value.shape[0])  # sums over rows as products with ones: twice as fast on a CPU
    own = moves @ prior_matrix @ moves.T
    rows: list[list[Any]] = [[None] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rows[i][j] = rows[j][i] = ones @ (weighted[i] * shares[j]) + own[i, j]
        rows[i][i] = rows[i][i] * (1.0 + 1e-9) + 1e-12
    matrix = jnp.stack([jnp.stack(row) for row in rows])
    gradient = jnp.stack([ones @ (w * residual) for w in weighted]) + moves @ pull
    step = eliminate(matrix, -gradient[None])[0]
    largest = jnp.max(jnp.abs(step), 0)
    step = jnp.where(jnp.isfinite(largest), step * jnp.minimum(1.0, LARGEST / jnp.maximum(largest, LARGEST)), 0.0)
    factors = jnp.exp(step)
    growth = 1.0 + sum((factors[i] - 1.0) * shares[i] for i in range(n))
    inverse = 1.0 / growth
    scale_of = {g: i for i, scale in enumerate(scales) for g in scale.groups}
    new = [s * (inverse * factors[scale_of[g]] if g in scale_of else inverse) for g, s in enumerate(slopes)]
    return Moved(moves.T @ step, value + log_near_one(growth), new)
