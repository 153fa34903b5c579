"""Forward back-tests inside a table: fit below one of its sizes, and see how wrong the law was there.

The rows at and above that size get weight zero, so that the program compiled for the fit itself serves again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from camel_jax.fitting.lanes import ask
from camel_jax.fitting.objective import Data, log_predictions, row_weights
from camel_jax.fitting.plan import Asking, Lanes, Request
from camel_jax.prediction.discrepancy import Discrepancy, discrepancy_factor, discrepancy_scale, table_discrepancy
from camel_jax.prediction.residual_field import corrections, fit_field
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, scales, select
from camel_jax.types import Array

LEVEL, GROWTH = 0.75, 0.75  # discrepancy of a law that no back-test has scaled, in units of its in-sample residual
PRIOR_TESTS = 1.0  # what these defaults are worth, in back-tests
RESAMPLES = 8  # refitted in a back-test
MIXTURE_SHARE, PRIOR_SLOPES = (
    0.05,
    4.0,
)  # share of its variance that follows the mixture, and what that is worth, in slopes
COVERED = 0.9  # share of errors that the scaled interval should hold
HALF_WIDTH = 1.6448536269514722  # of a normal interval with that mass, in standard deviations


def backtest_below(
    lanes: Lanes, data: Data, raw: Any, runs: Runs, size: float, resampled: Array | None = None
) -> Asking[dict[str, float]]:
    """Fit on the sizes below ``size`` and judge the prediction there.

    Args:
      lanes: law, solver and objective.
      data: the whole table in its units, perhaps padded. raw: random starts, leaves (S, ...). runs: the whole table, in the same units.
      size: active size that is predicted, in those units.
      resampled: (B, R) multiplicities of rows in bootstrap resamples; the first few are refitted below the size too, so that what a
        bootstrap knows already is not counted as an error of the law.

    Returns:
      "size", "mean_relative_error", "ratio": the 90 % quantile of the errors over the half-width that the default
      discrepancy gives, and "slope_variance", "slopes": see ``slope_variance``.
    """
    active = np.asarray(runs.recipe.n_active)
    below, there = active < size * (1 - 1e-9), np.isclose(active, size, rtol=1e-9)
    starts, rows = len(jax.tree.leaves(raw)[0]), len(runs)
    counts = np.tile(np.pad(below.astype(float), (0, len(data.weights) - rows)), (starts, 1))
    solution = yield from ask(Request(lanes, data, raw, counts))
    values = np.asarray(solution.objective).reshape(starts, -1)
    values = np.where(np.isfinite(values), values, np.inf)
    if lanes.law.separable:
        best, sets = values.argmin(0), np.arange(values.shape[1])
        chosen = jax.tree.map(lambda x: np.asarray(x)[best, sets], solution.params)
    else:
        chosen = jax.tree.map(lambda x: np.asarray(x)[int(values.argmin())], solution.params)
    predicted = np.asarray(log_predictions(lanes.law, chosen, data.recipe))
    residuals = np.where(np.asarray(data.measured), np.asarray(data.log_losses) - predicted, np.nan)[:rows]
    part = select(runs, below)
    weights = row_weights(part)
    d = table_discrepancy(part, residuals[below], weights, LEVEL, GROWTH, MIXTURE_SHARE)
    field = fit_field(part, residuals[below])
    recipe = jax.tree.map(lambda x: np.asarray(x)[:rows][there], data.recipe)
    error, expected = (
        np.abs(residuals[there] - corrections(field, recipe)),
        np.asarray(_expected(d, recipe)) * HALF_WIDTH,
    )
    seen = np.isfinite(error)
    if not seen.any():
        return {
            "size": float(size),
            "mean_relative_error": float("nan"),
            "ratio": 1.0,
            "slope_variance": 0.0,
            "slopes": 0,
        }
    tested = select(runs, there)
    of_rows = row_weights(tested)
    mass = np.where(seen, of_rows[:, None], 0.0)[seen]
    order = np.argsort((error / expected)[seen])
    reached = np.cumsum(mass[order])
    ratio = (error / expected)[seen][order][np.searchsorted(reached, COVERED * reached[-1])]
    away = (np.asarray(tested.recipe.weights) - np.asarray(d.mean)) / np.asarray(d.spread) / np.sqrt(len(runs.domains))
    unit = np.asarray(d.scale) * np.asarray(discrepancy_factor(d, recipe))[:, None]
    variance, slopes = slope_variance(residuals[there] / unit, away, of_rows, tested.run)
    if resampled is not None and len(resampled) >= 2 and slopes:
        few = np.asarray(resampled)[:RESAMPLES] * np.pad(below, (0, len(data.weights) - rows))
        warm = jax.tree.map(lambda x: np.broadcast_to(x, (len(few), *np.shape(x))), chosen)
        again = yield from ask(Request(lanes, data, warm, few, warm=True))
        each = [jax.tree.map(lambda x, i=i: np.asarray(x)[i], again.params) for i in range(len(few))]
        logs = np.stack([log_predictions(lanes.law, one, data.recipe) for one in each])[:, :rows][:, there]
        logs = logs[np.all(np.isfinite(logs), axis=(1, 2))]
        if len(logs) >= 2:
            parts = [slope_variance(x / unit, away, of_rows, tested.run, noise=False)[0] for x in logs - logs.mean(0)]
            variance -= float(np.sum(parts)) / (len(logs) - 1)
    return {
        "size": float(size),
        "mean_relative_error": float(np.expm1(error[seen]).mean()),
        "ratio": float(ratio),
        "slope_variance": variance,
        "slopes": slopes,
    }


def slope_variance(errors: Array, away: Array, weights: Array, run: Array, *, noise: bool = True) -> tuple[float, int]:
    """How much of the errors at a held-out size follows the mixture: what decisions between mixtures have to fear.

    Errors are averaged over the rows of a run and regressed on the mixture, set by set. The variance of the slopes is what the
    regression explains beyond the share of the noise that any regression explains.

    Args:
      errors: (R, V) standardised errors, NaN where not measured. away: (R, K) standardised mixtures.
      weights: (R,) row weights. run: (R,) ids. noise: whether the errors hold noise, whose share is taken off.

    Returns:
      Mean over sets of the variance of a slope (may be negative by chance), and the number of slopes; (0, 0) where there are
      too few runs to tell.
    """
    ids, place = np.unique(np.asarray(run), return_inverse=True)
    owner = np.eye(len(ids))[place] * np.asarray(weights)[:, None]  # (R, runs)
    x = (owner / owner.sum(0)).T @ np.asarray(away)
    found, rank = [], 0
    for e in np.asarray(errors).T:
        mass = owner * np.isfinite(e)[:, None]
        there = mass.sum(0) > 0
        y = (mass.T @ np.where(np.isfinite(e), e, 0.0))[there] / mass.sum(0)[there]
        if there.sum() < 3:
            continue
        centered = x[there] - x[there].mean(0)
        left, size, _ = np.linalg.svd(centered, full_matrices=False)
        left = left[:, size > 1e-6 * max(size.max(), 1e-300)]
        free = len(y) - left.shape[1] - 1
        if left.shape[1] == 0 or free < 1:
            continue
        explained = left.T @ (y - y.mean())
        chance = max(np.sum((y - y.mean()) ** 2) - np.sum(explained**2), 0.0) / free if noise else 0.0
        found.append((np.sum(explained**2) - left.shape[1] * chance) / np.sum(centered**2))
        rank = max(rank, left.shape[1])
    return (float(np.mean(found)), rank) if found else (0.0, 0)


@jax.jit
def _expected(d: Discrepancy, recipe: Recipe) -> Array:
    """Standard deviation that the discrepancy gives to rows, (R, V)."""
    return jax.vmap(partial(discrepancy_scale, d))(recipe)


def backtest_sizes(runs: Runs, tests: int) -> np.ndarray:
    """The largest ``tests`` sizes that have at least two sizes below them."""
    return scales(runs)[2:][-tests:] if tests else np.zeros(0)


def mixture_share(tests: list[dict[str, float]], factor: float) -> float:
    """Share of the discrepancy's variance that follows the mixture: its prior and the slopes of the back-tests, pooled.

    >>> mixture_share([], 1.0), round(mixture_share([{"slope_variance": 0.0, "slopes": 4}], 1.0), 3)
    (0.05, 0.025)
    """
    slopes = sum(t["slopes"] for t in tests)
    total = PRIOR_SLOPES * MIXTURE_SHARE + sum(t["slopes"] * t["slope_variance"] for t in tests) / factor**2
    return float(np.clip(total / (PRIOR_SLOPES + slopes), 0.01, 0.9))


def scale_factor(tests: list[dict[str, float]]) -> float:
    """What the default discrepancy is multiplied by: the geometric mean of the ratios, shrunk towards one and clipped."""
    if not tests:
        return 1.0
    logs = [np.log(t["ratio"]) for t in tests]
    return float(np.exp(np.clip(np.sum(logs) / (len(logs) + PRIOR_TESTS), np.log(0.6), np.log(3.0))))
