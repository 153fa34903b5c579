"""Limits of one's own: any smooth function of the mixture, or of the mixture and its outcome, that must not be negative."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture import barrier
from camel_jax.mixture.barrier import Inside, Region
from camel_jax.mixture.feasibility import InfeasibleError
from camel_jax.recipes.outcome import as_outcome
from camel_jax.types import Array

DEEP = 0.3  # share of the largest room that the inner point of a region keeps
TOLERANCE = 1e-8  # by which an answer may break a limit of one's own


@dataclasses.dataclass(frozen=True)
class Constraint:
    """One limit: the room it leaves, not negative where it holds.

    Attributes:
      name: for messages and results. function: of weights (K,), or of weights and an ``Outcome``, to a number.
      reads_outcome: whether it takes the outcome too.
    """

    name: str
    function: Callable[..., Array]
    reads_outcome: bool


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Own:
    """Limits of one's own with the function of the mixture that they may read, as an argument of compiled programs.

    Attributes:
      moving: the function where it is a pytree. still: the function otherwise (static). constraints: the limits (static).
      relaxed: how much room is added to every limit, (n,), in its own unit.
    """

    moving: Any
    still: Any = dataclasses.field(metadata={"static": True})
    constraints: tuple[Constraint, ...] = dataclasses.field(metadata={"static": True})
    relaxed: Array

    def rooms(self, weights: Array) -> Array:
        """Room left under every limit, (n,); for outcomes that are draws, of their mean."""
        outcome = None
        if any(c.reads_outcome for c in self.constraints):
            outcome = as_outcome((self.moving if self.still is None else self.still)(weights))
            if outcome.losses.ndim == 2:
                outcome = jax.tree.map(lambda a: jnp.mean(a, axis=0), outcome)
        rooms = [c.function(weights, outcome) if c.reads_outcome else c.function(weights) for c in self.constraints]
        return jnp.stack([jnp.asarray(room, weights.dtype) for room in rooms]) + self.relaxed

    def with_one_relaxed(self, at: int, step: float) -> Own:
        """The same limits with more room under one of them, in its own unit."""
        return dataclasses.replace(self, relaxed=self.relaxed.at[at].add(step))


def as_constraints(given: Mapping[str, Callable[..., Array]] | None) -> tuple[Constraint, ...]:
    """Limits of one's own as they are given: a name and a function each.

    Raises:
      ValueError: something else; the message names the limit and the rule.

    >>> as_constraints({"entropy": lambda w: -jnp.sum(w * jnp.log(w)) - 0.5})[0].reads_outcome
    False
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise ValueError("constraints: give {name: function}, where the function is not negative if the limit holds")
    out = []
    for name, function in given.items():
        if not callable(function):
            raise ValueError(f"constraint {name!r}: give a function of the weights, not {type(function).__name__}")
        out.append(Constraint(str(name), function, _count_arguments(str(name), function) == 2))
    return tuple(out)


def _count_arguments(name: str, function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(needed) not in (1, 2):
        raise ValueError(f"constraint {name!r}: its function takes the weights, or the weights and the outcome")
    return len(needed)


@jax.jit
def rooms_and_slopes(own: Own, weights: Array) -> tuple[Array, Array]:
    """Rooms (n,) of limits of one's own at a mixture (K,), and their gradients (n, K)."""
    return own.rooms(weights), jax.jacrev(own.rooms)(weights)


def inner_regions(regions: tuple[Region, ...], own: Own, inside: Inside, curved: Any) -> tuple[Region, ...]:
    """The regions with an inner point that meets limits of one's own as well; those that have none are left out.

    Args:
      regions: regions of the other limits. own: the limits. inside: room under all curved limits, own ones last. curved: its argument.

    Raises:
      InfeasibleError: no mixture was found that meets them; for limits that are not convex there may be one all the same.
    """
    out = []
    for region in regions:
        points = np.asarray(_deep_points(region, own, inside, curved))
        rooms = np.asarray(jax.vmap(lambda w: inside(w, curved))(jnp.asarray(points)))
        worst = rooms.min(1)
        best = int(np.argmax(np.where(np.isfinite(worst), worst, -np.inf)))
        if worst[best] > TOLERANCE:
            out.append(region._replace(center=_between(region, points[best], inside, curved)))
    if not out:
        raise InfeasibleError([tuple(c.name for c in own.constraints)], complete=False)
    return tuple(out)


def _between(region: Region, deep: np.ndarray, inside: Inside, curved: Any) -> Array:
    """The point nearest to the center, on the way from a point deep inside, that keeps a share of the room there."""
    keep = DEEP * np.asarray(inside(jnp.asarray(deep), curved))
    for t in (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3):
        point = jnp.asarray(deep + t * (np.asarray(region.center) - deep))
        if np.all(np.asarray(inside(point, curved)) >= keep):
            return point
    return jnp.asarray(deep)


@functools.partial(jax.jit, static_argnames=("inside",))
def _deep_points(region: Region, own: Own, inside: Inside, curved: Any) -> Array:
    """Mixtures strictly inside a region at which the least room is largest, from several starts, (n, K)."""
    others = len(own.constraints)

    def shallow(w: Array, args: Any, smoothing: Array) -> Array:
        width = jnp.maximum(smoothing, 1e-6)
        return width * jax.nn.logsumexp(-own.rooms(w) / width)

    def rest(w: Array, args: Any) -> Array:
        room = inside(w, args)
        return room[: room.shape[0] - others]

    corners = jax.nn.softmax(3.0 * jax.random.normal(jax.random.key(0), (7, region.center.shape[0])), -1)
    starts = jnp.concatenate([region.center[None], corners])
    starts = jax.vmap(lambda w: barrier.retract(w, region, rest, curved))(starts)

    def finish(w: Array) -> Array:
        found = barrier.interior_finish(shallow, rest, w, region, curved, jnp.ones(()), last_barrier=1e-6, power=1.0)
        return jnp.where(jnp.all(jnp.isfinite(found.weights)), found.weights, w)

    return jnp.concatenate([starts, jax.vmap(finish)(starts)])
