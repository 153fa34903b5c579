"""Runs of a table brought to one mixture and one ratio of tokens to parameters, so that they may stand beside a curve."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from camel_jax.figures.sizes import Moved
from camel_jax.reports.evidence import measured_rows

CURVE = 24  # sizes along the curve


def curve_and_runs(fitted: Any, decision: Any, table: Any, source: Any) -> tuple[tuple[np.ndarray, ...], Moved]:
    """Losses along sizes under the recommended mixture, and the final checkpoints of a table brought to it.

    A run's loss is multiplied by what the law says of the way from its own recipe to the curve's: what is left between dot and curve
    is the residual of the law at that run.

    Args:
      fitted: the fit. decision: what ``decision.tell`` gathered.
      table: the runs. source: what to call them in a message.

    Returns:
      Sizes (n,), point, low and high (n, V), and the runs.

    Raises:
      ValueError: a set of the fit is not in the table.
    """
    from camel_jax.fitting.intervals import predict_interval
    from camel_jax.recipes.recipe import Recipe

    total, active, tokens = decision.target
    mixture = np.asarray(decision.result.weights)

    def along(sizes: np.ndarray) -> Recipe:
        rows = np.tile(mixture, (len(sizes), 1))
        return Recipe(sizes * total / active, sizes, sizes * tokens / active, rows)

    recipe, losses = measured_rows(fitted, table, source)
    sizes = np.asarray(recipe.n_active, float)
    law = jax.jit(jax.vmap(fitted.draws().point))
    bare = Recipe(*(np.asarray(x, float) for x in (recipe.n_total, sizes, recipe.tokens, recipe.weights)))
    ratio = np.asarray(law(along(sizes))) / np.asarray(law(bare))
    ladder = np.geomspace(min(sizes.min(), active), max(sizes.max(), active), CURVE)
    interval = predict_interval(fitted, along(ladder))
    return (ladder, *(np.asarray(x) for x in interval)), Moved(sizes, losses * ratio)
