"""How far a mixture may move before it is clearly worse: the near-optimal set, its ranges and a sample of it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture import barrier, objectives
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.lines import between_extremes, extremes_along_lines
from camel_jax.mixture.narrow import Narrow, narrowed, widened
from camel_jax.mixture.newton_step import MANY
from camel_jax.mixture.objectives import Goal
from camel_jax.mixture.optimize import describe
from camel_jax.mixture.problem import Curved, Problem, inside_curved, problem_of, split_function
from camel_jax.mixture.result import MixtureResult
from camel_jax.mixture.search import Solution, costs_and_slopes, solve, toward_center
from camel_jax.recipes.outcome import Outcomes
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

MOST_SEARCHED = 128  # domains beyond which ranges are found along lines alone
FROM_BEST = 0.05  # part of the way from the best mixture to an inner one at which these lines begin


@dataclasses.dataclass(frozen=True, repr=False)
class NearOptimal(Readable):
    """All mixtures that are nearly as good as the best.

    Attributes:
      best: the best mixture, (K,).
      value: its objective, in its own unit.
      level: the objective that still counts.
      low: smallest share of every domain within the set, (K,).
      high: largest share of every domain within the set, (K,).
      domains: K names.
      samples: mixtures spread over the set, (n, K).
    """

    best: np.ndarray
    value: float
    level: float
    low: np.ndarray
    high: np.ndarray
    domains: tuple[str, ...]
    samples: np.ndarray

    def _view(self) -> View:
        from camel_jax.views.decisions import near_view

        return near_view(self)

    def to_frame(self) -> Any:
        """One row a domain: best share, low and high, as a pandas DataFrame."""
        from camel_jax.views.decisions import near_columns
        from camel_jax.views.view import to_frame

        return to_frame(near_columns(self))

    def plot(self, ax: Any = None, kind: str = "shares") -> Any:
        """The best mixture as bars with the range of every share, or the sample itself; returns the Axes.

        Args:
          ax: Axes to draw on; a new figure if None.
          kind: "shares", or "mixtures" for the sample on a triangle (three domains) or on parallel axes.
        """
        from camel_jax.views.decisions import plot_near

        return plot_near(self, ax, kind)


def near_optimal(
    outcomes: Outcomes,
    within: float = 0.005,
    *,
    samples: int = 256,
    starts: int = 64,
    key: Array | None = None,
    **options: Any,
) -> NearOptimal:
    """All mixtures whose objective is within a fraction of the best: ranges per domain and a sample.

    A wide range says that the share hardly matters, or that the runs do not tell; the sample shows which shares can be
    traded for which. Ranges are exact for convex costs of up to 128 domains, and at least as wide as the sample otherwise.

    Args:
      outcomes: as in :func:`camel_jax.mixture.optimize.optimize_mixture`.
      within: fraction of the absolute value of the objective, above zero.
      samples: number of mixtures in the sample.
      starts: number of random starts of the search.
      key: a ``jax.random`` key of the search.
      options: objective, limits, risk and so on.

    Raises:
      ValueError: ``within`` is not above zero, or as for ``optimize_mixture``.

    >>> import jax.numpy as jnp
    >>> losses = lambda w: (2.0 + jnp.array([1.0, 1.0, 0.0]) @ (w - 0.3) ** 2)[None]
    >>> flat = near_optimal(losses, 0.01, domains=["web", "code", "wiki"], samples=8, starts=4)
    >>> flat.high.round(3).tolist()
    [0.441, 0.441, 0.6]
    """
    _check_within(within)
    key = jax.random.key(0) if key is None else key
    problem = problem_of(outcomes, options)
    return _near(problem, solve(problem, key, starts), within, samples, key)


def decide(
    outcomes: Outcomes,
    within: float = 0.005,
    *,
    samples: int = 256,
    starts: int = 64,
    key: Array | None = None,
    relax: float = 0.01,
    **options: Any,
) -> tuple[MixtureResult, NearOptimal]:
    """``optimize_mixture`` and ``near_optimal`` of the same search; arguments as for both.

    >>> losses = lambda w: (2.0 + jnp.array([1.0, 1.0, 0.0]) @ (w - 0.3) ** 2)[None]
    >>> best, flat = decide(losses, 0.01, domains=["web", "code", "wiki"], samples=8, starts=4)
    >>> best.weights.round(3).tolist(), flat.high.round(3).tolist()
    ([0.3, 0.3, 0.4], [0.441, 0.441, 0.6])
    """
    _check_within(within)
    key = jax.random.key(0) if key is None else key
    problem = problem_of(outcomes, options)
    solution = solve(problem, key, starts)
    return describe(problem, solution, key, relax), _near(problem, solution, within, samples, key)


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
    inner = toward_center(problem, region, solution.weights, problem.goal, 0.5 * (solution.cost + level))
    still, moving = split_function(problem.outcomes)
    small, narrow = narrowed(region)
    same = (still, moving, problem.goal, small, narrow, problem.curved)
    inner = inner if narrow is None else inner[narrow.index]
    found = solution.weights[None]
    if narrow is None and len(names) > MANY:  # a random walk would hardly move among so many limits that are near
        line = (still, moving, problem.goal)
        nearer = (1 - FROM_BEST) * solution.weights + FROM_BEST * inner  # a set is widest about its best mixture
        start = nearer if _counts(problem, nearer, level) else inner
        edges = np.asarray(extremes_along_lines(*line, region, problem.curved, start, jnp.asarray(level)))
        edges = np.where(np.isfinite(edges).all(1, keepdims=True), np.maximum(edges, region.lower), solution.weights)
        drawn = between_extremes(*line, problem.curved, start, jnp.asarray(level), edges, key, samples)
        found = np.concatenate([found, edges])
    else:
        drawn = _spread(*same, inner, level, key, samples)
    drawn = np.asarray(widened(narrow, drawn))
    if len(small.center) <= MOST_SEARCHED:
        ends = np.asarray(widened(narrow, _extremes(*same, inner, level)))
        found = np.concatenate([found, ends[np.isfinite(ends).all(1)]])
    # the barrier stops a hair short of the edge of the set
    everything = np.concatenate([found, drawn])
    return NearOptimal(*done, everything.min(0), everything.max(0), names, drawn)


def _counts(problem: Problem, weights: np.ndarray, level: float) -> bool:
    """Whether a mixture that meets the linear limits meets the curved ones, too, and costs less than a level."""
    still, moving = split_function(problem.outcomes)
    legal = np.all(np.asarray(inside_curved(jnp.asarray(weights), problem.curved)) > 0)
    return bool(legal and costs_and_slopes(still, moving, problem.goal, np.stack([weights] * 2))[0][0] < level)


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def _extremes(
    still: Any,
    moving: Any,
    goal: Goal,
    region: Region,
    narrow: Narrow | None,
    curved: Curved,
    inner: Array,
    level: Array,
) -> Array:
    """Mixtures of least and largest share of every domain within the set, (2K, K)."""
    outcomes = moving if still is None else still
    unit = jnp.maximum(
        jnp.abs(level - objectives.goal_cost(goal, outcomes, widened(narrow, inner), jnp.zeros(()))), 1e-12
    )

    def inside(w: Array, args: Array) -> Array:
        del args
        whole = widened(narrow, w)
        room = (level - objectives.goal_cost(goal, outcomes, whole, 1e-6 * unit)) / unit
        return jnp.append(inside_curved(whole, curved), room)

    def one(direction: Array) -> Array:
        finish = barrier.interior_finish(
            lambda w, d, _: d @ w, inside, inner, region, direction, jnp.ones(()), last_barrier=1e-8
        )
        return jnp.where(jnp.isfinite(finish.value), finish.weights, jnp.nan)

    eye = jnp.eye(inner.shape[0])
    return barrier.each(one, jnp.concatenate([eye, -eye]))


@functools.partial(jax.jit, static_argnames=("still", "goal", "samples"))
def _spread(
    still: Any,
    moving: Any,
    goal: Goal,
    region: Region,
    narrow: Narrow | None,
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
        whole = widened(narrow, w)
        legal = jnp.all(inside_curved(whole, curved) > 0)
        return legal & (objectives.goal_cost(goal, outcomes, whole, jnp.zeros(())) <= level)

    def step(w: Array, key: Array) -> tuple[Array, None]:
        turn, pick = jax.random.split(key)
        # mixtures of directions across the whole region and along pairs of domains, so that narrow sets are crossed too
        d = jax.random.normal(turn, w.shape) * jax.random.exponential(pick, w.shape) * region.free
        d = d - region.equal.T @ (region.equal @ d)
        ahead = barrier.longest_step(w, d, region)
        behind = barrier.longest_step(w, -d, region)

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
