"""What must be given up of one objective for another: the best of the first at every level of the second."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture import barrier, objectives
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.gains import gains_over, within_shares
from camel_jax.mixture.narrow import Narrow, narrowed, widened
from camel_jax.mixture.newton_step import MANY
from camel_jax.mixture.objectives import Goal, Objective, as_objective
from camel_jax.mixture.problem import Curved, inside_curved, problem_of, split_function
from camel_jax.mixture.search import costs_and_slopes, random_starts, solve, toward_center, violation_of_count
from camel_jax.recipes.outcome import Outcomes
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

OTHERS, FEW_OTHERS = 7, 1  # random starts at a level beside the best of the first objective; of many domains


@dataclasses.dataclass(frozen=True, repr=False)
class ParetoFront(Readable):
    """Best trade-offs between two objectives, from the best of the first to the best of the second.

    Attributes:
      weights: (P, K) mixtures.
      first: (P,) first objective at them, in its own unit.
      second: (P,) second objective at them, in its own unit.
      labels: names of the two objectives.
      domains: K names.
      gains: (P, 2, 3) gain of both objectives over the reference mixture, with the ends of its 90 % interval over draws (NaN without
        draws).
      measured: (P,) whether every share lies between the smallest and the largest of the fitted table; None where that is not known.

    >>> front = ParetoFront(np.eye(2), np.zeros(2), np.zeros(2), ("a", "b"), ("web", "code"), np.zeros((2, 2, 3)))
    >>> front.plot().get_xlabel()
    'gain in a over the reference'
    """

    weights: np.ndarray
    first: np.ndarray
    second: np.ndarray
    labels: tuple[str, str]
    domains: tuple[str, ...]
    gains: np.ndarray
    measured: np.ndarray | None = None

    def _view(self) -> View:
        from camel_jax.views.decisions import front_view

        return front_view(self)

    def to_frame(self) -> Any:
        """One row a point: both objectives, and shares as mix/<domain>, as a pandas DataFrame."""
        from camel_jax.views.decisions import front_columns
        from camel_jax.views.view import to_frame

        return to_frame(front_columns(self))

    def plot(self, ax: Any = None, chosen: Array | None = None) -> Any:
        """Gains in both objectives over the reference, with intervals; returns the Axes.

        Args:
          ax: Axes to draw on; a new figure if None.
          chosen: (2, 3) gains of a mixture to mark, as ``mixture.gains.gains_over`` gives for each objective; None for none.
        """
        from camel_jax.views.decisions import plot_front

        return plot_front(self, ax, chosen)


def pareto_front(
    outcomes: Outcomes,
    first: Objective | Callable[..., Array] | str,
    second: Objective | Callable[..., Array] | str,
    points: int = 11,
    *,
    starts: int = 64,
    key: Array | None = None,
    **options: Any,
) -> ParetoFront:
    """The best first objective for every level of the second (epsilon-constraint, so dents in the front are found too).

    Args:
      outcomes: as in :func:`camel_jax.mixture.optimize.optimize_mixture`.
      first: one objective, or a function of an outcome.
      second: the other objective, or a function of an outcome.
      points: number of mixtures on the front, the two optima included; at least 2.
      starts: number of random starts of the search.
      key: a ``jax.random`` key of the search.
      options: limits, risk and so on.

    Returns:
      ParetoFront; dominated points are dropped, so there may be fewer than ``points``.

    Raises:
      ValueError: fewer than 2 points, a limit on the number of domains, or as for ``optimize_mixture``.

    >>> import camel_jax as cj
    >>> losses = lambda w: 2.0 + (1.0 - w) ** 2  # each domain helps a set of its own
    >>> first, second = cj.single_set(0), cj.single_set(1)
    >>> front = pareto_front(losses, first, second, 3, domains=["web", "code"], starts=4)
    >>> front.weights.round(3).tolist()
    [[1.0, 0.0], [0.707, 0.293], [0.0, 1.0]]
    """
    if points < 2:
        raise ValueError(f"a front needs at least 2 points, got {points!r}")
    key = jax.random.key(0) if key is None else key
    first, second = as_objective(first), as_objective(second)
    one = problem_of(outcomes, {**options, "objective": first})
    two = problem_of(outcomes, {**options, "objective": second})
    if len(two.regions) > 1 or violation_of_count(two.limits, next(iter(two.regions))) > 0:
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
            toward_center(two, region, best_two.weights, two.goal, least + 0.3 * (levels[0] - least))
            if points > 2
            else best_two.weights
        )
        if points > 2:
            small, narrow = narrowed(region._replace(center=center))
            toward = best_one.weights if narrow is None else best_one.weights[narrow.index]
            others = random_starts(key, FEW_OTHERS if len(toward) > MANY else OTHERS, len(toward))
            targets = np.concatenate([toward[None], others])
            found = _trade(still, moving, one.goal, two.goal, small, narrow, one.curved, targets, levels, worst - least)
            found = np.asarray(widened(narrow, found))
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
    reference = np.asarray(one.reference)
    gains = np.stack([gains_over(outcomes, goal, weights[keep], reference) for goal in (first, second)], 1)
    known = getattr(outcomes, "measured", None)
    inside = None if known is None else within_shares(weights[keep], known)
    values = signs[0] * a[keep], signs[1] * b[keep]
    return ParetoFront(weights[keep], *values, labels, one.limits.domains, gains, inside)


@functools.partial(jax.jit, static_argnames=("still", "one", "two"))
def _trade(
    still: Any,
    moving: Any,
    one: Goal,
    two: Goal,
    region: Region,
    narrow: Narrow | None,
    curved: Curved,
    targets: Array,
    levels: Array,
    between: Array,
) -> Array:
    """For every level of the second cost, the mixture of least first cost, (P, K), from starts toward targets (n, K).

    ``between`` is how far the second costs of the two ends are apart, the unit in which room below a level is measured.
    Of many domains one start is finished after another, since their second derivatives at once would fill the memory.
    """
    outcomes = moving if still is None else still
    unit = jnp.maximum(between, 1e-12)
    one_by_one = targets.shape[1] > MANY

    def at_each(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
        return functools.partial(jax.lax.map, function) if one_by_one else jax.vmap(function)

    def function(w: Array, level: Array, smoothing: Array) -> Array:
        del level
        return objectives.goal_cost(one, outcomes, widened(narrow, w), smoothing)

    def inside(w: Array, level: Array) -> Array:
        whole = widened(narrow, w)
        room = (level - objectives.goal_cost(two, outcomes, whole, 1e-6 * unit)) / unit
        return jnp.append(inside_curved(whole, curved), room)

    def best(level: Array) -> Array:
        starts = jax.vmap(lambda target: barrier.retract(target, region, inside, level))(targets)
        scale = barrier.objective_scale(function, starts[:2], region, level)
        corners = one.risk != "mean"

        def finish(start: Array) -> barrier.Finish:
            return barrier.interior_finish(
                function,
                inside,
                start,
                region,
                level,
                scale,
                max_steps=150 if corners else 80,
                last_barrier=1e-7 if corners else 1e-9,
                power=1.0 if corners else 1.5,
            )

        found = at_each(finish)(starts)
        pick = jnp.argmin(found.value)
        return jnp.where(jnp.isfinite(found.value[pick]), found.weights[pick], jnp.nan)

    return at_each(best)(levels)
