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
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from camel_jax.amplitudes import Scale
from camel_jax.discover import Found, discover
from camel_jax.plain_law import Grouped, Rowwise, Whole
from camel_jax.refill import CONVERGED, MAX_STEPS, NO_DATA, NON_FINITE, Batch, Controls, Settings, in_order, run_queue
from camel_jax.structure import Form, Structure, Term, group_products, structure

__all__ = [
    "STATUS_NAMES",
    "LeastSquares",
    "Prior",
    "Structure",
    "Term",
    "least_squares",
    "quadratic_prior",
    "structure",
]

Array = Any

ANALYZED = 24  # parameters of a function that is analysed: beyond, compiling what is found takes longer than it saves
LEAST_SHARE = 0.05  # of a term after projection: a term that starts at nothing has no gradient to grow from

STATUS_NAMES = {
    CONVERGED: "converged",
    MAX_STEPS: "step limit reached",
    NON_FINITE: "non-finite value",
    NO_DATA: "no row with a positive weight and a measured target",
}


class LeastSquares(NamedTuple):
    """Outcome of a batch of fits; one entry a lane. Arrays lie on the host.

    Attributes:
      params: best raw parameters met, the pytree of the starts with leaves (B, S, V, ...).
      objective: (B, S, V); inf where the start itself could not be evaluated.
      status: (B, S, V) int32: 0 converged, 1 step limit reached, 2 non-finite value, 3 no data.
      steps: (B, S, V) int32, trial points evaluated after the start.
    """

    params: Any
    objective: np.ndarray
    status: np.ndarray
    steps: np.ndarray


class Prior(NamedTuple):
    """Quadratic penalty 1/2 (x - mean)' precision (x - mean) on the flat raw parameters of one set.

    Attributes:
      mean: (P,).
      precision: (P, P), symmetric and positive semi-definite, or its diagonal (P,).
    """

    mean: Any
    precision: Any


def _scales(terms: Array, rest: Array | float, targets: Array, weights: Array) -> Array:
    """Non-negative weighted least squares of the relative error of rest + sum_i s_i terms_i; logarithms of s, (I, L).

    terms (I, R, L), rest and targets (R, L) in nats, weights (R, L). Terms keep at least ``LEAST_SHARE`` of the mean target.
    """
    relative = jnp.where(weights > 0, terms / targets, 0.0)
    wanted = jnp.where(weights > 0, 1.0 - rest / targets, 0.0)
    gram = jnp.einsum("irl,jrl->ijl", relative * weights, relative)
    rhs = jnp.sum(relative * weights * wanted, 1)
    mean = jnp.sum(relative * weights, 1) / jnp.maximum(jnp.sum(weights, 0), 1e-300)
    lowest = LEAST_SHARE / jnp.maximum(mean, 1e-300)
    n = len(terms)
    inverse = [1.0 / jnp.maximum(gram[i, i], 1e-300) for i in range(n)]

    def sweep(_, s):
        s = list(s)
        for i in range(n):
            apart = sum((gram[i, j] * s[j] for j in range(n) if j != i), start=0.0)
            s[i] = jnp.maximum((rhs[i] - apart) * inverse[i], lowest[i])
        return tuple(s)

    return jnp.log(jnp.stack(lax.fori_loop(0, 300, sweep, tuple(jnp.ones_like(rhs)))))


@partial(jax.jit, static_argnums=0)
def _project(form: Form, data: Any, starts: Array, targets: Array, weights: Array) -> Array:
    """Starts (P, L) of a structured law with the scales of its terms solved for."""
    movable = [i for i, a in enumerate(form.amplitudes) if a]
    if not movable:
        return starts
    terms = form.scaled_terms(data, starts)
    rest = sum((t for i, t in enumerate(terms) if i not in movable), start=0.0)
    factors = _scales(jnp.stack([terms[i] for i in movable]), rest, targets, weights)
    moved = starts
    for i, factor in zip(movable, factors, strict=True):
        for k in form.amplitudes[i]:
            # every branch of a term moves together: the term is homogeneous of degree 1 (coupled) or `power`
            moved = moved.at[k].add(factor / (1.0 if form.couplings[i] >= 0 else form.powers[i]))
    return jnp.where(jnp.all(jnp.isfinite(moved), 0), moved, starts)


@partial(jax.jit, static_argnums=(0, 1))
def _project_function(
    model: Rowwise, amplitudes: tuple[int, ...], rows: Any, starts: Array, targets: Array, weights: Array
) -> Array:
    """The same for a function, at the parameters found to be logarithms of amplitudes: the derivative is the term."""
    one = jax.value_and_grad(model.scalar)
    over_lanes = jax.vmap(one, in_axes=(0, None))
    value, slopes = jax.vmap(over_lanes, in_axes=(None, 0))(tuple(starts), rows)
    terms = jnp.stack([slopes[i] for i in amplitudes])
    factors = _scales(terms, value - jnp.sum(terms, 0), targets, weights)
    moved = starts.at[np.array(amplitudes)].add(factors)
    return jnp.where(jnp.all(jnp.isfinite(moved), 0), moved, starts)


def quadratic_prior(log_prior: Callable[[Any], Array], raw: Any) -> Prior:
    """The ``Prior`` that a quadratic log density amounts to; host side.

    Args:
      log_prior: ``log_prior(raw) -> scalar``, a quadratic function of the raw parameters of one set.
      raw: raw parameters of one set, any values.

    Returns:
      Mean and precision over the flattened raw parameters, so that the penalty and -log_prior have the same derivatives.

    Raises:
      ValueError: the function is not quadratic, or not concave.

    >>> quadratic_prior(lambda x: -0.5 * 3.0 * ((x - 2.0) ** 2).sum(), jnp.zeros(2)).mean.tolist()
    [2.0, 2.0]
    """
    flat, unravel = jax.flatten_util.ravel_pytree(raw)

    def penalty(x: Array) -> Array:
        return -log_prior(unravel(x)) * jnp.ones(())

    # the gradient of a quadratic at 0 and at the unit vectors is all there is; one more point tells whether it is one
    probe = 2.0 * np.sin(1.0 + 7.0 * np.arange(flat.size))
    points = np.concatenate([np.zeros((1, flat.size)), np.eye(flat.size), probe[None]])
    slopes = np.asarray(jax.jit(jax.vmap(jax.grad(penalty)))(points), float)
    precision = slopes[1:-1] - slopes[0]
    precision = 0.5 * (precision + precision.T)
    mean = -np.linalg.pinv(precision, rcond=1e-12, hermitian=True) @ slopes[0]
    expected = precision @ (probe - mean)
    if not np.allclose(slopes[-1], expected, rtol=1e-6, atol=1e-6 * (1.0 + np.abs(expected).max(initial=0))):
        raise ValueError("log_prior is not quadratic in the raw parameters; least squares takes quadratic priors only")
    if np.linalg.eigvalsh(precision).min(initial=0) < -1e-9 * (1 + np.abs(precision).max(initial=0)):
        raise ValueError("log_prior is not concave: its precision matrix has a negative eigenvalue")
    return Prior(mean, precision)


def _prior_arrays(prior: Prior | None, n_params: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    if prior is None:
        return np.zeros(n_params, dtype), np.zeros((n_params, n_params), dtype)
    mean, precision = np.asarray(prior.mean, dtype), np.asarray(prior.precision, dtype)
    precision = np.diag(precision) if precision.ndim == 1 else precision
    if mean.shape != (n_params,) or precision.shape != (n_params, n_params):
        raise ValueError(f"a prior on {n_params} parameters has mean {mean.shape} and precision {precision.shape}")
    return mean, precision


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

    >>> log_size = np.log(np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    >>> def predict(raw, row): return jnp.exp(raw["floor"]) + jnp.exp(raw["scale"] - raw["exponent"] * row)
    >>> truth = {"floor": 0.5, "scale": 1.0, "exponent": 0.4}
    >>> losses = jax.vmap(lambda row: predict(truth, row))(log_size)[:, None]
    >>> starts = {k: np.zeros((1, 1)) for k in truth}
    >>> fit = least_squares(predict, starts, losses, rows=log_size)
    >>> round(float(fit.params["exponent"][0, 0, 0]), 6), int(fit.status[0, 0, 0])
    (0.4, 0)
    """
    targets = np.asarray(targets, float)
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("least squares needs float64: jax.config.update('jax_enable_x64', True)")
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
            flat = _project_all(partial(_project, law.form, law.data), flat, targets, seen, counts)
    else:
        model, data = (Rowwise if by_row else Whole)(law, treedef, shapes, link == "log"), rows
        if isinstance(model, Rowwise) and analyze and n_params <= ANALYZED:
            found = _discover(model, rows, flat)
            if project and found.amplitudes and link == "log":
                flat = _project_all(
                    partial(_project_function, model, found.amplitudes, rows), flat, targets, seen, counts
                )
            if len(found.groups) < n_params:
                group_features = [found.features[list(g)] for g in found.groups]
                model = Grouped(model, found.groups, found.reference, _scales_found(found) if link == "log" else ())
                data = {"rows": rows, "group_features": group_features, "products": group_products(group_features)}
    with np.errstate(all="ignore"):
        linked = np.log(targets) if link == "log" else targets
    devices = list(devices) if devices is not None else jax.local_devices()
    mesh = Mesh(np.array(devices), ("lanes",)) if len(devices) > 1 else None
    if lanes is None:
        lanes = 64 if devices[0].platform == "cpu" else 65536
    # the same width whatever the number of devices: matrix products then round alike, and results agree to the last digits
    lanes = min(lanes, -(-n_ids // 16) * 16)
    settings = Settings(lanes, 4, huber is not None)
    controls = Controls(np.int32(max_steps), *np.array([rtol, 1e-12, damping, 1.0 if huber is None else huber]))
    mean, precision = _prior_arrays(prior, n_params, flat.dtype)
    packed = precision[tuple(np.array(model.pairs).T)]
    batch = Batch(flat, np.where(seen, linked, 0.0), seen, counts, mean, precision, packed, controls)
    with jax.default_device(devices[0]):
        out = run_queue(model, settings, mesh, data, batch)
    shape = (n_resamples, n_starts, n_sets)
    best, objective, status, steps = (in_order(o, len(devices), n_ids) for o in out)
    split = np.split(best, np.cumsum([int(np.prod(s, dtype=int)) for s in shapes])[:-1], axis=1)
    params = jax.tree.unflatten(treedef, [p.reshape(*shape, *s) for p, s in zip(split, shapes, strict=True)])
    return LeastSquares(params, objective.reshape(shape), status.reshape(shape), steps.reshape(shape))


def _project_all(
    project: Callable[..., Array], flat: np.ndarray, targets: np.ndarray, seen: np.ndarray, weights: Array
) -> np.ndarray:
    """Projected starts; every resample that shares a start shares its projection, with the mean weights."""
    n_own, n_starts, n_sets, n_params = flat.shape
    if n_own > 1:
        each = [_project_all(project, flat[b : b + 1], targets, seen, weights[b : b + 1]) for b in range(n_own)]
        return np.concatenate(each)
    columns = np.tile(np.arange(n_sets), n_starts)
    mean = np.asarray(weights).mean(0, dtype=float)
    rows = np.where(seen, mean[:, None], 0.0)[:, columns]
    values = np.where(seen, targets, 1.0)[:, columns]
    return np.asarray(project(jnp.asarray(flat.reshape(-1, n_params).T), values, rows)).T.reshape(flat.shape)


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
