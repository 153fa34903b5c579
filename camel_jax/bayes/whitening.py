"""Coordinates in which a posterior is round: its mode, and the curvature there as a linear map to standard normals.

Laws of mixtures have directions that the table pins to a thousandth beside others that only the prior holds. In whitened
coordinates u, with z = mode + scale u, all are of order one, so that a sampler takes few and large steps.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from camel_jax.bayes.model import potential
from camel_jax.bayes.noise import Table
from camel_jax.bayes.priors import Layout
from camel_jax.types import Array

LEAST = 0.5  # floor of the curvature: standard normals before the table have 1, so less is the curvature of a saddle


class Whitened(NamedTuple):
    """A table with whitened coordinates: z = mode + scale @ u, for D parameters.

    Attributes:
      table: the table. mode: (D,), the center, in the order of ``ravel_pytree``. scale: (D, D), symmetric.
    """

    table: Table
    mode: Array
    scale: Array


def unflatten(plan: Layout, flat: Array) -> dict[str, Array]:
    """Standard normals by site from a vector (D,)."""
    return ravel_pytree({name: jnp.zeros(shape) for name, shape in plan.sites.items()})[1](flat)


def flat_potential(plan: Layout, table: Table, flat: Array) -> Array:
    """``potential`` of a vector (D,)."""
    return potential(plan, table, unflatten(plan, flat))


def whitened_potential(plan: Layout, target: Whitened, u: Array) -> Array:
    """``potential`` in whitened coordinates."""
    return flat_potential(plan, target.table, target.mode + target.scale @ u)


def whiten(plan: Layout, table: Table, start: dict[str, Array], max_steps: int = 100) -> Whitened:
    """Climb to the mode nearest to a start by Newton's method, the noise held, and measure the curvature there.

    The noise is held because the joint mode of a law and its noise fits the table too well: its noise is far below that of
    any typical draw, and a curvature measured there is far too steep.

    Args:
      plan: the law and its priors. table: the data. start: standard normals by site.
      max_steps: steps at most. The mode need not be exact: it is where the first round starts.
    """
    free = ravel_pytree({k: np.full(np.shape(x), float(not k.startswith("noise_"))) for k, x in start.items()})[0]
    free, mode = np.asarray(free), np.asarray(ravel_pytree(start)[0])
    best, slope = _value(plan, table, mode)
    for _ in range(max_steps):
        curvature = np.asarray(_curvature(plan, table, jnp.asarray(mode))) * free[:, None] * free
        values, vectors = np.linalg.eigh(curvature)
        step = vectors @ ((vectors.T @ (slope * free)) / np.maximum(np.abs(values), LEAST))
        for shrink in 0.5 ** np.arange(12):
            tried = mode - shrink * step
            value, slope_there = _value(plan, table, tried)
            if value < best:
                break
        else:
            break
        gained, best, slope, mode = best - value, value, slope_there, tried
        if gained < 1e-3:
            break
    return whiten_around(plan, table, mode[None])


def whiten_around(plan: Layout, table: Table, points: Array) -> Whitened:
    """Coordinates from the mean curvature at several points (n, D), such as draws: what a step of the sampler meets."""
    total = np.zeros((points.shape[1],) * 2)
    for point in points:
        values, vectors = np.linalg.eigh(np.asarray(_curvature(plan, table, jnp.asarray(point))))
        total += (vectors * np.maximum(values, LEAST)) @ vectors.T / len(points)
    values, vectors = np.linalg.eigh(total)
    scale = (vectors / np.sqrt(values)) @ vectors.T
    return Whitened(table, jnp.asarray(points.mean(0)), jnp.asarray(scale))


def to_whitened(target: Whitened, z: Array) -> np.ndarray:
    """Whitened coordinates (n, D) of points (n, D)."""
    return np.linalg.solve(np.asarray(target.scale), (np.asarray(z) - np.asarray(target.mode)).T).T


def _value(plan: Layout, table: Table, flat: Array) -> tuple[float, np.ndarray]:
    value, slope = _value_and_slope(plan, table, jnp.asarray(flat))
    return float(value), np.asarray(slope)


@partial(jax.jit, static_argnums=0)
def _value_and_slope(plan: Layout, table: Table, flat: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(lambda x: flat_potential(plan, table, x))(flat)


@partial(jax.jit, static_argnums=0)
def _curvature(plan: Layout, table: Table, mode: Array) -> Array:
    slope = jax.grad(lambda x: flat_potential(plan, table, x))
    return jax.vmap(lambda d: jax.jvp(slope, (mode,), (d,))[1])(jnp.eye(len(mode)))
