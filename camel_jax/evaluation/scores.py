"""How good a prediction of held-out runs is: errors, coverage of intervals and rank correlation, as a row of the leaderboard."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from camel_jax.evaluation.prediction import Prediction
from camel_jax.evaluation.splits import token_levels
from camel_jax.tables.runs import Runs, final_rows, scales, select


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
      pairs: share of pairs of mixtures of one size and token count that the method orders as measured, mean over sets; of the mixtures
        that were fitted at the largest fitted size too, if any were, so that laws and the order at one scale are asked the same.
      regret: measured mean loss of the mixture the method would pick among the measured ones, over the best, minus one.
      cover50: share of measured losses inside the 50 % intervals.
      cover90: share of measured losses inside the 90 % intervals.
      width90: median half-width of the 90 % intervals over the point.
      parameters: number of parameters of the fit.
      seconds: wall-clock time to fit and predict, compilation included.
      failure: why there are no numbers, or "".
      holdout: what was held out.
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
    holdout: str = ""
    pairs: float = np.nan


def score(row: Row, said: Prediction, above: Runs, below: Runs | None = None, resamples: int = 400) -> Row:
    """Fill a row with the scores of a prediction on held-out runs.

    Args:
      row: to fill. said: the prediction. above: the held-out runs. below: the fitted runs, for ``pairs``.
      resamples: of runs, for the interval of the error.
    """
    measured = np.asarray(above.losses, float)
    lost = np.isfinite(measured) & ~np.isfinite(said.point)
    if lost.any() and not said.order_only:  # an average over the rest would flatter
        return row._replace(failure=f"{lost.sum()} of {np.isfinite(measured).sum()} predictions are not finite")
    row = row._replace(pairs=_pairs(said, above, below), **_orders(said, above))
    if said.order_only:
        return row
    relative = 100.0 * np.abs(said.point / measured - 1.0)
    final = final_rows(above)
    low, high = _over_runs(relative, np.asarray(above.run), resamples)
    row = row._replace(
        error=np.nanmean(relative), error_low=low, error_high=high, error_final=np.nanmean(relative[final])
    )
    if said.bounds:
        inside = {level: _inside(bound, measured) for level, bound in said.bounds.items()}
        width = 100.0 * np.median(
            (said.bounds[0.9][1] - said.bounds[0.9][0])[np.isfinite(measured)] / 2 / said.point[np.isfinite(measured)]
        )
        row = row._replace(cover50=inside[0.5], cover90=inside[0.9], width90=width)
    return row


def _orders(said: Prediction, above: Runs) -> dict[str, float]:
    """Rank correlations and regret at the final checkpoints, size by size."""
    final = final_rows(above)
    ends, point = select(above, final), said.point[final]
    ranks, means, regrets = [], [], []
    for size in np.unique(np.asarray(ends.recipe.n_active)):
        at = np.asarray(ends.recipe.n_active) == size
        truth, guess = np.asarray(ends.losses, float)[at], point[at]
        ranks += [spearman(guess[:, v], truth[:, v]) for v in range(truth.shape[1])]
        whole = np.isfinite(truth).all(1) & np.isfinite(guess).all(1)
        if whole.sum() >= 2:
            mean_truth, mean_guess = truth[whole].mean(1), guess[whole].mean(1)
            means.append(spearman(mean_guess, mean_truth))
            regrets.append(100.0 * (mean_truth[mean_guess.argmin()] / mean_truth.min() - 1.0))
    return {"rank_sets": _mean(ranks), "rank_mean": _mean(means), "regret": _mean(regrets)}


def _pairs(said: Prediction, above: Runs, below: Runs | None) -> float:
    """Share of pairs of mixtures of one size and token count in the measured order; a tie of the method counts half."""
    weights = np.asarray(above.recipe.weights).round(3)
    asked = final_rows(above)
    if below is not None:
        largest = np.asarray(below.recipe.n_active) == scales(below)[-1]
        known = {row.tobytes() for row in np.asarray(below.recipe.weights)[largest].round(3)}
        both = asked & np.array([row.tobytes() in known for row in weights])
        asked = both if both.any() else asked
    scale = np.column_stack([np.asarray(above.recipe.n_active), token_levels(above)])
    group = np.unique(scale, axis=0, return_inverse=True)[1].ravel()
    truth, shares = np.asarray(above.losses, float), []
    for v in range(truth.shape[1]):
        right = total = 0.0
        for g in np.unique(group[asked]):
            at = np.flatnonzero(asked & (group == g) & np.isfinite(truth[:, v]) & np.isfinite(said.point[:, v]))
            one, two = np.triu_indices(len(at), 1)
            differ = (weights[at[one]] != weights[at[two]]).any(1)
            real = np.sign(truth[at[one], v] - truth[at[two], v])[differ]
            told = np.sign(said.point[at[one], v] - said.point[at[two], v])[differ]
            total += float((real != 0).sum())
            right += float((real * told > 0).sum() + 0.5 * ((real != 0) & (told == 0)).sum())
        shares.append(right / total if total else np.nan)
    return _mean(shares)


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
