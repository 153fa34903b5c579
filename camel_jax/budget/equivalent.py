"""What a mixture is worth in compute: how small a budget reaches with it what the reference reaches at the target.

With objective cost F(N, D, w) at size N, tokens D and mixture w, the equivalent compute is the ratio s that solves

    F(s^a N, s^b D, w) = F(N, D, w) + gain,   a = b = 1/2 (as many tokens a parameter), or one of the two held

where the gain is F(N, D, reference) - F(N, D, w). Draws of the gain give draws of s, read off the curve of the point. Errors of a law
at a size it has not seen are mostly the same for both mixtures and for budgets near each other, and cancel; draws of whole curves
would count them. benchmarks/decisions/equivalent_compute.py measures what the intervals cover.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture.limits import mixture as checked_mixture
from camel_jax.mixture.objectives import Objective, as_objective
from camel_jax.mixture.problem import split_function
from camel_jax.recipes.costs import CostModel, flops
from camel_jax.recipes.outcome import Interval, as_outcome, draws_of
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.sizes import parse_size, parse_tokens
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

POWERS = {"both": (0.5, 0.5), "tokens": (0.0, 1.0), "size": (1.0, 0.0)}  # of size and tokens in the ratio
REACH = 1000.0  # smallest and largest ratio that is looked at
COARSE, FINE = 13, 49  # points of the two searches


@dataclasses.dataclass(frozen=True, repr=False)
class EquivalentCompute(Readable):
    """How small a budget reaches, with one mixture, what another reaches at the target.

    Attributes:
      ratio: that budget over the budget of the target, with an interval over draws; 0.8 is a saving of a fifth.
      cost: the budget of the target, in the unit of the cost model.
      vary: "both", "tokens" or "size": what shrinks with the budget.
      draws: (M,) ratios of the draws; infinite where no budget up to 1000 times the target's suffices, and 0 where a
        thousandth of it is more than enough. Empty without draws.
      level: probability of the interval.

    >>> import camel_jax as cj
    >>> at = lambda n, d: lambda w: (1.0 + (n / 1e9) ** -0.2 + (d / 1e9) ** -0.2 + w[0])[None]
    >>> better = cj.equivalent_compute(at, [0.0, 1.0], [0.2, 0.8], 1e9, 1e9)
    >>> round(float(better.saving.point), 2), better.vary
    (0.61, 'both')
    """

    ratio: Interval
    cost: float
    vary: str
    draws: np.ndarray
    level: float = 0.9

    @property
    def saving(self) -> Interval:
        """Share of the budget of the target that is saved; negative where more is needed."""
        return Interval(1.0 - self.ratio.point, 1.0 - self.ratio.high, 1.0 - self.ratio.low)

    def told(self) -> str:
        """The ratio in words.

        >>> EquivalentCompute(Interval(0.8, 0.7, 0.92), 1e21, "both", np.zeros(0)).told()
        '80 % of the compute (90 % interval 70 to 92 %) reaches the loss of the reference'
        """
        ends = [_percent(x) for x in self.ratio]
        sure = f" ({100 * self.level:g} % interval {ends[1]} to {ends[2]} %)" if math.isfinite(self.ratio.low) else ""
        return f"{ends[0]} % of the compute{sure} reaches the loss of the reference"

    def _view(self) -> View:
        return View(self.told(), {"budget of the target": f"{self.cost:.3g}", "what shrinks": self.vary})


def _percent(ratio: float) -> str:
    return "more than 100000" if ratio > REACH * 0.999 else f"{100 * ratio:.3g}"


def equivalent_compute(
    at: Callable[[Any, Any], Any],
    weights: Array,
    reference: Array,
    size: str | float,
    tokens: str | float,
    *,
    objective: Objective | Callable[..., Array] | str | None = None,
    vary: str = "both",
    cost: CostModel = flops,
    level: float = 0.9,
) -> EquivalentCompute:
    """How small a budget reaches with a mixture what a reference mixture reaches at the target.

    Args:
      at: function of (size, tokens) that gives outcomes, such as ``fit.losses_at``; intervals need its draws.
      weights: the mixture, shares (K,).
      reference: the mixture to compare with, (K,).
      size: parameters of the target, as a number or as text such as "7B" or "55B-A1.2B".
      tokens: its training tokens, as a number or as text such as "1T".
      objective: what is to be reached; mean validation loss by default.
      vary: "both" shrinks size and tokens alike, "tokens" or "size" only that one.
      cost: cost model.
      level: probability of the interval.

    Raises:
      ValueError: a mixture that is none, or another word for ``vary``.

    >>> at = lambda n, d: lambda w: (1.0 + (n / 1e9) ** -0.2 + (d / 1e9) ** -0.2 + w[0])[None]
    >>> equal = equivalent_compute(at, [0.0, 1.0], [0.0, 1.0], 1e9, 1e9)
    >>> better = equivalent_compute(at, [0.0, 1.0], [0.2, 0.8], 1e9, 1e9)
    >>> round(float(equal.ratio.point), 4), round(float(better.ratio.point), 3), better.vary
    (1.0, 0.386, 'both')
    """
    if vary not in POWERS:
        raise ValueError(f"vary must be one of {', '.join(POWERS)}, got {vary!r}")
    (n_total, n_active), n_tokens = parse_size(size), parse_tokens(tokens)
    first = at(size, tokens)
    count = len(np.asarray(weights))
    names = tuple(map(str, getattr(first, "domains", None) or (f"domain {i}" for i in range(count))))
    here = checked_mixture(weights, names, "weights")
    there = checked_mixture(reference, names, "reference")
    tasks = getattr(first, "tasks", ())
    named = tuple(getattr(first, "sets", None) or ())
    goal = as_objective(objective)
    goal = goal.bind(named, tasks) if named else goal

    def point(ratio: float) -> float:
        """Cost of the mixture at a ratio."""
        powers = POWERS[vary]
        total, active = (n * ratio ** powers[0] for n in (n_total, n_active))
        text = f"{total:.17g}-A{active:.17g}" if n_total > n_active else active
        outcomes = at(text, n_tokens * ratio ** powers[1])
        return float(_costs(*split_function(outcomes), goal, jnp.asarray(here), drawn=False)[0])

    ours, theirs = (np.asarray(_costs(*split_function(first), goal, jnp.asarray(w), drawn=True)) for w in (here, there))
    wanted = ours[0] + theirs - ours
    low, high = _span(*_search(point, wanted, np.geomspace(1.0 / REACH, REACH, COARSE)))
    ratios = _crossings(*_search(point, wanted, np.geomspace(low, high, FINE)))
    costs = _relative_cost(cost, (n_total, n_active, n_tokens), POWERS[vary], here, ratios)
    drawn = costs[1:]
    ends = (math.nan, math.nan)
    if len(drawn) > 1:
        ends = tuple(float(x) for x in np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2], method="nearest"))
    target = float(cost(Recipe(n_total, n_active, n_tokens, here)))
    return EquivalentCompute(Interval(float(costs[0]), *ends), target, vary, drawn, level)


@functools.partial(jax.jit, static_argnames=("still", "objective", "drawn"))
def _costs(still: Any, moving: Any, objective: Objective, weights: Array, drawn: bool) -> Array:
    """Cost of the point, and with ``drawn`` of every draw, (1,) or (1 + M,)."""
    outcomes = moving if still is None else still
    point = as_outcome(outcomes(weights))
    if point.losses.ndim == 2:
        each = jax.vmap(objective.cost)(point)
        return jnp.append(jnp.mean(each), each if drawn else each[:0])
    cost = objective.cost(point)[None]
    if not (drawn and hasattr(outcomes, "draws")):
        return cost
    return jnp.append(cost, jax.vmap(objective.cost)(draws_of(outcomes, weights)))


def _search(point: Callable[[float], float], wanted: np.ndarray, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of ratios (n,), and how much worse than wanted the mixture is there, (n, 1 + M)."""
    return np.log(ratios), np.array([point(float(ratio)) for ratio in ratios])[:, None] - wanted


def _crossings(logs: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Ratio at which each column falls to zero: the crossing nearest to 1; 0 and infinity beyond both ends."""
    out = np.where(excess[0] <= 0, 0.0, np.inf)
    for m, column in enumerate(excess.T):
        falls = np.flatnonzero((column[:-1] > 0) & (column[1:] <= 0))
        if len(falls):
            share = column[falls] / (column[falls] - column[falls + 1])
            roots = logs[falls] + share * (logs[falls + 1] - logs[falls])
            out[m] = np.exp(roots[np.argmin(np.abs(roots))])
    return out


def _span(logs: np.ndarray, excess: np.ndarray) -> tuple[float, float]:
    """A range of ratios that holds those of nearly all columns, with a step of the grid on both sides."""
    found = _crossings(logs, excess)
    found = np.log(found[np.isfinite(found) & (found > 0)])
    step = logs[1] - logs[0]
    if not len(found):
        return 1.0 / REACH, REACH
    low, high = max(found.min() - step / 2, logs[0]), min(found.max() + step / 2, logs[-1])
    return float(np.exp(low)), float(np.exp(high))


def _relative_cost(
    cost: CostModel, target: tuple[float, float, float], powers: tuple[float, float], mixture: np.ndarray, ratios: Array
) -> np.ndarray:
    """Cost at every ratio over that of the target."""
    ratios = np.asarray(ratios)
    usable = np.where(np.isfinite(ratios) & (ratios > 0), ratios, 1.0)
    total, active = (n * usable ** powers[0] for n in target[:2])
    rows = np.tile(mixture, (len(ratios), 1))
    spent = np.asarray(cost(Recipe(total, active, target[2] * usable ** powers[1], rows)), float)
    whole = float(cost(Recipe(*target, mixture)))
    return np.where(usable == ratios, spent / whole, ratios)
