"""Corrections of a law's prediction beyond the sizes and tokens of its table, made so that losses never rise there.

Beyond the table a law says that log losses fall, by

    fall_v(N, D, r) = log f_v(N', D', r) - log f_v(N, D, r) >= 0,    N' = min(N, N_max),  D' = min(D, D_max)

with data that never repeat. Two corrections are made there, both in terms of that fall, so that their sum with the law still falls:

    slowing_v fall_v                                       errors that back-tests make expect
    min(field(N, D, r), field(N', D', r) + 0.4 fall_v)     the residual field, which fades, where it was negative, no faster than that
                                                           (and not at all where the table has one size)

``slowing`` is at most a half: a law that fell too fast in its back-tests keeps half of its fall at least.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from camel_jax.prediction.discrepancy import Discrepancy, expected_slope, leverages
from camel_jax.recipes.recipe import Recipe
from camel_jax.types import Array

FIELD_SHARE = 0.4  # of the law's fall that the fading of the field may undo
MOST, LEAST = 0.5, -1.0  # of the slowing
STEP = 3.0  # times the largest size and tokens, where the slowing undoes what the slopes say


def nearest_fitted(recipe: Recipe, size: Array, tokens: Array, xp: Any = jnp) -> Recipe:
    """The recipe at no more than the largest size and tokens of a table, with data that never repeat.

    >>> from camel_jax.recipes.recipe import dense
    >>> near = nearest_fitted(dense(1e9, 1e9, [0.5, 0.5]), 1e8, 1e10)
    >>> float(near.n_active), float(near.tokens)
    (100000000.0, 1000000000.0)
    """
    active = xp.minimum(recipe.n_active, size)
    total = recipe.n_total * (active / recipe.n_active)
    return fresh(Recipe(total, active, xp.minimum(recipe.tokens, tokens), recipe.weights, recipe.supply), xp)


def fresh(recipe: Recipe, xp: Any = jnp) -> Recipe:
    """The same recipe with no limit of unique tokens."""
    return recipe if recipe.supply is None else dataclasses.replace(recipe, supply=xp.full_like(recipe.supply, np.inf))


def step_beyond(size: float, tokens: float, mixture: Array, recipe: Recipe) -> Recipe:
    """A mixture one step beyond a table, in as many rows as ``recipe`` has; on the host.

    Args:
      size, tokens: the largest of the table. mixture: (K,), its mean.
      recipe: rows of the table, in the same units; total over active parameters are those of the largest.
    """
    active, ratio = np.asarray(recipe.n_active, float), np.asarray(recipe.n_total) / np.asarray(recipe.n_active)
    like = np.ones_like(active)
    mixture = np.broadcast_to(np.asarray(mixture), np.shape(recipe.weights))
    supply = None if recipe.supply is None else np.full(np.shape(recipe.supply), np.inf)
    return Recipe(
        STEP * size * float(ratio[int(active.argmax())]) * like,
        STEP * size * like,
        STEP * tokens * like,
        mixture,
        supply,
    )


def expected_slowing(d: Discrepancy, fall: np.ndarray) -> np.ndarray:
    """Share of the law's fall that back-tests make expect to be missing, (V,).

    Args:
      d: the discrepancy.
      fall: (V,) of the law at ``step_beyond``.
    """
    one = np.ones(1)
    size, tokens = STEP * float(d.size) * one, STEP * float(d.tokens) * one
    reach = float(leverages(d, Recipe(size, size, tokens, np.asarray(d.mean)[None]))[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.asarray(expected_slope(d)) * reach / np.maximum(fall, 1e-12)
    return np.clip(np.nan_to_num(share), LEAST, MOST)


def corrected(d: Discrepancy, fall: Array, at: Array, inside: Array, xp: Any = jnp) -> Array:
    """All that is added to a law's log losses: the field's correction, and beyond the table the share of its fall that is missing.

    Args:
      d: the discrepancy. fall: (..., V) of the law between a recipe and ``nearest_fitted``; 0 within the table.
      at, inside: (..., V) corrections of the field at these two.
    """
    return limited_field(at, inside, fall, xp, field_share(d, xp)) + xp.asarray(d.slowing) * fall


def field_share(d: Discrepancy, xp: Any = jnp) -> Array:
    """Share of the law's fall that the fading of the field may undo: none where a table has one size.

    Of such a table nothing says how residuals fade with size, and the law may have fallen all that it will where they still fade.
    """
    return xp.where(xp.asarray(d.size_span) > 0, FIELD_SHARE, 0.0)


def limited_field(at: Array, inside: Array, fall: Array, xp: Any = jnp, share: Array | float = FIELD_SHARE) -> Array:
    """The field's correction at a recipe, from it, from the one at ``nearest_fitted``, and from the law's fall between them."""
    return xp.minimum(at, inside + share * fall)
