"""The leaderboard: every law fitted below a held-out scale and judged on it, the same way for all.

Nothing is chosen by the held-out rows: starts by the objective, widths by back-tests below the held-out scale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from camel_jax.fit import fit
from camel_jax.identifiability import FitError
from camel_jax.laws import CONSTRUCTORS
from camel_jax.laws.law import Law
from camel_jax.runs import Recipe, Runs, final_rows, select, split_by_scale
from camel_jax.uncertainty import predict_interval

Array = Any


class Prediction(NamedTuple):
    """What a method says about held-out recipes: point (R, V), 50 % and 90 % bounds (R, V) or None, parameter count."""

    point: np.ndarray
    bounds: Mapping[float, tuple[np.ndarray, np.ndarray]]
    parameters: int


Method = Callable[[Runs, Recipe, Array], Prediction]


class Row(NamedTuple):
    """One line of the leaderboard. Errors are relative, in percent; NaN where a method says nothing.

    Attributes:
      table, method: names. fitted, held_out: rows fitted and judged.
      error, error_low, error_high: mean relative error over all held-out rows and sets, with a 90 % bootstrap interval over runs.
      error_final: the same over the last checkpoint of every run.
      rank_sets, rank_mean: Spearman correlation over mixtures at the final checkpoints, mean over sets, and of the mean loss.
      regret: measured mean loss of the mixture the method would pick among the measured ones, over the best, minus one.
      cover50, cover90: share of measured losses inside the intervals. width90: median half-width over the point.
      parameters, seconds: size of the fit and wall-clock time to fit and predict (compilation included).
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


def law_method(law: Law, *, single: bool = False, **options: Any) -> Method:
    """A law as a leaderboard method.

    Args:
      law: the law.
      single: predict from the best start only, as published tools do, in place of the mean over starts.
      options: passed to ``fit``.
    """

    def run(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
        fitted = fit(law, runs, key=key, **options)
        if single:
            fitted = fitted.only_best()
        intervals = {level: predict_interval(fitted, recipe, level) for level in (0.5, 0.9)}
        bounds = {level: (np.asarray(i.low), np.asarray(i.high)) for level, i in intervals.items()}
        size = sum(int(np.size(x[0])) for x in jax.tree.leaves(fitted.raw))
        return Prediction(np.asarray(intervals[0.9].point), bounds, size)

    return run


def nearest_run(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
    """The observed losses of the closest run: nearest in mixture (L1), then in log size and log tokens."""
    del key
    weights, losses = np.asarray(runs.recipe.weights), np.asarray(runs.losses, float)
    mix = np.abs(np.asarray(recipe.weights)[:, None] - weights[None]).sum(-1)
    size = np.abs(np.log(np.asarray(recipe.n_active))[:, None] - np.log(np.asarray(runs.recipe.n_active))[None])
    seen = np.abs(np.log(np.asarray(recipe.tokens))[:, None] - np.log(np.asarray(runs.recipe.tokens))[None])
    distance = mix + 0.1 * size + 0.1 * seen
    out = np.empty((len(distance), losses.shape[1]))
    for v in range(losses.shape[1]):
        known = np.where(np.isfinite(losses[:, v])[None], distance, np.inf)
        out[:, v] = losses[known.argmin(1), v]
    return Prediction(out, {}, 0)


def boosted_trees(runs: Runs, recipe: Recipe, key: Array, forest: bool = False) -> Prediction:
    """Gradient boosting (or a random forest) on shares, log size and log tokens, as RegMix does (arXiv 2407.01492).

    Raises:
      ImportError: scikit-learn, an optional extra, is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    except ImportError as error:
        raise ImportError("this baseline needs scikit-learn: pip install 'camel-jax[baselines]'") from error

    def features(r: Recipe) -> np.ndarray:
        return np.column_stack([np.asarray(r.weights), np.log(np.asarray(r.n_active)), np.log(np.asarray(r.tokens))])

    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    x, x_new, losses = features(runs.recipe), features(recipe), np.asarray(runs.losses, float)
    out = np.empty((len(x_new), losses.shape[1]))
    for v in range(losses.shape[1]):
        known = np.isfinite(losses[:, v])
        if forest:
            model = RandomForestRegressor(200, min_samples_leaf=2, random_state=seed, n_jobs=1)
        else:
            model = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.05, random_state=seed)
        out[:, v] = np.exp(model.fit(x[known], np.log(losses[known, v])).predict(x_new))
    return Prediction(out, {}, 0)


def regression_forest(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
    """A random forest on shares, log size and log tokens; see ``boosted_trees``."""
    return boosted_trees(runs, recipe, key, forest=True)


def methods(names: Sequence[str] = (), *, starts: int = 4, resamples: int = 0) -> dict[str, Method]:
    """The leaderboard's methods by name; all of them if ``names`` is empty.

    Baselines appear as published (additive, no priors to speak of, uniform rows, best start), upgraded (the same coupling, priors, row
    weights and mean over starts as CAMEL) and with its residual field on top (``_field``), so that the table says where a
    gain comes from.

    Raises:
      ValueError: an unknown name.
    """
    common: dict[str, Any] = {"starts": starts, "resamples": resamples}
    table: dict[str, Method] = {
        "camel": law_method(CONSTRUCTORS["camel"](), **common),
        "camel_no_field": law_method(CONSTRUCTORS["camel"](), field=False, **common),
        "camel_exact": law_method(CONSTRUCTORS["camel"](exact=True), **common),
        "blend": law_method(CONSTRUCTORS["blend"](), **common),
    }
    for name in ("sodm_joint", "sodm", "dml", "chinchilla"):
        build = CONSTRUCTORS[name]
        # as many starts as CAMEL, and more where fits are cheap
        common["starts"] = starts if name == "sodm_joint" else max(starts, 8)
        table[name] = law_method(build(upgraded=True), field=False, **common)
        table[f"{name}_field"] = law_method(build(upgraded=True), **common)
        table[f"{name}_published"] = law_method(
            build(upgraded=False), field=False, weighting="uniform", single=True, **common
        )
    table |= {"nearest_run": nearest_run, "boosted_trees": boosted_trees, "regression_forest": regression_forest}
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ValueError(f"unknown law {', '.join(unknown)}; known: {', '.join(table)}")
    return {name: table[name] for name in (names or table)}


def leaderboard(
    tables: Mapping[str, Runs],
    laws: Sequence[str] | Mapping[str, Method] = (),
    *,
    holdout: int = 1,
    key: Array,
    starts: int = 4,
    resamples: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Fit every law below the held-out scale of every table, and judge it there.

    Args:
      tables: name -> table.
      laws: names of methods, or name -> method; all methods if empty.
      holdout: how many of the largest scales to hold out.
      key: a ``jax.random`` key.
      starts, resamples: passed to the laws' fits.
      progress: called with a line of text before each fit.

    Returns:
      One ``Row`` per table and method; a method that cannot be fitted says why in ``failure``.

    Raises:
      ValueError: a table has too few scales, or an unknown law.
    """
    chosen = laws if isinstance(laws, Mapping) else methods(tuple(laws), starts=starts, resamples=resamples)
    splits = {name: split_by_scale(runs, holdout) for name, runs in tables.items()}
    rows = []
    for name, (below, above) in splits.items():
        for label, method in chosen.items():
            if progress is not None:
                progress(f"{name}: {label}")
            rows.append(judge(name, label, method, below, above, key))
    return rows


def judge(table: str, label: str, method: Method, below: Runs, above: Runs, key: Array) -> Row:
    """Fit one method on ``below`` and score it on ``above``."""
    began = time.perf_counter()
    try:
        said = method(below, above.recipe, key)
    except (FitError, ImportError) as error:
        return Row(table, label, len(below), len(above), failure=str(error))
    seconds = time.perf_counter() - began
    return score(Row(table, label, len(below), len(above), parameters=said.parameters, seconds=seconds), said, above)


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
