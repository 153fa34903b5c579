"""What runs tell about a law: derivatives of log losses by its raw parameters, and the Fisher information of a table.

A run at recipe x measures log L_v(x) with noise of standard deviation s_v, so it adds ``sum_v J_v' J_v / s_v^2`` to the precision
of the raw parameters, which starts as the curvature of the law's prior. Everything is in the units of the table, and for
M draws of the parameters at once: a design that is good at one value of them alone would trust it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from camel_jax.exchange import rank_gain
from camel_jax.laws.law import Law, Units, scale_recipe, scale_runs
from camel_jax.objective import ROWS_PER_RUN, as_data
from camel_jax.runs import Recipe, Runs

Array = Any

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
    return _sensitivities(law, raw, _floats(scale_recipe(units, recipe)))


@partial(jax.jit, static_argnums=0)
def _sensitivities(law: Law, raw: Any, recipe: Recipe) -> Array:
    rows = jax.lax.map(
        lambda x: jax.vmap(lambda r: _rows(law, r, x))(raw), recipe, batch_size=min(CHUNK, len(recipe.tokens))
    )
    return jnp.swapaxes(rows, 0, 1)


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
    n = len(weights)
    total = jnp.zeros(())
    for at in range(
        0, n, 4 * CHUNK
    ):  # the last chunk is filled up with rows of no weight, so that one program serves all
        rows = np.arange(at, at + min(4 * CHUNK, n))
        kept = np.minimum(rows, n - 1)
        w = np.where((rows < n)[:, None], weights[kept], 0.0)
        part = jax.tree.map(lambda x, kept=kept: jnp.asarray(x)[kept], data.recipe)
        total = total + _information(law, raw, part, jnp.asarray(w))
    return total


@partial(jax.jit, static_argnums=0)
def _information(law: Law, raw: Any, recipe: Recipe, weights: Array) -> Array:
    j = _sensitivities(law, raw, recipe)
    return jnp.einsum("rv,mrvp,mrvq->mpq", weights, j, j, optimize=True)


def screen(
    law: Law, units: Units, raw: Any, recipe: Recipe, noise: Array, covariance: Array, sandwich: Array
) -> np.ndarray:
    """What each of many candidate runs would gain on its own, (R,), without keeping their derivatives.

    Args:
      law, units, raw, recipe: as in :func:`sensitivities`. noise: (V,).
      covariance, sandwich: Sigma and Sigma A Sigma of the design so far, (M, P, P).
    """
    scaled = _floats(scale_recipe(units, recipe))
    return np.asarray(_screen(law, raw, scaled, jnp.asarray(noise, float), covariance, sandwich))


@partial(jax.jit, static_argnums=0)
def _screen(law: Law, raw: Any, recipe: Recipe, noise: Array, covariance: Array, sandwich: Array) -> Array:
    def one(x: Recipe) -> Array:
        j = jax.vmap(lambda r: _rows(law, r, x))(raw) / noise[:, None]
        gram, cross = (j @ m @ jnp.swapaxes(j, 1, 2) for m in (covariance, sandwich))
        return jnp.mean(rank_gain(gram, cross))

    return jax.lax.map(one, recipe, batch_size=min(CHUNK, len(recipe.tokens)))


def _floats(recipe: Recipe) -> Recipe:
    return jax.tree.map(lambda x: jnp.asarray(x, float), recipe)
