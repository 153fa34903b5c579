"""Many small non-linear least squares problems at once: Levenberg-Marquardt over resamples x starts x sets.

For every resample b, start s and validation set v, find the raw parameters x that minimise

    1/2 sum_r weights_br rho(link(prediction_r(x)) - link(targets_rv)) + 1/2 (x - mean)' precision (x - mean)

with rho(e) = e^2, or Huber's function (e^2 up to delta, then 2 delta |e| - delta^2) by iteratively re-weighted least squares, and
link the logarithm or the identity. A law is given either by its ``Structure`` (no Jacobian is formed: see ``structure``), or as any
function ``predict(raw, row) -> scalar``, differentiated row by row in reverse mode.

Method: Marquardt's scaling, damping updated by the gain ratio (Nielsen 1999), one evaluation a step for the objective and the
normal equations together; lanes are refilled as they finish (``refill``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from camel_jax.runtime import require_float64
from camel_jax.solvers.autodiff import Grouped, Rowwise, Whole
from camel_jax.solvers.discover import Found, discover
from camel_jax.solvers.prior import Prior, prior_arrays
from camel_jax.solvers.projected_starts import project_all, project_function, project_starts
from camel_jax.solvers.projection import Scale
from camel_jax.solvers.queue import Batch, Controls, Settings, in_order, run_queue
from camel_jax.solvers.structure import Structure, group_products
from camel_jax.types import Array

ANALYZED = 24  # parameters of a function that is analysed: beyond, compiling what is found takes longer than it saves


class LeastSquares(NamedTuple):
    """Outcome of a batch of fits; one entry a lane. Arrays lie on the host.

    Attributes:
      params: best raw parameters met, the pytree of the starts with leaves (B, S, V, ...).
      objective: (B, S, V); inf where the start itself could not be evaluated.
      status: (B, S, V) int32, codes of ``status``; no data where no row has a positive weight and a measured target.
      steps: (B, S, V) int32, trial points evaluated after the start.
    """

    params: Any
    objective: np.ndarray
    status: np.ndarray
    steps: np.ndarray


def least_squares(
    law: Structure | Callable[[Any, Any], Array],
    starts: Any,
    targets: Array,
    *,
    rows: Any = None,
    weights: Array | None = None,
    prior: Prior | None = None,
    huber: float | None = None,
    link: str = "log",
    by_row: bool = True,
    analyze: bool = True,
    starts_by_resample: bool = False,
    project: bool | None = None,
    max_steps: int = 200,
    rtol: float = 1e-8,
    damping: float = 0.1,
    lanes: int | None = None,
    devices: Sequence[Any] | None = None,
) -> LeastSquares:
    """Fit one law to every resample x start x validation set.

    Args:
      law: a ``Structure``, or ``predict(raw, row) -> scalar`` (``predict(raw, rows) -> (R,)`` with ``by_row=False``) giving the
        prediction for one set. Pass the same function object again and nothing is compiled again.
      starts: raw parameters, pytree of leaves (S, V, ...), shared by the resamples.
      targets: (R, V) measured values, in the unit of the predictions; NaN where not measured.
      rows: pytree with leading axis R, the table as ``predict`` reads it; unused with a ``Structure``.
      weights: (B, R) weights of the rows, such as bootstrap multiplicities; any numeric type (int8 saves memory). None for ones.
      prior: quadratic penalty on the raw parameters.
      huber: delta of Huber's function in the unit of the residuals; None for plain squares.
      link: "log" for residuals of logarithms, "identity" for plain ones (functions only).
      by_row: False for a function whose rows depend on one another.
      analyze: look for parameters that share slopes or scale a term, numerically, at a few points (``discover``).
      starts_by_resample: starts have leaves (B, S, V, ...): each resample its own, such as warm starts.
      project: scale the terms of every start by linear least squares first, with the mean weights. Default: where the starts
        are shared by the resamples.
      max_steps: most trial points after the start.
      rtol: stop when the actual and the promised decrease of the objective are both below this fraction of it.
      damping: first damping, relative to the diagonal of J'WJ.
      lanes: size of the working set per device; by default 64 on a CPU, 65,536 on others.
      devices: local devices to split the lanes over; default all.

    Returns:
      A ``LeastSquares`` with leading axes (B, S, V).

    Raises:
      ValueError: shapes that do not fit together, or float32 data.

    >>> import jax.numpy as jnp
    >>> log_size = np.log(np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    >>> def predict(raw, row): return jnp.exp(raw["floor"]) + jnp.exp(raw["scale"] - raw["exponent"] * row)
    >>> truth = {"floor": 0.5, "scale": 1.0, "exponent": 0.4}
    >>> losses = jax.vmap(lambda row: predict(truth, row))(log_size)[:, None]
    >>> starts = {k: np.zeros((1, 1)) for k in truth}
    >>> fit = least_squares(predict, starts, losses, rows=log_size)
    >>> round(float(fit.params["exponent"][0, 0, 0]), 6), int(fit.status[0, 0, 0])
    (0.4, 0)
    """
    given: dict[str, Any] = {
        "rows": rows,
        "weights": weights,
        "prior": prior,
        "huber": huber,
        "link": link,
        "by_row": by_row,
    }
    given |= {"analyze": analyze, "starts_by_resample": starts_by_resample, "project": project, "lanes": lanes}
    ready = prepare(law, starts, targets, max_steps=max_steps, rtol=rtol, damping=damping, devices=devices, **given)
    devices = list(devices) if devices is not None else jax.local_devices()
    mesh = Mesh(np.array(devices), ("lanes",)) if len(devices) > 1 else None
    with jax.default_device(devices[0]):
        out = run_queue(ready.model, ready.settings, mesh, ready.data, ready.batch)
    return ready.finish([in_order(o, len(devices), ready.n_ids) for o in out])


class Prepared(NamedTuple):
    """What the queue reads of a batch of fits, and the way back; ``run_queue`` tells what the attributes are."""

    model: Any
    settings: Settings
    data: Any
    batch: Batch
    n_ids: int
    finish: Callable[[Sequence[np.ndarray]], LeastSquares]


def prepare(
    law: Structure | Callable[[Any, Any], Array],
    starts: Any,
    targets: Array,
    *,
    rows: Any = None,
    weights: Array | None = None,
    prior: Prior | None = None,
    huber: float | None = None,
    link: str = "log",
    by_row: bool = True,
    analyze: bool = True,
    starts_by_resample: bool = False,
    project: bool | None = None,
    max_steps: int = 200,
    rtol: float = 1e-8,
    damping: float = 0.1,
    lanes: int | None = None,
    devices: Sequence[Any] | None = None,
) -> Prepared:
    """The batch of ``least_squares``, ready for the queue."""
    targets = np.asarray(targets, float)
    require_float64("least squares")
    if link not in ("log", "identity"):
        raise ValueError(f"link is 'log' or 'identity', not {link!r}")
    leaves, treedef = jax.tree.flatten(starts)
    leaves = [np.asarray(leaf, float) for leaf in leaves]
    n_rows, n_sets = targets.shape
    counts: Any = np.ones((1, n_rows), np.int8) if weights is None else weights
    n_resamples = counts.shape[0]
    lead = 3 if starts_by_resample else 2
    shapes = tuple(leaf.shape[lead:] for leaf in leaves)
    heads = {leaf.shape[:lead] for leaf in leaves}
    expected = (n_resamples, "S", n_sets) if starts_by_resample else ("S", n_sets)
    if len(heads) != 1 or any(m not in (n, "S") for n, m in zip(next(iter(heads)), expected, strict=True)):
        raise ValueError(f"leaves of starts have leading axes {sorted(heads)}, not {expected}")
    flat = np.concatenate([leaf.reshape(*leaf.shape[:lead], -1) for leaf in leaves], -1)
    flat = flat if starts_by_resample else flat[None]
    _, n_starts, _, n_params = flat.shape
    if counts.shape != (n_resamples, n_rows):
        raise ValueError(f"weights have shape {counts.shape}; targets have {n_rows} rows")
    n_ids = n_resamples * n_starts * n_sets
    if n_ids >= 2**31:
        raise ValueError(f"{n_ids} fits in one call; at most {2**31 - 1}")

    seen = ~np.isnan(targets)
    project = not starts_by_resample if project is None else project
    if isinstance(law, Structure):
        if link != "log":
            raise ValueError("a structured law is fitted in logarithms; give a function for link='identity'")
        model, data = law.form, law.data
        if model.n_params != n_params:
            raise ValueError(f"starts hold {n_params} parameters a set, the structure {model.n_params}")
        if project:
            flat = project_all(partial(project_starts, law.form, law.data), flat, targets, seen, counts)
    else:
        model, data = (Rowwise if by_row else Whole)(law, treedef, shapes, link == "log"), rows
        if isinstance(model, Rowwise) and analyze and n_params <= ANALYZED:
            found = _discover(model, rows, flat)
            if project and found.amplitudes and link == "log":
                flat = project_all(
                    partial(project_function, model, found.amplitudes, rows), flat, targets, seen, counts
                )
            if len(found.groups) < n_params:
                group_features = [found.features[list(g)] for g in found.groups]
                model = Grouped(model, found.groups, found.reference, _scales_found(found) if link == "log" else ())
                data = {"rows": rows, "group_features": group_features, "products": group_products(group_features)}
    with np.errstate(all="ignore"):
        linked = np.log(targets) if link == "log" else targets
    devices = list(devices) if devices is not None else jax.local_devices()
    if lanes is None:
        lanes = 64 if devices[0].platform == "cpu" else 65536
    # the same width whatever the number of devices: matrix products then round alike, and results agree to the last digits
    lanes = min(lanes, -(-n_ids // 16) * 16)
    settings = Settings(lanes, 4, huber is not None)
    controls = Controls(np.int32(max_steps), *np.array([rtol, 1e-12, damping, 1.0 if huber is None else huber]))
    mean, precision = prior_arrays(prior, n_params, flat.dtype)
    packed = precision[tuple(np.array(model.pairs).T)]
    batch = Batch(flat, np.where(seen, linked, 0.0), seen, counts, mean, precision, packed, controls)
    shape = (n_resamples, n_starts, n_sets)

    def finish(out: Sequence[np.ndarray]) -> LeastSquares:
        best, objective, status, steps = out
        split = np.split(best, np.cumsum([int(np.prod(s, dtype=int)) for s in shapes])[:-1], axis=1)
        params = jax.tree.unflatten(treedef, [p.reshape(*shape, *s) for p, s in zip(split, shapes, strict=True)])
        return LeastSquares(params, objective.reshape(shape), status.reshape(shape), steps.reshape(shape))

    return Prepared(model, settings, data, batch, n_ids, finish)


def _scales_found(found: Found) -> tuple[Scale, ...]:
    """Amplitudes of a function, each with the groups that it alone scales."""
    pairs = [(i, groups) for i, groups in zip(found.amplitudes, found.scaled, strict=True) if groups is not None]
    taken = [g for _, groups in pairs for g in groups]
    return tuple(Scale(((i, 1.0),), groups) for i, groups in pairs if all(taken.count(g) == 1 for g in groups))


_found: dict[Any, Found] = {}


def _discover(model: Rowwise, rows: Any, flat: np.ndarray) -> Found:
    """What is found about a function on a table, remembered for the next call."""
    leaves, treedef = jax.tree.flatten(rows)
    key = model, treedef, tuple((np.shape(x), np.asarray(x).tobytes()) for x in leaves)
    if key not in _found:
        points = flat.reshape(-1, flat.shape[-1])
        points = points[np.all(np.isfinite(points), 1)]
        if not len(points):
            return Found(
                tuple((i,) for i in range(model.n_params)), np.ones((model.n_params, 1)), (-1,) * model.n_params, ()
            )
        rng = np.random.default_rng(0)
        points = points[rng.integers(len(points), size=6)] + 0.1 * rng.standard_normal((6, flat.shape[-1]))
        while len(_found) >= 32:
            _found.pop(next(iter(_found)))
        _found[key] = discover(lambda x, row: model.scalar(tuple(x), row), rows, points)
    return _found[key]
