"""Forward back-tests inside a table: fit below one of its sizes, and see how wrong the law was there.

The rows at and above that size get weight zero, so that the program compiled for the fit itself serves again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from camel_jax.draws import Discrepancy, discrepancy_scale, table_discrepancy
from camel_jax.field import ResidualField, field_correction, fit_field
from camel_jax.lanes import Lanes, solve_lanes
from camel_jax.laws.law import Law, Params, predict_rows
from camel_jax.objective import Data, row_weights
from camel_jax.runs import Recipe, Runs, scales, select

Array = Any

LEVEL, GROWTH = 0.75, 0.75  # discrepancy of a law that no back-test has scaled, in units of its in-sample residual
PRIOR_TESTS = 1.0  # what these defaults are worth, in back-tests
COVERED = 0.9  # share of errors that the scaled interval should hold
HALF_WIDTH = 1.6448536269514722  # of a normal interval with that mass, in standard deviations


def backtest_below(lanes: Lanes, data: Data, raw: Any, runs: Runs, size: float) -> dict[str, float]:
    """Fit on the sizes below ``size`` and judge the prediction there.

    Args:
      lanes: law, solver and objective.
      data: the whole table in its units, perhaps padded. raw: random starts, leaves (S, ...). runs: the whole table, in the same units.
      size: active size that is predicted, in those units.

    Returns:
      "size", "mean_relative_error", and "ratio": the 90 % quantile of the errors over the half-width that the default
      discrepancy gives.
    """
    active = np.asarray(runs.recipe.n_active)
    below, there = active < size * (1 - 1e-9), np.isclose(active, size, rtol=1e-9)
    starts, rows = len(jax.tree.leaves(raw)[0]), len(runs)
    counts = np.tile(np.pad(below.astype(float), (0, len(data.weights) - rows)), (starts, 1))
    solution = solve_lanes(lanes, data, raw, counts, chunk=None, progress=None)
    values = np.asarray(solution.objective).reshape(starts, -1)
    values = np.where(np.isfinite(values), values, np.inf)
    if lanes.law.separable:
        best, sets = values.argmin(0), np.arange(values.shape[1])
        chosen = jax.tree.map(lambda x: x[best, sets], solution.params)
    else:
        chosen = jax.tree.map(lambda x: x[int(values.argmin())], solution.params)
    predicted = np.log(np.asarray(_predict(lanes.law, lanes.law.constrain(chosen), data)))
    left = np.where(np.asarray(data.measured), np.asarray(data.log_losses) - predicted, np.nan)[:rows]
    part = select(runs, below)
    weights = row_weights(part)
    d = table_discrepancy(part, left[below], weights, LEVEL, GROWTH)
    field = fit_field(part, left[below])
    recipe = jax.tree.map(lambda x: np.asarray(x)[:rows][there], data.recipe)
    correction, expected = (np.asarray(x) for x in _corrections(field, d, recipe))
    error, expected = np.abs(left[there] - correction), expected * HALF_WIDTH
    seen = np.isfinite(error)
    if not seen.any():
        return {"size": float(size), "mean_relative_error": float("nan"), "ratio": 1.0}
    mass = np.where(seen, row_weights(select(runs, there))[:, None], 0.0)[seen]
    order = np.argsort((error / expected)[seen])
    reached = np.cumsum(mass[order])
    ratio = (error / expected)[seen][order][np.searchsorted(reached, COVERED * reached[-1])]
    return {"size": float(size), "mean_relative_error": float(np.expm1(error[seen]).mean()), "ratio": float(ratio)}


@partial(jax.jit, static_argnums=0)
def _predict(law: Law, params: Params, data: Data) -> Array:
    return predict_rows(law, params, data.recipe)


@jax.jit
def _corrections(field: ResidualField, d: Discrepancy, recipe: Recipe) -> tuple[Array, Array]:
    """Of rows: the correction of the field and the standard deviation that the discrepancy gives, (R, V) each."""
    return jax.vmap(partial(field_correction, field))(recipe), jax.vmap(partial(discrepancy_scale, d))(recipe)


def backtest_sizes(runs: Runs, tests: int) -> np.ndarray:
    """The largest ``tests`` sizes that have at least two sizes below them."""
    return scales(runs)[2:][-tests:] if tests else np.zeros(0)


def scale_factor(tests: list[dict[str, float]]) -> float:
    """What the default discrepancy is multiplied by: the geometric mean of the ratios, shrunk towards one and clipped."""
    if not tests:
        return 1.0
    logs = [np.log(t["ratio"]) for t in tests]
    return float(np.exp(np.clip(np.sum(logs) / (len(logs) + PRIOR_TESTS), np.log(0.6), np.log(3.0))))
