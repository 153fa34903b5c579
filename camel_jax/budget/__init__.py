"""Size, tokens and mixture together, for a budget."""

from camel_jax.budget.best_recipe import best_recipe, budget_path
from camel_jax.budget.equivalent import EquivalentCompute, equivalent_compute

__all__ = ["EquivalentCompute", "best_recipe", "budget_path", "equivalent_compute"]
