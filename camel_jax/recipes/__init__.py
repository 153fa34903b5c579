"""What one chooses before training, what it costs, and what it gives."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from camel_jax.recipes.outcome import Outcome
    from camel_jax.recipes.recipe import Recipe, dense

__all__ = ["Outcome", "Recipe", "dense"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"outcome": ["Outcome"], "recipe": ["Recipe", "dense"]}
)
