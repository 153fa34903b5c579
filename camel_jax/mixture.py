"""Which mixture to train on: the best one under limits, what it is worth, and how sure that is.

A decision takes a differentiable function from a mixture to its outcome, not a fit, so it works for any law, for draws
of one, or for a user's own function. Many starts descend in softmax coordinates, the best are finished by a barrier
method with exact Hessians, and the answer is put exactly on the limits that bind.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import constraints, feasibility, goals, interior
from camel_jax.goals import Goal, Objective
from camel_jax.interior import Region
from camel_jax.search import (
    Curved,
    Problem,
    Solution,
    costs_and_slopes,
    inside_curved,
    make_problem,
    random_starts,
    solve,
    split_function,
)

Array = Any


class Binding(NamedTuple):
    """One limit at the answer.

    Attributes:
      name: the limit. slack: how far the answer is from it, in its own unit. binds: whether it is reached.
      multiplier: what relaxing it by one unit (a share of 1, a unit of cost, a nat) gains in the objective, to first order.
    """

    name: str
    slack: float
    binds: bool
    multiplier: float


class Interval(NamedTuple):
    """A value with its 90 % interval; scalars or arrays. NaN bounds where there are no draws."""

    value: Array
    lower: Array
    upper: Array


class Certificate(NamedTuple):
    """Evidence that the answer is the best there is.

    Attributes:
      gap: no feasible mixture is better by more than this if the cost is convex (Frank-Wolfe gap, in objective units).
      convex: whether no random chord of the region showed the cost to be non-convex. chords: how many were tried.
      residual: violation of the optimality conditions, relative to the slope of the cost.
      starts: number of starts. agreeing: how many finished candidates reached the same objective within 1e-6 of its
        size. finished: how many candidates were finished.
    """

    gap: float
    convex: bool
    chords: int
    residual: float
    starts: int
    agreeing: int
    finished: int


@dataclasses.dataclass(frozen=True)
class MixtureResult:
    """A recommended mixture with what it is predicted to give; plain data.

    Attributes:
      weights: (K,), sums to 1, meets every limit. domains: K names.
      objective: label. maximize: whether larger is better. risk: mean, cvar or worst.
      value: objective at the mixture (under the risk), with the interval of the plain objective over draws.
      losses, accuracies: predicted outcome per set and per task (None if there are none). sets, tasks: names.
      reference: (K,) mixture to compare with. reference_value: its objective. reference_losses: (V,).
      gain: how much better the objective is than at the reference; positive is better.
      loss_difference: losses minus those of the reference, (V,); negative is better.
      reference_accuracies, accuracy_difference: the same for accuracies, (T,), where positive is better; None without.
      probability_better: share of draws in which the mixture beats the reference; NaN without draws.
      limits: every limit with slack and multiplier. violation: largest violation of any limit or of the sum.
      certificate: evidence of global optimality. status: "converged" or what went wrong.
    """

    weights: np.ndarray
    domains: tuple[str, ...]
    objective: str
    maximize: bool
    risk: str
    value: Interval
    losses: Interval
    accuracies: Interval | None
    sets: tuple[str, ...]
    tasks: tuple[str, ...]
    reference: np.ndarray
    reference_value: float
    reference_losses: np.ndarray
    gain: Interval
    loss_difference: Interval
    reference_accuracies: np.ndarray | None
    accuracy_difference: Interval | None
    probability_better: float
    limits: tuple[Binding, ...]
    violation: float
    certificate: Certificate
    status: str

    def to_dict(self) -> dict[str, Any]:
        """The result as plain lists, numbers and text, ready for JSON (NaN becomes None)."""
        out = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        out["weights"] = dict(zip(self.domains, self.weights.tolist(), strict=True))
        out["reference"] = dict(zip(self.domains, self.reference.tolist(), strict=True))
        return _plain(out)

    def summary(self) -> str:
        """A few lines of text: the mixture beside the reference, the gain and the limits that bind."""
        width = max(map(len, self.domains))
        lines = [f"{'domain':<{width}}  share  reference"]
        for name, share, other in zip(self.domains, self.weights, self.reference, strict=True):
            lines.append(f"{name:<{width}}  {share:5.3f}  {other:9.3f}")
        lines.append(f"{self.objective}: {_text(self.value)}; reference {self.reference_value:.4f}")
        sure = "" if math.isnan(self.probability_better) else f", better in {self.probability_better:.0%} of draws"
        lines.append(f"gain over the reference: {_text(self.gain)}{sure}")
        for limit in self.limits:
            if limit.binds:
                lines.append(f"binds: {limit.name} (relaxing it by 0.01 gains {0.01 * limit.multiplier:.2g})")
        if self.status != "converged":
            lines.append(f"warning: {self.status}")
        return "\n".join(lines)


def optimize_mixture(
    outcomes: Any,
    *,
    objective: Objective | None = None,
    domains: Sequence[str] | None = None,
    bounds: Mapping[str, Any] | None = None,
    groups: Mapping[str, Any] | None = None,
    fixed: Mapping[str, float] | None = None,
    supply: Mapping[str, Any] | Array | None = None,
    tokens: Any = None,
    max_epochs: float = 1.0,
    kl: tuple[Array, float] | None = None,
    distance: tuple[Array, float] | None = None,
    cost: tuple[Array, float] | None = None,
    max_domains: int | None = None,
    reference: Array | None = None,
    risk: str = "mean",
    tail: float = 0.1,
    starts: int = 64,
    key: Array | None = None,
) -> MixtureResult:
    """The best mixture under limits, compared with a reference mixture.

    Args:
      outcomes: function from weights (K,) to losses (V,), to draws of losses (M, V), or to an object with ``losses`` and
        perhaps ``accuracies``; differentiable and vmappable. Optional attributes: ``draws(weights)`` with a leading axis of
        draws, ``domains``, ``sets``, ``tasks``, ``reference``, and ``interval_scale`` (V,), a standard deviation of log loss
        that widens the intervals of losses. If it is a pytree, other parameters of it compile nothing new.
      objective: what to improve; mean validation loss by default.
      domains: names of the K domains; default ``outcomes.domains``.
      bounds, groups, fixed, supply, tokens, max_epochs, kl, distance, cost, max_domains: limits; see
        :func:`camel_jax.constraints.parse_limits`.
      reference: mixture to compare with, (K,); default ``outcomes.reference``, else uniform. It need not meet the limits.
      risk: "mean" for the point prediction (the mean of draws where only draws are given), "cvar" for the mean of the
        worst ``tail`` of draws, "worst" for the worst draw.
      tail: share of draws that "cvar" averages.
      starts: number of random starts.
      key: a ``jax.random`` key; fixed by default, so that the same call gives the same answer.

    Returns:
      MixtureResult.

    Raises:
      InfeasibleError: no mixture meets all limits; the message names the limits that exclude each other.
      ValueError: a name, share or option that makes no sense, or float64 is off.

    >>> losses = lambda w: (2.0 + jnp.array([0.1, 0.2, 0.1]) @ (w + 0.05) ** -0.5)[None]
    >>> best = optimize_mixture(losses, domains=["web", "code", "wiki"], bounds={"code": (None, 0.3)}, starts=4)
    >>> best.weights.round(4).tolist(), best.limits[0].binds
    ([0.35, 0.3, 0.35], True)
    """
    problem = make_problem(
        outcomes,
        objective=objective,
        domains=domains,
        reference=reference,
        risk=risk,
        tail=tail,
        limits={
            "bounds": bounds,
            "groups": groups,
            "fixed": fixed,
            "supply": supply,
            "tokens": tokens,
            "max_epochs": max_epochs,
            "kl": kl,
            "distance": distance,
            "cost": cost,
            "max_domains": max_domains,
        },
    )
    key = jax.random.key(0) if key is None else key
    solution = solve(problem, key, starts)
    return describe(problem, solution)


def probability_best(
    outcomes: Any,
    mixtures: Mapping[str, Any],
    *,
    objective: Objective | None = None,
    domains: Sequence[str] | None = None,
) -> dict[str, float]:
    """How probable it is that each of several named mixtures is the best of them: the share of draws in which it is.

    Args:
      outcomes: as for :func:`optimize_mixture`, with draws. mixtures: name to shares (K,), two or more.
      objective: what to improve; mean validation loss by default. domains: names of the K domains.

    Returns:
      Name to probability; they sum to 1, and mixtures that are equal in a draw share it.

    Raises:
      ValueError: fewer than two mixtures, shares that are no mixture, or outcomes without draws.

    >>> losses = lambda w: 2.0 + jnp.array([[0.1], [0.2], [-0.1]]) * (w[0] - w[1])  # three draws of one loss
    >>> probability_best(losses, {"web": [1.0, 0.0], "code": [0.0, 1.0]}, domains=["web", "code"])
    {'web': 0.333..., 'code': 0.666...}
    """
    if len(mixtures) < 2:
        raise ValueError(f"give two or more mixtures to compare, got {len(mixtures)}")
    problem = make_problem(outcomes, objective=objective, domains=domains, limits={})
    names = problem.limits.domains
    shares = [constraints.mixture(weights, names, f"mixture {name}") for name, weights in mixtures.items()]
    drawn = _report(*split_function(problem.outcomes), problem.goal, jnp.asarray(np.stack(shares)))[3]
    if drawn is None:
        raise ValueError("these outcomes have no draws, so there is no probability; give a fit's losses_at")
    costs = np.asarray(drawn)
    wins = costs == costs.min(0)
    return dict(zip(mixtures, (wins / wins.sum(0)).mean(1).tolist(), strict=True))


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def _report(still: Any, moving: Any, goal: Goal, weights: Array) -> tuple[Any, Any, Array, Array | None]:
    """Of mixtures (n, K): point outcomes, draws of outcomes or None, and the plain objective as a cost of both."""
    outcomes = moving if still is None else still

    def one(w: Array) -> tuple[Any, Any, Array, Array | None]:
        point, draws = goals.as_outcome(outcomes(w)), None
        if point.losses.ndim == 2:
            point, draws = jax.tree.map(lambda a: a.mean(0), point), point
        elif hasattr(outcomes, "draws"):
            draws = goals.draws_of(outcomes, w)
        drawn = None if draws is None else jax.vmap(goal.objective.cost)(draws)
        return point, draws, goal.objective.cost(point), drawn

    return jax.lax.map(one, weights)


@functools.partial(jax.jit, static_argnames=("still", "goal", "chords"))
def _chords_are_convex(still: Any, moving: Any, goal: Goal, region: Region, curved: Curved, chords: int) -> Array:
    """Midpoint test of convexity on random chords of a region."""
    outcomes = moving if still is None else still
    points = random_starts(jax.random.key(1), 2 * chords, region.center.shape[0])
    points = jax.vmap(lambda w: interior.retract(w, region, inside_curved, curved))(points)
    one, two = points[:chords], points[chords:]
    stacked = jnp.concatenate([one, two, 0.5 * (one + two)])
    costs = jax.lax.map(lambda w: goals.goal_cost(goal, outcomes, w, jnp.zeros(())), stacked, batch_size=64)
    a, b, middle = jnp.split(costs, 3)
    return jnp.all(middle <= 0.5 * (a + b) + 1e-9 * (1.0 + jnp.abs(middle)))


def describe(problem: Problem, solution: Solution) -> MixtureResult:
    """Everything worth saying about a solution: outcome, comparison with the reference, limits, certificate."""
    still, moving = split_function(problem.outcomes)
    objective, weights = problem.goal.objective, solution.weights
    pair = jnp.asarray(np.stack([weights, problem.reference]))
    point, draws, plain, drawn = jax.tree.map(np.asarray, _report(still, moving, problem.goal, pair))
    costs, slopes = (np.asarray(a) for a in costs_and_slopes(still, moving, problem.goal, pair, solution.smoothing))
    sign = -1.0 if objective.maximize else 1.0
    if draws is None:
        drawn = np.full((2, 1), np.nan)
        better = math.nan
    else:
        better = float(np.mean(drawn[0] < drawn[1]) + 0.5 * np.mean(drawn[0] == drawn[1]))
    losses, difference = _compare(point.losses, None if draws is None else draws.losses)
    losses = losses if draws is None else _widen(losses, getattr(problem.outcomes, "interval_scale", None))
    accuracies, accuracy_gap = None, None
    if point.accuracies is not None:
        accuracies, accuracy_gap = _compare(point.accuracies, None if draws is None else draws.accuracies)
    risky = problem.goal.risk != "mean"
    bindings, residual, gap = feasibility.multipliers(problem.limits, weights, slopes[0])
    region, chords = problem.regions[0], 128
    convex = _chords_are_convex(still, moving, problem.goal, region, problem.curved, chords)
    near = np.abs(solution.costs - solution.cost) <= 1e-6 * max(1.0, abs(solution.cost))
    certificate = Certificate(
        gap, bool(convex), chords, residual, solution.starts, int(near.sum()), len(solution.costs)
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
        limits=tuple(Binding(*binding) for binding in bindings),
        violation=constraints.violation(problem.limits, weights),
        certificate=certificate,
        status=status,
    )


def _compare(point: Array, draws: np.ndarray | None) -> tuple[Interval, Interval]:
    """Of outcomes at the mixture and the reference, (2, V) and draws (2, M, V): those at the mixture, and how far apart."""
    drawn = np.full((2, 1, *point.shape[1:]), np.nan) if draws is None else draws
    return _interval(point[0], drawn[0]), _interval(point[0] - point[1], drawn[0] - drawn[1])


def _interval(value: Array, draws: np.ndarray) -> Interval:
    lower, upper = np.quantile(draws, [0.05, 0.95], axis=0) if np.isfinite(draws).all() else (draws[0] * np.nan,) * 2
    return Interval(np.asarray(value)[()], np.asarray(lower)[()], np.asarray(upper)[()])


def _widen(interval: Interval, scale: Array | None) -> Interval:
    if scale is None:
        return interval
    half = 1.6448536 * np.asarray(scale)  # independent of the draws: half-widths add in squares, in log loss
    log = np.log(interval.value)
    down = np.sqrt((log - np.log(interval.lower)) ** 2 + half**2)
    up = np.sqrt((np.log(interval.upper) - log) ** 2 + half**2)
    return Interval(interval.value, np.exp(log - down), np.exp(log + up))


def _text(interval: Interval) -> str:
    if not np.isfinite(interval.lower):
        return f"{interval.value:.4f}"
    return f"{interval.value:.4f} (90 %: {interval.lower:.4f} to {interval.upper:.4f})"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
