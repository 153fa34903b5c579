"""What runs tell about a law: derivatives of log losses by its raw parameters, and the Fisher information of a table.

A run at recipe x measures log L_v(x) with noise of standard deviation s_v, so it adds ``sum_v J_v' J_v / s_v^2`` to the precision
of the raw parameters, which starts as the curvature of the law's prior. Everything is in the units of the table, and for
M draws of the parameters at once: a design that is good at one value of them alone would trust it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from camel_jax.design.exchange import rank_gain
from camel_jax.fitting.objective import ROWS_PER_RUN, as_data
from camel_jax.laws.law import Law, Units, scale_recipe, scale_runs
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

CHUNK = 64  # recipes differentiated at once; bounds the memory


def _rows(law: Law, raw: Any, recipe: Recipe) -> Array:
    """d log losses / d raw of one recipe for one draw, (V, P), columns in the order of ``ravel_pytree``."""
    slopes = jax.jacrev(lambda r: jnp.log(law.predict(law.constrain(r), recipe)))(raw)
    return jnp.concatenate([s.reshape(s.shape[0], -1) for s in jax.tree.leaves(slopes)], axis=1)


def sensitivities(law: Law, units: Units, raw: Any, recipe: Recipe) -> Array:
    """Derivatives of log losses by raw parameters.

    Args:
      law: the law, in units of the table. units: those units.
      raw: unconstrained parameters of M draws, leaves (M, ...).
      recipe: (R, ...) recipes in parameters and tokens.

    Returns:
      (M, R, V, P).
    """
    parts = [_chunk(law, raw, part) for part, _ in _chunks(scale_recipe(units, recipe))]
    return (parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1))[:, : len(recipe.tokens)]


def _chunks(recipe: Recipe) -> Iterator[tuple[Recipe, np.ndarray]]:
    """A batch cut into CHUNK rows, and the rows they are; the last is filled up, so that one program serves all tables."""
    n = len(recipe.tokens)
    for at in range(0, n, CHUNK):
        rows = np.arange(at, at + CHUNK)
        kept = np.minimum(rows, n - 1)
        yield jax.tree.map(lambda x, kept=kept: np.asarray(x, float)[kept], recipe), rows[rows < n]


@partial(jax.jit, static_argnums=0)
def _chunk(law: Law, raw: Any, recipe: Recipe) -> Array:
    """Derivatives (M, R, V, P) of one chunk."""
    return jax.vmap(lambda r: jax.vmap(lambda x: _rows(law, r, x))(recipe))(raw)


@partial(jax.jit, static_argnums=0)
def prior_precision(law: Law, raw: Any) -> Array:
    """Curvature of the prior at every draw, -d2 log prior / d raw2, (M, P, P)."""

    def one(r: Any) -> Array:
        flat, unravel = ravel_pytree(r)
        return -jax.hessian(lambda x: law.log_prior(unravel(x)))(flat)

    return jax.vmap(one)(raw)


def table_information(law: Law, units: Units, raw: Any, runs: Runs, noise: Array) -> Array:
    """Information of a table of runs already there, (M, P, P); the checkpoints of a run count as one run together.

    Args:
      law, units, raw: as in :func:`sensitivities`. runs: the table, in parameters, tokens and nats.
      noise: (V,) standard deviation of the log loss of one run.
    """
    data = as_data(scale_runs(units, runs))
    weights = np.where(data.measured, np.asarray(data.weights)[:, None] / ROWS_PER_RUN, 0.0) / np.asarray(noise) ** 2
    total = jnp.zeros(())
    for part, rows in _chunks(data.recipe):
        w = np.zeros((CHUNK, weights.shape[1]))  # rows that fill the chunk up weigh nothing
        w[: len(rows)] = weights[rows]
        total = total + _gram(_chunk(law, raw, part), w)
    return total


@jax.jit
def _gram(j: Array, weights: Array) -> Array:
    return jnp.einsum("rv,mrvp,mrvq->mpq", weights, j, j, optimize=True)


def screen(
    law: Law, units: Units, raw: Any, recipe: Recipe, noise: Array, covariance: Array, sandwich: Array
) -> np.ndarray:
    """What each of many candidate runs would gain on its own, (R,), without keeping their derivatives.

    Args:
      law, units, raw, recipe: as in :func:`sensitivities`. noise: (V,).
      covariance, sandwich: Sigma and Sigma A Sigma of the design so far, (M, P, P).
    """
    scaled, scale = scale_recipe(units, recipe), np.asarray(noise, float)
    parts = [
        np.asarray(_gain(_chunk(law, raw, part), scale, covariance, sandwich))[: len(rows)]
        for part, rows in _chunks(scaled)
    ]
    return np.concatenate(parts)


@jax.jit
def _gain(j: Array, noise: Array, covariance: Array, sandwich: Array) -> Array:
    j = j / noise[:, None]
    gram, cross = (jnp.einsum("mrvp,mrwp->mrvw", jnp.einsum("mrvp,mpq->mrvq", j, a), j) for a in (covariance, sandwich))
    return jnp.mean(rank_gain(gram, cross), axis=0)
