"""Fits of laws that take each validation set by itself: every set of every start or resample is a lane of batched least squares."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.fitting.objective import Data
from camel_jax.fitting.plan import Lanes, Progress, is_sound, solution_like
from camel_jax.laws.law import Law
from camel_jax.numerics.batched import UNROLL
from camel_jax.solvers import minimize
from camel_jax.solvers.least_squares import least_squares
from camel_jax.solvers.prior import Prior, quadratic_prior
from camel_jax.storage import Kept
from camel_jax.types import Array

RESAMPLES_A_CALL = 256
FEWEST = 32  # resamples that a program is made for: starts, a default bootstrap and back-tests then share one
NARROW = 8  # lanes that a core steps together, where few are left waiting for the slowest
MANY = 4096  # lanes of a call from which its small laws are stepped in the wider set of ``least_squares``
LEAST_SQUARES_STEPS = 3000  # of a robust fit: reweighted steps are short where most residuals are in the linear zone


def by_least_squares(
    lanes: Lanes, data: Data, raw: Any, counts: Array | None, kept: Kept, progress: Progress | None
) -> minimize.Solution:
    """Every set of a separable law as a lane of the batched least squares solver, which bounds its own memory."""
    law, n_sets = lanes.law, data.log_losses.shape[1]
    n = len(jax.tree.leaves(raw)[0])
    prior = _prior_of_one_set(law, tuple((name, np.shape(x)[2:]) for name, x in sorted(raw.items())))
    target = np.where(np.asarray(data.measured), np.exp(np.asarray(data.log_losses)), np.nan)
    scale = np.asarray(data.weights) / (lanes.robust.delta * lanes.robust.noise)
    most = LEAST_SQUARES_STEPS if lanes.max_steps is None else lanes.max_steps
    options: dict[str, Any] = {"prior": prior, "huber": lanes.robust.delta, "max_steps": most}
    shape = None if law.structure is None else law.structure(jax.tree.map(lambda x: x[0], raw), data.recipe)
    rows = None if shape is not None else data.recipe
    shape = _one_set(law) if shape is None else shape
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
        use = lambda solved=solved: minimize.Solution(*solved())  # noqa: E731
        out = kept.get((own, times), use, solution_like(own, 3), is_sound)
        parts.append(jax.tree.map(lambda x, some=some: x[: some.stop - some.start, 0], tuple(out)))
        if progress is not None:
            progress(some.stop * n_sets, n * n_sets)
    params, *rest = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    return minimize.Solution(jax.tree.map(jnp.asarray, params), *(x.reshape(-1) for x in rest))


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
