"""Many small sigmoid fits at once: tasks x resamples x starts x priors in one vmapped Levenberg-Marquardt."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.downstream import law
from camel_jax.tables.runs import Runs
from camel_jax.tables.tasks import Task
from camel_jax.types import Array

MIN_ROWS = 8  # fewest rows with losses and an accuracy for a law of three to twelve parameters under priors


class Table(NamedTuple):
    """Losses and accuracies without gaps: missing values are filled and have weight zero."""

    z: np.ndarray  # (R, V)
    accuracy: np.ndarray  # (R, T)
    seen: np.ndarray  # (R, T), 0 or 1
    binomial: np.ndarray  # (R, T) variance from the item count
    chance: np.ndarray  # (T,)
    center: np.ndarray  # (V,)
    scale: np.ndarray  # (V,)
    used: np.ndarray  # (V,) bool: sets measured often enough


def prepare(runs: Runs, tasks: Mapping[str, Task], rows: np.ndarray) -> Table | None:
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
    return Table(z, filled, seen.astype(float), binomial, chance, center, scale, used)


def _minimise(look, start: Array, steps: int = 100, tolerance: float = 1e-7):
    """Levenberg-Marquardt on one small problem; vmap for many. Returns (point, half sum of squares, converged).

    Damping follows the ratio of actual to predicted decrease (Nielsen 1999).

    Args:
      look: ``look(x) -> (half sum of squares, normal matrix, gradient)``.
      start: (P,). steps: at most. tolerance: promised decrease at which a problem counts as solved.
    """

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
    chex.assert_shape([accuracy, precision], (len(starts), len(z)))
    chex.assert_tree_shape_prefix((chance, basis), (len(starts),))

    def one(accuracy, precision, chance, basis, start):
        def look(x):
            return law.normal_equations(law.RawAccuracy(x[0], x[1], x[2], x[3:]), z, accuracy, precision, chance, basis)

        x, cost, done = _minimise(look, start)
        return law.constrain(law.RawAccuracy(x[0], x[1], x[2], x[3:]), chance, basis), x, cost, done

    return jax.vmap(one)(accuracy, precision, chance, basis, starts)


class Fitted(NamedTuple):
    """Best fit of C cases x T tasks."""

    floor: np.ndarray  # (C, T)
    ceiling: np.ndarray
    bias: np.ndarray
    weights: np.ndarray  # (C, T, V)
    raw: np.ndarray  # (C, T, P)
    done: np.ndarray  # (C, T)


def fit_all(table: Table, precision: np.ndarray, bases: law.Basis, starts: np.ndarray) -> Fitted:
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
    # Chunks of one size: one compilation, Jacobians that fit in the cache, and few lanes waiting for the slowest.
    batch, total = 64, len(lanes[-1])
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

    return Fitted._make([*(pick(v) for v in values), pick(raw), pick(done)])


def predict_rows(z: np.ndarray, fitted: Fitted) -> np.ndarray:
    """(C, R, T) accuracies of standardised losses (R, V)."""
    score = fitted.bias[:, None] - np.einsum("rv,ctv->crt", z, fitted.weights)
    rise = 1 / (1 + np.exp(-np.clip(score, -500, 500)))
    return fitted.floor[:, None] + (fitted.ceiling - fitted.floor)[:, None] * rise


def misfit_of(table: Table, fitted: Fitted, parameters: float = 3.0) -> np.ndarray:
    """(C, T) variance of accuracies beyond the binomial part; shrunk towards one point squared, as five rows would."""
    error = (table.accuracy - predict_rows(table.z, fitted)) ** 2
    rows = table.seen.sum(0)
    excess = (table.seen * (error - table.binomial)).sum(1) * rows / np.maximum(rows - parameters, 1)
    return np.maximum(excess, 0) / (rows + 5) + 5 * 0.01**2 / (rows + 5)


def precision_of(table: Table, counts: np.ndarray, misfit: np.ndarray) -> np.ndarray:
    """(C, R, T) weights of the rows from counts (C, R) and misfit variances (C, T)."""
    return counts[:, :, None] * table.seen / (table.binomial + misfit[:, None, :])


@functools.partial(jax.jit, static_argnums=(1, 2))
def _normal(key: Array, n_starts: int, n_raw: int) -> Array:
    return jax.random.normal(key, (n_starts, n_raw))


def random_starts(key: Array, cases: int, n_tasks: int, n_starts: int, n_raw: int) -> np.ndarray:
    """Random starts (C, T, S, P); the same for every case and task, so that an order of tasks cannot matter."""
    # more rows than are wanted are the same rows and then some: one program serves every number of starts
    drawn = np.array(_normal(key, max(n_starts, 6), n_raw), float)[:n_starts] * 0.7
    drawn[:, 3:] *= 0.3
    drawn[0] = 0.0
    return np.broadcast_to(drawn, (cases, n_tasks, n_starts, n_raw))


def two_passes(table: Table, bases: law.Basis, starts: np.ndarray) -> tuple[Fitted, np.ndarray]:
    """Fit, measure the misfit of each task, fit again with it. Returns the fit and the misfit variances (C, T)."""
    counts = np.ones((len(starts), len(table.z)))
    misfit = np.full(starts.shape[:2], 0.02**2)
    fitted = fit_all(table, precision_of(table, counts, misfit), bases, starts)
    misfit = misfit_of(table, fitted)
    again = np.concatenate([fitted.raw[:, :, None], starts[:, :, :1]], 2)
    fitted = fit_all(table, precision_of(table, counts, misfit), bases, again)
    return fitted, misfit_of(table, fitted)
