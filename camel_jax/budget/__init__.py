"""Size, tokens and mixture together, for a budget."""

from camel_jax.budget.best_recipe import best_recipe, budget_path

__all__ = ["best_recipe", "budget_path"]
