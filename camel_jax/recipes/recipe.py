"""Size, tokens, mixture: what one chooses before training."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Recipe:
    """What one chooses before training a model.

    Attributes:
      n_total: total parameters, shape (...).
      n_active: active parameters, shape (...); equal to ``n_total`` for a dense model.
      tokens: training tokens, shape (...).
      weights: mixture over training domains, shape (..., K); rows on the simplex, zeros are legal.
      supply: unique tokens available per domain, shape (..., K) or (K,), or None when data never repeats.

    >>> dense(1e9, 2e10, [0.5, 0.5]).weights.shape
    (2,)
    """

    n_total: Array
    n_active: Array
    tokens: Array
    weights: Array
    supply: Array | None = None

    def __len__(self) -> int:
        return int(np.shape(self.tokens)[0])

    __repr__ = brief_repr


def dense(size: Array, tokens: Array, weights: Array) -> Recipe:
    """Recipe of a dense model: total and active parameters are the same.

    Args:
      size: parameters, shape (...).
      tokens: training tokens, shape (...).
      weights: mixture over the training domains, shape (..., K).

    >>> float(dense(1e9, 2e10, [0.5, 0.5]).n_active)
    1000000000.0
    """
    size = jnp.asarray(size, float)
    return Recipe(size, size, jnp.asarray(tokens, float), jnp.asarray(weights, float))


def select_recipe(recipe: Recipe, rows: Array) -> Recipe:
    """Rows of a batched recipe, by boolean mask or index; host side."""
    rows = np.asarray(rows)
    supply = recipe.supply
    if supply is not None and np.ndim(supply) == np.ndim(recipe.weights):
        supply = np.asarray(supply)[rows]
    n_total, n_active, tokens, weights = (
        np.asarray(a)[rows] for a in (recipe.n_total, recipe.n_active, recipe.tokens, recipe.weights)
    )
    return Recipe(n_total, n_active, tokens, weights, supply)
