"""What a design chooses among, and for which target: mixtures around a center or on a lattice, and the region to predict well."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.simplex import lattice, project_simplex
from camel_jax.recipes.sizes import format_count, parse_size, parse_tokens
from camel_jax.types import Array


@dataclasses.dataclass(frozen=True, repr=False)
class Target:
    """Where the prediction must be good: one size and token count, and mixtures that stand for a region.

    Attributes:
      recipe: (n,) recipes of one size and token count, mixtures (n, K).
    """

    recipe: Recipe

    __repr__ = brief_repr

    @property
    def size(self) -> float:
        """Active parameters."""
        return float(self.recipe.n_active[0])

    @property
    def tokens(self) -> float:
        """Training tokens."""
        return float(self.recipe.tokens[0])

    def text(self) -> str:
        """Size and tokens in words."""
        return f"{format_count(self.size)} active parameters, {format_count(self.tokens)} tokens"


def target_region(size: str | float, tokens: str | float | None, mixtures: Array) -> Target:
    """The target of a design.

    Args:
      size: active parameters, as in "7B" or "55B-A1.2B".
      tokens: training tokens, as in "1T"; None for 20 tokens per active parameter.
      mixtures: (n, K), on the simplex.

    Raises:
      ValueError: a size or token count that is no number, or rows that are no mixtures.

    >>> target_region("7B", None, [[0.5, 0.5]]).tokens
    140000000000.0
    """
    n_total, n_active = parse_size(size)
    seen = 20.0 * n_active if tokens is None else parse_tokens(tokens)
    mixtures = checked_mixtures(mixtures, "target mixtures")
    total, active, tokens_of = (np.full(len(mixtures), value) for value in (n_total, n_active, seen))
    return Target(Recipe(total, active, tokens_of, mixtures))


def checked_mixtures(mixtures: Array, what: str) -> np.ndarray:
    """Mixtures (n, K), rows scaled to sum to 1.

    Raises:
      ValueError: none, or rows that are no mixtures.
    """
    mixtures = np.asarray(mixtures, float)
    if mixtures.ndim != 2 or not mixtures.size:
        raise ValueError(f"{what}: give an array (mixtures, domains), got shape {mixtures.shape}")
    sums = mixtures.sum(1)
    if not np.isfinite(mixtures).all() or (mixtures < 0).any() or (np.abs(sums - 1) > 1e-3).any():
        raise ValueError(f"{what}: shares must be finite, not negative, and sum to 1")
    return mixtures / sums[:, None]


def mixtures_around(
    key: Array, count: int, center: Array, concentration: float = 1.0, lower: Any = 0.0, upper: Any = 1.0
) -> np.ndarray:
    """Random mixtures around a center, (count, K), as ``simplex.dirichlet_design`` draws them. The first is the center.

    Drawn on the host: compiling a program for every number of mixtures takes seconds, and the draws milliseconds.

    Args:
      key: a ``jax.random`` key.
      count: number of mixtures.
      center: (K,), on the simplex.
      concentration: how close they stay, above zero: K times this is the sum of the Dirichlet's parameters.
      lower: smallest shares, scalar or (K,).
      upper: largest shares, scalar or (K,).

    >>> import jax
    >>> drawn = mixtures_around(jax.random.key(0), 4, [0.6, 0.3, 0.1], concentration=10.0)
    >>> drawn.shape, drawn[0].tolist(), drawn.sum(1).round(6).tolist()
    ((4, 3), [0.6, 0.3, 0.1], [1.0, 1.0, 1.0, 1.0])
    """
    center = np.asarray(center, float)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    parameters = np.maximum(concentration * center.size * center, 1e-3)
    # log of a gamma draw: with small parameters plain ones underflow to an all-zero row
    logs = np.log(rng.gamma(parameters + 1.0, size=(count, center.size)))
    logs += np.log1p(-rng.random(logs.shape)) / parameters
    drawn = np.exp(logs - logs.max(1, keepdims=True))
    drawn /= drawn.sum(1, keepdims=True)
    if np.any(drawn < lower) or np.any(drawn > upper):
        drawn = np.asarray(jax.vmap(lambda point: project_simplex(point, lower, upper))(jnp.asarray(drawn)))
    if np.all(center >= lower) and np.all(center <= upper):
        drawn = np.concatenate([center[None], drawn[:-1]])
    return drawn


def lattice_mixtures(key: Array, most: int, domains: int, lower: Any = 0.0, upper: Any = 1.0) -> np.ndarray:
    """Mixtures on a regular lattice, in random order, (n, K): the finest with at most ``most`` of them within the limits.

    Args:
      key: a ``jax.random`` key. most: most mixtures. domains: K. lower, upper: limits of the shares, scalar or (K,).

    Raises:
      ValueError: not even the corners of the simplex are few enough, or no lattice of that size meets the limits.

    >>> lattice_mixtures(jax.random.key(0), 10, 3).shape
    (10, 3)
    """
    found = np.zeros((0, domains))
    for divisions in range(1, 65):
        if math.comb(divisions + domains - 1, domains - 1) > max(200_000, most):
            break
        points = lattice(domains, divisions)
        points = points[np.all((points >= lower) & (points <= np.asarray(upper) + 1e-12), axis=1)]
        if len(points) > most:
            break
        found = points if len(points) else found
    if not len(found):
        raise ValueError(f"no lattice of {domains} domains has at most {most} mixtures within the limits; allow more")
    return found[np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel()).permutation(len(found))]
