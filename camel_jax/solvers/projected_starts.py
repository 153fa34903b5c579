"""Better starts for least squares: the scales of a law's terms, solved for before the first step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from camel_jax.solvers.autodiff import Rowwise
from camel_jax.solvers.structure import Form
from camel_jax.types import Array

LEAST_SHARE = 0.05  # of a term after projection: a term that starts at nothing has no gradient to grow from


def _scales(terms: Array, rest: Array | float, targets: Array, weights: Array) -> Array:
    """Non-negative weighted least squares of the relative error of rest + sum_i s_i terms_i; logarithms of s, (I, L).

    terms (I, R, L), rest and targets (R, L) in nats, weights (R, L). Terms keep at least ``LEAST_SHARE`` of the mean target.
    """
    relative = jnp.where(weights > 0, terms / targets, 0.0)
    wanted = jnp.where(weights > 0, 1.0 - rest / targets, 0.0)
    gram = jnp.einsum("irl,jrl->ijl", relative * weights, relative)
    rhs = jnp.sum(relative * weights * wanted, 1)
    mean = jnp.sum(relative * weights, 1) / jnp.maximum(jnp.sum(weights, 0), 1e-300)
    lowest = LEAST_SHARE / jnp.maximum(mean, 1e-300)
    n = len(terms)
    inverse = [1.0 / jnp.maximum(gram[i, i], 1e-300) for i in range(n)]

    def sweep(_, s):
        s = list(s)
        for i in range(n):
            apart = sum((gram[i, j] * s[j] for j in range(n) if j != i), start=0.0)
            s[i] = jnp.maximum((rhs[i] - apart) * inverse[i], lowest[i])
        return tuple(s)

    return jnp.log(jnp.stack(lax.fori_loop(0, 300, sweep, tuple(jnp.ones_like(rhs)))))


@partial(jax.jit, static_argnums=0)
def project_starts(form: Form, data: Any, starts: Array, targets: Array, weights: Array) -> Array:
    """Starts (P, L) of a structured law with the scales of its terms solved for; targets and weights (R, L)."""
    chex.assert_shape([targets, weights], (None, starts.shape[1]))
    chex.assert_equal_shape([targets, weights])
    movable = [i for i, a in enumerate(form.amplitudes) if a]
    if not movable:
        return starts
    terms = form.scaled_terms(data, starts)
    rest = sum((t for i, t in enumerate(terms) if i not in movable), start=0.0)
    factors = _scales(jnp.stack([terms[i] for i in movable]), rest, targets, weights)
    moved = starts
    for i, factor in zip(movable, factors, strict=True):
        for k in form.amplitudes[i]:
            # every branch of a term moves together: the term is homogeneous of degree 1 (coupled) or `power`
            moved = moved.at[k].add(factor / (1.0 if form.couplings[i] >= 0 else form.powers[i]))
    return jnp.where(jnp.all(jnp.isfinite(moved), 0), moved, starts)


@partial(jax.jit, static_argnums=(0, 1))
def project_function(
    model: Rowwise, amplitudes: tuple[int, ...], rows: Any, starts: Array, targets: Array, weights: Array
) -> Array:
    """The same for a function, at the parameters found to be logarithms of amplitudes: the derivative is the term."""
    one = jax.value_and_grad(model.scalar)
    over_lanes = jax.vmap(one, in_axes=(0, None))
    value, slopes = jax.vmap(over_lanes, in_axes=(None, 0))(tuple(starts), rows)
    terms = jnp.stack([slopes[i] for i in amplitudes])
    factors = _scales(terms, value - jnp.sum(terms, 0), targets, weights)
    moved = starts.at[np.array(amplitudes)].add(factors)
    return jnp.where(jnp.all(jnp.isfinite(moved), 0), moved, starts)


def project_all(
    project: Callable[..., Array], flat: np.ndarray, targets: np.ndarray, seen: np.ndarray, weights: Array
) -> np.ndarray:
    """Projected starts; every resample that shares a start shares its projection, with the mean weights."""
    n_own, n_starts, n_sets, n_params = flat.shape
    if n_own > 1:
        each = [project_all(project, flat[b : b + 1], targets, seen, weights[b : b + 1]) for b in range(n_own)]
        return np.concatenate(each)
    columns = np.tile(np.arange(n_sets), n_starts)
    mean = np.asarray(weights).mean(0, dtype=float)
    rows = np.where(seen, mean[:, None], 0.0)[:, columns]
    values = np.where(seen, targets, 1.0)[:, columns]
    return np.asarray(project(jnp.asarray(flat.reshape(-1, n_params).T), values, rows)).T.reshape(flat.shape)
