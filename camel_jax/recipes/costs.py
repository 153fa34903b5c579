"""What a recipe costs: training FLOPs of dense and mixture-of-experts models, and their price.

A cost model is a function ``cost(recipe) -> FLOPs`` that works on one recipe and on a batch; a user's own may count anything
that adds up over runs (GPU-hours, euros), as long as budgets are given in the same unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.registry import Registry
from camel_jax.types import Array

CostModel = Callable[[Recipe], Any]


def flops(recipe: Recipe) -> Array:
    """Training FLOPs by the usual rule, 6 N D with active parameters N (Kaplan et al. 2020, arXiv 2001.08361).

    Args:
      recipe: one recipe or a batch.

    Returns:
      FLOPs, of the shape of ``recipe.tokens``.

    >>> from camel_jax.recipes.recipe import Recipe
    >>> print(f"{flops(Recipe(55e9, 1.2e9, 1e12, [1.0])):.3g}")
    7.2e+21
    """
    return 6.0 * recipe.n_active * recipe.tokens


def transformer_flops(
    *,
    layers: float | Callable[[Array], Array] = 0,
    width: float | Callable[[Array], Array] = 0,
    context: float = 0,
    vocabulary: float = 0,
) -> CostModel:
    """A cost model with the terms that 6 N D leaves out.

    ``6 N D + 12 layers width context D`` for attention over a context (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), and
    ``6 width vocabulary D`` for the output embedding where N counts the parameters without it.

    Args:
      layers, width: of the model: numbers, or functions of the active size where a search moves it.
      context: tokens a sequence. vocabulary: tokens known; 0 leaves the term out.

    Raises:
      ValueError: a negative number, or a term without the width or layers it needs.

    >>> from camel_jax.recipes.recipe import Recipe
    >>> cost = transformer_flops(layers=24, width=2048, context=2048)
    >>> print(f"{cost(Recipe(1e9, 1e9, 2e10, [1.0])) / 1.2e20:.2f}")
    1.20
    """
    for name, value in (("layers", layers), ("width", width), ("context", context), ("vocabulary", vocabulary)):
        if not callable(value) and not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    if context and not (layers and width):
        raise ValueError("the attention term needs layers and width beside the context")
    if vocabulary and not width:
        raise ValueError("the embedding term needs the width")

    def of(value: Any, n_active: Array) -> Array:
        return value(n_active) if callable(value) else value

    def cost(recipe: Recipe) -> Array:
        wide = of(width, recipe.n_active)
        attention = 12.0 * of(layers, recipe.n_active) * wide * context
        return (6.0 * recipe.n_active + attention + 6.0 * wide * vocabulary) * recipe.tokens

    return cost


@dataclasses.dataclass(frozen=True)
class Price:
    """What FLOPs cost to buy.

    Attributes:
      per_gpu_hour: price of one accelerator for an hour, in any currency.
      peak: FLOPs a second the accelerator does at best.
      utilization: share of the peak that training reaches, in (0, 1].

    >>> price = Price(per_gpu_hour=2.0, peak=989e12, utilization=0.4)
    >>> round(price.of(1e21)), f"{price.buys(1404.39):.3g}"
    (1404, '1e+21')
    """

    per_gpu_hour: float
    peak: float = 989e12
    utilization: float = 0.4

    def __post_init__(self) -> None:
        for name in ("per_gpu_hour", "peak"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be above zero, got {value!r}")
        if not 0 < self.utilization <= 1:
            raise ValueError(f"utilization must lie in (0, 1], got {self.utilization!r}")

    def gpu_hours(self, amount: float) -> float:
        """GPU-hours of an amount of FLOPs."""
        return amount / (self.peak * self.utilization * 3600.0)

    def of(self, amount: float) -> float:
        """Price of an amount of FLOPs."""
        return self.gpu_hours(amount) * self.per_gpu_hour

    def buys(self, money: float) -> float:
        """FLOPs that an amount of money buys."""
        return money / self.per_gpu_hour * self.peak * self.utilization * 3600.0


def checked_costs(cost: CostModel, recipe: Recipe) -> np.ndarray:
    """Costs of a batch of recipes as numbers, (n,).

    Raises:
      ValueError: the cost model gives something that is not finite and above zero.
    """
    out = np.broadcast_to(np.asarray(cost(recipe), float), np.shape(recipe.tokens))
    if not (np.isfinite(out).all() and (out > 0).all()):
        raise ValueError("the cost model must give finite costs above zero for every recipe")
    return out


def _check_cost(name: str, cost: Any) -> None:
    if not callable(cost):
        raise ValueError(f"cost model {name!r} must be a function of a recipe, not {type(cost).__name__}")
    sizes = np.array([1e8, 1e9])
    two = Recipe(sizes, sizes, sizes, np.full((2, 2), 0.5))
    try:
        checked_costs(cost, two)
    except Exception as error:  # whatever a user's function does
        raise ValueError(f"cost model {name!r} fails on a batch of two recipes ({error!s:.120})") from None


COSTS = Registry("cost model", "camel_jax.costs", _check_cost)
COSTS.builtin = {"flops": flops}


def register_cost(name: str, cost: CostModel, package: str | None = None) -> None:
    """Make a cost model known by name, to ``camel-jax budget`` and ``design`` as ``--cost-model``.

    Args:
      name: lower-case letters, digits and underscores.
      cost: ``cost(recipe)`` for one recipe and for a batch, in a unit of its own; above zero, growing with the tokens.
      package: where it comes from; its module if None.

    Raises:
      ValueError: a name that is taken, or a function that fails on a batch of recipes.

    >>> from camel_jax.recipes.costs import cost_by_name, flops
    >>> register_cost("gpu_hours", lambda recipe: flops(recipe) / (4e14 * 3600), "an_example")
    >>> print(f"{cost_by_name('gpu_hours')(Recipe(1e9, 1e9, 2e10, [1.0])):.1f}")
    83.3
    """
    COSTS.register(name, cost, package)


def cost_by_name(name: str) -> CostModel:
    """A cost model by its registered name.

    Raises:
      ValueError: there is none of that name.
    """
    return COSTS.find(name)
