"""Around the optimum: the near-optimal set, trade-offs between two objectives, and how the optimum moves with scale."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import goals, interior
from camel_jax.goals import Goal, Objective
from camel_jax.interior import Region
from camel_jax.mixture import MixtureResult, describe, optimize_mixture
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

_OPTIONS = ("objective", "domains", "reference", "risk", "tail")


class NearOptimal(NamedTuple):
    """All mixtures that are nearly as good as the best.

    Attributes:
      best: the best mixture, (K,). value: its objective, smaller is better. level: the objective that still counts.
      lower, upper: range of every share within the set, (K,). domains: names.
      samples: mixtures spread over the set, (n, K).
    """

    best: np.ndarray
    value: float
    level: float
    lower: np.ndarray
    upper: np.ndarray
    domains: tuple[str, ...]
    samples: np.ndarray


class ParetoFront(NamedTuple):
    """Best trade-offs between two objectives, from the best of the first to the best of the second.

    Attributes:
      weights: (P, K). first, second: objectives at them, (P,), in their own units. labels: their names. domains: names.
    """

    weights: np.ndarray
    first: np.ndarray
    second: np.ndarray
    labels: tuple[str, str]
    domains: tuple[str, ...]


class OptimumPath(NamedTuple):
    """The optimum at several scales.

    Attributes:
      sizes, tokens: as given, P entries each. weights: (P, K). results: a ``MixtureResult`` for each. domains: names.
    """

    sizes: tuple[Any, ...]
    tokens: tuple[Any, ...]
    weights: np.ndarray
    results: tuple[MixtureResult, ...]
    domains: tuple[str, ...]


def near_optimal(
    outcomes: Any,
    within: float = 0.005,
    *,
    samples: int = 256,
    starts: int = 64,
    key: Array | None = None,
    **options: Any,
) -> NearOptimal:
    """All mixtures whose objective is within a fraction of the best: ranges per domain and a sample.

    A wide range says that the share hardly matters, or that the runs do not tell; the sample shows which shares can be
    traded for which. Ranges are exact for convex costs, and at least as wide as the sample otherwise.

    Args:
      outcomes: as in :func:`camel_jax.mixture.optimize_mixture`. within: relative to the absolute value of the objective.
      samples: number of mixtures in the sample. starts, key: of the search. options: objective, limits, risk and so on.

    Raises:
      ValueError: ``within`` is not above zero, or as for ``optimize_mixture``.

    >>> losses = lambda w: (2.0 + jnp.array([1.0, 1.0, 0.0]) @ (w - 0.3) ** 2)[None]
    >>> flat = near_optimal(losses, 0.01, domains=["web", "code", "wiki"], samples=8, starts=4)
    >>> flat.upper.round(3).tolist()
    [0.441, 0.441, 0.6]
    """
    _check_within(within)
    key = jax.random.key(0) if key is None else key
    problem = _problem(outcomes, options)
    return _near(problem, solve(problem, key, starts), within, samples, key)


def decide(
    outcomes: Any,
    within: float = 0.005,
    *,
    samples: int = 256,
    starts: int = 64,
    key: Array | None = None,
    **options: Any,
) -> tuple[MixtureResult, NearOptimal]:
    """``optimize_mixture`` and ``near_optimal`` of the same search; arguments as for ``near_optimal``.

    >>> losses = lambda w: (2.0 + jnp.array([1.0, 1.0, 0.0]) @ (w - 0.3) ** 2)[None]
    >>> best, flat = decide(losses, 0.01, domains=["web", "code", "wiki"], samples=8, starts=4)
    >>> best.weights.round(3).tolist(), flat.upper.round(3).tolist()
    ([0.3, 0.3, 0.4], [0.441, 0.441, 0.6])
    """
    _check_within(within)
    key = jax.random.key(0) if key is None else key
    problem = _problem(outcomes, options)
    solution = solve(problem, key, starts)
    return describe(problem, solution), _near(problem, solution, within, samples, key)


def _check_within(within: float) -> None:
    if not (np.isfinite(within) and within > 0):
        raise ValueError(f"within must be above zero, as in 0.005 for half a percent; got {within!r}")


def _near(problem: Problem, solution: Solution, within: float, samples: int, key: Array) -> NearOptimal:
    level = solution.cost + within * abs(solution.cost)
    sign = -1.0 if problem.goal.objective.maximize else 1.0
    done = (solution.weights, sign * solution.cost, sign * level)
    region, names = solution.region, problem.limits.domains
    if not np.any(region.free) or level == solution.cost:
        return NearOptimal(
            *done, solution.weights, solution.weights, names, np.repeat(solution.weights[None], samples, 0)
        )
    inner = _toward_center(problem, region, solution.weights, problem.goal, 0.5 * (solution.cost + level))
    still, moving = split_function(problem.outcomes)
    found = _extremes(still, moving, problem.goal, region, problem.curved, inner, level)
    found = np.asarray(found)[np.all(np.isfinite(found), 1)]
    drawn = np.asarray(_spread(still, moving, problem.goal, region, problem.curved, inner, level, key, samples))
    # the barrier stops a hair short of the edge of the set
    everything = np.concatenate([solution.weights[None], found, drawn])
    return NearOptimal(*done, everything.min(0), everything.max(0), names, drawn)


def pareto_front(
    outcomes: Any,
    first: Objective,
    second: Objective,
    points: int = 11,
    *,
    starts: int = 64,
    key: Array | None = None,
    **options: Any,
) -> ParetoFront:
    """The best first objective for every level of the second (epsilon-constraint, so dents in the front are found too).

    Args:
      outcomes: as in :func:`camel_jax.mixture.optimize_mixture`. first, second: the two objectives.
      points: number of mixtures on the front, the two optima included; at least 2. options: limits, risk and so on.

    Returns:
      ParetoFront; dominated points are dropped, so there may be fewer than ``points``.
    """
    if points < 2:
        raise ValueError(f"a front needs at least 2 points, got {points!r}")
    key = jax.random.key(0) if key is None else key
    one = _problem(outcomes, {**options, "objective": first})
    two = _problem(outcomes, {**options, "objective": second})
    if len(two.regions) > 1:
        raise ValueError("a front needs one set of domains, not 'at most k': fix the shares of the others at 0")
    best_one, best_two = solve(one, key, starts), solve(two, key, starts)
    still, moving = split_function(outcomes)
    ends = np.stack([best_one.weights, best_two.weights])
    worst, least = np.asarray(costs_and_slopes(still, moving, two.goal, ends)[0])
    weights = ends
    if worst - least > 1e-7 * max(1.0, abs(worst)) and np.any(best_two.region.free):
        levels = least + (worst - least) * np.linspace(0, 1, points)[1:-1]
        region = best_two.region
        center = (
            _toward_center(two, region, best_two.weights, two.goal, least + 0.3 * (levels[0] - least))
            if points > 2
            else best_two.weights
        )
        if points > 2:
            found = np.asarray(
                _trade(
                    still,
                    moving,
                    one.goal,
                    two.goal,
                    region._replace(center=center),
                    one.curved,
                    np.concatenate([best_one.weights[None], random_starts(key, 7, len(center))]),
                    levels,
                )
            )
            weights = np.concatenate([ends[1:], found[np.all(np.isfinite(found), 1)], ends[:1]])[::-1]
    a, b = (np.asarray(costs_and_slopes(still, moving, p.goal, weights)[0]) for p in (one, two))
    beaten = [
        bool(np.any((a <= a[i]) & (b <= b[i]) & ((a < a[i] - 1e-12) | (b < b[i] - 1e-12)))) for i in range(len(a))
    ]
    apart = (
        np.abs(np.diff(weights, axis=0, prepend=np.inf)).max(1) > 1e-6
    )  # objectives that agree have one best mixture
    keep = ~np.asarray(beaten) & apart
    signs = [-1.0 if p.goal.objective.maximize else 1.0 for p in (one, two)]
    labels = (first.label, second.label)
    return ParetoFront(weights[keep], signs[0] * a[keep], signs[1] * b[keep], labels, one.limits.domains)


def optimum_path(
    at: Callable[[Any, Any], Any], sizes: Sequence[Any], tokens: Sequence[Any] | Any, **options: Any
) -> OptimumPath:
    """The optimum at every step of a ladder of sizes and token counts.

    Args:
      at: function of (size, tokens) that gives outcomes for ``optimize_mixture``, such as ``fit.losses_at``. Functions
        that are pytrees of one structure share one compiled program.
      sizes: model sizes. tokens: token counts, one per size or one for all. options: as for ``optimize_mixture``.
    """
    sizes = list(sizes)
    tokens = list(tokens) if isinstance(tokens, list | tuple | np.ndarray) else [tokens] * len(sizes)
    if not sizes or len(tokens) != len(sizes):
        raise ValueError(f"give as many token counts as sizes, or one; got {len(tokens)} for {len(sizes)} sizes")
    extra = [{**options, "tokens": t} if options.get("supply") is not None else options for t in tokens]
    results = tuple(optimize_mixture(at(n, t), **more) for n, t, more in zip(sizes, tokens, extra, strict=True))
    weights = np.stack([result.weights for result in results])
    return OptimumPath(tuple(sizes), tuple(tokens), weights, results, results[0].domains)


def _problem(outcomes: Any, options: dict[str, Any]) -> Problem:
    main = {name: value for name, value in options.items() if name in _OPTIONS}
    return make_problem(outcomes, **main, limits={k: v for k, v in options.items() if k not in _OPTIONS})


def _toward_center(problem: Problem, region: Region, weights: np.ndarray, goal: Goal, level: float) -> np.ndarray:
    """A strictly inner mixture near a given one whose cost stays below a level."""
    still, moving = split_function(problem.outcomes)
    t = 0.5 ** np.arange(1, 50)
    tried = weights + t[:, None] * (region.center - weights)
    costs = np.asarray(costs_and_slopes(still, moving, goal, tried)[0])
    good = np.flatnonzero(costs < level)
    return tried[good[0]] if len(good) else tried[-1]


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def _extremes(still: Any, moving: Any, goal: Goal, region: Region, curved: Curved, inner: Array, level: Array) -> Array:
    """Mixtures of least and largest share of every domain within the set, (2K, K)."""
    outcomes = moving if still is None else still
    unit = jnp.maximum(jnp.abs(level - goals.goal_cost(goal, outcomes, inner, jnp.zeros(()))), 1e-12)

    def inside(w: Array, args: Array) -> Array:
        del args
        room = (level - goals.goal_cost(goal, outcomes, w, 1e-6 * unit)) / unit
        return jnp.append(inside_curved(w, curved), room)

    def one(direction: Array) -> Array:
        finish = interior.interior_finish(
            lambda w, d, _: d @ w, inside, inner, region, direction, jnp.ones(()), last_barrier=1e-8
        )
        return jnp.where(jnp.isfinite(finish.value), finish.weights, jnp.nan)

    eye = jnp.eye(inner.shape[0])
    return jax.vmap(one)(jnp.concatenate([eye, -eye]))


@functools.partial(jax.jit, static_argnames=("still", "goal", "samples"))
def _spread(
    still: Any,
    moving: Any,
    goal: Goal,
    region: Region,
    curved: Curved,
    inner: Array,
    level: Array,
    key: Array,
    samples: int,
    steps: int = 100,
) -> Array:
    """Hit-and-run with a shrinking slice: mixtures spread evenly over the near-optimal set, (samples, K)."""
    outcomes = moving if still is None else still

    def good(w: Array) -> Array:
        legal = jnp.all(inside_curved(w, curved) > 0)
        return legal & (goals.goal_cost(goal, outcomes, w, jnp.zeros(())) <= level)

    def step(w: Array, key: Array) -> tuple[Array, None]:
        turn, pick = jax.random.split(key)
        # mixtures of directions across the whole region and along pairs of domains, so that narrow sets are crossed too
        d = jax.random.normal(turn, w.shape) * jax.random.exponential(pick, w.shape) * region.free
        d = d - region.equal.T @ (region.equal @ d)
        ahead = interior.longest_step(w, d, region)
        behind = interior.longest_step(w, -d, region)

        def shrink(state: tuple) -> tuple:
            low, high, _, key, _, i = state
            key, use = jax.random.split(key)
            t = jax.random.uniform(use, (), w.dtype, low, high)
            ok = good(w + t * d)
            return jnp.where(t < 0, t, low), jnp.where(t < 0, high, t), jnp.where(ok, t, 0.0), key, ok, i + 1

        first = (-behind, ahead, jnp.zeros((), w.dtype), pick, jnp.zeros((), bool), 0)
        t = jax.lax.while_loop(lambda s: ~s[4] & (s[5] < 60), shrink, first)[2]
        return w + t * d, None

    def chain(key: Array) -> Array:
        return jax.lax.scan(step, inner, jax.random.split(key, steps))[0]

    return jax.vmap(chain)(jax.random.split(key, samples))


@functools.partial(jax.jit, static_argnames=("still", "one", "two"))
def _trade(
    still: Any,
    moving: Any,
    one: Goal,
    two: Goal,
    region: Region,
    curved: Curved,
    targets: Array,
    levels: Array,
) -> Array:
    """For every level of the second cost, the mixture of least first cost, (P, K), from starts toward targets (n, K)."""
    outcomes = moving if still is None else still
    unit = jnp.maximum(levels[-1] - levels[0], 1e-12)

    def function(w: Array, level: Array, smoothing: Array) -> Array:
        del level
        return goals.goal_cost(one, outcomes, w, smoothing)

    def inside(w: Array, level: Array) -> Array:
        room = (level - goals.goal_cost(two, outcomes, w, 1e-6 * unit)) / unit
        return jnp.append(inside_curved(w, curved), room)

    def best(level: Array) -> Array:
        starts = jax.vmap(lambda target: interior.retract(target, region, inside, level))(targets)
        scale = interior.objective_scale(function, starts[:2], region, level)
        slow = one.risk != "mean"

        def finish(start: Array) -> interior.Finish:
            return interior.interior_finish(
                function,
                inside,
                start,
                region,
                level,
                scale,
                max_steps=150 if slow else 80,
                last_barrier=1e-7 if slow else 1e-9,
                power=1.0 if slow else 1.5,
            )

        found = jax.vmap(finish)(starts)
        pick = jnp.argmin(found.value)
        return jnp.where(jnp.isfinite(found.value[pick]), found.weights[pick], jnp.nan)

    return jax.vmap(best)(levels)
