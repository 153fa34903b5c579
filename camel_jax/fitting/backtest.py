"""Forward back-tests inside a table: fit below one of its sizes, and see how wrong the law was there and beyond.

The rows at and above that size get weight zero, so that the program compiled for the fit itself serves again. What the back-tests
show makes the width of intervals, corrects predictions, and says how far the residual field is to be trusted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from camel_jax.fitting.lanes import ask
from camel_jax.fitting.objective import Data, law_fall, log_predictions, row_weights
from camel_jax.fitting.plan import Asking, Lanes, Request
from camel_jax.prediction.beyond import expected_slowing, limited_field, nearest_fitted, step_beyond
from camel_jax.prediction.discrepancy import (
    Discrepancy,
    error_quantiles,
    leverages,
    rows_within,
    table_discrepancy,
)
from camel_jax.prediction.error_prior import (
    ErrorPrior,
    Scatter,
    Seen,
    error_over_prior,
    robust_variance,
    scale_errors,
    scatter_at,
    within_scale,
)
from camel_jax.prediction.measured import none_mix
from camel_jax.prediction.residual_field import corrections, fit_field, is_far_out
from camel_jax.recipes.recipe import Recipe, select_recipe
from camel_jax.tables.runs import Runs, mixture_ids, scales, select
from camel_jax.types import Array

RESAMPLES = 8  # refitted in a back-test
MIXTURE_SHARE, PRIOR_SLOPES = (
    0.05,
    4.0,
)  # share of its variance that follows the mixture, and what that is worth, in slopes
LEVEL = 0.9  # of the intervals whose coverage is told
STRENGTHS = np.array([1.0, 0.75, 0.5, 0.25, 0.0])  # of the residual field


class BackTest(NamedTuple):
    """How wrong a law was at a size, fitted to the sizes below it.

    Attributes:
      size: active size that was predicted.
      mean_relative_error: of the predicted losses there; NaN where nothing was measured.
      coverage: share of the measured losses inside 90 % intervals that knew of the smaller back-tests only.
      width: median half-width of those intervals over the prediction.
      slope_variance, slopes: what of the errors follows the mixture beyond what refits of resamples know; see ``slope_variance``.
        Measured at the largest size with runs enough to tell, no slopes at the others.
      blind_error: as ``mean_relative_error``, of the same predictions averaged over the mixtures that were run at the same size and
        tokens: the best that a law blind to mixtures could do with this fit's scale curve. A law that is no better has not shown
        that it sees mixtures. NaN where no two mixtures were run at the same tokens.
    """

    size: float
    mean_relative_error: float = float("nan")
    coverage: float = float("nan")
    width: float = float("nan")
    slope_variance: float = 0.0
    slopes: int = 0
    blind_error: float = float("nan")


class Judged(NamedTuple):
    """What all back-tests of a table show together.

    Attributes:
      tests: one per held-out size, ascending.
      seen: errors at every size above those that were fitted, of fits to two sizes or more.
      strength: of the residual field, in [0, 1].
      mixture_share: see ``mixture_share``.
      within: the error within the table over that of the prior; see ``error_over_prior``.
    """

    tests: tuple[BackTest, ...]
    seen: tuple[Seen, ...]
    strength: float
    mixture_share: float
    within: float


class _Held(NamedTuple):
    """One fit below a size: its part of the table, and what it says of all rows.

    Residuals (R, V), corrections of the field there and at the nearest size and tokens that were fitted, the fall of the law between
    these, and a step beyond the part (V,); error within the part (V,), and the slopes over mixtures.
    """

    size: float
    part: Runs
    residuals: np.ndarray
    at: np.ndarray
    inside: np.ndarray
    fall: np.ndarray
    step: np.ndarray
    scale: np.ndarray
    slope_variance: float
    slopes: int

    def left(self, strength: float) -> np.ndarray:
        """Residuals (R, V) once the field has been corrected for."""
        return self.residuals - limited_field(strength * self.at, strength * self.inside, self.fall, np)


def backtest_sizes(runs: Runs, tests: int) -> np.ndarray:
    """The largest ``tests`` sizes that have at least two sizes below them."""
    return scales(runs)[2:][-tests:] if tests else np.zeros(0)


def is_unmixed(runs: Runs) -> bool:
    """Whether a table has several domains and no run that mixes them."""
    return none_mix(runs.recipe.weights)


def judge_forward(
    lanes: Lanes,
    data: Data,
    raw: Any,
    runs: Runs,
    tests: int,
    prior: ErrorPrior,
    resampled: Array | None = None,
    *,
    field: bool = True,
) -> Asking[Judged]:
    """Back-tests at the largest sizes of a table that have two sizes or more below them.

    Args:
      lanes: law, solver and objective.
      data: the whole table in its units, perhaps padded. raw: random starts, leaves (S, ...). runs: the whole table, in the same units.
      tests: how many sizes are held out, the largest first.
      prior: what is known of errors before.
      resampled: (B, R) multiplicities of rows in bootstrap resamples; the first few are refitted below one size too, so that what a
        bootstrap knows already is not counted as an error of the law in mixtures. Only that size, the largest with runs enough to
        tell, says how much of the error follows the mixture: at others the uncertainty of parameters would be counted once more.
      field: whether predictions are corrected by the residual field.

    Returns:
      ``Judged``, sizes in those units, once the lanes it asks for are solved.
    """
    sizes = backtest_sizes(runs, tests)
    held: list[_Held] = []
    for size in sizes[::-1]:
        told_slopes = any(one.slopes for one in held)
        one = yield from _hold_out(lanes, data, raw, runs, size, prior, None if told_slopes else resampled)
        held.insert(0, one._replace(slope_variance=0.0, slopes=0) if told_slopes else one)
    strength = _field_strength(held, runs) if field else 0.0
    seen: list[Seen] = []
    told, scatter = [], []
    for one in held:
        test, apart = _judge(one, runs, strength, prior, seen, error_over_prior(scatter, prior))
        told.append(test)
        scatter.append(apart)
        seen += _errors_above(one, runs, strength, prior)
    return Judged(tuple(told), tuple(seen), strength, mixture_share(told), error_over_prior(scatter, prior))


def _hold_out(
    lanes: Lanes, data: Data, raw: Any, runs: Runs, size: float, prior: ErrorPrior, resampled: Array | None
) -> Asking[_Held]:
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
    variance = robust_variance(residuals[below], row_weights(part))
    scale = within_scale(prior, variance, len(np.unique(np.asarray(part.run))))
    inside = np.where(is_far_out(residuals[below]), np.nan, residuals[below])
    field, largest = fit_field(part, inside), (float(np.max(part.recipe.n_active)), float(np.max(part.recipe.tokens)))
    at, near = (corrections(field, one) for one in (runs.recipe, nearest_fitted(runs.recipe, *largest, np)))
    fall = law_fall(lanes.law, [chosen], data.recipe, *largest)[:rows]
    step = step_beyond(*largest, np.mean(part.recipe.weights, 0), data.recipe)
    step = law_fall(lanes.law, [chosen], step, *largest)[0]
    tested, shares = select(runs, there), np.asarray(part.recipe.weights)
    away = (np.asarray(tested.recipe.weights) - shares.mean(0)) / np.maximum(shares.std(0), 0.02)
    away /= np.sqrt(len(runs.domains))
    of_rows = row_weights(tested)
    variance, slopes = slope_variance(residuals[there] / scale, away, of_rows, tested.run)
    if resampled is not None and len(resampled) >= 2 and slopes:
        few = np.asarray(resampled)[:RESAMPLES] * np.pad(below, (0, len(data.weights) - rows))
        warm = jax.tree.map(lambda x: np.broadcast_to(x, (len(few), *np.shape(x))), chosen)
        again = yield from ask(Request(lanes, data, warm, few, warm=True))
        each = [jax.tree.map(lambda x, i=i: np.asarray(x)[i], again.params) for i in range(len(few))]
        logs = np.stack([log_predictions(lanes.law, one, data.recipe) for one in each])[:, :rows][:, there]
        logs = logs[np.all(np.isfinite(logs), axis=(1, 2))]
        if len(logs) >= 2:
            parts = [slope_variance(x / scale, away, of_rows, tested.run, noise=False)[0] for x in logs - logs.mean(0)]
            variance -= float(np.sum(parts)) / (len(logs) - 1)
    return _Held(float(size), part, residuals, at, near, fall, step, scale, variance, slopes)


def _rows_at(runs: Runs, size: float) -> np.ndarray:
    return np.isclose(np.asarray(runs.recipe.n_active), size, rtol=1e-9)


def _field_strength(held: Sequence[_Held], runs: Runs) -> float:
    """Strength of the residual field that predicts the held-out sizes best; full without any."""
    costs = np.zeros(len(STRENGTHS))
    for one in held:
        at = _rows_at(runs, one.size)
        weights = np.where(np.isfinite(one.residuals[at]), row_weights(select(runs, at))[:, None], 0.0)
        error = [np.abs(np.nan_to_num(one.left(s)[at])) for s in STRENGTHS]
        total = np.array([np.sum(weights * x) for x in error])
        costs += np.log(np.maximum(total, 1e-300))
    return float(STRENGTHS[int(np.argmin(costs))])


def _errors_above(one: _Held, runs: Runs, strength: float, prior: ErrorPrior) -> list[Seen]:
    """Mean errors of one fit at every size above it."""
    d = _discrepancy(one, runs, [], prior)
    reach = leverages(d, runs.recipe)
    found = []
    for size in scales(runs)[scales(runs) >= one.size * (1 - 1e-9)]:
        at = _rows_at(runs, size)
        left = one.left(strength)[at]
        weights = row_weights(select(runs, at))[:, None] * np.isfinite(left)
        mass = weights.sum(0)
        error = np.where(mass > 0, (weights * np.nan_to_num(left)).sum(0) / np.maximum(mass, 1e-300), np.nan)
        if np.isfinite(error).any():
            typical = float(np.average(reach[at], weights=weights.sum(1)))
            found.append(Seen(len(scales(one.part)), error, typical, one.scale))
    return found


def _discrepancy(one: _Held, runs: Runs, seen: Sequence[Seen], prior: ErrorPrior) -> Discrepancy:
    slopes = scale_errors(prior, seen, one.scale, one_size=False, unmixed=is_unmixed(runs))
    return law_discrepancy(one.part, one.scale, row_weights(one.part), slopes, prior, MIXTURE_SHARE)


def law_discrepancy(
    runs: Runs, scale: Array, weights: Array, slopes: Any, prior: ErrorPrior, share: float
) -> Discrepancy:
    """``table_discrepancy`` with the settings of a prior; see there."""
    settings = {name: getattr(prior, name) for name in ("width", "tokens_share", "mixture_growth")}
    return table_discrepancy(runs, scale, weights, slopes, mixture_share=share, **settings)


def _judge(
    one: _Held, runs: Runs, strength: float, prior: ErrorPrior, seen: Sequence[Seen], within: float
) -> tuple[BackTest, Scatter]:
    """Error and coverage at the held-out size, as the smaller back-tests let expect them, and how errors scatter there."""
    at = _rows_at(runs, one.size)
    d = _discrepancy(one, runs, seen, prior)
    recipe: Recipe = select_recipe(runs.recipe, at)
    error = one.left(strength)[at] - expected_slowing(d, one.step) * one.fall[at]
    known = np.isfinite(error)
    if not known.any():
        return BackTest(one.size), Scatter(1.0, 0)
    expected = np.asarray(rows_within(d, dataclasses.replace(recipe, supply=None)))
    d = d._replace(scale=within * d.scale)
    low, high = error_quantiles(d, recipe, np.zeros((1, 1)), np.ones((1, 1)), LEVEL)
    tested = select(runs, at)
    mass = np.where(known, row_weights(tested)[:, None], 0.0)
    inside = (np.nan_to_num(error) >= low) & (np.nan_to_num(error) <= high)
    test = BackTest(
        one.size,
        _mean_relative(error, mass),
        float(np.sum(mass * inside) / mass.sum()),
        float(np.median(((high - low) / 2)[known])),
        one.slope_variance,
        one.slopes,
        _mean_relative(blind_errors(error, tested, mass), mass),
    )
    return test, scatter_at(error / expected, mass, len(np.unique(np.asarray(tested.run))))


def _mean_relative(error: np.ndarray, mass: np.ndarray) -> float:
    """Mean relative error of predicted losses, from errors of log losses."""
    return float(np.sum(mass * np.abs(np.expm1(-np.where(mass > 0, error, 0.0)))) / mass.sum())


def blind_errors(error: Array, tested: Runs, mass: Array) -> np.ndarray:
    """Errors of log loss after the predictions of rows of one size are averaged over mixtures, tokens by tokens.

    Args:
      error: (R, V) measured minus predicted log losses, NaN where not measured.
      tested: the R rows, all of one size.
      mass: (R, V) weights of the averages, zero where not measured.

    Returns:
      (R, V); NaN everywhere where no two mixtures were run at the same tokens (to three digits).
    """
    predicted = np.log(np.asarray(tested.losses, float)) - error
    mixture = mixture_ids(tested)
    tokens = np.array([float(f"{x:.3g}") for x in np.asarray(tested.recipe.tokens, float)])
    blind, told = np.array(error, float), False
    for count in np.unique(tokens):
        same = tokens == count
        told |= len(np.unique(mixture[same])) > 1
        total = mass[same].sum(0)
        mean = np.where(mass[same] > 0, mass[same] * predicted[same], 0.0).sum(0) / np.maximum(total, 1e-300)
        blind[same] = error[same] + predicted[same] - mean
    return blind if told else np.full_like(blind, np.nan)


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


def mixture_share(tests: Sequence[BackTest]) -> float:
    """Share of the discrepancy's variance that follows the mixture: its prior and the slopes of back-tests, pooled.

    >>> mixture_share([]), round(mixture_share([BackTest(1e9, slope_variance=0.0, slopes=4)]), 3)
    (0.05, 0.025)
    """
    slopes = sum(t.slopes for t in tests)
    total = PRIOR_SLOPES * MIXTURE_SHARE + sum(t.slopes * t.slope_variance for t in tests)
    return float(np.clip(total / (PRIOR_SLOPES + slopes), 0.01, 0.9))
