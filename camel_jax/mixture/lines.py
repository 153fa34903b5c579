"""Extremes of a near-optimal set of many domains along lines: one factorisation for all domains, in place of a search for each.

In an ellipsoid the largest share of a domain lies along its column of the inverse matrix. The set is taken as the ellipsoid that its
limits make about a point inside it (Dikin's), whose lines are then followed to the true edge: what is found is in the set, so that
ranges are never too wide.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from camel_jax.mixture import barrier, objectives
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.newton_step import curvature
from camel_jax.mixture.objectives import Goal
from camel_jax.mixture.problem import Curved, inside_curved
from camel_jax.types import Array

HALVINGS, AT_ONCE = 40, 64
CORNERS = 4  # extremes that a random mixture lies between


def _reach(
    goal: Goal, outcomes: Any, curved: Curved, level: Array, inner: Array, direction: Array, most: Array
) -> Array:
    """How far one can go from a mixture along a direction and stay in the set, at most ``most``."""

    def good(t: Array) -> Array:
        w = inner + t * direction
        legal = jnp.all(inside_curved(w, curved) > 0)
        return legal & (objectives.goal_cost(goal, outcomes, w, jnp.zeros(())) <= level)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        near, far = ends
        middle = 0.5 * (near + far)
        ok = good(middle)
        return jnp.where(ok, middle, near), jnp.where(ok, far, middle)

    reached = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(most), most))[0]
    return jnp.where(good(most), most, reached)


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def extremes_along_lines(
    still: Any, moving: Any, goal: Goal, region: Region, curved: Curved, inner: Array, level: Array
) -> Array:
    """Mixtures of small and large share of every domain within the set, (4K, K).

    Args:
      still, moving, goal, region, curved: as for the search. inner: (K,), a mixture strictly inside the set.
      level: cost that still counts.
    """
    outcomes = moving if still is None else still
    free, equal = region.free, jnp.where(region.free, region.equal, 0.0)

    def cost(w: Array) -> Array:
        return objectives.goal_cost(goal, outcomes, w, 1e-6 * jnp.maximum(jnp.abs(level), 1e-12))

    hessian, gradient, value = curvature(cost, inner)
    room = jnp.maximum(level - value, 1e-12)
    low = jnp.where(free, inner - region.lower, 1.0)
    high = jnp.where(free, region.upper - inner, 1.0)
    rows = jnp.where(free, region.rows, 0.0) / (region.limits - region.rows @ inner)[:, None]
    matrix = hessian / room + jnp.outer(gradient, gradient) / room**2 + jnp.diag(low**-2 + high**-2) + rows.T @ rows
    unit = jax.lax.rsqrt(jnp.maximum(jnp.abs(jnp.diagonal(matrix)), 1e-300))
    values, vectors = jnp.linalg.eigh(matrix * unit[:, None] * unit)
    inverse = (unit[:, None] * vectors / jnp.maximum(jnp.abs(values), 1e-12)) @ (vectors.T * unit)
    crossed = inverse @ equal.T
    inverse = inverse - crossed @ jnp.linalg.pinv(equal @ crossed) @ crossed.T

    def project(d: Array) -> Array:
        d = jnp.where(free, d, 0.0)
        return d - equal.T @ (equal @ d)

    def edge(d: Array) -> Array:
        """The last mixture along a direction that is in the set."""
        d = project(d)
        most = jnp.minimum(barrier.longest_step(inner, d, region), 1e12)
        return inner + _reach(goal, outcomes, curved, level, inner, d, most) * d

    straight = jnp.eye(len(inner)) - inner
    ways = jnp.concatenate([inverse, -inverse, straight, -straight])
    return jax.lax.map(edge, ways / jnp.max(jnp.abs(ways), axis=1, keepdims=True), batch_size=AT_ONCE)


@functools.partial(jax.jit, static_argnames=("still", "goal", "samples"))
def between_extremes(
    still: Any,
    moving: Any,
    goal: Goal,
    curved: Curved,
    inner: Array,
    level: Array,
    extremes: Array,
    key: Array,
    samples: int,
) -> Array:
    """Random mixtures of the set, (samples, K), each between some of its extremes, far ones sooner than near ones.

    Where the set is not convex, one that falls outside is drawn toward ``inner`` until it is in the set.

    Args:
      still, moving, goal, curved, inner, level: as for ``extremes_along_lines``.
      extremes: (n, K), mixtures of the set.
      key: a ``jax.random`` key. samples: how many.
    """
    outcomes = moving if still is None else still
    far = jnp.sum(jnp.abs(extremes - inner), axis=1) + 1e-12
    far = far / jnp.sum(far)

    def one(key: Array) -> Array:
        pick, part = jax.random.split(key)
        some = extremes[jax.random.choice(pick, len(extremes), (CORNERS,), p=far)]
        direction = jax.random.dirichlet(part, jnp.ones(CORNERS)) @ some - inner
        return inner + _reach(goal, outcomes, curved, level, inner, direction, jnp.ones(())) * direction

    return jax.vmap(one)(jax.random.split(key, samples))
