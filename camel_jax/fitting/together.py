"""Lanes of many tables solved in one program: requests of one shape are stacked, each device takes whole lanes or tables in turn.

The numbers are those of the requests one by one; what is saved is the call, and the time that devices wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from camel_jax.fitting.lanes import one_blas_thread, solve_request
from camel_jax.fitting.objective import Data
from camel_jax.fitting.plan import Lanes, Request
from camel_jax.fitting.separable import common_of, joined, places_of
from camel_jax.solvers.least_squares import prepare
from camel_jax.solvers.minimize import Solution
from camel_jax.solvers.queue import run_queues
from camel_jax.types import Array


def solve_together(requests: Sequence[Request]) -> list[Solution]:
    """The solutions of requests, in their order; those of one shape are solved by one program."""
    groups: dict[Any, list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault(_shape_of(request), []).append(i)
    out: list[Any] = [None] * len(requests)
    for members in groups.values():
        for i, solution in zip(members, _solve_group([requests[i] for i in members]), strict=True):
            out[i] = solution
    return out


def _shape_of(request: Request) -> Any:
    """What requests of one program have in common."""
    arrays, tree = jax.tree.flatten((request.data, request.raw, request.counts))
    return request.lanes, request.warm, tree, tuple((np.shape(x), np.dtype(x.dtype)) for x in arrays)


def _solve_group(requests: Sequence[Request]) -> list[Solution]:
    """The solutions of requests of one shape."""
    first = requests[0]
    n = len(jax.tree.leaves(first.raw)[0])
    if n == 0 or len(requests) == 1:
        return [solve_request(request) for request in requests]
    with one_blas_thread():
        if first.lanes.solver == "least_squares":
            return _by_queues(requests, n)
        if first.lanes.law.separable:
            return [solve_request(request) for request in requests]
        return _in_turn(requests, n)


def _padded(n: int) -> int:
    """Places for ``n`` tables: a power of two, so that batches of different lengths share their programs."""
    return 1 << max(n - 1, len(jax.local_devices()) - 1).bit_length()


def _stack(trees: Sequence[Any], places: int) -> Any:
    """Trees of equal shapes stacked on the host; the places that are left hold the first again."""
    every = [*trees, *[trees[0]] * (places - len(trees))]
    return jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *every)


def _by_queues(requests: Sequence[Request], n: int) -> list[Solution]:
    """Lanes of separable laws, by the queue of the least squares solver."""
    commons = [common_of(r.lanes, r.data, jax.tree.map(np.asarray, r.raw), r.counts) for r in requests]
    if commons[0].wide or n > commons[0].a_call:
        return [solve_request(request) for request in requests]
    ready = []
    for request, common in zip(requests, commons, strict=True):
        own, times = places_of(common, jax.tree.map(np.asarray, request.raw), 0)
        given = {"rows": common.rows, "weights": common.scale * times, **common.options}
        ready.append(prepare(common.law, own, common.target, **given))
    alike: dict[Any, list[int]] = {}
    for i, one in enumerate(ready):
        shapes = tuple(np.shape(x) for x in jax.tree.leaves((one.data, one.batch)))
        alike.setdefault((one.model, one.settings, shapes), []).append(i)
    solutions: list[Any] = [None] * len(requests)
    for (model, settings, _), members in alike.items():
        places = _padded(len(members))
        data, batch = (_stack([getattr(ready[i], name) for i in members], places) for name in ("data", "batch"))
        batch = batch._replace(weights=batch.weights * (np.arange(places) < len(members))[:, None, None])
        mesh = Mesh(np.asarray(jax.local_devices()), ("tables",))
        out = [np.asarray(x) for x in run_queues(model, settings, mesh, data, batch)]
        for place, i in enumerate(members):
            found = ready[i].finish([x[place, : ready[i].n_ids] for x in out])
            solutions[i] = joined([jax.tree.map(lambda x: x[:n, 0], tuple(found))])
    return solutions


def _in_turn(requests: Sequence[Request], n: int) -> list[Solution]:
    """Lanes of joint laws: every device solves one after the other, whichever table it belongs to."""
    first, places = requests[0], _padded(len(requests))
    devices = np.asarray(jax.local_devices())
    data = _stack([r.data for r in requests], places)
    raw = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), _stack([r.raw for r in requests], places))
    rows = np.shape(first.data.weights)[0]
    ones = np.ones((n, rows))
    counts = _stack([ones if r.counts is None else r.counts for r in requests], places).reshape(-1, rows)
    each = -(-places * n // len(devices))
    index = np.arange(each * len(devices)).reshape(each, -1).T.ravel()  # dealt, so that no device has all the long ones
    lane = np.minimum(index, places * n - 1)
    real = np.sum(index.reshape(len(devices), -1) < len(requests) * n, 1).astype(np.int32)
    here = jax.tree.map(lambda x: x[lane], raw)
    mesh = Mesh(devices, ("lanes",))
    out = _solve_tables(first.lanes, mesh, data, here, counts[lane], lane // n, real, np.array(first.warm))
    back = np.argsort(index, kind="stable")
    whole = jax.tree.map(lambda x: np.asarray(x)[back], out)
    return [jax.tree.map(lambda x, i=i: x[i * n : (i + 1) * n], whole) for i in range(len(requests))]


@partial(jax.jit, static_argnums=(0, 1))
def _solve_tables(
    lanes: Lanes, mesh: Mesh, data: Data, raw: Any, counts: Array, table: Array, real: Array, warm: Array
) -> Solution:
    def local(data: Data, raw: Any, counts: Array, table: Array, real: Array, warm: Array) -> Solution:
        def one(i: Array) -> Solution:
            start, count, which = jax.tree.map(lambda x: x[i], (raw, counts, table))
            own = jax.tree.map(lambda x: x[which], data)
            return lanes.minimize(start, own._replace(weights=own.weights * count), warm)

        shapes = jax.eval_shape(one, 0)
        out = jax.tree.map(lambda x: jnp.zeros((len(counts), *x.shape), x.dtype), shapes)
        put = lambda i, out: jax.tree.map(lambda all, x: all.at[i].set(x), out, one(i))  # noqa: E731
        return jax.lax.fori_loop(0, real[0], put, out)

    split, whole = PartitionSpec("lanes"), PartitionSpec()
    specs = (whole, split, split, split, split, whole)
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(
        data, raw, counts, table, real, warm
    )
