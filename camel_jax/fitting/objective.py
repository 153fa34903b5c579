"""What a fit minimises: a robust loss of log residuals over rows and sets, minus the log prior of the law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.law import Law, Raw, Units, predict_rows, scale_recipe
from camel_jax.prediction.beyond import fresh, nearest_fitted
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, final_rows, progress
from camel_jax.types import Array

PROGRESS_POWER = 1.5
ROWS_PER_RUN = 2.0  # what the checkpoints of one run are worth together, however many there are


class Data(NamedTuple):
    """A table ready for fitting, in the units of the table.

    Attributes:
      recipe: (R, ...) recipes.
      log_losses: (R, V); 0 where not measured.
      measured: (R, V) bool.
      weights: (R,) row weights.
    """

    recipe: Recipe
    log_losses: Array
    measured: Array
    weights: Array


class Robust(NamedTuple):
    """Settings of the robust objective.

    Attributes:
      delta: log residual beyond which the loss grows linearly (Huber), so that bad rows do not rule.
      noise: log residual that counts as one unit of evidence against the priors.
    """

    delta: float = 1e-3
    noise: float = 4e-3


def row_weights(runs: Runs, weighting: str = "balanced") -> np.ndarray:
    """Weights of rows, shape (R,), adding up to two rows a run.

    "balanced": progress^1.5 of the checkpoint (tokens over the final tokens of its run) over the root of the total of that at
    each model size, so that early checkpoints on an undecayed learning rate count less and every size is heard.
    "uniform": every row counts the same.
    "final": only the last checkpoint of every run.

    Raises:
      ValueError: an unknown weighting.
    """
    if weighting == "uniform":
        weights = np.ones(len(runs))
    elif weighting == "final":
        weights = final_rows(runs).astype(float)
    elif weighting == "balanced":
        weights = progress(runs) ** PROGRESS_POWER
        sizes = np.asarray(runs.recipe.n_active)
        for size in np.unique(sizes):
            weights[sizes == size] /= np.sqrt(weights[sizes == size].sum())
    else:
        raise ValueError(f"weighting {weighting!r} is not one of balanced, uniform, final")
    return weights * (ROWS_PER_RUN * len(np.unique(runs.run)) / weights.sum())


def as_data(runs: Runs, weighting: str = "balanced", rows: int | None = None) -> Data:
    """Arrays for the objective from a table that is already in its units; rows without any loss weigh nothing.

    Args:
      runs: the table. weighting: see ``row_weights``.
      rows: pad to this many rows with copies of the first that are not measured and weigh nothing; None for no padding.

    Raises:
      ValueError: fewer rows asked for than the table has.
    """
    losses = np.asarray(runs.losses, float)
    measured = np.isfinite(losses)
    log_losses = np.log(np.where(measured, losses, 1.0))
    weights = np.where(measured.any(1), row_weights(runs, weighting), 0.0)
    r = runs.recipe
    supply = r.supply
    if supply is not None:
        supply = jnp.broadcast_to(jnp.asarray(supply, float), np.shape(r.weights))
    n_total, n_active, tokens, weights_of = (
        jnp.asarray(x, float) for x in (r.n_total, r.n_active, r.tokens, r.weights)
    )
    recipe = Recipe(n_total, n_active, tokens, weights_of, supply)
    data = Data(recipe, jnp.asarray(log_losses), jnp.asarray(measured), jnp.asarray(weights))
    if rows is None or rows == len(runs):
        return data
    if rows < len(runs):
        raise ValueError(f"cannot pad a table of {len(runs)} rows to {rows}")
    index = np.concatenate([np.arange(len(runs)), np.zeros(rows - len(runs), int)])
    real = np.arange(rows) < len(runs)
    data = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[index]), data)
    return data._replace(measured=data.measured & real[:, None], weights=data.weights * real)


def huber(residual: Array, delta: float) -> Array:
    """Huber loss: r^2 / 2 up to delta, delta (|r| - delta / 2) beyond.

    >>> [round(float(x), 3) for x in huber(jnp.array([0.5, 3.0]), 1.0)]
    [0.125, 2.5]
    """
    size = jnp.abs(residual)
    return jnp.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def residuals(law: Law, raw: Raw, data: Data) -> Array:
    """Log predicted minus log measured losses, (R, V); 0 where not measured."""
    predicted = predict_rows(law, law.constrain(raw), data.recipe)
    return jnp.where(data.measured, jnp.log(jnp.where(data.measured, predicted, 1.0)) - data.log_losses, 0.0)


@partial(jax.jit, static_argnums=0)
def log_predictions(law: Law, raw: Raw, recipe: Recipe) -> Array:
    """Log losses (R, V) that one set of raw parameters predicts; one program for fits, back-tests and predictions of a table."""
    return jnp.log(predict_rows(law, law.constrain(raw), recipe))


def mean_log(law: Law, members: Sequence[Raw], recipe: Recipe) -> np.ndarray:
    """Mean over members of the log losses (R, V) that each predicts."""
    return np.mean([log_predictions(law, member, recipe) for member in members], axis=0)


def law_fall(
    law: Law, members: Sequence[Raw], recipe: Recipe, size: Array, tokens: Array, units: Units | None = None
) -> np.ndarray:
    """How far the log losses (R, V) of a law fall beyond a size and a token count, with data that never repeat; see ``beyond``.

    Args:
      law: the law. members: raw parameters.
      recipe: rows, in the units of size and tokens.
      size, tokens: the largest of the table.
      units: those of the law, where the recipe is in raw units; None where it is in the law's.
    """
    near, far = nearest_fitted(recipe, size, tokens, np), fresh(recipe, np)
    if units is not None:
        near, far = scale_recipe(units, near), scale_recipe(units, far)
    return np.maximum(mean_log(law, members, near) - mean_log(law, members, far), 0.0)


def objective(law: Law, data: Data, robust: Robust) -> Callable[[Raw], Array]:
    """The negative log posterior, up to a constant: ``sum_rv w_r huber(residual_rv) / (delta noise) - log prior``."""

    def value(raw: Raw) -> Array:
        lost = huber(residuals(law, raw, data), robust.delta)
        return jnp.sum(data.weights[:, None] * lost) / (robust.delta * robust.noise) - law.log_prior(raw)

    return value
