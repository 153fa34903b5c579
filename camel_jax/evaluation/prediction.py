"""What a method says about held-out recipes: the contract between methods and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array


class Prediction(NamedTuple):
    """What a method says about R held-out recipes and V sets.

    Attributes:
      point: losses (R, V); of a method that only orders mixtures, scores (R, V) with NaN where it says nothing.
      bounds: level -> lower and upper bounds, (R, V) each; empty without intervals.
      parameters: size of the fit.
      order_only: whether ``point`` orders mixtures and predicts no loss.

    >>> import numpy as np
    >>> Prediction(np.ones((3, 2)), {}, parameters=0).point.shape
    (3, 2)
    """

    point: np.ndarray
    bounds: Mapping[float, tuple[np.ndarray, np.ndarray]]
    parameters: int
    order_only: bool = False

    __repr__ = brief_repr


Method = Callable[[Runs, Recipe, Array], Prediction]
