"""How good a prediction of held-out runs is: errors, coverage of intervals and rank correlation, as a row of the leaderboard."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from camel_jax.evaluation.methods import Prediction
from camel_jax.tables.runs import Runs, final_rows, select


class Row(NamedTuple):
    """One line of the leaderboard. Errors are relative, in percent; NaN where a method says nothing.

    Attributes:
      table: name of the table.
      method: name of the method.
      fitted: number of rows fitted.
      held_out: number of rows judged.
      error: mean relative error over all held-out rows and sets.
      error_low: lower end of its 90 % bootstrap interval over runs.
      error_high: upper end of that interval.
      error_final: the same error over the last checkpoint of every run.
      rank_sets: Spearman correlation over mixtures at the final checkpoints, mean over sets.
      rank_mean: Spearman correlation of the mean loss.
      regret: measured mean loss of the mixture the method would pick among the measured ones, over the best, minus one.
      cover50: share of measured losses inside the 50 % intervals.
      cover90: share of measured losses inside the 90 % intervals.
      width90: median half-width of the 90 % intervals over the point.
      parameters: number of parameters of the fit.
      seconds: wall-clock time to fit and predict, compilation included.
      failure: why there are no numbers, or "".
    """

    table: str
    method: str
    fitted: int
    held_out: int
    error: float = np.nan
    error_low: float = np.nan
    error_high: float = np.nan
    error_final: float = np.nan
    rank_sets: float = np.nan
    rank_mean: float = np.nan
    regret: float = np.nan
    cover50: float = np.nan
    cover90: float = np.nan
    width90: float = np.nan
    parameters: int = 0
    seconds: float = np.nan
    failure: str = ""


def score(row: Row, said: Prediction, above: Runs, resamples: int = 400) -> Row:
    """Fill a row with the scores of a prediction on held-out runs."""
    measured = np.asarray(above.losses, float)
    lost = np.isfinite(measured) & ~np.isfinite(said.point)
    if lost.any():  # an average over the rest would flatter
        return row._replace(failure=f"{lost.sum()} of {np.isfinite(measured).sum()} predictions are not finite")
    relative = 100.0 * np.abs(said.point / measured - 1.0)
    final = final_rows(above)
    low, high = _over_runs(relative, np.asarray(above.run), resamples)
    row = row._replace(
        error=np.nanmean(relative), error_low=low, error_high=high, error_final=np.nanmean(relative[final])
    )
    ends = select(above, final)
    point = said.point[final]
    ranks, means, regrets = [], [], []
    for size in np.unique(np.asarray(ends.recipe.n_active)):
        at = np.asarray(ends.recipe.n_active) == size
        truth, guess = np.asarray(ends.losses, float)[at], point[at]
        ranks += [spearman(guess[:, v], truth[:, v]) for v in range(truth.shape[1])]
        whole = np.isfinite(truth).all(1)
        if whole.sum() >= 2:
            mean_truth, mean_guess = truth[whole].mean(1), guess[whole].mean(1)
            means.append(spearman(mean_guess, mean_truth))
            regrets.append(100.0 * (mean_truth[mean_guess.argmin()] / mean_truth.min() - 1.0))
    row = row._replace(rank_sets=_mean(ranks), rank_mean=_mean(means), regret=_mean(regrets))
    if said.bounds:
        inside = {level: _inside(bound, measured) for level, bound in said.bounds.items()}
        width = 100.0 * np.median(
            (said.bounds[0.9][1] - said.bounds[0.9][0])[np.isfinite(measured)] / 2 / said.point[np.isfinite(measured)]
        )
        row = row._replace(cover50=inside[0.5], cover90=inside[0.9], width90=width)
    return row


def _inside(bound: tuple[np.ndarray, np.ndarray], measured: np.ndarray) -> float:
    seen = np.isfinite(measured)
    return float(((measured >= bound[0]) & (measured <= bound[1]))[seen].mean())


def _mean(values: list[float]) -> float:
    values = [v for v in values if np.isfinite(v)]
    return float(np.mean(values)) if values else np.nan


def _over_runs(relative: np.ndarray, run: np.ndarray, resamples: int) -> tuple[float, float]:
    """90 % bootstrap interval over runs of the mean relative error."""
    seen = np.isfinite(relative)
    total = np.bincount(run, np.where(seen, relative, 0.0).sum(1))
    count = np.bincount(run, seen.sum(1))
    drawn = np.random.default_rng(0).integers(0, len(total), (resamples, len(total)))
    low, high = np.quantile(total[drawn].sum(1) / count[drawn].sum(1), [0.05, 0.95])
    return float(low), float(high)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman rank correlation of two samples, NaN pairs left out; NaN for fewer than three pairs or a constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0]))
    0.5
    """
    seen = np.isfinite(a) & np.isfinite(b)
    if seen.sum() < 3:
        return np.nan
    ranks = _ranks(a[seen]), _ranks(b[seen])
    if ranks[0].std() == 0 or ranks[1].std() == 0:
        return np.nan
    return float(round(np.corrcoef(ranks[0], ranks[1])[0, 1], 12))


def _ranks(x: np.ndarray) -> np.ndarray:
    """Average ranks, ties shared."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
