"""What relaxing a limit is worth, by solving again with that limit relaxed; multipliers hold for small steps alone.

Where supports (sets of domains that may be above zero) are limited in number, the few best of them are solved again. All that is
found is feasible, so a gain is never overstated; where the cost is not convex, or supports were left out, it is a lower bound.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from camel_jax.mixture.barrier import Region
from camel_jax.mixture.feasibility import InfeasibleError
from camel_jax.mixture.limits import Limit, Limits
from camel_jax.mixture.newton_step import MANY
from camel_jax.mixture.problem import Problem, curved_arrays, meet_own, split_function, violation
from camel_jax.mixture.regions import feasible_region
from camel_jax.mixture.search import Solution, costs_and_slopes, solve

SUPPORTS = 4  # of those that may be chosen, how many are solved again when another limit is relaxed
MOST_RELAXED = 6  # limits that are relaxed one by one where domains are many


class Relaxed(NamedTuple):
    """A problem solved again with one limit relaxed.

    Attributes:
      limit: position among the limits. step: how far it was relaxed, in its own unit (a domain, where their number is limited).
      gain: how much lower the cost is, not negative. at_least: whether more supports or starts might gain more.
      weights: (K,), the mixture found.
    """

    limit: int
    step: float
    gain: float
    at_least: bool
    weights: np.ndarray


def relaxed_limits(limits: Limits, at: int, step: float) -> tuple[Limits, float]:
    """The same limits with one of them relaxed, and by how much it was: shares stay between 0 and 1.

    A limit on the number of domains lets in one more; a fixed share may lie within ``step`` on either side.

    >>> from camel_jax.mixture.limits import parse_limits
    >>> new, step = relaxed_limits(parse_limits(["web", "code"], bounds={"code": (None, 0.995)}), 0, 0.01)
    >>> new.items[0].value, round(step, 6)
    (1.0, 0.005)
    """
    items = list(limits.items)
    limit = items[at]
    if limit.kind == "count":
        more = [dataclasses.replace(limit, value=limit.value + 1.0)] if limit.value + 1 < len(limits.domains) else []
        return dataclasses.replace(limits, items=(*items[:at], *more, *items[at + 1 :])), 1.0
    if limit.kind == "fixed":
        assert limit.row is not None
        low, high = max(limit.value - step, 0.0), min(limit.value + step, 1.0)
        band = (
            Limit(limit.name, "floor", -limit.row, -low, limit.domain),
            Limit(limit.name, "cap", limit.row, high, limit.domain),
        )
        return dataclasses.replace(limits, items=(*items[:at], *band, *items[at + 1 :])), max(
            limit.value - low, high - limit.value
        )
    value = limit.value + step
    if limit.row is not None and limit.kind != "cost":  # a floor is a row of -1 and a limit of minus the share
        value = min(value, 0.0) if limit.row.sum() < 0 else min(value, 1.0)
    items[at] = dataclasses.replace(limit, value=value)
    return dataclasses.replace(limits, items=tuple(items)), max(value - limit.value, 0.0)


def relax_each(
    problem: Problem,
    solution: Solution,
    binding: list[bool],
    multipliers: list[float],
    key: Any,
    starts: int,
    step: float,
    convex: bool,
) -> list[Relaxed]:
    """Solve again with each limit that binds relaxed, those of one's own too.

    Args:
      problem: the decision. solution: its answer. key, starts: as for the search.
      binding: which limits bind, those of one's own last. multipliers: what relaxing each gains at first.
      step: how far shares, nats, distances, costs and the rooms of limits of one's own are relaxed.
      convex: whether the cost may be taken as convex.
    """
    out = []
    for at in _worth_relaxing(problem, binding, multipliers):
        again = _with_one_relaxed(problem, solution, at, step)
        if again is None:
            continue
        relaxed, moved, all_of_them = again
        found = solve(relaxed, key, starts)
        gain = max(solution.cost - found.cost, 0.0)
        out.append(Relaxed(at, moved, float(gain), not (convex and all_of_them), found.weights))
    return out


def _worth_relaxing(problem: Problem, binding: list[bool], multipliers: list[float]) -> list[int]:
    """Limits to relax: all that bind; of many domains, those that gain most at first and that on the number of domains."""
    binds = np.flatnonzero(binding)
    if len(problem.reference) <= MANY or len(binds) <= MOST_RELAXED:
        return binds.tolist()
    first = np.nan_to_num(np.asarray(multipliers)[binds], nan=np.inf)
    return sorted(binds[np.argsort(-first, kind="stable")[:MOST_RELAXED]].tolist())


def _with_one_relaxed(problem: Problem, solution: Solution, at: int, step: float) -> tuple[Problem, float, bool] | None:
    """The problem with one limit relaxed, by how much, and whether it keeps all regions; None where there is nothing to relax."""
    limits, curved, own, named = problem.limits, problem.curved, problem.curved.own, len(problem.limits.items)
    if at < named:
        limits, moved = relaxed_limits(limits, at, step)
        curved = curved_arrays(limits)._replace(own=own)
    else:
        assert own is not None
        curved, moved = curved._replace(own=own.with_one_relaxed(at - named, step)), step
    regions, all_of_them = _regions(problem, solution, limits)
    if moved <= 0.0 or not regions:
        return None
    try:
        regions = meet_own(regions, curved)
    except InfeasibleError:
        return None
    return dataclasses.replace(problem, limits=limits, regions=regions, curved=curved), moved, all_of_them


def _regions(problem: Problem, solution: Solution, limits: Limits) -> tuple[tuple[Region, ...], bool]:
    """Regions of relaxed limits to solve on, and whether they are all there are."""
    old, new = problem.limits.find("count"), limits.find("count")
    if old is None or new is None:
        return (feasible_region(limits),), True
    size = len(limits.domains)
    if new.value > old.value:  # the best support with each of the others
        used = solution.weights > 0
        spare = np.argsort(~used, kind="stable")[: int(old.value)]
        base = np.isin(np.arange(size), spare)
        more = np.flatnonzero(~base)
        if len(more) > MANY:  # those along which the cost falls fastest
            still, moving = split_function(problem.outcomes)
            pair = np.stack([solution.weights] * 2)
            slope = np.asarray(costs_and_slopes(still, moving, problem.goal, pair, solution.smoothing)[1][0])
            more = more[np.argsort(slope[more], kind="stable")[:SUPPORTS]]
        supports = [base | np.isin(np.arange(size), [j]) for j in more]
    else:
        order = np.argsort([one.cost for one in solution.supports], kind="stable")
        supports = [solution.supports[i].allowed for i in order[:SUPPORTS]]
    out = []
    for support in supports:
        with contextlib.suppress(InfeasibleError):
            out.append(feasible_region(limits, np.asarray(support)))
    return tuple(out), new.value == old.value and solution.exhaustive and len(solution.supports) <= SUPPORTS


def better_without_relaxing(problem: Problem, solution: Solution, relaxed: list[Relaxed]) -> np.ndarray | None:
    """A mixture found with a limit relaxed that meets all limits as they are and is better, or None."""
    fitting = [r for r in relaxed if r.gain > 1e-9 * max(1.0, abs(solution.cost))]
    fitting = [r for r in fitting if violation(problem, r.weights) <= 1e-12]
    return max(fitting, key=lambda r: r.gain).weights if fitting else None
