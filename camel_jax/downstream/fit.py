"""Fit the benchmark law to a table: which accuracies follow from which losses, how surely, and for which tasks not at all.

``fit_accuracies`` does everything in one call; the ``AccuracyFit`` it returns predicts, draws, names the tasks that must not
be trusted, and turns into plain arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from camel_jax.downstream import law, sigmoid_fits
from camel_jax.downstream.result import AT_CHANCE, DROWNED, LATE, NO_DATA, OK, PER_TASK, AccuracyFit
from camel_jax.downstream.sigmoid_fits import MIN_ROWS, Fitted, Table
from camel_jax.tables.runs import Runs, resample_counts
from camel_jax.tables.tasks import Task
from camel_jax.types import Array


def _candidates(table: Table) -> tuple[list[str], law.Basis]:
    """Priors of the weights that compete, from the most to the least constrained, and their bases stacked."""
    sets = np.flatnonzero(table.used)
    z = table.z[:, sets][table.seen.any(1)]
    named = [("equal weights", law.ridge_basis(len(sets), 1e-6))]
    named += [("2 components", law.component_basis(z, 2))] if len(sets) > 2 else []
    named += [(f"ridge {spread:g}", law.ridge_basis(len(sets), spread)) for spread in RIDGES]

    def placed(basis: law.Basis) -> law.Basis:
        directions = np.zeros((len(table.used), basis.directions.shape[1]))
        directions[sets] = basis.directions
        return basis._replace(directions=directions)

    return [name for name, _ in named], jax.tree.map(lambda *leaves: np.stack(leaves), *(placed(b) for _, b in named))


# Standard deviation of a set's deviation from equal weights, logits. Weaker ridges, and a third component, predict the next
# scale as well but explode on an unseen corpus, which a split in scale cannot see: they are not offered.
RIDGES = (0.1, 0.2, 0.4)
DEFAULT_PRIOR = "ridge 0.1"  # where the table has one scale only


def _flags(table: Table, fitted: Fitted, misfit: np.ndarray) -> tuple[list[str], list[str]]:
    """Flag and reason of each task, from the fitted rows alone; ``fitted`` and ``misfit`` of one case."""
    order = np.argsort(table.z[:, table.used].mean(1), kind="stable")
    predicted = sigmoid_fits.predict_rows(table.z, fitted)[0]
    flags, reasons = [], []
    for t in range(len(table.chance)):
        rows = order[table.seen[order, t] > 0]
        if len(rows) < MIN_ROWS:
            flags.append(NO_DATA)
            reasons.append(f"{len(rows)} rows with losses and accuracy, {MIN_ROWS} are needed")
            continue
        quarter = max(len(rows) // 4, 2)
        best, worst = rows[:quarter], rows[-quarter:]
        floor = fitted.floor[0, t]
        chance = table.chance[t] if np.isfinite(table.chance[t]) else floor
        top = table.accuracy[best, t].mean()
        rise = predicted[best, t].mean() - predicted[worst, t].mean()
        # Models answer the same items, so averaging over models does not average the items' noise away.
        item_noise = math.sqrt(table.binomial[best, t].mean())
        noise = math.sqrt(table.binomial[rows, t].mean() + misfit[0, t])
        numbers = f"best {top:.3f}, chance {chance:.3f}, rise {rise:.3f}, noise {noise:.3f}"
        if rise <= 0 or top - chance < max(item_noise, 1e-3):
            flags.append(AT_CHANCE)
        elif top - floor < 0.05 * (1 - floor):
            flags.append(LATE)
        elif top - chance < 2 * item_noise or rise < 2 * noise:
            flags.append(DROWNED)
        else:
            flags.append(OK)
        reasons.append(numbers)
    return flags, reasons


def _choose(names: list[str], errors: np.ndarray) -> int:
    """Index of the most constrained prior whose error (C, T) is within one standard error of the best; C is in that order."""
    mean = errors.mean(1)
    best = int(mean.argmin())
    for case in range(best):
        difference = errors[case] - errors[best]
        if difference.mean() <= difference.std(ddof=1) / math.sqrt(errors.shape[1]) if errors.shape[1] > 1 else False:
            return case
    return best


def fit_accuracies(
    runs: Runs,
    tasks: Mapping[str, Task] | None = None,
    *,
    key: Array,
    resamples: int = 32,
    starts: int = 6,
    choice: str | None = None,
) -> AccuracyFit:
    """Fit one accuracy law per task of a table, with flags, a forward-chosen prior and bootstrap refits.

    Args:
      runs: table with losses (R, V) and accuracies (R, T); NaN where not measured.
      tasks: chance level and item count by task name (``read_tasks``); tasks not listed count as unknown.
      key: a ``jax.random`` key.
      resamples: bootstrap refits B, drawn by run within each size; 0 keeps the best fit as the only sample.
      starts: random starts of each fit.
      choice: prior of the weights by name ("ridge 0.2", "2 components", "equal weights"); None: chosen on an inner split
        that fits the smaller sizes and predicts the largest one.

    Returns:
      An ``AccuracyFit``.

    Raises:
      ValueError: no accuracies, too few rows with losses, or an unknown choice.

    >>> import jax
    >>> import numpy as np
    >>> import dataclasses
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))  # a table of runs would have measured these
    >>> runs = dataclasses.replace(runs, tasks=("qa", "code"), accuracies=0.25 + 0.5 * knows)
    >>> fitted = fit_accuracies(runs, key=jax.random.key(2), resamples=0, starts=1)
    >>> bool(abs(fitted.predict(runs.losses) - runs.accuracies).max() < 0.01)
    True
    """
    tasks = dict(tasks or {})
    if not runs.tasks or np.shape(runs.accuracies)[-1] == 0:
        raise ValueError("benchmark law: the table has no accuracies (columns acc/<task>)")
    sizes = np.asarray(runs.recipe.n_active, float)
    table = sigmoid_fits.prepare(runs, tasks, np.ones(len(sizes), bool))
    if table is None:
        raise ValueError(f"benchmark law: at least {MIN_ROWS} rows need all of their losses")
    n_tasks, n_raw = len(runs.tasks), 4 + int(table.used.sum())
    names, bases = _candidates(table)
    if choice is not None and choice not in names:
        raise ValueError(f"benchmark law: unknown prior {choice!r}, one of {names}")

    start_key, resample_key = jax.random.split(key)
    fits, misfits = sigmoid_fits.two_passes(
        table, bases, sigmoid_fits.random_starts(start_key, len(names), n_tasks, starts, n_raw)
    )
    default = names.index(choice or DEFAULT_PRIOR)
    flags, reasons = _flags(table, _case(fits, default), misfits[default][None])
    usable = np.array([flag == OK for flag in flags])

    scores, inner_error, skill = {}, None, np.full(n_tasks, np.nan)
    below = sizes < sizes.max()
    inner = sigmoid_fits.prepare(runs, tasks, below)
    if inner is not None and (inner.used == table.used).all() and usable.any():
        inner_starts = sigmoid_fits.random_starts(start_key, len(names), n_tasks, starts, n_raw)
        inner_fits, _ = sigmoid_fits.two_passes(inner, _candidates(inner)[1], inner_starts)
        seen = np.where(~below[:, None], table.seen, 0.0)
        error = np.where(seen > 0, sigmoid_fits.predict_rows(inner.z, inner_fits) - table.accuracy, 0.0)
        held = seen.sum(0)
        counted = usable & (held > 0)
        absolute = np.abs(error).sum(1) / np.maximum(held, 1)
        if counted.any():
            scores = dict(zip(names, absolute[:, counted].mean(1).tolist(), strict=True))
            if choice is None:
                default = _choose(names, absolute[:, counted])
            constant = np.abs(_constant(inner) - table.accuracy) * seen
            skill = np.where(held > 0, constant.sum(0) / np.maximum(held, 1) - absolute[default], np.nan)
            inner_error = error[default]

    fitted, misfit = _case(fits, default), misfits[default]
    flags, reasons = _flags(table, fitted, misfit[None])
    if inner_error is not None:
        for t in np.flatnonzero([flag == OK for flag in flags]):
            if skill[t] <= 0:
                flags[t] = DROWNED
                reasons[t] += "; at the largest size no better than a constant"
    good = np.array([flag == OK for flag in flags])
    spread, common, freedom = _next_scale_error(table, misfit, inner_error, good)

    params = _params(table, fitted, 0)
    samples = jax.tree.map(lambda leaf: leaf[None], params)
    converged = float(fitted.done.mean())
    if resamples:
        counts = np.asarray(resample_counts(resample_key, runs, resamples), float)
        basis = jax.tree.map(lambda leaf: np.repeat(leaf[default][None], resamples, 0), bases)
        refit_starts = np.concatenate(
            [
                np.broadcast_to(fitted.raw[:, :, None], (resamples, n_tasks, 1, n_raw)),
                sigmoid_fits.random_starts(start_key, resamples, n_tasks, 2, n_raw),
            ],
            2,
        )
        refits = sigmoid_fits.fit_all(
            table, sigmoid_fits.precision_of(table, counts, misfit[None]), basis, refit_starts
        )
        samples, converged = _params(table, refits, slice(None)), float(refits.done.mean())
    samples = samples._replace(center=table.center, scale=table.scale)
    return AccuracyFit(
        params,
        samples,
        spread,
        common,
        np.sqrt((table.binomial * table.seen).sum(0) / np.maximum(table.seen.sum(0), 1)),
        dict(zip(runs.tasks, flags, strict=True)),
        dict(zip(runs.tasks, reasons, strict=True)),
        names[default],
        scores,
        tuple(runs.tasks),
        tuple(runs.sets),
        converged,
        freedom,
    )


def _case(fits: Fitted, case: int) -> Fitted:
    return Fitted._make(leaf[case : case + 1] for leaf in fits)


def _params(table: Table, fitted: Fitted, which: Any) -> law.AccuracyParams:
    leaves = (np.asarray(getattr(fitted, name)[which]) for name in PER_TASK)
    return law.AccuracyParams._make([*leaves, table.center, table.scale])


def _constant(inner: Table) -> np.ndarray:
    """Mean accuracy (T,) of the best quarter of the fitted rows: what one would say without a law."""
    order = np.argsort(inner.z[:, inner.used].mean(1), kind="stable")
    seen = inner.seen[order]
    best = seen * (np.cumsum(seen, 0) <= np.maximum(seen.sum(0) // 4, 2))
    return (best * inner.accuracy[order]).sum(0) / np.maximum(best.sum(0), 1)


def _next_scale_error(
    table: Table, misfit: np.ndarray, error: np.ndarray | None, good: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Model error (T,) expected at the next scale, the share of its variance that all tasks have in common, and its freedom.

    One split is one look, so each is half measured and half assumed: the spread from the task's own errors (R, T) and the
    ratio of all tasks' errors to their misfit, the share from the error of the average and one half. The errors are a Student
    t whose degrees of freedom are the tasks that count as independent (squares of errors with correlation c have correlation
    c^2), twice, since what is assumed counts as much as what is measured.
    """
    if error is None or not good.any():
        return 2 * np.sqrt(misfit), 0.5, 4.0
    held = (error != 0).sum(0)
    square = np.where(error != 0, error**2 - table.binomial, 0.0).sum(0) / np.maximum(held, 1)
    counted = good & (held > 0)
    square = np.maximum(square, 0.0)
    ratio = max(float(square[counted].sum() / misfit[counted].sum()), 1.0)
    spread = np.sqrt(0.5 * np.where(counted, square, ratio * misfit) + 0.5 * ratio * misfit)
    rms = np.sqrt(square[counted])
    apart, together = float((rms**2).sum()), float(rms.sum() ** 2)
    of_sum = float(np.mean(error[:, counted].sum(1)[(error[:, counted] != 0).any(1)] ** 2))
    share = np.clip((of_sum - apart) / (together - apart), 0.0, 1.0) if together > apart else 1.0
    common, n_tasks = 0.5 * float(share) + 0.25, int(counted.sum())
    return spread, common, 2 * n_tasks / (1 + (n_tasks - 1) * common**2)
