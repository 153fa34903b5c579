"""The best recipe for a training budget: model size, tokens and mixture together, and how they move with the budget.

A budget C leaves one free number beside the mixture: the size N, with the tokens D(N) that cost(N, D) = C leaves. The value
of a size is the objective at its best mixture; a grid over log N brackets its minimum, and a bounded search finds it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.budget.cost_curve import CostCurve, reusable
from camel_jax.mixture.optimize import describe
from camel_jax.mixture.result import MixtureResult
from camel_jax.recipes.costs import CostModel, flops
from camel_jax.types import Array
from camel_jax.views.view import Readable, View


@dataclasses.dataclass(frozen=True, repr=False)
class BudgetResult(Readable):
    """The best recipe for a budget; plain data.

    Attributes:
      budget: what it may cost.
      cost: what it costs.
      n_total: total parameters.
      n_active: active parameters.
      tokens: training tokens.
      mixture: the best mixture there, with outcome, gain over a reference, limits and certificate.
      sizes_within: smallest and largest active size whose objective, mixture chosen anew, is within a fraction of the best.
      within: that fraction.
      size_interval: 5 and 95 % quantile over draws of the best active size at this mixture; NaN without draws.
      warnings: what to know before believing it, in plain words.
    """

    budget: float
    cost: float
    n_total: float
    n_active: float
    tokens: float
    mixture: MixtureResult
    sizes_within: tuple[float, float]
    within: float
    size_interval: tuple[float, float]
    warnings: tuple[str, ...]

    @property
    def weights(self) -> np.ndarray:
        """Best mixture, (K,)."""
        return self.mixture.weights

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens over active parameters."""
        return self.tokens / self.n_active

    def to_dict(self) -> dict[str, Any]:
        """The result as plain lists, numbers and text, ready for JSON."""
        names = ("budget", "cost", "n_total", "n_active", "tokens", "tokens_per_parameter", "within")
        out = {name: float(getattr(self, name)) for name in names}
        ranges = {name: [_number(x) for x in getattr(self, name)] for name in ("sizes_within", "size_interval")}
        return out | ranges | {"warnings": list(self.warnings), "mixture": self.mixture.to_dict()}

    def _view(self) -> View:
        from camel_jax.views.decisions import budget_view

        return budget_view(self)

    def to_frame(self) -> Any:
        """One row a domain: share and reference share, as a pandas DataFrame."""
        from camel_jax.views.decisions import budget_columns
        from camel_jax.views.view import to_frame

        return to_frame(budget_columns(self))

    def plot(self, ax: Any = None) -> Any:
        """The mixture as bars beside the reference; returns the Axes."""
        from camel_jax.views.decisions import plot_budget

        return plot_budget(self, ax)


@dataclasses.dataclass(frozen=True, repr=False)
class IsoCost(Readable):
    """Objective along curves of equal cost.

    Attributes:
      budgets: (B,). n_active, tokens, objective: (B, n), NaN where a size leaves fewer tokens than there may be.
      weights: (K,) mixture. label: of the objective. domains: names.
    """

    budgets: np.ndarray
    n_active: np.ndarray
    tokens: np.ndarray
    objective: np.ndarray
    weights: np.ndarray
    label: str
    domains: tuple[str, ...]

    def _view(self) -> View:
        from camel_jax.views.decisions import cost_view

        return cost_view(self)

    def to_frame(self) -> Any:
        """One row a size and budget: tokens and the objective, as a pandas DataFrame."""
        from camel_jax.views.decisions import cost_columns
        from camel_jax.views.view import to_frame

        return to_frame(cost_columns(self))

    def plot(self, ax: Any = None) -> Any:
        """The objective against active size, one curve a budget; returns the Axes."""
        from camel_jax.views.decisions import plot_costs

        return plot_costs(self, ax)


@dataclasses.dataclass(frozen=True, repr=False)
class BudgetPath(Readable):
    """The best recipe along budgets.

    Attributes:
      budgets: (B,) as given.
      n_active: (B,) active parameters.
      tokens: (B,) training tokens.
      weights: (B, K) mixtures.
      results: a ``BudgetResult`` for each.
      domains: K names.
      size_exponent: slope of log size against log budget, least squares; NaN for one budget.
      tokens_exponent: slope of log tokens against log budget, least squares; NaN for one budget.
    """

    budgets: np.ndarray
    n_active: np.ndarray
    tokens: np.ndarray
    weights: np.ndarray
    results: tuple[BudgetResult, ...]
    domains: tuple[str, ...]
    size_exponent: float
    tokens_exponent: float

    def _view(self) -> View:
        from camel_jax.views.decisions import budgets_view

        return budgets_view(self)

    def to_frame(self) -> Any:
        """One row a budget: size, tokens, shares, and the objective with its interval, as a pandas DataFrame."""
        from camel_jax.views.decisions import budgets_columns
        from camel_jax.views.view import to_frame

        return to_frame(budgets_columns(self))

    def plot(self, ax: Any = None) -> Any:
        """Best shares against budget; returns the Axes."""
        from camel_jax.views.decisions import plot_budgets

        return plot_budgets(self, ax)


def best_recipe(
    source: Any,
    budget: float,
    *,
    cost: CostModel = flops,
    sizes: tuple[Any, Any] | None = None,
    tokens: tuple[Any, Any] | None = None,
    sparsity: float = 1.0,
    supply: Mapping[str, Any] | Array | None = None,
    within: float = 0.001,
    grid: int = 17,
    starts: int = 8,
    key: Array | None = None,
    **options: Any,
) -> BudgetResult:
    """The size, tokens and mixture that do best for a training budget.

    Args:
      source: a ``Fit`` or ``Draws``, or a function of (size, tokens) that gives outcomes as ``optimize_mixture`` takes them; it is
        called with numbers, or with text such as "55B-A1.2B" for a sparse model.
      budget: in the unit of ``cost``, FLOPs by default.
      cost: cost model; must grow with the tokens. See ``costs``.
      sizes: smallest and largest active size to consider; from a tenth of the smallest to 1,000 times the largest fitted if None.
      tokens: fewest and most training tokens; no limit if None.
      sparsity: total over active parameters.
      supply: unique tokens per domain, as for ``optimize_mixture``: limits the shares, whatever the tokens of a size are.
      within: fraction of the best objective for ``sizes_within``.
      grid: sizes on the first grid.
      starts: number of random starts of each search of a mixture.
      key: a ``jax.random`` key.
      options: objective, risk and limits, as for ``optimize_mixture``.

    Returns:
      BudgetResult.

    Raises:
      ValueError: a budget that buys nothing within the ranges, ranges the wrong way round, a cost that is no number.
      InfeasibleError: no mixture meets the limits.

    The optimum of L = 1 + 400 N^-0.34 + 400 D^-0.34 is at N = D:

    >>> from camel_jax.recipes.sizes import format_count
    >>> at = lambda n, d: lambda w: (1 + 400 * n**-0.34 + 400 * d**-0.34 + 0 * w.sum())[None]
    >>> best = best_recipe(at, 6e20, sizes=("100M", "1T"), domains=["web", "code"], starts=2)
    >>> format_count(best.n_active), format_count(best.tokens)
    ('10B', '10B')
    """
    curve = CostCurve(source, budget, cost, sizes, tokens, sparsity, supply, starts, key, options)
    if grid < 5:
        raise ValueError(f"the grid needs at least 5 sizes, got {grid!r}")
    if not (np.isfinite(within) and within > 0):
        raise ValueError(f"within must be above zero, got {within!r}")
    logs = np.linspace(*curve.range, grid) if curve.range[1] > curve.range[0] else np.asarray(curve.range[:1])
    values = np.asarray([curve.value(x) for x in logs])
    if not np.isfinite(values).any():
        raise ValueError("the objective is not finite at any size of the range")
    i = int(np.nanargmin(values))
    best = _valley(curve.value, logs[max(i - 1, 0)], logs[min(i + 1, len(logs) - 1)], logs[i])
    result = curve.result(best)
    level = result[1].cost + within * abs(result[1].cost)
    low = _edge(curve.value, best, logs[logs < best][::-1], level)
    high = _edge(curve.value, best, logs[logs > best], level)
    n_active = math.exp(best)
    spent = curve.tokens_of(n_active)
    mixture = describe(*result)
    return BudgetResult(
        float(budget),
        curve.cost_of(n_active, spent),
        n_active * sparsity,
        n_active,
        spent,
        mixture,
        (math.exp(low), math.exp(high)),
        within,
        curve.size_interval(mixture.weights, result[0]),
        curve.warnings(best, spent, mixture),
    )


def budget_path(source: Any, budgets: Sequence[float], **options: Any) -> BudgetPath:
    """How the best size, tokens and mixture move along budgets.

    Args:
      source: a ``Fit`` or ``Draws``, or a function of (size, tokens), as for :func:`best_recipe`.
      budgets: two or more, in the unit of the cost model, FLOPs by default.
      options: as for :func:`best_recipe`.

    Raises:
      ValueError: as for :func:`best_recipe`.

    >>> at = lambda n, d: lambda w: (1 + 400 * n**-0.34 + 400 * d**-0.34 + 0 * w.sum())[None]
    >>> path = budget_path(at, [6e18, 6e20], sizes=("10M", "1T"), domains=["web", "code"], starts=2)
    >>> round(path.size_exponent, 3)
    0.5
    """
    if not len(budgets):
        raise ValueError("name at least one budget")
    source = reusable(source)
    results = tuple(best_recipe(source, budget, **options) for budget in budgets)
    spent, n, d = (np.asarray([getattr(r, name) for r in results]) for name in ("budget", "n_active", "tokens"))
    slopes = (math.nan, math.nan)
    if len(set(spent.tolist())) > 1:
        slopes = tuple(float(np.polyfit(np.log(spent), np.log(x), 1)[0]) for x in (n, d))
    return BudgetPath(
        spent, n, d, np.stack([r.weights for r in results]), results, results[0].mixture.domains, slopes[0], slopes[1]
    )


def iso_cost(
    source: Any,
    budgets: Sequence[float],
    weights: Array,
    *,
    sizes: tuple[Any, Any] | None = None,
    points: int = 41,
    cost: CostModel = flops,
    tokens: tuple[Any, Any] | None = None,
    sparsity: float = 1.0,
    **options: Any,
) -> IsoCost:
    """The objective against model size at equal cost, for one mixture (K,): the curves whose minima scaling laws speak of.

    Args:
      source, sizes, cost, tokens, sparsity, options: as in :func:`best_recipe`. budgets: one curve each.
      weights: mixture, (K,). points: sizes a curve.
    """
    source = reusable(source)
    weights = np.asarray(weights, float)
    n, d, values = (np.full((len(budgets), points), np.nan) for _ in range(3))
    label, domains = "", ()
    for b, budget in enumerate(budgets):
        curve = CostCurve(source, budget, cost, sizes, tokens, sparsity, None, 1, None, options)
        n[b] = np.exp(np.linspace(*curve.range, points))
        d[b] = [curve.tokens_of(size) for size in n[b]]
        values[b] = [curve.objective(size, weights) for size in n[b]]
        problem = curve.problem(n[b, 0])
        label, domains = problem.goal.objective.label, problem.limits.domains
    return IsoCost(np.asarray(budgets, float), n, d, values, weights, label, domains)


def _valley(function: Callable[[float], float], low: float, high: float, best: float) -> float:
    """Minimum of a function with one valley between two points, to 1e-5; ``best`` is the lowest point known."""
    from scipy.optimize import minimize_scalar

    if high <= low:
        return best
    found = float(minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x)  # type: ignore[attr-defined]
    return min((best, found), key=function)


def _edge(function: Callable[[float], float], best: float, outward: Array, level: float) -> float:
    """Where a function that rises from its minimum crosses a level, to 1e-4, between points known already."""
    from scipy.optimize import brentq

    inside = best
    for x in map(float, outward):
        if function(x) > level:
            return float(brentq(lambda t: function(t) - level, inside, x, xtol=1e-4))  # type: ignore[arg-type]
        inside = x
    return inside


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def equal_costs(source: Any, path: Any, options: dict[str, Any]) -> list[Any]:
    """The curve of equal cost through each of the best recipes."""
    from camel_jax.budget.best_recipe import iso_cost

    kept = {k: options[k] for k in ("objective", "sparsity", "cost") if k in options}
    ends = [(max(r.n_active / 40, 1001.0), r.n_active * 40) for r in path.results]
    return [iso_cost(source, [r.budget], r.weights, sizes=s, **kept) for r, s in zip(path.results, ends, strict=True)]
