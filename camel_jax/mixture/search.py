"""The search behind a decision: many starts in softmax coordinates, the best finished by a barrier method, then put on the limits."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture import barrier, objectives, optimality
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.objectives import Goal
from camel_jax.mixture.problem import Curved, Problem, inside_curved, split_function, violation
from camel_jax.types import Array


def toward_center(problem: Problem, region: Region, weights: np.ndarray, goal: Goal, level: float) -> np.ndarray:
    """A strictly inner mixture near a given one whose cost stays below a level."""
    still, moving = split_function(problem.outcomes)
    t = 0.5 ** np.arange(1, 50)
    tried = weights + t[:, None] * (region.center - weights)
    costs = np.asarray(costs_and_slopes(still, moving, goal, tried)[0])
    good = np.flatnonzero(costs < level)
    return tried[good[0]] if len(good) else tried[-1]


class Solution(NamedTuple):
    """The best mixture found, exactly on its limits, and how the candidates fared."""

    weights: np.ndarray
    cost: float
    converged: bool
    costs: np.ndarray
    starts: int
    region: Region
    smoothing: float


def random_starts(key: Array, n_starts: int, n_domains: int) -> Array:
    """Random mixtures (n_starts, K): half spread over the whole simplex, half near its corners."""
    power = jnp.where(jnp.arange(n_starts) % 2 == 0, 1.0, 4.0)
    logs = jnp.log(jax.random.exponential(key, (n_starts, n_domains)))  # normalised exponentials are uniform
    return jax.nn.softmax(power[:, None] * logs, -1)


@functools.partial(jax.jit, static_argnames=("still", "goal", "n_starts", "finishers"))
def _search(
    still: Any, moving: Any, goal: Goal, region: Region, curved: Curved, key: Array, n_starts: int, finishers: int
) -> Any:
    """Descend from random starts, finish the best few and the center: a ``Finish`` with a leading axis."""
    outcomes = moving if still is None else still

    def function(w: Array, args: Any, smoothing: Array) -> Array:
        del args
        return objectives.goal_cost(goal, outcomes, w, smoothing)

    def cheap(w: Array, args: Any, smoothing: Array) -> Array:
        del args
        return objectives.goal_cost(dataclasses.replace(goal, risk="mean"), outcomes, w, smoothing)

    points = random_starts(key, n_starts, region.center.shape[0])
    starts = jax.vmap(lambda w: barrier.retract(w, region, inside_curved, curved))(points)
    scale = barrier.objective_scale(cheap, starts, region, curved)
    found, values = jax.vmap(lambda w: barrier.softmax_descent(cheap, inside_curved, w, region, curved, scale))(starts)
    best = found[jnp.argsort(values)[:finishers]]
    best = jnp.concatenate([best, region.center[None]])
    # corners of cvar and worst stay rounded by last / scale, and are approached slowly
    last, power, most = (1e-9, 1.5, 80) if goal.risk == "mean" else (1e-7, 1.0, 150)

    def finish(w: Array) -> barrier.Finish:
        return barrier.interior_finish(
            function, inside_curved, w, region, curved, scale, max_steps=most, last_barrier=last, power=power
        )

    return jax.vmap(finish)(best), last / scale


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def costs_and_slopes(
    still: Any, moving: Any, goal: Goal, weights: Array, smoothing: Array | float = 0.0
) -> tuple[Array, Array]:
    """Cost (n,) and gradient (n, K) of mixtures (n, K) under a goal; only the gradient is smoothed."""
    outcomes = moving if still is None else still

    def one(w: Array) -> tuple[Array, Array]:
        slope = jax.grad(lambda v: objectives.goal_cost(goal, outcomes, v, smoothing))(w)
        return objectives.goal_cost(goal, outcomes, w, jnp.zeros(())), slope

    return jax.lax.map(one, weights, batch_size=64)


def solve(problem: Problem, key: Array, starts: int = 64, finishers: int | None = None) -> Solution:
    """Search and finish on every region of a problem; the best answer, exactly on its limits."""
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts!r}")
    still, moving = split_function(problem.outcomes)
    if finishers is None:
        finishers = 7 if problem.goal.risk == "mean" else 2
    best: Solution | None = None
    seen: list[np.ndarray] = []
    for region in problem.regions:
        if not region.free.any():
            weights = np.asarray(region.center)
            value = float(costs_and_slopes(still, moving, problem.goal, np.stack([weights] * 2))[0][0])
            candidate = Solution(weights, value, bool(np.isfinite(value)), np.asarray([value]), starts, region, 0.0)
        else:
            finish, smoothing = _search(
                still, moving, problem.goal, region, problem.curved, key, starts, min(finishers, starts)
            )
            finish = jax.tree.map(np.asarray, finish)
            candidate = _exact(problem, region, finish, starts, float(smoothing))
        seen.append(candidate.costs)
        if best is None or candidate.cost < best.cost:
            best = candidate
    assert best is not None
    return best._replace(costs=np.concatenate(seen))


def _exact(problem: Problem, region: Region, finish: barrier.Finish, starts: int, smoothing: float) -> Solution:
    """Put the best candidate exactly on the limits that bind, unless that is worse or breaks another limit."""
    still, moving = split_function(problem.outcomes)
    order = int(np.argmin(finish.value))
    raw = np.asarray(finish.weights[order])
    options = [optimality.settle(raw, region, problem.limits, np.zeros(len(raw), bool), np.zeros(len(raw), bool), ())]
    room_low, room_high = raw - region.lower, region.upper - raw
    on_low = region.free & (finish.lower[order] > room_low) & (room_low < 1e-4)
    on_high = region.free & (finish.upper[order] > room_high) & (room_high < 1e-4)
    room_rows = region.limits - region.rows @ raw
    on_rows = np.flatnonzero((finish.rows[order] > room_rows) & (room_rows < 1e-4)).tolist()
    options.append(optimality.settle(raw, region, problem.limits, on_low, on_high, on_rows))
    values = np.asarray(costs_and_slopes(still, moving, problem.goal, np.asarray(options))[0])
    broken = [violation(problem, w) for w in options]
    slack = 1e-9 * max(1.0, abs(values[0])) if np.isfinite(values[0]) else np.inf
    pick = 1 if broken[1] <= max(broken[0], 1e-12) and values[1] <= values[0] + slack else 0
    converged = finish.status[order] == barrier.CONVERGED or finish.residual[order] < 1e-4
    return Solution(options[pick], float(values[pick]), bool(converged), finish.value, starts, region, smoothing)
