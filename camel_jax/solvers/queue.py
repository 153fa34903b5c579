"""Levenberg-Marquardt on a fixed working set of lanes that refills itself, inside jit and on every local device.

A plain vmap runs every lane until the slowest has stopped. Here finished lanes are written out and replaced by waiting ones every
few steps, so the cost is that of the mean lane. A lane is an index: its start, targets and row weights are gathered when it is
loaded, so that memory is the working set plus the results whatever the number of lanes.

Arrays of the working set carry their lane axis last: every operation is then a loop over contiguous lanes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from camel_jax.numerics.batched import diagonal_rows, solve_packed
from camel_jax.solvers.projection import rescale
from camel_jax.solvers.status import CONVERGED, MAX_STEPS, NO_DATA, NON_FINITE, RUNNING
from camel_jax.types import Array

FAR_CURVATURE = 0.3  # of a residual beyond Huber's delta, in units of what reweighting gives; the true one is zero


class Settings(NamedTuple):
    """Static settings of a run of the queue: another value is another program."""

    lanes: int
    steps_between_refills: int
    robust: bool


class Controls(NamedTuple):
    """Scalars of a run that may change without a new program."""

    max_steps: Array
    rtol: Array
    xtol: Array
    damping: Array
    huber: Array  # delta; read only by a robust run


class Batch(NamedTuple):
    """All lanes: ids run over (resamples B, starts S, sets V), the last fastest.

    Attributes:
      starts: (B or 1, S, V, P).
      targets: (R, V), linked (log losses), 0 where not measured.
      seen: (R, V) boolean, where measured.
      weights: (B, R), any numeric type.
      prior_mean: (P,).
      prior_matrix: (P, P) precision.
      prior_packed: its packed rows, in the order of the model's pairs.
      controls: tolerances and limits.
    """

    starts: Array
    targets: Array
    seen: Array
    weights: Array
    prior_mean: Array
    prior_matrix: Array
    prior_packed: Array
    controls: Controls


class _Lanes(NamedTuple):
    slot: Array  # (L,) where the result goes; the number of slots for an idle lane
    status: Array  # (L,)
    steps: Array  # (L,)
    x: Array  # (P, L) best point
    trial: Array  # (P, L) point to evaluate next
    matrix: Array  # (P (P + 1) / 2, L) J'WJ at x
    gradient: Array  # (P, L)
    cost: Array  # (L,)
    predicted: Array  # (L,) decrease that the model promises for trial
    relative_move: Array  # (L,) |trial - x|^2 / |x|^2 in scaled parameters
    damping: Array  # (L,)
    growth: Array  # (L,)
    targets: Array  # (R, L)
    weights: Array  # (R, L)


def _robust(residual: Array, delta: Array | None) -> tuple[Array, Array | float]:
    """Twice the Huber loss and its IRLS weight."""
    if delta is None:
        return residual * residual, 1.0
    size = jnp.abs(residual)
    inside = size <= delta
    weight = jnp.where(inside, 1.0, delta / jnp.where(inside, 1.0, size))
    return jnp.where(inside, residual * residual, delta * (2.0 * size - delta)), weight


def _step(model: Any, settings: Settings, data: Any, batch: Batch, lanes: _Lanes) -> _Lanes:
    """Evaluate every trial point once, accept or reject it, and propose the next."""
    limits, trial = batch.controls, lanes.trial
    delta = limits.huber if settings.robust else None
    value, jacobian = model.evaluate(data, trial)
    residual = jnp.where(lanes.weights > 0, value - lanes.targets, 0.0)
    rho, robust = _robust(residual, delta)
    pull = batch.prior_matrix @ (trial - batch.prior_mean[:, None])
    if model.scales:
        weights, shares = lanes.weights * robust, model.shares(data, jacobian)
        slopes, chain = jacobian
        moved = rescale(model.scales, shares, slopes, value, residual, weights, pull, batch.prior_matrix)
        trial, jacobian = trial + moved.change, (moved.slopes, chain)
        residual = jnp.where(lanes.weights > 0, moved.value - lanes.targets, 0.0)
        rho, robust = _robust(residual, delta)
        pull = pull + batch.prior_matrix @ moved.change
    weights = lanes.weights * robust
    bend = lanes.weights * jnp.where(robust < 1.0, FAR_CURVATURE * robust, 1.0) if settings.robust else weights
    matrix, gradient = model.normal(data, jacobian, bend, weights * residual)
    from_prior = trial - batch.prior_mean[:, None]
    cost = 0.5 * (jnp.sum(lanes.weights * rho, 0) + jnp.sum(from_prior * pull, 0))
    matrix = matrix + batch.prior_packed[:, None]
    gradient = gradient + pull

    active, fresh = lanes.status == RUNNING, lanes.steps < 0
    finite = jnp.isfinite(cost)
    actual = lanes.cost - cost
    accept = active & finite & (cost < lanes.cost)
    small = (jnp.abs(actual) <= limits.rtol * lanes.cost) & (lanes.predicted <= limits.rtol * lanes.cost)
    still = lanes.relative_move <= limits.xtol**2
    stuck = ~(lanes.damping < 1e30)
    steps = lanes.steps + 1
    status = jnp.where(steps >= limits.max_steps, MAX_STEPS, RUNNING)
    status = jnp.where(stuck, NON_FINITE, status)
    status = jnp.where(~fresh & ((finite & small) | still), CONVERGED, status)
    status = jnp.where(fresh & ~finite, NON_FINITE, status)

    ratio = actual / lanes.predicted
    down = jnp.where(fresh, 1.0, jnp.maximum(1.0 / 3.0, 1.0 - (2.0 * jnp.minimum(ratio, 1.0) - 1.0) ** 3))
    damping = lanes.damping * jnp.where(accept, down, lanes.growth)
    growth = jnp.where(accept, 2.0, 2.0 * lanes.growth)

    x = jnp.where(accept, trial, lanes.x)
    matrix = jnp.where(accept, matrix, lanes.matrix)
    gradient = jnp.where(accept, gradient, lanes.gradient)
    curvature = jnp.stack([matrix[k] for k in diagonal_rows(model.pairs)])
    squared_scale = jnp.where(curvature > 0, curvature, 1.0)
    move = solve_packed(matrix, -gradient, model.pairs, damping * squared_scale)
    return lanes._replace(
        status=jnp.where(active, status, lanes.status),
        steps=jnp.where(active, steps, lanes.steps),
        x=x,
        trial=x + move,
        relative_move=jnp.sum(squared_scale * move**2, 0) / jnp.sum(squared_scale * x**2, 0),
        matrix=matrix,
        gradient=gradient,
        cost=jnp.where(accept, cost, lanes.cost),
        predicted=0.5 * jnp.sum(move * (damping * squared_scale * move - gradient), 0),
        damping=damping,
        growth=growth,
    )


def _load(batch: Batch, lanes: _Lanes, new: Array, ids: Array, slots: Array) -> _Lanes:
    """Put the lanes ``ids`` into the places ``new`` of the working set."""
    n_starts, n_sets = batch.starts.shape[1:3]
    resample, start, which = ids // (n_starts * n_sets), ids // n_sets % n_starts, ids % n_sets
    source = resample if batch.starts.shape[0] > 1 else jnp.zeros_like(resample)
    x = batch.starts[source, start, which].T
    weights = jnp.where(batch.seen[:, which], batch.weights[resample].T.astype(x.dtype), 0.0)
    # a lane that cannot be fitted starts nowhere: it stops at its first step and touches no other
    broken = jnp.any(~(jnp.isfinite(weights) & (weights >= 0)), 0)
    empty = jnp.all(weights == 0, 0)
    return lanes._replace(
        slot=jnp.where(new, slots, lanes.slot),
        status=jnp.where(new, jnp.where(empty, NO_DATA, RUNNING), lanes.status),
        steps=jnp.where(new, -1, lanes.steps),
        x=jnp.where(new, x, lanes.x),
        trial=jnp.where(new, jnp.where(broken, jnp.nan, x), lanes.trial),
        cost=jnp.where(new, jnp.inf, lanes.cost),
        predicted=jnp.where(new, 0.0, lanes.predicted),
        damping=jnp.where(new, batch.controls.damping, lanes.damping),
        growth=jnp.where(new, 2.0, lanes.growth),
        targets=jnp.where(new, batch.targets[:, which], lanes.targets),
        weights=jnp.where(new, weights, lanes.weights),
    )


def _queue(
    model: Any, settings: Settings, n_devices: int, data: Any, batch: Batch
) -> tuple[Array, Array, Array, Array]:
    """All lanes of one device: ids first, first + n_devices, ..."""
    n_starts, n_sets, n_params = batch.starts.shape[1:]
    n_rows, n_ids = batch.targets.shape[0], batch.weights.shape[0] * n_starts * n_sets
    n_slots, n_lanes, dtype = -(-n_ids // n_devices), settings.lanes, batch.starts.dtype
    first = lax.axis_index("lanes") if n_devices > 1 else 0

    def zeros(*shape: int) -> Array:
        return jnp.zeros((*shape, n_lanes), dtype)

    lanes = _Lanes(
        jnp.full(n_lanes, n_slots, jnp.int32),
        jnp.full(n_lanes, CONVERGED, jnp.int32),
        jnp.zeros(n_lanes, jnp.int32),
        zeros(n_params),
        zeros(n_params),
        zeros(len(model.pairs)),
        zeros(n_params),
        zeros(),
        zeros(),
        zeros(),
        zeros(),
        zeros(),
        zeros(n_rows),
        zeros(n_rows),
    )
    out = (
        jnp.zeros((n_slots, n_params), dtype),
        jnp.full(n_slots, jnp.inf, dtype),
        jnp.full(n_slots, RUNNING, jnp.int32),
        jnp.zeros(n_slots, jnp.int32),
    )

    def turn(state):
        lanes, out, waiting = state
        done = lanes.status != RUNNING
        where = jnp.where(done, lanes.slot, n_slots)
        results = (lanes.x.T, lanes.cost, lanes.status, jnp.maximum(lanes.steps, 0))
        # lanes that are idle or running write beyond the end, which is dropped: many writes to one place are slow on a GPU
        out = tuple(o.at[where].set(r, mode="drop") for o, r in zip(out, results, strict=True))
        slots = waiting + jnp.cumsum(done, dtype=jnp.int32) - 1
        ids = slots * n_devices + first
        new = done & (slots < n_slots) & (ids < n_ids)
        lanes = lanes._replace(slot=jnp.where(done, n_slots, lanes.slot))
        lanes = _load(batch, lanes, new, jnp.where(new, ids, 0), slots)
        waiting = jnp.minimum(waiting + jnp.sum(done, dtype=jnp.int32), n_slots)
        step = partial(_step, model, settings, data, batch)
        lanes = lax.fori_loop(0, settings.steps_between_refills, lambda _, lanes: step(lanes), lanes)
        return lanes, out, waiting

    def unfinished(state):
        lanes, _, waiting = state
        return (waiting < n_slots) | jnp.any(lanes.slot < n_slots)

    return lax.while_loop(unfinished, turn, (lanes, out, jnp.int32(0)))[1]


@partial(jax.jit, static_argnums=(0, 1, 2))
def run_queue(model: Any, settings: Settings, mesh: Mesh | None, data: Any, batch: Batch) -> tuple[Array, ...]:
    """Fit every lane of a batch.

    Args:
      model: hashable object with ``pairs``, ``evaluate(data, raw (P, L)) -> (values (R, L), jacobian)`` and
        ``normal(data, jacobian, weights (R, L), weighted_residual (R, L)) -> (packed J'WJ, J'Wr)``; where it has ``scales``, its
        jacobian is (slopes of its groups, chain) and ``shares(data, jacobian)`` are the terms over the whole.
      settings: static settings.
      mesh: one axis "lanes" over the devices, or None for the default device.
      data: pytree of arrays that the model reads.
      batch: the lanes.

    Returns:
      Parameters (n, P), objective (n,), status (n,), steps (n,), with n at least the number of lanes, ordered as
      ``in_order`` undoes.
    """
    n_rows, n_sets = batch.targets.shape
    n_params = batch.prior_mean.shape[0]
    chex.assert_shape(batch.starts, ({1, batch.weights.shape[0]}, None, n_sets, n_params))
    chex.assert_shape([batch.seen, batch.weights], [(n_rows, n_sets), (None, n_rows)])
    chex.assert_shape([batch.prior_matrix, batch.prior_packed], [(n_params, n_params), (len(model.pairs),)])
    if mesh is None:
        return _queue(model, settings, 1, data, batch)
    everywhere, split = PartitionSpec(), PartitionSpec("lanes")
    run = partial(_queue, model, settings, mesh.size)
    return jax.shard_map(run, mesh=mesh, in_specs=(everywhere, everywhere), out_specs=split, check_vma=False)(
        data, batch
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def run_queues(model: Any, settings: Settings, mesh: Mesh, data: Any, batch: Batch) -> tuple[Array, ...]:
    """The same for many tables of one shape: whole tables are split over the devices, which take one after the other.

    Args:
      model, settings: as for ``run_queue``.
      mesh: one axis "tables" over the devices.
      data, batch: with a leading axis of tables, a multiple of the devices.

    Returns:
      As ``run_queue``, with a leading axis of tables; the lanes of each are in order.
    """
    split = PartitionSpec("tables")

    def local(data: Any, batch: Batch) -> tuple[Array, ...]:
        return lax.map(lambda one: _queue(model, settings, 1, *one), (data, batch))

    return jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)(data, batch)


def in_order(result: Array, n_devices: int, n_ids: int) -> np.ndarray:
    """Results of ``run_queue`` by lane id; host side."""
    result = np.asarray(result)
    split = result.reshape(n_devices, -1, *result.shape[1:])
    return np.ascontiguousarray(np.swapaxes(split, 0, 1).reshape(-1, *result.shape[1:])[:n_ids])
