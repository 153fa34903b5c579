"""The search behind a decision: many starts in softmax coordinates, the best finished by a barrier method, then put on the limits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import constraints, feasibility, goals, interior
from camel_jax.constraints import Limits
from camel_jax.goals import Goal, Objective, mean_loss
from camel_jax.interior import Region

Array = Any


class Curved(NamedTuple):
    """Curved limits as arrays: a KL limit to a prior and a Euclidean limit to an anchor; None where absent."""

    prior: Array | None = None
    kl: Array | None = None
    anchor: Array | None = None
    distance: Array | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """A decision ready to be solved: the function, the goal and the limits.

    Attributes:
      outcomes: the function. goal: objective and risk. limits: named limits. regions: one region, or one per choice of
      domains that may be above zero. curved: KL and distance limits. reference: (K,).
    """

    outcomes: Any
    goal: Goal
    limits: Limits
    regions: tuple[Region, ...]
    curved: Curved
    reference: np.ndarray
    sets: tuple[str, ...]
    tasks: tuple[str, ...]
    has_draws: bool


class Solution(NamedTuple):
    """The best mixture found, exactly on its limits, and how the candidates fared."""

    weights: np.ndarray
    cost: float
    converged: bool
    costs: np.ndarray
    starts: int
    region: Region
    smoothing: float


def make_problem(
    outcomes: Any,
    *,
    objective: Objective | None = None,
    domains: Sequence[str] | None = None,
    reference: Array | None = None,
    risk: str = "mean",
    tail: float = 0.1,
    limits: Mapping[str, Any] | None = None,
) -> Problem:
    """Check a decision and find where it is feasible; arguments as in :func:`optimize_mixture`, limits as a mapping."""
    if not jax.config.read("jax_enable_x64"):
        raise ValueError('choosing a mixture needs float64: call jax.config.update("jax_enable_x64", True) first')
    if reference is None:
        reference = getattr(outcomes, "reference", None)
    names = getattr(outcomes, "domains", None) if domains is None else domains
    if names is None and reference is None:
        raise ValueError("the domains are not known: pass domains=[...] or a reference mixture")
    named = constraints.parse_limits(len(np.asarray(reference)) if names is None else names, **(limits or {}))
    size = len(named.domains)
    reference = (
        np.full(size, 1.0 / size) if reference is None else constraints.mixture(reference, named.domains, "reference")
    )
    if risk not in goals.RISKS:
        raise ValueError(f"risk must be one of {', '.join(goals.RISKS)}, got {risk!r}")
    if not 0.0 < tail <= 1.0:
        raise ValueError(f"tail must be above 0 and at most 1, got {tail!r}")
    shape = jax.eval_shape(lambda w: goals.as_outcome(outcomes(w)), jax.ShapeDtypeStruct((size,), float))
    if shape.losses.ndim not in (1, 2):
        raise ValueError(f"the function must give losses (V,) or draws (M, V), got shape {shape.losses.shape}")
    has_draws = hasattr(outcomes, "draws") or shape.losses.ndim == 2
    if risk != "mean" and not has_draws:
        raise ValueError(f"risk={risk!r} needs draws, and the function gives only a point prediction")
    n_tasks = 0 if shape.accuracies is None else shape.accuracies.shape[-1]
    sets = tuple(getattr(outcomes, "sets", None) or (f"set {i}" for i in range(shape.losses.shape[-1])))
    tasks = tuple(getattr(outcomes, "tasks", None) or (f"task {i}" for i in range(n_tasks)))
    goal = Goal((mean_loss() if objective is None else objective).bind(sets, tasks), risk, float(tail))
    cost_shape = jax.eval_shape(
        lambda w: goals.goal_cost(goal, outcomes, w, jnp.ones(())), jax.ShapeDtypeStruct((size,), float)
    )
    if cost_shape.shape != ():
        raise ValueError(f"the objective must be one number per mixture, got shape {cost_shape.shape}")
    regions = feasibility.regions(named)
    kl_limit, distance_limit = named.find("kl"), named.find("distance")
    curved = Curved(
        None if kl_limit is None else jnp.asarray(named.prior),
        None if kl_limit is None else jnp.asarray(kl_limit.value),
        None if distance_limit is None else jnp.asarray(named.anchor),
        None if distance_limit is None else jnp.asarray(distance_limit.value),
    )
    return Problem(outcomes, goal, named, regions, curved, reference, sets, tasks, has_draws)


def inside_curved(weights: Array, curved: Curved) -> Array:
    """Room left under the KL and distance limits, shape (number of them,); positive inside."""
    out = []
    if curved.prior is not None and curved.kl is not None:
        live = (curved.prior > 0) & (weights > 0)
        ratio = jnp.where(live, weights, 1.0) / jnp.where(live, curved.prior, 1.0)
        out.append(curved.kl - jnp.sum(jnp.where(live, weights * jnp.log(ratio), 0.0)))
    if curved.anchor is not None and curved.distance is not None:
        # squared, so that it is smooth at the anchor; over 2 limit, so that its slope is that of the distance
        out.append((curved.distance**2 - jnp.sum((weights - curved.anchor) ** 2)) / (2 * curved.distance))
    return jnp.stack(out) if out else jnp.zeros((0,), weights.dtype)


def split_function(outcomes: Any) -> tuple[Any, Any]:
    """(static function, moving pytree): one of the two is None. Pytree functions travel as arrays and share programs."""
    return (outcomes, None) if jax.tree_util.all_leaves([outcomes]) else (None, outcomes)


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
        return goals.goal_cost(goal, outcomes, w, smoothing)

    def cheap(w: Array, args: Any, smoothing: Array) -> Array:
        del args
        return goals.goal_cost(dataclasses.replace(goal, risk="mean"), outcomes, w, smoothing)

    points = random_starts(key, n_starts, region.center.shape[0])
    starts = jax.vmap(lambda w: interior.retract(w, region, inside_curved, curved))(points)
    scale = interior.objective_scale(cheap, starts, region, curved)
    found, values = jax.vmap(lambda w: interior.softmax_descent(cheap, inside_curved, w, region, curved, scale))(starts)
    best = found[jnp.argsort(values)[:finishers]]
    best = jnp.concatenate([best, region.center[None]])
    # corners of cvar and worst stay rounded by last / scale, and are approached slowly
    last, power, most = (1e-9, 1.5, 80) if goal.risk == "mean" else (1e-7, 1.0, 150)

    def finish(w: Array) -> interior.Finish:
        return interior.interior_finish(
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
        slope = jax.grad(lambda v: goals.goal_cost(goal, outcomes, v, smoothing))(w)
        return goals.goal_cost(goal, outcomes, w, jnp.zeros(())), slope

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


def _exact(problem: Problem, region: Region, finish: interior.Finish, starts: int, smoothing: float) -> Solution:
    """Put the best candidate exactly on the limits that bind, unless that is worse or breaks another limit."""
    still, moving = split_function(problem.outcomes)
    order = int(np.argmin(finish.value))
    raw = np.asarray(finish.weights[order])
    options = [feasibility.settle(raw, region, problem.limits, np.zeros(len(raw), bool), np.zeros(len(raw), bool), ())]
    room_low, room_high = raw - region.lower, region.upper - raw
    on_low = region.free & (finish.lower[order] > room_low) & (room_low < 1e-4)
    on_high = region.free & (finish.upper[order] > room_high) & (room_high < 1e-4)
    room_rows = region.limits - region.rows @ raw
    on_rows = np.flatnonzero((finish.rows[order] > room_rows) & (room_rows < 1e-4)).tolist()
    options.append(feasibility.settle(raw, region, problem.limits, on_low, on_high, on_rows))
    values = np.asarray(costs_and_slopes(still, moving, problem.goal, np.asarray(options))[0])
    broken = [constraints.violation(problem.limits, w) for w in options]
    slack = 1e-9 * max(1.0, abs(values[0])) if np.isfinite(values[0]) else np.inf
    pick = 1 if broken[1] <= max(broken[0], 1e-12) and values[1] <= values[0] + slack else 0
    converged = finish.status[order] == interior.CONVERGED or finish.residual[order] < 1e-4
    return Solution(options[pick], float(values[pick]), bool(converged), finish.value, starts, region, smoothing)
