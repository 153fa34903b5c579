"""Robust least squares of hundreds of parameters a fit: one lane after the other on every device, each by dense matrix products.

The same objective as ``least_squares``,

    1/2 sum_r w_r rho(log prediction_r(x) - log target_r) + 1/2 (x - mean)' precision (x - mean),

rho being Huber's function, by Gauss-Newton steps with Marquardt's damping. Two things keep the steps few and small:

- **Homotopy in delta**: it starts near the size of the residuals and shrinks; at its final value most residuals lie in the linear zone,
  where reweighted steps crawl.
- **The smaller of two systems**: with fewer rows than parameters and a prior whose precision is a diagonal D, a step solves the rows'
  system: (A'A + D)^-1 g = D^-1 g - D^-1 A' (1 + A D^-1 A')^-1 A D^-1 g. Where that is large, too, its matrix is multiplied out in
  float32, which a damped step does not notice. (Conjugate gradients took steps in half of that time, and needed four times as many.)
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from camel_jax.solvers.autodiff import Rowwise
from camel_jax.solvers.least_squares import LeastSquares
from camel_jax.solvers.prior import Prior, prior_arrays
from camel_jax.solvers.status import CONVERGED, MAX_STEPS, NO_DATA, NON_FINITE, RUNNING
from camel_jax.types import Array

WINDOW, TRIALS = 5, 8  # steps between two looks at the progress; dampings tried at one step
SHRINK, FOLLOW, FIRST = 0.7, 2.0, 2.0  # of delta: at a good step, at most and at first in units of the mean residual
LINEAR = 0.5  # share of the reweighted curvature kept in the linear zone
SINGLE = 300  # unknowns of a system beyond which its matrix is multiplied out in float32


class _System(NamedTuple):
    """Which linear system a step solves: that of the rows or of the parameters; ``single``: its matrix multiplied out in float32."""

    by_rows: bool
    single: bool


class _Limits(NamedTuple):
    delta: Array
    max_steps: Array
    rtol: Array


class _State(NamedTuple):
    x: Array
    value: Array
    delta: Array
    damping: Array
    window_value: Array
    status: Array
    steps: Array


def wide_least_squares(
    predict: Any,
    starts: Any,
    targets: Array,
    *,
    rows: Any,
    weights: Array,
    prior: Prior,
    huber: float,
    max_steps: int = 300,
    rtol: float = 1e-5,
) -> LeastSquares:
    """Fit a law of many parameters to every resample and validation set.

    Args:
      predict: ``predict(raw, row) -> scalar``, the prediction for one set.
      starts: raw parameters, leaves (B, V, ...).
      targets: (R, V) measured values; NaN where not measured.
      rows: pytree with leading axis R, the table as ``predict`` reads it.
      weights: (B, R) weights of the rows.
      prior: quadratic penalty on the raw parameters of one set.
      huber: delta of Huber's function, in logarithms.
      max_steps: most steps of a lane.
      rtol: stop when ``WINDOW`` steps together improve the objective by less than this fraction.

    Returns:
      A ``LeastSquares`` with leading axes (B, V); arrays lie on the host.

    >>> size = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    >>> def predict(raw, row): return jnp.exp(raw["scale"] - raw["exponent"] * jnp.log(row))
    >>> starts = {"scale": np.zeros((1, 1)), "exponent": np.zeros((1, 1))}
    >>> prior = Prior(np.zeros(2), np.full(2, 1e-6))
    >>> fit = wide_least_squares(predict, starts, 2 / size[:, None], rows=size, weights=np.ones((1, 5)), prior=prior, huber=0.01)
    >>> round(float(fit.params["exponent"][0, 0]), 4), int(fit.status[0, 0])
    (1.0, 0)
    """
    targets, weights = np.asarray(targets, float), np.asarray(weights, float)
    leaves, treedef = jax.tree.flatten(starts)
    leaves = [np.asarray(leaf, float) for leaf in leaves]
    shapes = tuple(leaf.shape[2:] for leaf in leaves)
    n, n_sets = leaves[0].shape[:2]
    flat = np.concatenate([leaf.reshape(n * n_sets, -1) for leaf in leaves], 1)
    mean, precision = prior_arrays(prior, flat.shape[1], flat.dtype)
    diagonal = not np.any(precision - np.diag(np.diag(precision)))
    by_rows = diagonal and len(targets) < flat.shape[1]
    system = _System(by_rows, (len(targets) if by_rows else flat.shape[1]) > SINGLE)
    seen = ~np.isnan(targets)
    with np.errstate(all="ignore"):
        logs = np.where(seen, np.log(targets), 0.0)
    devices = np.asarray(jax.local_devices())
    each = -(-len(flat) // len(devices))
    # dealt to the devices; what is left over holds the last lane again, without weights
    index = np.arange(each * len(devices)).reshape(each, -1).T.ravel()
    lane = np.minimum(index, len(flat) - 1)
    model = Rowwise(predict, treedef, shapes, True)
    limits = _Limits(*(np.asarray(x, float) for x in (huber, max_steps, rtol)))
    some = flat[lane], lane // n_sets, lane % n_sets, index < len(flat)
    table = logs.T, np.where(seen, 1.0, 0.0).T, weights
    out = _run(model, system, Mesh(devices, ("lanes",)), rows, some, table, (mean, precision), limits)
    order = np.argsort(index, kind="stable")[: len(flat)]
    x, objective, status, steps = (np.asarray(o)[order] for o in out)
    parts = np.split(x, np.cumsum([int(np.prod(s, dtype=int)) for s in shapes])[:-1], axis=1)
    params = [p.reshape(n, n_sets, *s) for p, s in zip(parts, shapes, strict=True)]
    return LeastSquares(
        jax.tree.unflatten(treedef, params), *(o.reshape(n, n_sets) for o in (objective, status, steps))
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _run(
    model: Rowwise, system: _System, mesh: Mesh, rows: Any, lanes: Any, table: Any, prior: Any, limits: _Limits
) -> tuple[Array, ...]:
    def local(rows: Any, lanes: Any, table: Any, prior: Any, limits: _Limits) -> tuple[Array, ...]:
        logs, seen, weights = table

        def one(lane: Any) -> tuple[Array, ...]:
            x, resample, which, real = lane
            return _solve(model, system, rows, x, logs[which], weights[resample] * seen[which] * real, prior, limits)

        return jax.lax.map(one, lanes)

    split, whole = PartitionSpec("lanes"), PartitionSpec()
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(whole, split, whole, whole, whole), out_specs=split, check_vma=False
    )
    return sharded(rows, lanes, table, prior, limits)


def _solve(
    model: Rowwise, system: _System, rows: Any, x: Array, logs: Array, weights: Array, prior: Any, limits: _Limits
) -> tuple[Array, ...]:
    """One lane: ``weights`` are those at the final delta."""
    mean, precision = prior

    def log_prediction(x: Array, row: Any) -> Array:
        return jnp.log(model.whole(x, row))

    def residual_of(x: Array) -> Array:
        return jnp.where(weights > 0, jax.vmap(log_prediction, (None, 0))(x, rows) - logs, 0.0)

    def objective(x: Array, residual: Array, delta: Array) -> Array:
        size = jnp.abs(residual)
        lost = jnp.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))
        away = x - mean
        return jnp.sum(weights * lost) * (limits.delta / delta) + 0.5 * away @ precision @ away

    def mean_size(residual: Array) -> Array:
        return jnp.sum(weights * jnp.abs(residual)) / jnp.maximum(jnp.sum(weights), 1e-300)

    def step(state: _State) -> _State:
        x, delta = state.x, state.delta
        value, slopes = jax.vmap(jax.value_and_grad(log_prediction), (None, 0))(x, rows)
        slopes = jnp.where(weights[:, None] > 0, slopes, 0.0)
        residual = jnp.where(weights > 0, value - logs, 0.0)
        size, scale = jnp.abs(residual), weights * (limits.delta / delta)
        curvature = scale * jnp.where(size <= delta, 1.0, LINEAR * delta / jnp.maximum(size, delta))
        gradient = (scale * jnp.clip(residual, -delta, delta)) @ slopes + precision @ (x - mean)
        half = jnp.sqrt(curvature)[:, None] * slopes
        diagonal = jnp.sum(half**2, 0) + jnp.diagonal(precision) + 1e-12

        def product(left: Array, right: Array) -> Array:
            if system.single:
                left, right = left.astype(jnp.float32), right.astype(jnp.float32)
            return (left @ right).astype(x.dtype)

        matrix = None if system.by_rows else product(half.T, half) + precision

        def move(damping: Array) -> Array:
            if matrix is None:
                inverse = 1.0 / (jnp.diagonal(precision) + damping * diagonal)
                root = half * jnp.sqrt(inverse)
                within = product(root, root.T) + jnp.eye(len(half))
                told = _solve_one(within, half @ (inverse * gradient))
                return -inverse * (gradient - half.T @ told)
            return -_solve_one(matrix + jnp.diag(damping * diagonal), gradient)

        def trial(carry: Any) -> Any:
            at, damping, best, _, tried, _, residual = carry
            change = move(damping)
            new = x + change
            new_residual = residual_of(new)
            new_value = objective(new, new_residual, delta)
            promised = 0.5 * (damping * jnp.sum(diagonal * change**2) - gradient @ change)
            gain = (state.value - new_value) / jnp.maximum(promised, 1e-300)
            good = jnp.isfinite(new_value) & (new_value < state.value)
            after = jnp.maximum(damping * jnp.where(gain > 0.7, 0.2, jnp.where(gain > 0.25, 1.0, 3.0)), 1e-8)
            damping = jnp.where(good, after, damping * 5.0)
            pick = lambda new, old: jnp.where(good, new, old)  # noqa: E731
            return pick(new, at), damping, pick(new_value, best), good, tried + 1, gain, pick(new_residual, residual)

        first = x, state.damping, state.value, jnp.array(False), 0, jnp.zeros_like(delta), residual
        x, damping, _, good, _, gain, residual = jax.lax.while_loop(lambda c: ~c[3] & (c[4] < TRIALS), trial, first)
        steps, final = state.steps + 1, delta <= limits.delta
        next_delta = jnp.maximum(limits.delta, jnp.minimum(delta * SHRINK, FOLLOW * mean_size(residual)))
        delta = jnp.where((gain > 0.1) | ~good, next_delta, delta)
        value = objective(x, residual, delta)
        look = steps % WINDOW == 0
        small = state.window_value - value <= limits.rtol * jnp.abs(value)
        status = jnp.where(final & ((look & small) | ~good), CONVERGED, RUNNING)
        status = jnp.where(jnp.isfinite(value), status, NON_FINITE).astype(jnp.int32)
        window_value = jnp.where(~final, jnp.inf, jnp.where(look, value, state.window_value))
        return _State(x, value, delta, jnp.where(good, damping, 1e-2), window_value, status, steps)

    residual = residual_of(x)
    delta = jnp.maximum(limits.delta, FIRST * mean_size(residual))
    value = objective(x, residual, delta)
    status = jnp.where(jnp.isfinite(value), RUNNING, NON_FINITE)
    status = jnp.where(jnp.any(weights > 0), status, NO_DATA).astype(jnp.int32)
    first = _State(x, value, delta, jnp.asarray(1e-2), jnp.asarray(jnp.inf), status, jnp.int32(0))
    last = jax.lax.while_loop(lambda s: (s.status == RUNNING) & (s.steps < limits.max_steps), step, first)
    status = jnp.where(last.status == RUNNING, MAX_STEPS, last.status)
    value = objective(last.x, residual_of(last.x), limits.delta)
    return last.x, jnp.where(jnp.isfinite(value), value, jnp.inf), status, last.steps


def _solve_one(matrix: Array, right: Array) -> Array:
    left = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    half = jax.lax.linalg.triangular_solve(left, right[:, None], left_side=True, lower=True)
    return jax.lax.linalg.triangular_solve(left, half, left_side=True, lower=True, transpose_a=True)[:, 0]
