"""Fit the benchmark law to a table: which accuracies follow from which losses, how surely, and for which tasks not at all.

``fit_accuracies`` does everything in one call; the ``AccuracyFit`` it returns predicts, draws, names the tasks that must not
be trusted, and turns into plain arrays.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import runs as runs_
from camel_jax import sigmoid_fits as sigmoids
from camel_jax.benchmark_tasks import Task, read_tasks
from camel_jax.laws import accuracy as law
from camel_jax.runs import Runs
from camel_jax.sigmoid_fits import MIN_ROWS, Fitted, Table

__all__ = ["AccuracyDraws", "AccuracyFit", "Task", "fit_accuracies", "read_tasks"]

Array = Any

NORMAL = 1e6  # degrees of freedom without which an older file was written
OK, NO_DATA, AT_CHANCE, DROWNED, LATE = "ok", "no data", "at chance", "drowned in noise", "late take-off"


class AccuracyDraws(NamedTuple):
    """M draws of a benchmark law for T tasks, as arrays: one bootstrap refit and one error of the law each.

    Attributes:
      params: best fit; leaves (T, ...).
      refits: leaves (M, T, ...), centre and scale shared.
      error: (M, T) error of the law at a new scale, as accuracy; the same for every recipe.
    """

    params: law.AccuracyParams
    refits: law.AccuracyParams
    error: Array

    def point(self, losses: Array) -> Array:
        """Accuracies (..., T) of the best fit from losses (..., V) in nats per token."""
        return law.predict_accuracy(self.params, losses)

    def predict(self, losses: Array, noise: Array | float = 0.0) -> Array:
        """Accuracies (M, ..., T) in [0, 1] of every draw from its own losses (M, ..., V); ``noise`` is added before clipping."""
        predicted = jax.vmap(law.predict_accuracy, in_axes=(_PER_DRAW, 0))(self.refits, losses)
        error = self.error.reshape(len(self.error), *(1,) * (predicted.ndim - 2), -1)
        return jnp.clip(predicted + error + noise, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class AccuracyFit:
    """A fitted benchmark law.

    Attributes:
      params: best fit; leaves (T, ...).
      samples: bootstrap refits; leaves (B, T, ...), centre and scale shared.
      spread: (T,) model error at the next scale, as accuracy: what ``draws`` adds to the refits.
      common: share of the model error's variance that all tasks have in common.
      freedom: degrees of freedom of that error, a Student t: how many independent looks its spread rests on.
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
    common: float
    noise: np.ndarray
    flags: dict[str, str]
    reasons: dict[str, str]
    choice: str
    scores: dict[str, float]
    tasks: tuple[str, ...]
    sets: tuple[str, ...]
    status: float = 1.0
    freedom: float = NORMAL

    @property
    def usable(self) -> np.ndarray:
        """(T,) boolean: tasks without a flag, those that objectives average by default."""
        return np.array([self.flags[task] == OK for task in self.tasks], bool)

    def predict(self, losses: Array) -> Array:
        """Accuracies (..., T) from validation losses (..., V) in nats per token; differentiable and jittable."""
        return _predict(self.params, jnp.asarray(losses, float))

    def mean(self, losses: Array) -> Array:
        """Mean accuracy (...) over the usable tasks; the average of predictions, never a law of the average.

        Raises:
          ValueError: every task is flagged.
        """
        if not self.usable.any():
            raise ValueError(f"no task is usable: {self.flags}")
        return self.predict(losses)[..., np.flatnonzero(self.usable)].mean(-1)

    def objective_weights(self) -> dict[str, float]:
        """Equal weights of the usable tasks, by name: what an objective averages by default."""
        return {
            task: 1 / int(self.usable.sum()) for task, usable in zip(self.tasks, self.usable, strict=True) if usable
        }

    def draws(self, losses: Array, key: Array, *, measured: bool = False) -> Array:
        """Accuracies that carry the uncertainty of the losses, of the parameters, and of the law itself.

        Draw m takes the m-th losses, one bootstrap refit, and one error of the law per task. Errors of a law at a new scale
        hit all recipes alike, so within a draw every recipe gets the same one; part of it (``common``) hits all tasks alike.

        Args:
          losses: (M, ..., V) draws of losses; (M identical copies if they are certain).
          key: a ``jax.random`` key.
          measured: add the binomial noise of the items, for intervals that are to cover measured accuracies.

        Returns:
          (M, ..., T) accuracies in [0, 1].
        """
        losses = jnp.asarray(losses, float)
        law_key, noise_key = jax.random.split(key)
        noise = self.noise * jax.random.normal(noise_key, (*losses.shape[:-1], len(self.tasks))) if measured else 0.0
        return _predict_draws(self.sample(law_key, len(losses)), losses, noise)

    def sample(self, key: Array, n_draws: int, tasks: Sequence[str] | None = None) -> AccuracyDraws:
        """Draws of the law, to be paired with as many draws of losses.

        Args:
          key: a ``jax.random`` key; a task gets the same draws whichever other tasks are asked for.
          n_draws: number of draws M; refits are repeated, each time with its own error.
          tasks: names, in the order wanted; None for all tasks.

        Raises:
          ValueError: a task that the law does not have.
        """
        at = positions(self.tasks if tasks is None else tasks, self.tasks, "acc/", "the benchmark law")
        samples = {k: getattr(self.samples, k) for k in _PER_TASK}
        refits, error = _sample(samples, jnp.asarray(self.spread), self.common, self.freedom, key, n_draws)

        def some(leaves: Mapping[str, Array]) -> law.AccuracyParams:
            kept = {
                k: jnp.asarray(leaves[k])[(..., at, slice(None)) if k == "weights" else (..., at)] for k in _PER_TASK
            }
            return law.AccuracyParams(
                **kept, center=jnp.asarray(self.params.center), scale=jnp.asarray(self.params.scale)
            )

        return AccuracyDraws(some(self.params._asdict()), some(refits), error[:, at])

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
            "common": self.common,
            "freedom": self.freedom,
        }
        arrays = {f"accuracy/params/{k}": np.asarray(v) for k, v in self.params._asdict().items()}
        arrays |= {f"accuracy/samples/{k}": np.asarray(getattr(self.samples, k)) for k in _PER_TASK}
        arrays |= {"accuracy/spread": np.asarray(self.spread), "accuracy/noise": np.asarray(self.noise)}
        return arrays | {"accuracy/header": np.frombuffer(json.dumps(header).encode(), np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> AccuracyFit:
        """The inverse of ``to_arrays``; other names in ``arrays`` are ignored.

        Raises:
          ValueError: the arrays hold no benchmark law.
          KeyError, TypeError: they hold a damaged one.
        """
        if "accuracy/header" not in arrays:
            raise ValueError("no benchmark law in this file: it was fitted on a table without accuracies")
        header = json.loads(bytes(np.asarray(arrays["accuracy/header"])).decode())
        header["tasks"], header["sets"] = tuple(header["tasks"]), tuple(header["sets"])
        names = law.AccuracyParams._fields
        params = law.AccuracyParams(*(np.asarray(arrays[f"accuracy/params/{k}"]) for k in names))
        per_task = {k: np.asarray(arrays[f"accuracy/samples/{k}"]) for k in _PER_TASK}
        spread, noise = np.asarray(arrays["accuracy/spread"]), np.asarray(arrays["accuracy/noise"])
        return cls(params, params._replace(**per_task), spread, noise=noise, **header)


_PER_TASK = ("floor", "ceiling", "bias", "weights")
_PER_DRAW = law.AccuracyParams(0, 0, 0, 0, None, None)  # axes of a draw  # pyright: ignore[reportArgumentType]
_predict = jax.jit(law.predict_accuracy)
_predict_draws = jax.jit(AccuracyDraws.predict)


@functools.partial(jax.jit, static_argnames="n_draws")
def _sample(
    samples: dict[str, Array], spread: Array, common: Array, freedom: Array, key: Array, n_draws: int
) -> tuple[Any, Array]:
    pick_key, own_key, common_key = jax.random.split(key, 3)
    pick = jax.random.permutation(pick_key, jnp.arange(n_draws) % samples["bias"].shape[0])
    own = jax.random.normal(own_key, (n_draws, len(spread)))
    error = jnp.sqrt(1 - common) * own + jnp.sqrt(common) * jax.random.normal(common_key, (n_draws, 1))
    # one factor a draw: if the spread was judged too small, it was for all tasks
    squares = jax.random.chisquare(jax.random.fold_in(common_key, 1), freedom, (n_draws, 1))
    return {name: leaf[pick] for name, leaf in samples.items()}, spread * error * jnp.sqrt(freedom / squares)


def positions(wanted: Sequence[str], names: Sequence[str], prefix: str, owner: str) -> np.ndarray:
    """Where names stand in a longer list, (len(wanted),).

    Args:
      wanted: names to find. names: where to find them. prefix, owner: what they are and whose, for the message.

    Raises:
      ValueError: naming every name that is not there.

    >>> positions(["b"], ["a", "b"], "loss/", "the fit").tolist()
    [1]
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        shown = ", ".join(prefix + name for name in missing)
        raise ValueError(f"{owner} does not have {shown}; it has {', '.join(prefix + name for name in names)}")
    return np.array([list(names).index(name) for name in wanted], int)


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
    predicted = sigmoids.predict_rows(table.z, fitted)[0]
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
    """
    tasks = dict(tasks or {})
    if not runs.tasks or np.shape(runs.accuracies)[-1] == 0:
        raise ValueError("benchmark law: the table has no accuracies (columns acc/<task>)")
    sizes = np.asarray(runs.recipe.n_active, float)
    table = sigmoids.prepare(runs, tasks, np.ones(len(sizes), bool))
    if table is None:
        raise ValueError(f"benchmark law: at least {MIN_ROWS} rows need all of their losses")
    n_tasks, n_raw = len(runs.tasks), 4 + int(table.used.sum())
    names, bases = _candidates(table)
    if choice is not None and choice not in names:
        raise ValueError(f"benchmark law: unknown prior {choice!r}, one of {names}")

    start_key, resample_key = jax.random.split(key)
    fits, misfits = sigmoids.two_passes(
        table, bases, sigmoids.random_starts(start_key, len(names), n_tasks, starts, n_raw)
    )
    default = names.index(choice or DEFAULT_PRIOR)
    flags, reasons = _flags(table, _case(fits, default), misfits[default][None])
    usable = np.array([flag == OK for flag in flags])

    scores, inner_error = {}, None
    below = sizes < sizes.max()
    inner = sigmoids.prepare(runs, tasks, below)
    if inner is not None and (inner.used == table.used).all() and usable.any():
        inner_starts = sigmoids.random_starts(start_key, len(names), n_tasks, starts, n_raw)
        inner_fits, _ = sigmoids.two_passes(inner, _candidates(inner)[1], inner_starts)
        seen = np.where(~below[:, None], table.seen, 0.0)
        error = np.where(seen > 0, sigmoids.predict_rows(inner.z, inner_fits) - table.accuracy, 0.0)
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
        counts = np.asarray(runs_.resample_counts(resample_key, runs, resamples), float)
        basis = jax.tree.map(lambda leaf: np.repeat(leaf[default][None], resamples, 0), bases)
        refit_starts = np.concatenate(
            [
                np.broadcast_to(fitted.raw[:, :, None], (resamples, n_tasks, 1, n_raw)),
                sigmoids.random_starts(start_key, resamples, n_tasks, 2, n_raw),
            ],
            2,
        )
        refits = sigmoids.fit_all(table, sigmoids.precision_of(table, counts, misfit[None]), basis, refit_starts)
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
    leaves = (np.asarray(getattr(fitted, name)[which]) for name in _PER_TASK)
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
