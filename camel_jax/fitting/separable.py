"""Fits of laws that take each validation set by itself: every set of every start or resample is a lane of batched least squares."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.fitting.objective import Data
from camel_jax.fitting.plan import Lanes, Progress, is_sound, solution_like
from camel_jax.laws.law import Law
from camel_jax.numerics.batched import UNROLL
from camel_jax.solvers import minimize
from camel_jax.solvers.least_squares import LeastSquares, least_squares
from camel_jax.solvers.prior import Prior, quadratic_prior
from camel_jax.solvers.status import CONVERGED, MAX_STEPS
from camel_jax.solvers.wide import wide_least_squares
from camel_jax.storage import Kept
from camel_jax.types import Array

RESAMPLES_A_CALL = 256
FEWEST = 32  # resamples that a program is made for: starts, a default bootstrap and back-tests then share one
NARROW = 8  # lanes that a core steps together, where few are left waiting for the slowest
MANY = 4096  # lanes of a call from which its small laws are stepped in the wider set of ``least_squares``
WIDE = 40  # parameters of a set beyond which its lanes are stepped one by one, by dense matrix products
CROWDED = 3  # parameters of a set, in rows of the table, from which its fit is stopped early: see ``is_crowded``
CROWDED_STEPS, LARGE_STEPS = 60, 24  # of such a fit; of one of more parameters and rows than ``LARGE``
LARGE = 300
CROWDED_A_CALL = 8
LEAST_SQUARES_STEPS = 3000  # of a robust fit: reweighted steps are short where most residuals are in the linear zone


class Common(NamedTuple):
    """What all calls of the least squares solver for lanes of one table share."""

    law: Any  # as ``least_squares`` takes it
    rows: Any
    target: Array
    scale: Array
    counts: Array
    options: dict[str, Any]
    a_call: int
    wide: bool
    crowded: bool


def is_crowded(params: int, rows: int) -> bool:
    """Whether a set has so many parameters that its best fit follows the noise of the rows.

    Such fits start at the center of the prior, whatever start is given, and stop after few steps: on planted tables of 100 and 576
    domains the error at mixtures that were left out is least there, and rises by a third on the way to the optimum, which takes
    hundreds of steps more.

    >>> is_crowded(206, 240), is_crowded(66, 240), is_crowded(15, 20)
    (True, False, False)
    """
    return params > WIDE and CROWDED * params > rows


def crowded_steps(params: int, rows: int) -> int:
    """Steps of such a fit; fewer where each takes long, which costs a few hundredths of the error there."""
    return CROWDED_STEPS if min(params, rows) <= LARGE else LARGE_STEPS


def common_of(lanes: Lanes, data: Data, raw: Any, counts: Array | None) -> Common:
    """What the calls for these lanes share."""
    law, n_sets = lanes.law, data.log_losses.shape[1]
    n = len(jax.tree.leaves(raw)[0])
    prior = _prior_of_one_set(law, tuple((name, np.shape(x)[2:]) for name, x in sorted(raw.items())))
    target = np.where(np.asarray(data.measured), np.exp(np.asarray(data.log_losses)), np.nan)
    scale = np.asarray(data.weights) / (lanes.robust.delta * lanes.robust.noise)
    most = LEAST_SQUARES_STEPS if lanes.max_steps is None else lanes.max_steps
    options: dict[str, Any] = {"prior": prior, "huber": lanes.robust.delta, "max_steps": most}
    n_params = sum(int(np.prod(np.shape(x)[2:])) for x in raw.values())
    wide, crowded = n_params > WIDE, is_crowded(n_params, len(scale))
    if crowded and lanes.max_steps is None:
        options["max_steps"] = crowded_steps(n_params, len(scale))
    structure = None if wide else law.structure
    shape = None if structure is None else structure(jax.tree.map(lambda x: x[0], raw), data.recipe)
    rows = data.recipe if shape is None else None
    shape = _one_set(law) if shape is None else shape
    a_call = max(CROWDED_A_CALL if crowded else FEWEST, 1 << (min(n, RESAMPLES_A_CALL) - 1).bit_length())
    if not wide:
        # starts too are laid out as resamples, of weight one, so that the back-tests after them run the same program
        options |= {"project": counts is None, "starts_by_resample": True}
        if jax.local_devices()[0].platform == "cpu" and (n_params > UNROLL or a_call * n_sets < MANY):
            options["lanes"] = NARROW
    counts = np.ones((n, len(scale))) if counts is None else np.asarray(counts)
    return Common(shape, rows, target, scale, counts, options, a_call, wide, crowded)


def places_of(common: Common, raw: Any, low: int) -> tuple[Any, Array]:
    """Starts and row weights of one call; places that are left hold copies without data, which stop at once."""
    place = np.arange(low, low + common.a_call)
    n = len(common.counts)
    taken = np.minimum(place, n - 1)
    own = jax.tree.map(lambda x: x[taken][:, None], raw)
    return own, common.counts[taken] * (place < n)[:, None]


def by_least_squares(
    lanes: Lanes, data: Data, raw: Any, counts: Array | None, kept: Kept, progress: Progress | None
) -> minimize.Solution:
    """Every set of a separable law as a lane of the batched least squares solver, which bounds its own memory."""
    n, n_sets = len(jax.tree.leaves(raw)[0]), data.log_losses.shape[1]
    common, parts = common_of(lanes, data, raw, counts), []
    if common.crowded:
        # lanes of equal weights are the same fit
        different, place = np.unique(common.counts, axis=0, return_inverse=True)
        raw = _at_center(raw, common.options["prior"])
        if len(different) < n:
            some = jax.tree.map(lambda x: x[: len(different)], raw)
            found = by_least_squares(lanes, data, some, different, kept, progress)
            of_set = (place.reshape(-1, 1) * n_sets + np.arange(n_sets)).ravel()
            params = jax.tree.map(lambda x: np.asarray(x)[place.ravel()], found.params)
            return minimize.Solution(params, *(np.asarray(x)[of_set] for x in found[1:]))
    solver = _wide if common.wide else least_squares
    for low in range(0, n, common.a_call):
        own, times = places_of(common, raw, low)
        given = {"rows": common.rows, "weights": common.scale * times, **common.options}
        solved = partial(solver, common.law, own, common.target, **given)
        use = lambda solved=solved: minimize.Solution(*solved())  # noqa: E731
        out = kept.get((own, times), use, solution_like(own, 3), is_sound)
        stop = min(low + common.a_call, n)
        parts.append(jax.tree.map(lambda x, size=stop - low: x[:size, 0], tuple(out)))
        if progress is not None:
            progress(stop * n_sets, n * n_sets)
    solved = joined(parts)
    if common.crowded and lanes.max_steps is None:  # stopped where it was meant to
        status = np.where(np.asarray(solved.status) == MAX_STEPS, CONVERGED, solved.status).astype(np.int32)
        solved = solved._replace(status=status)
    return solved


def _at_center(raw: Any, prior: Prior) -> Any:
    """The same lanes with every set at the mean of its prior."""
    leaves, treedef = jax.tree.flatten(raw)
    ends = np.cumsum([int(np.prod(x.shape[2:], dtype=int)) for x in leaves])
    means = np.split(np.broadcast_to(np.asarray(prior.mean, float), ends[-1]), ends[:-1])
    centers = [np.broadcast_to(m.reshape(x.shape[2:]), x.shape) for m, x in zip(means, leaves, strict=True)]
    return jax.tree.unflatten(treedef, centers)


def joined(parts: list[Any]) -> minimize.Solution:
    """Lanes of several calls, one after the other."""
    params, *rest = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    return minimize.Solution(jax.tree.map(jnp.asarray, params), *(x.reshape(-1) for x in rest))


def _wide(predict: Any, starts: Any, target: Array, **options: Any) -> LeastSquares:
    """Lanes of many parameters, shaped as ``least_squares`` has them."""
    out = wide_least_squares(predict, jax.tree.map(lambda x: x[:, 0], starts), target, **options)
    return jax.tree.map(lambda x: x[:, None], out)


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
