"""The search behind a decision: many starts in softmax coordinates, the best finished by a barrier method, then put on the limits."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture import barrier, objectives, optimality
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.feasibility import InfeasibleError
from camel_jax.mixture.limits import Limits
from camel_jax.mixture.narrow import Narrow, narrowed, widened
from camel_jax.mixture.newton_step import MANY
from camel_jax.mixture.objectives import Goal
from camel_jax.mixture.problem import Curved, Problem, inside_curved, meet_own, split_function, violation
from camel_jax.mixture.regions import feasible_region
from camel_jax.recipes.simplex import lattice
from camel_jax.types import Array

FINEST = 8  # of the lattice of starts: shares of an eighth
LATTICE = 40  # mixtures that it may have, even where fewer random starts are asked
CLOSE = 0.05  # share that must be moved from one mixture to another, below which both are taken to be in one basin
WIDE, NARROW = 1e-2, 1e-5  # first barriers of a finish


def toward_center(problem: Problem, region: Region, weights: np.ndarray, goal: Goal, level: float) -> np.ndarray:
    """A strictly inner mixture near a given one whose cost stays below a level."""
    still, moving = split_function(problem.outcomes)
    t = 0.5 ** np.arange(1, 50)
    tried = weights + t[:, None] * (region.center - weights)
    costs = np.asarray(costs_and_slopes(still, moving, goal, tried)[0])
    good = np.flatnonzero(costs < level)
    return tried[good[0]] if len(good) else tried[-1]


class Support(NamedTuple):
    """The best mixture of one set of domains: which are allowed (K,), the mixture (K,), its cost, and it just inside the limits."""

    allowed: np.ndarray
    weights: np.ndarray
    cost: float
    inner: np.ndarray


class Solution(NamedTuple):
    """The best mixture found, exactly on its limits and just inside them (``inner``), and how the candidates fared.

    ``supports`` are the sets of domains that were solved for, one where their number is not limited; ``exhaustive`` whether those
    are all there are.
    """

    weights: np.ndarray
    cost: float
    converged: bool
    costs: np.ndarray
    starts: int
    region: Region
    smoothing: float
    inner: np.ndarray
    supports: tuple[Support, ...] = ()
    exhaustive: bool = True


def random_starts(key: Array, n_starts: int, n_domains: int) -> Array:
    """Random mixtures (n_starts, K): half spread over the whole simplex, half near its corners."""
    power = jnp.where(jnp.arange(n_starts) % 2 == 0, 1.0, 4.0)
    logs = jnp.log(jax.random.exponential(key, (n_starts, n_domains)))  # normalised exponentials are uniform
    return jax.nn.softmax(power[:, None] * logs, -1)


def finest_lattice(n_domains: int, most: int) -> np.ndarray:
    """The finest simplex lattice of no more than ``most`` mixtures, (N, K): the corners at the least, or none if those are too many.

    >>> finest_lattice(3, 4).tolist(), finest_lattice(3, 15).shape, finest_lattice(9, 8).shape
    ([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], (15, 3), (0, 9))
    """
    fits = [n for n in range(1, FINEST + 1) if math.comb(n + n_domains - 1, n) <= most]
    return lattice(n_domains, fits[-1]) if fits else np.zeros((0, n_domains))


def spread_out(points: Array, values: Array, count: int) -> Array:
    """Positions (count,) of the best of some mixtures, each in turn the best of those that are not close to one before it.

    Args:
      points: mixtures (n, K). values: their costs (n,). count: how many, at most n; once all are close, the best that are left.
    """
    n = len(values)
    rank = jnp.zeros(n, int).at[jnp.argsort(values)].set(jnp.arange(n))
    taken, close, picked = jnp.zeros(n, bool), jnp.zeros(n, bool), []
    for _ in range(count):
        at = jnp.argmin(rank + n * close + 2 * n * taken)
        picked.append(at)
        taken = taken.at[at].set(True)
        close = close | (0.5 * jnp.sum(jnp.abs(points - points[at]), axis=-1) < CLOSE)
    return jnp.stack(picked)


@functools.partial(jax.jit, static_argnames=("still", "goal", "n_starts", "finishers"))
def _search(
    still: Any,
    moving: Any,
    goal: Goal,
    region: Region,
    narrow: Narrow | None,
    curved: Curved,
    key: Array,
    n_starts: int,
    finishers: int,
) -> Any:
    """Descend from random starts and a lattice, finish the best that lie apart and the center: a ``Finish`` with a leading axis.

    The better half is finished twice, with a narrow barrier and with a wide one, which leads out of a small basin near a corner and
    into the next one.
    """
    outcomes = moving if still is None else still

    def inside(w: Array, args: Any) -> Array:
        return inside_curved(widened(narrow, w), args)

    def function(w: Array, args: Any, smoothing: Array) -> Array:
        del args
        return objectives.goal_cost(goal, outcomes, widened(narrow, w), smoothing)

    def cheap(w: Array, args: Any, smoothing: Array) -> Array:
        del args
        return objectives.goal_cost(dataclasses.replace(goal, risk="mean"), outcomes, widened(narrow, w), smoothing)

    size = region.center.shape[0]
    points = jnp.concatenate(
        [random_starts(key, n_starts, size), jnp.asarray(finest_lattice(size, max(n_starts, LATTICE)))]
    )
    starts = jax.vmap(lambda w: barrier.retract(w, region, inside, curved))(points)
    scale = barrier.objective_scale(cheap, starts, region, curved)
    found, values = jax.vmap(lambda w: barrier.softmax_descent(cheap, inside, w, region, curved, scale))(starts)
    best = found[spread_out(found, values, finishers)]
    first = (finishers + 1) // 2
    best = jnp.concatenate([best[:first], best, region.center[None]])
    wide = jnp.where(jnp.arange(len(best)) < first, NARROW, WIDE)
    # corners of cvar and worst stay rounded by last / scale, and are approached slowly
    last, power, most = (1e-9, 1.5, 80) if goal.risk == "mean" else (1e-7, 1.0, 150)

    def finish(w: Array, first: Array) -> barrier.Finish:
        return barrier.interior_finish(
            function, inside, w, region, curved, scale, most, first, last_barrier=last, power=power
        )

    return barrier.each(finish, best, wide), last / scale


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def costs_and_slopes(
    still: Any, moving: Any, goal: Goal, weights: Array, smoothing: Array | float = 0.0
) -> tuple[Array, Array]:
    """Cost (n,) and gradient (n, K) of mixtures (n, K) under a goal; only the gradient is smoothed."""
    chex.assert_rank(weights, 2)
    outcomes = moving if still is None else still

    def one(w: Array) -> tuple[Array, Array]:
        slope = jax.grad(lambda v: objectives.goal_cost(goal, outcomes, v, smoothing))(w)
        return objectives.goal_cost(goal, outcomes, w, jnp.zeros(())), slope

    return jax.lax.map(one, weights, batch_size=64)


def solve(problem: Problem, key: Array, starts: int = 64, finishers: int | None = None) -> Solution:
    """Search and finish on every region of a problem; the best answer, exactly on its limits."""
    if starts < 1:
        raise ValueError(f"starts must be at least 1, got {starts!r}")
    if finishers is None:
        few = problem.goal.risk != "mean" or len(problem.reference) > MANY
        finishers = 2 if few else 7
    count = problem.limits.find("count")
    found = [solve_region(problem, region, key, starts, finishers) for region in problem.regions]
    exhaustive = count is None or violation_of_count(problem.limits, found[0].region) <= 0
    if not exhaustive:
        assert count is not None
        found = exchange(problem, found[0], int(count.value), key, starts, finishers)
    best = min(found, key=lambda one: one.cost if np.isfinite(one.cost) else np.inf)
    supports = tuple(Support(one.region.upper > 0, one.weights, one.cost, one.inner) for one in found)
    return best._replace(costs=np.concatenate([one.costs for one in found]), supports=supports, exhaustive=exhaustive)


def solve_region(problem: Problem, region: Region, key: Array, starts: int, finishers: int) -> Solution:
    """The best mixture of one region."""
    still, moving = split_function(problem.outcomes)
    if not region.free.any():
        weights = np.asarray(region.center)
        value = float(costs_and_slopes(still, moving, problem.goal, np.stack([weights] * 2))[0][0])
        return Solution(weights, value, bool(np.isfinite(value)), np.asarray([value]), starts, region, 0.0, weights)
    small, narrow = narrowed(region)
    finish, smoothing = _search(
        still, moving, problem.goal, small, narrow, problem.curved, key, starts, min(finishers, starts)
    )
    finish = jax.tree.map(np.asarray, finish)
    if narrow is not None:
        shares = (np.asarray(narrow.widen(x)) for x in (finish.weights, finish.lower, finish.upper))
        finish = finish._replace(**dict(zip(("weights", "lower", "upper"), shares, strict=True)))
    return _exact(problem, region, finish, starts, float(smoothing))


def violation_of_count(named: Limits, region: Region) -> float:
    """How many more domains a region lets in than a limit on their number does."""
    count = named.find("count")
    return 0.0 if count is None else float(np.count_nonzero(region.upper > 0)) - count.value


def exchange(
    problem: Problem, whole: Solution, most: int, key: Array, starts: int, finishers: int, tries: int = 16
) -> list[Solution]:
    """Solutions on sets of at most ``most`` domains, where there are too many sets to try them all.

    From the best mixture of all domains those with the least shares are dropped, half of the surplus at a time; then the domain outside
    along which the cost falls fastest takes the place of the one with the least share, as long as that helps.

    Raises:
      InfeasibleError: no set was found that meets all limits.
    """
    still, moving = split_function(problem.outcomes)

    def solved(allowed: np.ndarray) -> Solution | None:
        try:
            (region,) = meet_own((feasible_region(problem.limits, allowed),), problem.curved)
        except InfeasibleError:
            return None
        return solve_region(problem, region, key, starts, finishers)

    now, allowed = whole, whole.weights > 0
    if allowed.sum() <= most and (first := solved(allowed)) is not None:
        return [first]
    allowed = np.ones(len(whole.weights), bool)
    must = np.asarray(whole.region.lower) > 0
    while allowed.sum() > most:
        surplus, kept, smaller = int(allowed.sum()) - most, None, None
        order = [int(i) for i in np.argsort(now.weights, kind="stable") if allowed[i] and not must[i]]
        # of many domains, first as many as leave few enough to search in these alone
        at_once = surplus - max(MANY - most, most) if surplus > 2 * MANY else (surplus + 1) // 2
        for n in dict.fromkeys((min(at_once, len(order)), 1)):
            for first in range(0, len(order) - n + 1 if n == 1 else 1):
                kept = allowed & ~np.isin(np.arange(len(allowed)), order[first : first + n])
                if (smaller := solved(kept)) is not None:
                    break
                kept = None
            if kept is not None:
                break
        if kept is None:
            raise InfeasibleError([tuple(limit.name for limit in problem.limits.items)], complete=False)
        assert smaller is not None
        now, allowed = smaller, kept
    out, seen = [now], {allowed.tobytes()}
    while tries > 0:
        pair = np.stack([now.weights, now.weights])
        slope = np.asarray(costs_and_slopes(still, moving, problem.goal, pair, now.smoothing)[1][0])
        out_first = [int(i) for i in np.argsort(now.weights, kind="stable") if allowed[i]][:2]
        swaps = [(i, int(j)) for j in np.argsort(slope, kind="stable") if not allowed[j] for i in out_first][:6]
        better = None
        for i, j in swaps:
            tried = allowed.copy()
            tried[[i, j]] = False, True
            if tries <= 0 or tried.tobytes() in seen:
                continue
            seen.add(tried.tobytes())
            tries -= 1
            if (other := solved(tried)) is None:
                continue
            out.append(other)
            if other.cost < now.cost - 1e-9 * max(1.0, abs(now.cost)):
                better = other, tried
                break
        if better is None:
            break
        now, allowed = better
    return out


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
    return Solution(options[pick], float(values[pick]), bool(converged), finish.value, starts, region, smoothing, raw)
