"""Which mixture to train on: the best one under limits, what it is worth, and how sure that is.

A decision takes a differentiable function from a mixture to its outcome, not a fit, so it works for any law, for draws
of one, or for a user's own function. Many starts descend in softmax coordinates, the best are finished by a barrier
method with exact Hessians, and the answer is put exactly on the limits that bind.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture import barrier, objectives, optimality, relaxing
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.constraints import rooms_and_slopes
from camel_jax.mixture.limits import LimitOptions, Limits
from camel_jax.mixture.limits import mixture as checked_mixture
from camel_jax.mixture.objectives import Goal, Objective
from camel_jax.mixture.problem import (
    Curved,
    Problem,
    choose_limits,
    inside_curved,
    make_problem,
    split_function,
    violation,
)
from camel_jax.mixture.result import Binding, Certificate, MixtureResult
from camel_jax.mixture.search import Solution, costs_and_slopes, random_starts, solve
from camel_jax.recipes import outcome
from camel_jax.recipes.outcome import Interval, Outcomes
from camel_jax.types import Array

CHORDS = 128  # along which convexity is tried


def optimize_mixture(
    outcomes: Outcomes,
    *,
    objective: Objective | Callable[..., Array] | str | None = None,
    constraints: Mapping[str, Callable[..., Array]] | None = None,
    domains: Sequence[str] | None = None,
    reference: Array | None = None,
    risk: str = "mean",
    tail: float = 0.1,
    starts: int = 64,
    key: Array | None = None,
    limits: Limits | None = None,
    relax: float = 0.01,
    **more: Unpack[LimitOptions],
) -> MixtureResult:
    """The best mixture under limits, compared with a reference mixture.

    Args:
      outcomes: function from weights (K,) to losses (V,), to draws of losses (M, V), or to an object with ``losses`` and
        perhaps ``accuracies``; differentiable and vmappable. Optional attributes: ``draws(weights)`` with a leading axis of
        draws, ``domains``, ``sets``, ``tasks`` and ``reference``. If it is a pytree, other parameters of it compile nothing new.
      objective: what to improve: an ``Objective``, a differentiable function of an ``Outcome`` to be made smaller, or text as commands
        take it; mean validation loss by default.
      constraints: limits of one's own, ``{name: function}``: smooth functions of the weights (K,), or of the weights and the point
        outcome, that are not negative where the limit holds. Met to 1e-8. Limits that are not convex leave the certificate weaker.
      domains: names of the K domains; default ``outcomes.domains``.
      reference: mixture to compare with, (K,); default ``outcomes.reference``, else uniform. It need not meet the limits.
      risk: "mean" for the point prediction (the mean of draws where only draws are given), "cvar" for the mean of the
        worst ``tail`` of draws, "worst" for the worst draw.
      tail: share of draws that "cvar" averages.
      starts: number of random starts.
      key: a ``jax.random`` key; fixed by default, so that the same call gives the same answer.
      limits: limits that ``parse_limits`` has made, for several decisions under the same ones.
      relax: how far each limit that binds is relaxed, in its own unit, to solve again and tell what that gains; 0 not to.
      more: limits as keywords, in place of ``limits``: bounds, measured, groups, fixed, supply, tokens, max_epochs, kl, distance, cost
        and max_domains, as for :func:`camel_jax.mixture.limits.parse_limits`.

    Returns:
      MixtureResult.

    Raises:
      InfeasibleError: no mixture meets all limits; the message names the limits that exclude each other.
      ValueError: a name, share or option that makes no sense, or float64 is off.

    >>> import jax.numpy as jnp
    >>> losses = lambda w: (2.0 + jnp.array([0.1, 0.2, 0.1]) @ (w + 0.05) ** -0.5)[None]
    >>> best = optimize_mixture(losses, domains=["web", "code", "wiki"], bounds={"code": (None, 0.3)}, starts=4)
    >>> best.weights.round(4).tolist(), best.limits[0].binds
    ([0.35, 0.3, 0.35], True)
    """
    problem = make_problem(
        outcomes,
        objective=objective,
        constraints=constraints,
        domains=domains,
        reference=reference,
        risk=risk,
        tail=tail,
        limits=choose_limits(limits, more),
    )
    key = jax.random.key(0) if key is None else key
    solution = solve(problem, key, starts)
    return describe(problem, solution, key, relax)


def probability_best(
    outcomes: Outcomes,
    mixtures: Mapping[str, Any],
    *,
    objective: Objective | Callable[..., Array] | str | None = None,
    domains: Sequence[str] | None = None,
) -> dict[str, float]:
    """How probable it is that each of several named mixtures is the best of them: the share of draws in which it is.

    Args:
      outcomes: as for :func:`optimize_mixture`, with draws.
      mixtures: name to shares (K,), two or more.
      objective: what to improve; mean validation loss by default.
      domains: names of the K domains.

    Returns:
      Name to probability; they sum to 1, and mixtures that are equal in a draw share it. NaN for all where the outcomes say that no run
      mixes domains (``unmixed``): draws that agree there only agree on what the law assumes.

    Raises:
      ValueError: fewer than two mixtures, shares that are no mixture, or outcomes without draws.

    >>> import jax.numpy as jnp
    >>> losses = lambda w: 2.0 + jnp.array([[0.1], [0.2], [-0.1]]) * (w[0] - w[1])  # three draws of one loss
    >>> probability_best(losses, {"web": [1.0, 0.0], "code": [0.0, 1.0]}, domains=["web", "code"])
    {'web': 0.333..., 'code': 0.666...}
    """
    if len(mixtures) < 2:
        raise ValueError(f"give two or more mixtures to compare, got {len(mixtures)}")
    problem = make_problem(outcomes, objective=objective, domains=domains, limits={})
    names = problem.limits.domains
    shares = [checked_mixture(weights, names, f"mixture {name}") for name, weights in mixtures.items()]
    drawn = _report(*split_function(problem.outcomes), problem.goal, jnp.asarray(np.stack(shares)))[3]
    if drawn is None:
        raise ValueError("these outcomes have no draws, so there is no probability; give a fit's losses_at")
    if getattr(problem.outcomes, "unmixed", False):
        return dict.fromkeys(mixtures, float("nan"))
    costs = np.asarray(drawn)
    wins = costs == costs.min(0)
    return dict(zip(mixtures, (wins / wins.sum(0)).mean(1).tolist(), strict=True))


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def _report(still: Any, moving: Any, goal: Goal, weights: Array) -> tuple[Any, Any, Array, Array | None]:
    """Of mixtures (n, K): point outcomes, draws of outcomes or None, and the plain objective as a cost of both."""
    outcomes = moving if still is None else still

    def one(w: Array) -> tuple[Any, Any, Array, Array | None]:
        point, draws = outcome.as_outcome(outcomes(w)), None
        if point.losses.ndim == 2:
            point, draws = jax.tree.map(lambda a: a.mean(0), point), point
        elif hasattr(outcomes, "draws"):
            draws = outcome.draws_of(outcomes, w)
        drawn = None if draws is None else jax.vmap(goal.objective.cost)(draws)
        return point, draws, goal.objective.cost(point), drawn

    return jax.lax.map(one, weights)


@functools.partial(jax.jit, static_argnames=("still", "goal", "chords"))
def _chords_are_convex(still: Any, moving: Any, goal: Goal, region: Region, curved: Curved, chords: int) -> Array:
    """Midpoint test of convexity on random chords of a region."""
    outcomes = moving if still is None else still
    points = random_starts(jax.random.key(1), 2 * chords, region.center.shape[0])
    points = jax.vmap(lambda w: barrier.retract(w, region, inside_curved, curved))(points)
    one, two = points[:chords], points[chords:]
    stacked = jnp.concatenate([one, two, 0.5 * (one + two)])
    costs = jax.lax.map(lambda w: objectives.goal_cost(goal, outcomes, w, jnp.zeros(())), stacked, batch_size=64)
    a, b, middle = jnp.split(costs, 3)
    convex = jnp.all(middle <= 0.5 * (a + b) + 1e-9 * (1.0 + jnp.abs(middle)))
    # between mixtures that meet a limit of one's own lie others that do, if it is convex
    return convex & jnp.all(jax.vmap(lambda w: inside_curved(w, curved))(0.5 * (one + two)) > -1e-9)


def describe(problem: Problem, solution: Solution, key: Array | None = None, relax: float = 0.0) -> MixtureResult:
    """Everything worth saying about a solution: outcome, comparison with the reference, limits, certificate.

    Args:
      problem: the decision. solution: its answer. key: of the search. relax: as for :func:`optimize_mixture`.
    """
    if not (math.isfinite(relax) and relax >= 0):
        raise ValueError(f"relax must not be negative, got {relax!r}")
    still, moving = split_function(problem.outcomes)
    objective, weights = problem.goal.objective, solution.weights
    pair = jnp.asarray(np.stack([weights, problem.reference]))
    point, draws, plain, drawn = jax.tree.map(np.asarray, _report(still, moving, problem.goal, pair))
    costs = np.asarray(costs_and_slopes(still, moving, problem.goal, pair, solution.smoothing)[0])
    sign = -1.0 if objective.maximize else 1.0
    if draws is None:
        drawn = np.full((2, 1), np.nan)
        better = math.nan
    elif getattr(problem.outcomes, "unmixed", False):
        better = math.nan  # draws agree there because the law assumes what a mixture does
    else:
        better = float(np.mean(drawn[0] < drawn[1]) + 0.5 * np.mean(drawn[0] == drawn[1]))
    losses, difference = _compare(point.losses, None if draws is None else draws.losses)
    accuracies, accuracy_gap = None, None
    if point.accuracies is not None:
        accuracies, accuracy_gap = _compare(point.accuracies, None if draws is None else draws.accuracies)
    risky = problem.goal.risk != "mean"
    convex = bool(_chords_are_convex(still, moving, problem.goal, solution.region, problem.curved, CHORDS))
    shut = _shut(problem, solution)
    conditions = _conditions(problem, solution, solution.weights, solution.inner, solution.cost, shut)
    bindings = [Binding(*binding) for binding in conditions.bindings]
    if relax > 0 and np.isfinite(solution.cost):
        key = jax.random.key(0) if key is None else key
        binds, gains = [b.binds for b in bindings], [b.multiplier for b in bindings]
        relaxed = relaxing.relax_each(problem, solution, binds, gains, key, solution.starts, relax, convex)
        missed = relaxing.better_without_relaxing(problem, solution, relaxed)
        if missed is not None:  # it needs no relaxing: the search had not found it
            cost = float(costs_and_slopes(still, moving, problem.goal, np.stack([missed] * 2))[0][0])
            return describe(problem, solution._replace(weights=missed, cost=cost), key, relax)
        for one in relaxed:
            bindings[one.limit] = bindings[one.limit]._replace(step=one.step, gain=one.gain, at_least=one.at_least)
    gap = conditions.gap
    if len(solution.supports) > 1:
        gap = _gap_over_supports(problem, solution)
    near = np.abs(solution.costs - solution.cost) <= 1e-6 * max(1.0, abs(solution.cost))
    certificate = Certificate(
        gap,
        convex,
        CHORDS,
        conditions.residual,
        solution.starts,
        int(near.sum()),
        len(solution.costs),
        solution.exhaustive,
    )
    status = "converged" if solution.converged else "not converged: the optimality conditions are not met to 1e-4"
    if not np.isfinite(solution.cost):
        status = "failed: the objective is not finite at any candidate"
    value = _interval(sign * (costs[0] if risky else plain[0]), sign * drawn[0])
    return MixtureResult(
        weights=weights,
        domains=problem.limits.domains,
        objective=objective.label,
        maximize=objective.maximize,
        risk=problem.goal.risk,
        value=value,
        losses=losses,
        accuracies=accuracies,
        sets=problem.sets,
        tasks=problem.tasks,
        reference=problem.reference,
        reference_value=float(sign * (costs[1] if risky else plain[1])),
        reference_losses=point.losses[1],
        gain=_interval((costs[1] - costs[0]) if risky else plain[1] - plain[0], drawn[1] - drawn[0]),
        loss_difference=difference,
        reference_accuracies=None if point.accuracies is None else point.accuracies[1],
        accuracy_difference=accuracy_gap,
        probability_better=better,
        limits=tuple(bindings),
        violation=violation(problem, weights),
        certificate=certificate,
        status=status,
    )


def _shut(problem: Problem, solution: Solution) -> np.ndarray | None:
    """Domains that a limit on their number keeps at zero at the answer, (K,); None where it does not hold any there."""
    count = problem.limits.find("count")
    used = solution.weights > 0
    return ~used if count is not None and used.sum() >= count.value else None


def _conditions(
    problem: Problem, solution: Solution, weights: np.ndarray, inner: np.ndarray, cost: float, shut: np.ndarray | None
) -> optimality.Conditions:
    """The optimality conditions of a mixture, from the slope there or just inside its limits: whichever meets them better.

    On a share of exactly zero a law may be so steep that its slope there says nothing of the least positive shares.
    """
    still, moving = split_function(problem.outcomes)
    costs, slopes = costs_and_slopes(still, moving, problem.goal, np.stack([weights, inner]), solution.smoothing)
    own = [_own_rooms(problem, weights, where) for where in (weights, inner)]
    on = optimality.multipliers(problem.limits, weights, np.asarray(slopes[0]), shut, own=own[0])
    inside = optimality.multipliers(problem.limits, weights, np.asarray(slopes[1]), shut, inner, own[1])
    inside = inside._replace(gap=max(inside.gap + cost - float(costs[1]), 0.0))
    best = on if on.residual <= inside.residual else inside
    return best._replace(gap=min(on.gap, inside.gap))


def _own_rooms(problem: Problem, weights: np.ndarray, where: np.ndarray) -> list[optimality.OwnRoom]:
    """Limits of one's own at a mixture, with their slopes at another one beside it."""
    if problem.curved.own is None:
        return []
    rooms = np.asarray(rooms_and_slopes(problem.curved.own, jnp.asarray(weights))[0])
    inner, slopes = map(np.asarray, rooms_and_slopes(problem.curved.own, jnp.asarray(where)))
    names = [constraint.name for constraint in problem.curved.own.constraints]
    return [optimality.OwnRoom(*one) for one in zip(names, rooms.tolist(), inner.tolist(), slopes, strict=True)]


def _gap_over_supports(problem: Problem, solution: Solution) -> float:
    """How much better any mixture of any of the sets of domains could be, if the cost is convex: the worst of their own gaps."""
    finite = [one for one in solution.supports if np.isfinite(one.cost)]
    if not finite:
        return math.inf
    least = [
        one.cost - _conditions(problem, solution, one.weights, one.inner, one.cost, ~one.allowed).gap for one in finite
    ]
    return max(solution.cost - min(least), 0.0)


def _compare(point: Array, draws: np.ndarray | None) -> tuple[Interval, Interval]:
    """Of outcomes at the mixture and the reference, (2, V) and draws (2, M, V): those at the mixture, and how far apart."""
    drawn = np.full((2, 1, *point.shape[1:]), np.nan) if draws is None else draws
    return _interval(point[0], drawn[0]), _interval(point[0] - point[1], drawn[0] - drawn[1])


def _interval(value: Array, draws: np.ndarray) -> Interval:
    lower, upper = np.quantile(draws, [0.05, 0.95], axis=0) if np.isfinite(draws).all() else (draws[0] * np.nan,) * 2
    return Interval(np.asarray(value)[()], np.asarray(lower)[()], np.asarray(upper)[()])
