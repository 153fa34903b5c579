"""Fit the benchmark law to a table: which accuracies follow from which losses, how surely, and for which tasks not at all.

``fit_accuracies`` does everything in one call; the ``AccuracyFit`` it returns predicts, draws, names the tasks that must not
be trusted, and turns into plain arrays.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import runs as runs_
from camel_jax.laws import accuracy as law
from camel_jax.runs import Runs

Array = Any

OK, NO_DATA, AT_CHANCE, DROWNED, LATE = "ok", "no data", "at chance", "drowned in noise", "late take-off"
MIN_ROWS = 8  # fewest rows with losses and an accuracy for a law of three to twelve parameters under priors


class Task(NamedTuple):
    """What is known of a task before any model runs it: chance accuracy and number of items (NaN: not known)."""

    chance: float = math.nan
    n_items: float = math.nan


def read_tasks(path: str | Path) -> dict[str, Task]:
    """Read a table of tasks: columns ``task`` and any of ``chance``, ``n_choices``, ``n_items``.

    ``random_baseline`` and ``n_items_listed`` are accepted too. Without a chance level, it is one over the choices.

    Args:
      path: a CSV file.

    Returns:
      Task by name.

    Raises:
      ValueError: no ``task`` column, a repeated task, text where a number belongs, or a number out of range.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if "task" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: a table of tasks needs a column 'task', found {reader.fieldnames}")
        tasks: dict[str, Task] = {}
        for line, row in enumerate(reader, 2):

            def number(*columns: str, row: dict = row, line: int = line) -> float:
                for column in columns:
                    text = (row.get(column) or "").strip()
                    if text:
                        try:
                            return float(text)
                        except ValueError:
                            raise ValueError(
                                f"{path}, line {line}, column {column}: {text!r} is not a number"
                            ) from None
                return math.nan

            name = (row["task"] or "").strip()
            if name in tasks:
                raise ValueError(f"{path}, line {line}: task {name!r} is listed twice")
            chance, choices = number("chance", "random_baseline"), number("n_choices")
            if math.isnan(chance) and choices >= 1:
                chance = 1 / choices
            items = number("n_items", "n_items_listed")
            if not (math.isnan(chance) or 0 <= chance < 1) or items < 1:
                raise ValueError(f"{path}, line {line}: chance must lie in [0, 1) and n_items be at least 1")
            tasks[name] = Task(chance, items)
    return tasks


@dataclasses.dataclass(frozen=True)
class AccuracyFit:
    """A fitted benchmark law.

    Attributes:
      params: best fit; leaves (T, ...).
      samples: bootstrap refits; leaves (B, T, ...), centre and scale shared.
      spread: (T,) model error at the next scale, as accuracy: what ``draws`` adds to the refits.
      noise: (T,) binomial standard deviation of one measured accuracy; 0 where the item count is unknown.
      flags: task -> "ok", or why it should not be used.
      reasons: task -> the numbers behind the flag, in words.
      choice: the weights' prior that the forward split chose.
      scores: prior -> mean absolute error at the inner split's held-out scale, over the usable tasks; empty without one.
      tasks, sets: names, in the order of the arrays.
      status: share of refits that converged.
    """

    params: law.AccuracyParams
    samples: law.AccuracyParams
    spread: np.ndarray
    noise: np.ndarray
    flags: dict[str, str]
    reasons: dict[str, str]
    choice: str
    scores: dict[str, float]
    tasks: tuple[str, ...]
    sets: tuple[str, ...]
    status: float = 1.0

    @property
    def usable(self) -> np.ndarray:
        """(T,) boolean: tasks without a flag, those that objectives average by default."""
        return np.array([self.flags[task] == OK for task in self.tasks], bool)

    def predict(self, losses: Array) -> Array:
        """Accuracies (..., T) from validation losses (..., V) in nats per token; differentiable and jittable."""
        return law.predict_accuracy(self.params, losses)

    def mean(self, losses: Array) -> Array:
        """Mean accuracy (...) over the usable tasks; the average of predictions, never a law of the average.

        Raises:
          ValueError: every task is flagged.
        """
        if not self.usable.any():
            raise ValueError(f"no task is usable: {self.flags}")
        return self.predict(losses)[..., np.flatnonzero(self.usable)].mean(-1)

    def draws(self, losses: Array, key: Array) -> Array:
        """Accuracies that carry the uncertainty of the losses, of the parameters, and of the law itself.

        Draw m takes the m-th losses, one bootstrap refit, and one error of the law per task. Errors of a law at a new scale
        hit all recipes alike, so within a draw every recipe gets the same one.

        Args:
          losses: (M, ..., V) draws of losses; (M identical copies if they are certain).
          key: a ``jax.random`` key.

        Returns:
          (M, ..., T) accuracies in [0, 1].
        """
        losses = jnp.asarray(losses)
        pick_key, error_key = jax.random.split(key)
        n_draws, n_samples = losses.shape[0], self.samples.bias.shape[0]
        pick = jax.random.permutation(pick_key, jnp.arange(n_draws) % n_samples)
        picked = self.samples._replace(**{name: getattr(self.samples, name)[pick] for name in _PER_TASK})
        axes = law.AccuracyParams(0, 0, 0, 0, None, None)
        predicted = jax.vmap(law.predict_accuracy, in_axes=(axes, 0))(picked, losses)
        error = self.spread * jax.random.normal(error_key, (n_draws, len(self.tasks)))
        error = error.reshape(n_draws, *(1,) * (losses.ndim - 2), len(self.tasks))
        return jnp.clip(predicted + error, 0.0, 1.0)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays under names that start with ``accuracy/``, ready for an ``.npz``; nothing in them is code."""
        header = {
            "flags": self.flags,
            "reasons": self.reasons,
            "choice": self.choice,
            "scores": self.scores,
            "tasks": self.tasks,
            "sets": self.sets,
            "status": self.status,
        }
        arrays = {f"accuracy/params/{k}": np.asarray(v) for k, v in self.params._asdict().items()}
        arrays |= {f"accuracy/samples/{k}": np.asarray(getattr(self.samples, k)) for k in _PER_TASK}
        arrays |= {"accuracy/spread": np.asarray(self.spread), "accuracy/noise": np.asarray(self.noise)}
        return arrays | {"accuracy/header": np.array(json.dumps(header))}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> AccuracyFit:
        """The inverse of ``to_arrays``; other names in ``arrays`` are ignored.

        Raises:
          ValueError: the arrays hold no benchmark law.
        """
        if "accuracy/header" not in arrays:
            raise ValueError("no benchmark law in this file: it was fitted on a table without accuracies")
        header = json.loads(str(arrays["accuracy/header"]))
        header["tasks"], header["sets"] = tuple(header["tasks"]), tuple(header["sets"])
        names = law.AccuracyParams._fields
        params = law.AccuracyParams(*(np.asarray(arrays[f"accuracy/params/{k}"]) for k in names))
        per_task = {k: np.asarray(arrays[f"accuracy/samples/{k}"]) for k in _PER_TASK}
        spread, noise = np.asarray(arrays["accuracy/spread"]), np.asarray(arrays["accuracy/noise"])
        return cls(params, params._replace(**per_task), spread, noise, **header)


_PER_TASK = ("floor", "ceiling", "bias", "weights")


class _Table(NamedTuple):
    """Losses and accuracies without gaps: missing values are filled and have weight zero."""

    z: np.ndarray  # (R, V)
    accuracy: np.ndarray  # (R, T)
    seen: np.ndarray  # (R, T), 0 or 1
    binomial: np.ndarray  # (R, T) variance from the item count
    chance: np.ndarray  # (T,)
    center: np.ndarray  # (V,)
    scale: np.ndarray  # (V,)
    used: np.ndarray  # (V,) bool: sets measured often enough


def _table(runs: Runs, tasks: Mapping[str, Task], rows: np.ndarray) -> _Table | None:
    """All rows of a table, standardised and weighted by those in the boolean mask ``rows``; None if these are too few."""
    losses, accuracy = np.asarray(runs.losses, float), np.asarray(runs.accuracies, float)
    finite = np.isfinite(losses)
    # A set that is missing in most rows would cost more rows than it tells.
    used = finite[rows].sum(0) > 0.5 * max(rows.sum(), 1)
    whole = finite[:, used].all(1) & used.any()
    fitted = whole & rows
    if fitted.sum() < MIN_ROWS or not used.any():
        return None
    losses = np.where(whole[:, None] & used, losses, 0.0)
    center, scale = losses[fitted].mean(0), losses[fitted].std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z = np.where(whole[:, None] & used, (losses - center) / scale, 0.0)
    seen = np.isfinite(accuracy) & fitted[:, None]
    filled = np.where(np.isfinite(accuracy), accuracy, 0.0)
    specs = [tasks.get(name, Task()) for name in runs.tasks]
    chance = np.array([spec.chance for spec in specs], float)
    items = np.array([spec.n_items for spec in specs], float)
    mean = (filled * seen).sum(0) / np.maximum(seen.sum(0), 1)
    # Half way to the task's mean, so that an accuracy of 0 in 32 items is not taken as certain.
    level = np.clip((filled + mean) / 2, 1e-3, 1 - 1e-3)
    binomial = np.where(np.isfinite(items), level * (1 - level) / np.where(np.isfinite(items), items, 1.0), 0.0)
    return _Table(z, filled, seen.astype(float), binomial, chance, center, scale, used)


def _least_squares(residuals, start: Array, steps: int = 100, tolerance: float = 1e-7):
    """Levenberg-Marquardt on one small problem; vmap for many. Returns (point, half sum of squares, converged).

    Damping follows the ratio of actual to predicted decrease (Nielsen 1999).
    """

    def look(x):
        r = residuals(x)
        jacobian = jax.jacfwd(residuals)(x)
        return 0.5 * (r @ r), jacobian.T @ jacobian, jacobian.T @ r

    def body(state):
        x, cost, normal, gradient, damping, growth, step, _ = state
        diagonal = jnp.diag(normal)
        # The priors keep the matrix positive definite.
        factor = jax.scipy.linalg.cho_factor(normal + damping * jnp.diag(diagonal))
        move = jax.scipy.linalg.cho_solve(factor, -gradient)
        expected = 0.5 * move @ (damping * diagonal * move - gradient)
        new_cost, new_normal, new_gradient = look(x + move)
        ratio = (cost - new_cost) / jnp.maximum(expected, 1e-300)
        better = new_cost < cost
        shrunk = damping * jnp.maximum(1 / 3, 1 - (2 * jnp.clip(ratio, 0, 1) - 1) ** 3)
        # Far-damped moves are small wherever they are: they prove nothing until nothing else is left.
        small = expected < tolerance * (1 + cost)
        return (
            jnp.where(better, x + move, x),
            jnp.where(better, new_cost, cost),
            jnp.where(better, new_normal, normal),
            jnp.where(better, new_gradient, gradient),
            jnp.where(better, jnp.maximum(shrunk, 1e-12), damping * growth),
            jnp.where(better, 2.0, 2 * growth),
            step + 1,
            (small & (damping < 1.0)) | (damping > 1e12),
        )

    def going(state):
        return ~state[-1] & (state[-2] < steps)

    first = (start, *look(start), jnp.asarray(1e-2, start.dtype), jnp.asarray(2.0, start.dtype), 0, jnp.asarray(False))
    last = jax.lax.while_loop(going, body, first)
    return last[0], last[1], last[-1]


@jax.jit
def _fit_lanes(z, accuracy, precision, chance, basis, starts):
    """Fit F independent lanes: accuracy and precision (F, R), chance (F,), basis leaves (F, ...), starts (F, P)."""

    def one(accuracy, precision, chance, basis, start):
        def residuals(x):
            return law.residuals(law.RawAccuracy(x[0], x[1], x[2], x[3:]), z, accuracy, precision, chance, basis)

        x, cost, done = _least_squares(residuals, start)
        return law.constrain(law.RawAccuracy(x[0], x[1], x[2], x[3:]), chance, basis), x, cost, done

    return jax.vmap(one)(accuracy, precision, chance, basis, starts)


class _Fitted(NamedTuple):
    floor: np.ndarray  # (C, T)
    ceiling: np.ndarray
    bias: np.ndarray
    weights: np.ndarray  # (C, T, V)
    raw: np.ndarray  # (C, T, P)
    done: np.ndarray  # (C, T)


def _fit_all(table: _Table, precision: np.ndarray, bases: law.Basis, starts: np.ndarray) -> _Fitted:
    """Best of the starts for C cases x T tasks: precision (C, R, T), basis leaves (C, ...), starts (C, T, S, P)."""
    cases, n_tasks, n_starts, n_raw = starts.shape
    index = np.indices((cases, n_tasks, n_starts)).reshape(3, -1)
    # Empty rows up to a round number, so that tables of similar size share one compilation.
    empty = (0, -len(table.z) % 32)
    lanes = (
        np.pad(table.accuracy.T, ((0, 0), empty))[index[1]],
        np.pad(np.moveaxis(precision, 2, 1), ((0, 0), (0, 0), empty))[index[0], index[1]],
        table.chance[index[1]],
        jax.tree.map(lambda leaf: np.asarray(leaf)[index[0]], bases),
        starts.reshape(-1, n_raw),
    )
    # Chunks of one size: one compilation, Jacobians that fit in memory, and few lanes waiting for the slowest.
    batch, total = 256, len(lanes[-1])
    padded = -(-total // batch) * batch
    fill = np.arange(padded) % total
    z, chunks = np.pad(table.z, (empty, (0, 0))), []
    for first in range(0, padded, batch):
        rows = fill[first : first + batch]
        chunks.append(_fit_lanes(z, *jax.tree.map(lambda leaf, rows=rows: leaf[rows], lanes)))
    values, raw, cost, done = jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *chunks)
    cost = np.nan_to_num(np.asarray(cost), nan=np.inf).reshape(cases, n_tasks, n_starts)
    best = cost.argmin(-1)

    def pick(leaf):
        leaf = np.asarray(leaf).reshape(cases, n_tasks, n_starts, *np.shape(leaf)[1:])
        return leaf[np.arange(cases)[:, None], np.arange(n_tasks), best]

    return _Fitted(*(pick(v) for v in values), pick(raw), pick(done))


def _predict_rows(z: np.ndarray, fitted: _Fitted) -> np.ndarray:
    """(C, R, T) accuracies of standardised losses (R, V)."""
    score = fitted.bias[:, None] - np.einsum("rv,ctv->crt", z, fitted.weights)
    rise = 1 / (1 + np.exp(-np.clip(score, -500, 500)))
    return fitted.floor[:, None] + (fitted.ceiling - fitted.floor)[:, None] * rise


def _misfit(table: _Table, fitted: _Fitted, parameters: float = 3.0) -> np.ndarray:
    """(C, T) variance of accuracies beyond the binomial part; shrunk towards one point squared, as five rows would."""
    error = (table.accuracy - _predict_rows(table.z, fitted)) ** 2
    rows = table.seen.sum(0)
    excess = (table.seen * (error - table.binomial)).sum(1) * rows / np.maximum(rows - parameters, 1)
    return np.maximum(excess, 0) / (rows + 5) + 5 * 0.01**2 / (rows + 5)


def _precision(table: _Table, counts: np.ndarray, misfit: np.ndarray) -> np.ndarray:
    """(C, R, T) weights of the rows from counts (C, R) and misfit variances (C, T)."""
    return counts[:, :, None] * table.seen / (table.binomial + misfit[:, None, :])


def _starts(key: Array, cases: int, n_tasks: int, n_starts: int, n_raw: int) -> np.ndarray:
    """Random starts (C, T, S, P); the same for every case and task, so that an order of tasks cannot matter."""
    drawn = np.asarray(jax.random.normal(key, (n_starts, n_raw)), float) * 0.7
    drawn[:, 3:] *= 0.3
    drawn[0] = 0.0
    return np.broadcast_to(drawn, (cases, n_tasks, n_starts, n_raw))


def _two_passes(table: _Table, bases: law.Basis, starts: np.ndarray) -> tuple[_Fitted, np.ndarray]:
    """Fit, measure the misfit of each task, fit again with it. Returns the fit and the misfit variances (C, T)."""
    counts = np.ones((len(starts), len(table.z)))
    misfit = np.full(starts.shape[:2], 0.02**2)
    fitted = _fit_all(table, _precision(table, counts, misfit), bases, starts)
    misfit = _misfit(table, fitted)
    again = np.concatenate([fitted.raw[:, :, None], starts[:, :, :1]], 2)
    fitted = _fit_all(table, _precision(table, counts, misfit), bases, again)
    return fitted, _misfit(table, fitted)


def _candidates(table: _Table) -> tuple[list[str], law.Basis]:
    """Priors of the weights that compete, from the most to the least constrained, and their bases stacked."""
    sets = np.flatnonzero(table.used)
    z = table.z[:, sets][table.seen.any(1)]
    named = [("equal weights", law.ridge_basis(len(sets), 1e-6))]
    named += [(f"ridge {spread:g}", law.ridge_basis(len(sets), spread)) for spread in RIDGES]
    named += [(f"{n} components", law.component_basis(z, n)) for n in (2, 3) if n < len(sets)]

    def placed(basis: law.Basis) -> law.Basis:
        directions = np.zeros((len(table.used), basis.directions.shape[1]))
        directions[sets] = basis.directions
        return basis._replace(directions=directions)

    return [name for name, _ in named], jax.tree.map(lambda *leaves: np.stack(leaves), *(placed(b) for _, b in named))


RIDGES = (0.1, 0.2, 0.4, 0.8)  # standard deviation of a set's deviation from equal weights, logits
DEFAULT_PRIOR = "ridge 0.2"  # where the table has one scale only


def _flags(table: _Table, fitted: _Fitted, misfit: np.ndarray) -> tuple[list[str], list[str]]:
    """Flag and reason of each task, from the fitted rows alone; ``fitted`` and ``misfit`` of one case."""
    order = np.argsort(table.z[:, table.used].mean(1), kind="stable")
    predicted = _predict_rows(table.z, fitted)[0]
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
        numbers = f"best quarter {top:.3f}, chance {chance:.3f}, rise {rise:.3f}, noise {noise:.3f}"
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
    """
    tasks = dict(tasks or {})
    if not runs.tasks or np.shape(runs.accuracies)[-1] == 0:
        raise ValueError("benchmark law: the table has no accuracies (columns acc/<task>)")
    sizes = np.asarray(runs.recipe.n_active, float)
    table = _table(runs, tasks, np.ones(len(sizes), bool))
    if table is None:
        raise ValueError(f"benchmark law: at least {MIN_ROWS} rows need all of their losses")
    n_tasks, n_raw = len(runs.tasks), 4 + int(table.used.sum())
    names, bases = _candidates(table)
    if choice is not None and choice not in names:
        raise ValueError(f"benchmark law: unknown prior {choice!r}, one of {names}")

    start_key, resample_key = jax.random.split(key)
    fits, misfits = _two_passes(table, bases, _starts(start_key, len(names), n_tasks, starts, n_raw))
    default = names.index(choice or DEFAULT_PRIOR)
    flags, reasons = _flags(table, _case(fits, default), misfits[default][None])
    usable = np.array([flag == OK for flag in flags])

    scores, inner_square = {}, None
    below = sizes < sizes.max()
    inner = _table(runs, tasks, below)
    if inner is not None and (inner.used == table.used).all() and usable.any():
        inner_fits, _ = _two_passes(
            inner, _candidates(inner)[1], _starts(start_key, len(names), n_tasks, starts, n_raw)
        )
        error = (_predict_rows(inner.z, inner_fits) - table.accuracy)[:, ~below]
        seen = table.seen[~below]
        counted = usable & (seen.sum(0) > 0)
        absolute = (np.abs(error) * seen).sum(1) / np.maximum(seen.sum(0), 1)
        if counted.any():
            scores = dict(zip(names, absolute[:, counted].mean(1).tolist(), strict=True))
            if choice is None:
                default = _choose(names, absolute[:, counted])
            square = ((error**2 - table.binomial[~below]) * seen).sum(1) / np.maximum(seen.sum(0), 1)
            inner_square = np.where(counted, np.maximum(square[default], 0.0), np.nan)

    fitted, misfit = _case(fits, default), misfits[default]
    flags, reasons = _flags(table, fitted, misfit[None])
    spread = _next_scale_spread(misfit, inner_square)

    params = _params(table, fitted, 0)
    samples = jax.tree.map(lambda leaf: leaf[None], params)
    converged = float(fitted.done.mean())
    if resamples:
        counts = np.asarray(runs_.resample_counts(resample_key, runs, resamples), float)
        basis = jax.tree.map(lambda leaf: np.repeat(leaf[default][None], resamples, 0), bases)
        refit_starts = np.concatenate(
            [
                np.broadcast_to(fitted.raw[:, :, None], (resamples, n_tasks, 1, n_raw)),
                _starts(start_key, resamples, n_tasks, 2, n_raw),
            ],
            2,
        )
        refits = _fit_all(table, _precision(table, counts, misfit[None]), basis, refit_starts)
        samples, converged = _params(table, refits, slice(None)), float(refits.done.mean())
    samples = samples._replace(center=table.center, scale=table.scale)
    return AccuracyFit(
        params,
        samples,
        spread,
        np.sqrt((table.binomial * table.seen).sum(0) / np.maximum(table.seen.sum(0), 1)),
        dict(zip(runs.tasks, flags, strict=True)),
        dict(zip(runs.tasks, reasons, strict=True)),
        names[default],
        scores,
        tuple(runs.tasks),
        tuple(runs.sets),
        converged,
    )


def _case(fits: _Fitted, case: int) -> _Fitted:
    return _Fitted(*(leaf[case : case + 1] for leaf in fits))


def _params(table: _Table, fitted: _Fitted, which: Any) -> law.AccuracyParams:
    leaves = (np.asarray(getattr(fitted, name)[which]) for name in _PER_TASK)
    return law.AccuracyParams(*leaves, table.center, table.scale)


def _next_scale_spread(misfit: np.ndarray, inner_square: np.ndarray | None) -> np.ndarray:
    """Model error (T,) expected at the next scale: half from the task's own inner split, half from all tasks' ratio."""
    if inner_square is None:
        return 2 * np.sqrt(misfit)
    counted = np.isfinite(inner_square)
    ratio = max(float(np.sum(inner_square[counted]) / np.sum(misfit[counted])), 1.0)
    own = np.where(counted, inner_square, ratio * misfit)
    return np.sqrt(0.5 * own + 0.5 * ratio * misfit)
