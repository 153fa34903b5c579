"""Recipes of one cost: the tokens that a budget leaves to a size, and the best mixture there."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture.problem import Problem, make_problem, split_function
from camel_jax.mixture.result import MixtureResult
from camel_jax.mixture.search import costs_and_slopes, solve
from camel_jax.recipes import outcome
from camel_jax.recipes.costs import CostModel, checked_costs
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.sizes import format_count, parse_count
from camel_jax.types import Array

At = Callable[[Any, Any], Any]
_OPTIONS = ("objective", "domains", "reference", "risk", "tail")
_TOKENS = (1e3, 1e19)  # what a token count may be
_FEWEST = 1e3 * (1 + 1e-9)  # parameters that are read as a raw count, after a round trip through the logarithm


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


class CostCurve:
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
        source = reusable(source)
        self.fitted = getattr(source, "fitted_range", None)  # smallest, largest size; fewest, most tokens
        self.at: At = getattr(source, "losses_at", source)
        self.budget, self.cost, self.sparsity, self.supply = float(budget), cost, sparsity, supply
        self.starts, self.key, self.options = starts, jax.random.key(0) if key is None else key, options
        self.solved: dict[float, tuple[Problem, Any]] = {}
        self.limits = _TOKENS if tokens is None else _pair(tokens, "tokens")
        if sizes is None:
            known = self.fitted
            sizes = (max(known[0] / 10, _FEWEST), known[1] * 1000) if known else (1e6, 1e13)
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
        """What a recipe costs."""
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
        """The decision on a mixture at a size."""
        tokens = self.tokens_of(n_active)
        size = n_active if self.sparsity == 1 else f"{n_active * self.sparsity:.17g}-A{n_active:.17g}"
        main = {name: value for name, value in self.options.items() if name in _OPTIONS}
        limits = {name: value for name, value in self.options.items() if name not in _OPTIONS}
        if self.supply is not None:
            limits |= {"supply": self.supply, "tokens": tokens}
        return make_problem(_shared(self.at, size, tokens), **main, limits=limits)

    def result(self, log_size: float) -> tuple[Problem, Any]:
        """The decision at a size and its solution, found once."""
        if log_size not in self.solved:
            problem = self.problem(math.exp(log_size))
            self.solved[log_size] = problem, solve(problem, self.key, self.starts, min(3, self.starts))
        return self.solved[log_size]

    def value(self, log_size: float) -> float:
        """Objective of the best mixture at a size; smaller is better."""
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
        """What to know before believing a recipe."""
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
    drawn = outcome.draws_of(outcomes, weights) if hasattr(outcomes, "draws") else outcome.as_outcome(outcomes(weights))
    return jax.vmap(goal.objective.cost)(drawn)


class _Reusable(NamedTuple):
    """Draws of a fit, made once for all sizes, and the range fitted."""

    losses_at: At
    fitted_range: tuple[float, float, float, float]


def reusable(source: Any) -> Any:
    """A fit as draws made once for all sizes; anything else as it is."""
    if hasattr(source, "draws") and hasattr(source, "size_range"):
        return _Reusable(source.draws().losses_at, (*source.size_range, *source.tokens_range))
    return source


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
