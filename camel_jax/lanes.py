"""Many fits as one batch of lanes: starts x resamples (x sets), chunked, and sharded over the local devices."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from threadpoolctl import threadpool_limits

from camel_jax import gauss_newton, processes, solve
from camel_jax.archive import read_archive, write_archive
from camel_jax.laws.blend import SHARE, join_parts, of_part
from camel_jax.laws.law import Law
from camel_jax.least_squares import Prior, least_squares, quadratic_prior
from camel_jax.linalg_batched import UNROLL
from camel_jax.objective import Data, Robust, objective

Array = Any
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Lanes:
    """What all lanes of one program share; hashable, so that equal settings share one compiled program.

    Attributes:
      law, solver, robust, max_steps: as for ``fit``.
      keep: folder in which finished chunks are kept, and looked for before they are solved; None for none.
    """

    law: Law
    solver: str
    robust: Robust
    max_steps: int | None
    keep: str | None = dataclasses.field(default=None, compare=False)

    def minimize(self, raw: Any, data: Data, warm: Array = False) -> solve.Solution:
        """Minimise the objective from one start with the solver of these lanes; ``warm``: the start is near the solution."""
        limit = {} if self.max_steps is None else {"max_steps": self.max_steps}
        if self.solver == "newton":
            schedule = gauss_newton.Schedule(**limit)
            return gauss_newton.minimize_joint(self.law, raw, data, self.robust, schedule, warm=warm)
        function = objective(self.law, data, self.robust)
        return (solve.adam if self.solver == "adam" else solve.lbfgs)(function, raw, **limit)


class Kept:
    """Chunks that are finished, one file each, named by everything that went into them: a restarted job continues from them.

    Args:
      lanes: settings; nothing is kept where ``lanes.keep`` is None. data: the table.
    """

    def __init__(self, lanes: Lanes, data: Data):
        self.folder = None if lanes.keep is None else pathlib.Path(lanes.keep)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        law = lanes.law
        code = getattr(law.predict, "__code__", None)
        names = (law.name, law.settings, law.predict.__qualname__, lanes.solver, lanes.robust, lanes.max_steps)
        self.digest = hashlib.sha256(repr((names, jax.__version__)).encode())
        self.digest.update(b"" if code is None else code.co_code)
        self._add(self.digest, data)

    @staticmethod
    def _add(digest: Any, tree: Any) -> None:
        leaves, structure = jax.tree.flatten(tree)
        digest.update(str(structure).encode())
        for x in map(np.asarray, leaves):
            digest.update(repr((x.shape, x.dtype.str)).encode() + np.ascontiguousarray(x).tobytes())

    def get(self, inputs: Any, solved: Callable[[], solve.Solution]) -> solve.Solution:
        """The chunk of these inputs, from its file or solved and filed; on the host.

        Raises:
          ArchiveError: the file of the chunk is damaged.
        """
        if self.folder is None:
            return jax.tree.map(np.asarray, solved())
        digest = self.digest.copy()
        self._add(digest, inputs)
        path = self.folder / f"{digest.hexdigest()[:40]}.npz"
        structure = jax.tree.structure(solve.Solution(inputs[0], 0, 0, 0))
        if path.exists():
            arrays = read_archive(path)[1]
            return jax.tree.unflatten(structure, [arrays[f"{i:03d}"] for i in range(len(arrays))])
        solution = jax.tree.map(np.asarray, solved())
        write_archive(path, {}, {f"{i:03d}": x for i, x in enumerate(jax.tree.leaves(solution))})
        return solution


BY_PARTS = "parts"  # the parts of a law, each by its own solver


def best_solver(law: Law, data: Data, raw: Any) -> str:
    """The fastest solver that knows a law on a table, given starts."""
    if law.parts:
        return BY_PARTS
    joint = gauss_newton.supports(law, data, raw)
    return "least_squares" if law.separable else "newton" if joint else "lbfgs"


def _by_parts(
    lanes: Lanes, data: Data, raw: Any, counts: Array | None, warm: bool, chunk: int | None, progress: Progress | None
) -> solve.Solution:
    """Every part of a law by itself; the objective and its progress are the first part's, which takes longest.

    Lanes that are not warm are starts of one table: of a separable part every one gets the best of all, set by set.
    """
    n, n_sets = len(raw[SHARE]), data.log_losses.shape[1]
    solved: dict[str, solve.Solution] = {}
    for name, part in lanes.law.parts:
        own = of_part(raw, name)
        settings = dataclasses.replace(lanes, law=part, solver=best_solver(part, data, own))
        told = progress if not solved else None
        found = solve_lanes(settings, data, own, counts, warm=warm, chunk=chunk, progress=told)
        if part.separable:
            by_set = np.asarray(found.objective).reshape(n, n_sets)
            if not warm:
                best = np.where(np.isfinite(by_set), by_set, np.inf).argmin(0)
                one = jax.tree.map(lambda x, best=best: np.asarray(x)[best, np.arange(n_sets)], found.params)
                found = found._replace(params=jax.tree.map(lambda x: np.broadcast_to(x, (n, *x.shape)), one))
            status, steps = (np.asarray(x).reshape(n, n_sets).max(1) for x in (found.status, found.steps))
            found = solve.Solution(found.params, by_set.sum(1), status, steps)
        solved[name] = found
    first = next(iter(solved.values()))
    params = join_parts(
        {name: jax.tree.map(np.asarray, s.params) for name, s in solved.items()}, np.asarray(raw[SHARE])
    )
    status, steps = (np.max([np.asarray(getattr(s, x)) for s in solved.values()], 0) for x in ("status", "steps"))
    return solve.Solution(params, np.asarray(first.objective), status, steps)


def solve_lanes(
    lanes: Lanes,
    data: Data,
    raw: Any,
    counts: Array | None,
    *,
    warm: bool = False,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> solve.Solution:
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
        return solve.Solution(raw, empty, empty.astype(jnp.int32), empty.astype(jnp.int32))
    if lanes.solver == BY_PARTS:
        return _by_parts(lanes, data, raw, counts, warm, chunk, progress)
    mine = processes.share(n)
    # cut on the host: an eager gather of every leaf would be a program of its own
    raw = jax.tree.map(lambda x: np.asarray(x)[mine], raw)
    counts = None if counts is None else np.asarray(counts)[mine]
    kept = Kept(lanes, data)
    with one_blas_thread():
        if lanes.solver == "least_squares":
            solved = _by_least_squares(lanes, data, raw, counts, kept, progress)
        else:
            solved = _by_chunks(lanes, data, raw, counts, warm, kept, chunk, progress)
    return processes.gather(solved, n)


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
) -> solve.Solution:
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
        part = kept.get((here, times, which[index], warm), use)
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
) -> solve.Solution:
    """A chunk over the devices of a mesh; ``real`` (devices,): how many lanes of each device are no copies."""

    def local(data: Data, raw: Any, counts: Array, which: Array, real: Array, warm: Array) -> solve.Solution:
        def one(args: tuple[Any, Array, Array]) -> solve.Solution:
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


RESAMPLES_A_CALL = 256
FEWEST = 32  # resamples that a program is made for: starts, a default bootstrap and back-tests then share one
NARROW = 8  # lanes that a core steps together, where few are left waiting for the slowest
MANY = 4096  # lanes of a call from which its small laws are stepped in the wider set of ``least_squares``
LEAST_SQUARES_STEPS = 3000  # of a robust fit: reweighted steps are short where most residuals are in the linear zone


def _by_least_squares(
    lanes: Lanes, data: Data, raw: Any, counts: Array | None, kept: Kept, progress: Progress | None
) -> solve.Solution:
    """Every set of a separable law as a lane of the batched least squares solver, which bounds its own memory."""
    law, n_sets = lanes.law, data.log_losses.shape[1]
    n = len(jax.tree.leaves(raw)[0])
    prior = _prior_of_one_set(law, tuple((name, np.shape(x)[2:]) for name, x in sorted(raw.items())))
    target = np.where(np.asarray(data.measured), np.exp(np.asarray(data.log_losses)), np.nan)
    scale = np.asarray(data.weights) / (lanes.robust.delta * lanes.robust.noise)
    most = LEAST_SQUARES_STEPS if lanes.max_steps is None else lanes.max_steps
    options: dict[str, Any] = {"prior": prior, "huber": lanes.robust.delta, "max_steps": most}
    if law.structure is None:
        shape, rows = _one_set(law), data.recipe
    else:
        shape, rows = law.structure(jax.tree.map(lambda x: x[0], raw), data.recipe), None
    # starts too are laid out as resamples, of weight one, so that the back-tests after them run the same program
    options["project"], parts = counts is None, []
    counts = np.ones((n, len(scale))) if counts is None else np.asarray(counts)
    n_params = sum(int(np.prod(np.shape(x)[2:])) for x in raw.values())
    a_call = max(FEWEST, 1 << (min(n, RESAMPLES_A_CALL) - 1).bit_length())
    if jax.local_devices()[0].platform == "cpu" and (n_params > UNROLL or a_call * n_sets < MANY):
        options["lanes"] = NARROW
    for low in range(0, n, a_call):
        some = slice(low, min(low + a_call, n))
        # places that are left hold copies without data, which stop at once
        place = np.minimum(np.arange(low, low + a_call), n - 1)
        own = jax.tree.map(lambda x, place=place: x[place][:, None], raw)
        times = counts[place] * (np.arange(low, low + a_call) < n)[:, None]
        again = {"weights": scale * times, "starts_by_resample": True, **options}
        solved = partial(least_squares, shape, own, target, rows=rows, **again)
        out = kept.get((own, times), lambda solved=solved: solve.Solution(*solved()))
        parts.append(jax.tree.map(lambda x, some=some: x[: some.stop - some.start, 0], tuple(out)))
        if progress is not None:
            progress(some.stop * n_sets, n * n_sets)
    params, *rest = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    return solve.Solution(jax.tree.map(jnp.asarray, params), *(x.reshape(-1) for x in rest))


@lru_cache(maxsize=64)
def _prior_of_one_set(law: Law, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Prior:
    """The Gaussian prior of one set of a separable law, found once a law and layout."""
    single = {name: jnp.zeros(shape) for name, shape in shapes}
    return quadratic_prior(lambda x: law.log_prior(jax.tree.map(lambda leaf: leaf[None], x)), single)


@lru_cache(maxsize=64)
def _one_set(law: Law) -> Callable[[Any, Any], Array]:
    """Prediction for one set of a separable law, from its raw parameters and one row; one object a law, so that jit caches."""

    def predict(raw: Any, recipe: Any) -> Array:
        return law.predict(law.constrain(jax.tree.map(lambda x: x[None], raw)), recipe)[0]

    return predict
