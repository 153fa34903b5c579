"""What a fitted law says at a recipe, and how wrong it is expected to be."""

from camel_jax.prediction.discrepancy import Discrepancy
from camel_jax.prediction.draws import Draws, LossesAt

__all__ = ["Discrepancy", "Draws", "LossesAt"]
