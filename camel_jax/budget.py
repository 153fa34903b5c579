"""The best recipe for a training budget: model size, tokens and mixture together, and how they move with the budget.

A budget C leaves one free number beside the mixture: the size N, with the tokens D(N) that cost(N, D) = C leaves. The value
of a size is the objective at its best mixture; a grid over log N brackets its minimum, and a bounded search finds it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import goals
from camel_jax.costs import CostModel, checked_costs, flops
from camel_jax.mixture import MixtureResult, Problem, costs_and_slopes, describe, make_problem, solve, split_function
from camel_jax.runs import Recipe
from camel_jax.sizes import format_count, format_size, parse_count

Array = Any
At = Callable[[Any, Any], Any]

_OPTIONS = ("objective", "domains", "reference", "risk", "tail")
_TOKENS = (1e3, 1e19)  # what a token count may be


@dataclasses.dataclass(frozen=True)
class BudgetResult:
    """The best recipe for a budget; plain data.

    Attributes:
      budget: what it may cost. cost: what it costs. n_total, n_active, tokens: the recipe.
      mixture: the best mixture there, with outcome, gain over a reference, limits and certificate.
      sizes_within, within: smallest and largest active size whose objective, mixture chosen anew, is within a fraction of the best.
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

    def summary(self) -> str:
        """A few lines of text."""
        low, high = (format_count(x) for x in self.sizes_within)
        lines = [
            f"{self.budget:.3g}: {format_size(self.n_total, self.n_active)} on {format_count(self.tokens)} tokens"
            f" ({self.tokens_per_parameter:.3g} a parameter)",
            f"within {100 * self.within:g} % of the best objective: {low} to {high} active parameters",
            self.mixture.summary(),
        ]
        return "\n".join(lines + [f"warning: {text}" for text in self.warnings])


@dataclasses.dataclass(frozen=True)
class IsoCost:
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


@dataclasses.dataclass(frozen=True)
class BudgetPath:
    """The best recipe along budgets.

    Attributes:
      budgets, n_active, tokens: (B,). weights: (B, K). results: a ``BudgetResult`` for each. domains: names.
      size_exponent, tokens_exponent: slopes of log size and log tokens against log budget, least squares; NaN for one budget.
    """

    budgets: np.ndarray
    n_active: np.ndarray
    tokens: np.ndarray
    weights: np.ndarray
    results: tuple[BudgetResult, ...]
    domains: tuple[str, ...]
    size_exponent: float
    tokens_exponent: float


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
      grid: sizes on the first grid. starts: of each search of a mixture. key: a ``jax.random`` key.
      options: objective, risk and limits, as for ``optimize_mixture``.

    Returns:
      BudgetResult.

    Raises:
      ValueError: a budget that buys nothing within the ranges, ranges the wrong way round, a cost that is no number.
      InfeasibleError: no mixture meets the limits.

    The optimum of L = 1 + 400 N^-0.34 + 400 D^-0.34 is at N = D:

    >>> at = lambda n, d: lambda w: (1 + 400 * n**-0.34 + 400 * d**-0.34 + 0 * w.sum())[None]
    >>> best = best_recipe(at, 6e20, sizes=("100M", "1T"), domains=["web", "code"], starts=2)
    >>> format_count(best.n_active), format_count(best.tokens)
    ('10B', '10B')
    """
    curve = _Curve(source, budget, cost, sizes, tokens, sparsity, supply, starts, key, options)
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
    """How the best size, tokens and mixture move along budgets; options as for :func:`best_recipe`.

    >>> at = lambda n, d: lambda w: (1 + 400 * n**-0.34 + 400 * d**-0.34 + 0 * w.sum())[None]
    >>> path = budget_path(at, [6e18, 6e20], sizes=("10M", "1T"), domains=["web", "code"], starts=2)
    >>> round(path.size_exponent, 3)
    0.5
    """
    if not len(budgets):
        raise ValueError("name at least one budget")
    source = _reusable(source)
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
    source = _reusable(source)
    weights = np.asarray(weights, float)
    n, d, values = (np.full((len(budgets), points), np.nan) for _ in range(3))
    label, domains = "", ()
    for b, budget in enumerate(budgets):
        curve = _Curve(source, budget, cost, sizes, tokens, sparsity, None, 1, None, options)
        n[b] = np.exp(np.linspace(*curve.range, points))
        d[b] = [curve.tokens_of(size) for size in n[b]]
        values[b] = [curve.objective(size, weights) for size in n[b]]
        problem = curve.problem(n[b, 0])
        label, domains = problem.goal.objective.label, problem.limits.domains
    return IsoCost(np.asarray(budgets, float), n, d, values, weights, label, domains)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Traced:
    """A user's function of size and tokens as a pytree, so that all sizes share one compiled program."""

    size: Array
    tokens: Array
    at: At = dataclasses.field(metadata={"static": True})
    domains: tuple[str, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    sets: tuple[str, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    reference: Array | None = None

    def __call__(self, weights: Array) -> Any:
        return self.at(self.size, self.tokens)(weights)


def _shared(at: At, size: Any, tokens: float) -> Any:
    """Outcomes at a size and token count; plain functions are traced through their size and tokens where they can be."""
    outcomes = at(size, tokens)
    if isinstance(size, str) or hasattr(outcomes, "draws") or not jax.tree_util.all_leaves([outcomes]):
        return outcomes
    domains, sets = (tuple(getattr(outcomes, name, None) or ()) or None for name in ("domains", "sets"))
    reference = getattr(outcomes, "reference", None)
    traced = _Traced(jnp.asarray(size), jnp.asarray(tokens), at, domains, sets, reference)
    try:
        jax.eval_shape(lambda t: t.at(t.size, t.tokens) and None, traced)
    except (TypeError, ValueError, AttributeError, jax.errors.JAXTypeError):
        return outcomes  # it needs numbers: every size compiles anew
    return traced


class _Curve:
    """Recipes of one cost, and the best objective at each of them."""

    def __init__(
        self,
        source: Any,
        budget: float,
        cost: CostModel,
        sizes: tuple[Any, Any] | None,
        tokens: tuple[Any, Any] | None,
        sparsity: float,
        supply: Any,
        starts: int,
        key: Array | None,
        options: dict[str, Any],
    ):
        if not (np.isfinite(budget) and budget > 0):
            raise ValueError(f"the budget must be above zero, got {budget!r}")
        if not (np.isfinite(sparsity) and sparsity >= 1):
            raise ValueError(f"sparsity is total over active parameters, at least 1; got {sparsity!r}")
        source = _reusable(source)
        self.fitted = getattr(source, "fitted_range", None)  # smallest, largest size; fewest, most tokens
        self.at: At = getattr(source, "losses_at", source)
        self.budget, self.cost, self.sparsity, self.supply = float(budget), cost, sparsity, supply
        self.starts, self.key, self.options = starts, jax.random.key(0) if key is None else key, options
        self.solved: dict[float, tuple[Problem, Any]] = {}
        self.limits = _TOKENS if tokens is None else _pair(tokens, "tokens")
        if sizes is None:
            known = self.fitted
            sizes = (known[0] / 10, known[1] * 1000) if known else (1e6, 1e13)
        low, high = _pair(sizes, "sizes")
        self.asked = math.log(low), math.log(high)
        if self.cost_of(low, self.limits[0]) > budget:
            raise ValueError(
                f"a budget of {budget:.3g} is too small: {format_count(low)} parameters on {format_count(self.limits[0])}"
                f" tokens, the least allowed, cost {self.cost_of(low, self.limits[0]):.3g}"
            )
        if self.cost_of(high, self.limits[1]) < budget:
            raise ValueError(
                f"a budget of {budget:.3g} is too large: {format_count(high)} parameters on {format_count(self.limits[1])}"
                f" tokens, the most allowed, cost {self.cost_of(high, self.limits[1]):.3g}"
            )
        # the largest size still affords the fewest tokens, the smallest does not need more than the most
        top = _crossing(lambda x: self.cost_of(math.exp(x), self.limits[0]) - budget, *self.asked)
        bottom = _crossing(lambda x: self.cost_of(math.exp(x), self.limits[1]) - budget, *self.asked)
        self.range = (min(bottom, top), top)

    def cost_of(self, n_active: float, tokens: float) -> float:
        total, active, seen = np.asarray([[n_active * self.sparsity], [n_active], [tokens]])
        recipe = Recipe(total, active, seen, np.ones((1, 1)))
        return float(checked_costs(self.cost, recipe)[0])

    def tokens_of(self, n_active: float) -> float:
        """Tokens that the budget leaves to a size."""
        low, high = self.limits
        guess = self.budget / (self.cost_of(n_active, high) / high)  # exact where the cost is linear in the tokens
        if low <= guess <= high and abs(self.cost_of(n_active, guess) / self.budget - 1) < 1e-12:
            return guess
        return math.exp(
            _crossing(lambda x: self.cost_of(n_active, math.exp(x)) - self.budget, math.log(low), math.log(high))
        )

    def problem(self, n_active: float) -> Problem:
        tokens = self.tokens_of(n_active)
        size = n_active if self.sparsity == 1 else f"{n_active * self.sparsity:.17g}-A{n_active:.17g}"
        main = {name: value for name, value in self.options.items() if name in _OPTIONS}
        limits = {name: value for name, value in self.options.items() if name not in _OPTIONS}
        if self.supply is not None:
            limits |= {"supply": self.supply, "tokens": tokens}
        return make_problem(_shared(self.at, size, tokens), **main, limits=limits)

    def result(self, log_size: float) -> tuple[Problem, Any]:
        if log_size not in self.solved:
            problem = self.problem(math.exp(log_size))
            self.solved[log_size] = problem, solve(problem, self.key, self.starts, min(3, self.starts))
        return self.solved[log_size]

    def value(self, log_size: float) -> float:
        return self.result(log_size)[1].cost

    def objective(self, n_active: float, weights: np.ndarray) -> float:
        """The plain objective, in its own unit, at a mixture."""
        problem = self.problem(n_active)
        still, moving = split_function(problem.outcomes)
        cost = float(costs_and_slopes(still, moving, problem.goal, np.stack([weights]))[0][0])
        return -cost if problem.goal.objective.maximize else cost

    def size_interval(self, weights: np.ndarray, problem: Problem) -> tuple[float, float]:
        """5 and 95 % quantile over draws of the best size at a mixture."""
        if not problem.has_draws or self.range[1] <= self.range[0]:
            return math.nan, math.nan
        logs = np.linspace(*self.range, 65)
        columns = []
        for x in logs:
            here = self.problem(math.exp(x))
            still, moving = split_function(here.outcomes)
            columns.append(np.asarray(_drawn_costs(still, moving, here.goal, jnp.asarray(weights))))
        best = logs[np.argmin(np.stack(columns), 0)]
        low, high = np.quantile(best, [0.05, 0.95])
        return math.exp(low), math.exp(high)

    def warnings(self, best: float, tokens: float, mixture: MixtureResult) -> tuple[str, ...]:
        notes = []
        step = 1e-3 * max(self.range[1] - self.range[0], 1e-9)
        for edge, word in zip(self.range, ("smallest", "largest"), strict=True):
            if abs(best - edge) <= step:
                notes.append(f"the best size is the {word} allowed, {format_count(math.exp(edge))}: the limits decide")
        if self.fitted is not None:
            low, high, first, last = self.fitted
            for value, least, most, what in (
                (math.exp(best), low, high, "active parameters"),
                (tokens, first, last, "tokens"),
            ):
                if value > most * (1 + 1e-9):
                    notes.append(
                        f"{format_count(value)} {what} are {value / most:.3g} times the most fitted ({format_count(most)})"
                    )
                if value < least * (1 - 1e-9):
                    notes.append(
                        f"{format_count(value)} {what} are fewer than the fewest fitted ({format_count(least)})"
                    )
        if mixture.status != "converged":
            notes.append(f"mixture: {mixture.status}")
        return tuple(notes)


@functools.partial(jax.jit, static_argnames=("still", "goal"))
def _drawn_costs(still: Any, moving: Any, goal: Any, weights: Array) -> Array:
    outcomes = moving if still is None else still
    drawn = goals.draws_of(outcomes, weights) if hasattr(outcomes, "draws") else goals.as_outcome(outcomes(weights))
    return jax.vmap(goal.objective.cost)(drawn)


class _Reusable(NamedTuple):
    """Draws of a fit, made once for all sizes, and the range fitted."""

    losses_at: At
    fitted_range: tuple[float, float, float, float]


def _reusable(source: Any) -> Any:
    if hasattr(source, "draws") and hasattr(source, "size_range"):
        return _Reusable(source.draws().losses_at, (*source.size_range, *source.tokens_range))
    return source


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


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Root of a growing function by bisection; the nearer end where there is none."""
    if function(low) >= 0:
        return low
    if function(high) <= 0:
        return high
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
        if high - low < 1e-15 * abs(high):
            break
    return 0.5 * (low + high)


def _pair(pair: Any, what: str) -> tuple[float, float]:
    if isinstance(pair, str) or len(pair) != 2:
        raise ValueError(f"{what}: give (smallest, largest), got {pair!r}")
    low, high = (parse_count(x, what) for x in pair)
    if low > high:
        raise ValueError(f"{what}: {format_count(low)} is above {format_count(high)}")
    return low, high


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
