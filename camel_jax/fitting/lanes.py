"""Many fits as one batch of lanes: starts x resamples (x sets), chunked, and sharded over the local devices."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from threadpoolctl import threadpool_limits

from camel_jax.fitting import joint_newton, processes
from camel_jax.fitting.evidence import by_evidence
from camel_jax.fitting.objective import Data
from camel_jax.fitting.plan import BY_EVIDENCE, BY_PARTS, Asking, Lanes, Progress, Request, is_sound, solution_like
from camel_jax.fitting.separable import by_least_squares
from camel_jax.laws.blend import SHARE, join_parts, of_part
from camel_jax.laws.law import Law
from camel_jax.solvers import minimize
from camel_jax.solvers.status import CONVERGED
from camel_jax.storage import Kept
from camel_jax.types import Array


def best_solver(law: Law, data: Data, raw: Any) -> str:
    """The fastest solver that knows a law on a table, given starts."""
    if law.parts:
        return BY_PARTS
    if law.loglinear is not None:
        return BY_EVIDENCE
    joint = joint_newton.supports(law, data, raw)
    return "least_squares" if law.separable else "newton" if joint else "lbfgs"


def ask(request: Request) -> Asking[minimize.Solution]:
    """Ask for lanes; those of a law of parts are asked for part by part.

    The objective and its progress are then the first part's, which takes longest. Lanes that are not warm are starts of one table: of a
    separable part every one gets the best of all, set by set.
    """
    lanes, data, raw, counts, warm, chunk, progress = request
    n, n_sets = len(jax.tree.leaves(raw)[0]), data.log_losses.shape[1]
    if lanes.solver != BY_PARTS or n == 0:
        return (yield request)
    solved: dict[str, minimize.Solution] = {}
    for name, part in lanes.law.parts:
        own = of_part(raw, name)
        if solved and not np.any(np.asarray(raw[SHARE])):  # a part without weight says nothing
            still = np.zeros(n, np.int32)
            solved[name] = minimize.Solution(own, np.zeros(n), still + CONVERGED, still)
            continue
        settings = dataclasses.replace(lanes, law=part, solver=best_solver(part, data, own))
        told = progress if not solved else None
        found = yield Request(settings, data, own, counts, warm, chunk, told)
        if part.separable:
            by_set = np.asarray(found.objective).reshape(n, n_sets)
            if not warm:
                best = np.where(np.isfinite(by_set), by_set, np.inf).argmin(0)
                one = jax.tree.map(lambda x, best=best: np.asarray(x)[best, np.arange(n_sets)], found.params)
                found = found._replace(params=jax.tree.map(lambda x: np.broadcast_to(x, (n, *x.shape)), one))
            status, steps = (np.asarray(x).reshape(n, n_sets).max(1) for x in (found.status, found.steps))
            found = minimize.Solution(found.params, by_set.sum(1), status, steps)
        solved[name] = found
    first = next(iter(solved.values()))
    params = join_parts(
        {name: jax.tree.map(np.asarray, s.params) for name, s in solved.items()}, np.asarray(raw[SHARE])
    )
    status, steps = (np.max([np.asarray(getattr(s, x)) for s in solved.values()], 0) for x in ("status", "steps"))
    return minimize.Solution(params, np.asarray(first.objective), status, steps)


def solve_lanes(
    lanes: Lanes,
    data: Data,
    raw: Any,
    counts: Array | None,
    *,
    warm: bool = False,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> minimize.Solution:
    """Solve every lane of a batch, in chunks, over all local devices and over the processes of a job.

    Args:
      lanes: law, solver and objective.
      data: the table.
      raw: starts, leaves (L, ...); for a separable law (L, V, ...), and every set becomes a lane of its own.
      counts: (L, R) multiplicities of rows, or None for ones.
      warm: the starts are near their solutions, as those of resamples are.
      chunk: lanes at a time; None for a default that keeps memory small.
      progress: called after every chunk.

    Returns:
      ``Solution`` with leaves (L, ...) (params of separable laws (L, V, ...); objective, status and steps (L V,)).
    """
    n = len(jax.tree.leaves(raw)[0])
    if n == 0:
        empty = jnp.zeros(0)
        return minimize.Solution(raw, empty, empty.astype(jnp.int32), empty.astype(jnp.int32))
    mine = processes.share(n)
    # cut on the host: an eager gather of every leaf would be a program of its own
    raw = jax.tree.map(lambda x: np.asarray(x)[mine], raw)
    counts = None if counts is None else np.asarray(counts)[mine]
    kept = lanes.kept(data)
    with one_blas_thread():
        if lanes.solver == BY_EVIDENCE and (form := lanes.law.loglinear) is not None:
            solved = by_evidence(form, data, raw, counts)
        elif lanes.solver == "least_squares":
            solved = by_least_squares(lanes, data, raw, counts, kept, progress)
        else:
            solved = _by_chunks(lanes, data, raw, counts, warm, kept, chunk, progress)
    return processes.gather(solved, n)


def solve_request(request: Request) -> minimize.Solution:
    """The lanes that a fit asks for."""
    lanes, data, raw, counts, warm, chunk, progress = request
    return solve_lanes(lanes, data, raw, counts, warm=warm, chunk=chunk, progress=progress)


def one_blas_thread() -> threadpool_limits:
    """A context in which LAPACK works on one core: threads of its own only wait for each other on the small matrices of a lane."""
    import scipy.linalg  # noqa: F401 jax calls its LAPACK, which has to be loaded before it can be limited

    return threadpool_limits(1, user_api="blas")


IN_TURN = 8  # lanes that every core solves before all wait for the slowest


def _by_chunks(
    lanes: Lanes,
    data: Data,
    raw: Any,
    counts: Array | None,
    warm: bool,
    kept: Kept,
    chunk: int | None,
    progress: Progress | None,
) -> minimize.Solution:
    """The lanes of this process, chunk by chunk over its devices."""
    n, n_sets = len(jax.tree.leaves(raw)[0]), data.log_losses.shape[1]
    lane, which = np.arange(n), np.full(n, -1)
    if lanes.law.separable:
        raw = jax.tree.map(lambda x: np.reshape(x, (n * n_sets, 1, *np.shape(x)[2:])), raw)
        lane, which = np.repeat(lane, n_sets), np.tile(np.arange(n_sets), n)
    devices = np.asarray(jax.local_devices())
    on_cpu, n_devices = devices[0].platform == "cpu", len(devices)
    in_turn = on_cpu and not lanes.law.separable  # one lane after the other on every device
    per_device = (1 if n_devices == 1 else IN_TURN) if in_turn else 16 if on_cpu else 256
    # one shape, and so one program, for any number of lanes that run in turn
    most = (chunk or n_devices * per_device) if in_turn else len(lane)
    chunk = min(chunk or n_devices * per_device, -(-most // n_devices) * n_devices)
    each = -(-chunk // n_devices)
    chunk = each * n_devices
    batch = 1 if in_turn else min(per_device, each) if on_cpu else each
    mesh = Mesh(devices, ("lanes",))
    parts = []
    for low in range(0, len(lane), chunk):
        # lanes are dealt to the devices; what is left of the last chunk holds copies, which are not run where lanes run in turn
        dealt = np.arange(low, low + chunk).reshape(each, n_devices)
        index = np.minimum(dealt.T.ravel(), len(lane) - 1)
        real = np.sum(dealt < len(lane), 0).astype(np.int32)
        here = jax.tree.map(lambda x, index=index: x[index], raw)
        times = np.ones((chunk, data.weights.shape[0])) if counts is None else counts[lane[index]]
        use = partial(_solve_chunk, lanes, mesh, batch, data, here, times, which[index], real, np.array(warm))
        part = kept.get((here, times, which[index], warm), use, solution_like(here, 1), is_sound)
        back = np.arange(chunk).reshape(n_devices, each).T.ravel()[: len(lane) - low]
        parts.append(jax.tree.map(lambda x, back=back: np.asarray(x)[back], part))
        if progress is not None:
            progress(min(low + chunk, len(lane)), len(lane))
    joined = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    if lanes.law.separable:
        joined = joined._replace(params=jax.tree.map(lambda x: x.reshape((n, n_sets, *x.shape[2:])), joined.params))
    return joined


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve_chunk(
    lanes: Lanes, mesh: Mesh, batch: int, data: Data, raw: Any, counts: Array, which: Array, real: Array, warm: Array
) -> minimize.Solution:
    """A chunk over the devices of a mesh; ``real`` (devices,): how many lanes of each device are no copies."""
    chex.assert_tree_shape_prefix((raw, counts, which), which.shape)
    chex.assert_shape([data.log_losses, data.measured], (counts.shape[1], None))
    chex.assert_shape([data.weights, real], [(counts.shape[1],), (mesh.size,)])

    def local(data: Data, raw: Any, counts: Array, which: Array, real: Array, warm: Array) -> minimize.Solution:
        def one(args: tuple[Any, Array, Array]) -> minimize.Solution:
            raw, count, v = args
            own = data._replace(weights=data.weights * count)
            if lanes.law.separable:
                own = own._replace(log_losses=data.log_losses[:, v][:, None], measured=data.measured[:, v][:, None])
            return lanes.minimize(raw, own, warm)

        every = raw, counts, which
        if batch > 1:
            return jax.lax.map(one, every, batch_size=batch)
        at = lambda i: jax.tree.map(lambda x: x[i], every)  # noqa: E731
        shapes = jax.eval_shape(one, at(0))
        out = jax.tree.map(lambda x: jnp.zeros((len(counts), *x.shape), x.dtype), shapes)
        put = lambda i, out: jax.tree.map(lambda all, x: all.at[i].set(x), out, one(at(i)))  # noqa: E731
        return jax.lax.fori_loop(0, real[0], put, out)

    split, whole = PartitionSpec("lanes"), PartitionSpec()
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(whole, split, split, split, split, whole), out_specs=split, check_vma=False
    )
    return sharded(data, raw, counts, which, real, warm)
