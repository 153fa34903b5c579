"""Find the structure of a law that only gives predictions, by looking at its derivatives at a few random points.

Two questions are asked of ``predict(raw, row)``, and answered numerically to 1e-8 at every point looked at:

- Which parameters share a slope? If dL/dx_i = h_i(x) f_i(row) dL/dx_j on all rows, then J'WJ needs the derivative by x_j only, and
  products of features f that all lanes share.
- Which parameters scale a term, d2L/dx_i2 = dL/dx_i, as the logarithm of an amplitude does? Those can be solved for linearly.

A wrong answer can only slow the solver down: predictions and objectives are always the function's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.types import Array

Groups = tuple[tuple[int, ...], ...]
TOLERANCE = 1e-8


class Found(NamedTuple):
    """What was found; host side.

    Attributes:
      groups: parameters that share a slope, the one that stands for its group first.
      features: (P, R), f above; ones for those that stand for their group.
      reference: for each parameter a row on which f is 1, to read h off; -1 where h is 1 at every point.
      amplitudes: parameters that are logarithms of amplitudes of separate terms.
      scaled: for each of these, the groups whose slope is proportional to the amplitude; None where that is not all or nothing.
    """

    groups: Groups
    features: np.ndarray
    reference: tuple[int, ...]
    amplitudes: tuple[int, ...]
    scaled: tuple[tuple[int, ...] | None, ...] = ()


def _ratio(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, int] | None:
    """f and a row with left = h f right over (points, rows): f is 1 on that row, or the row is -1 and h is 1; None if there is no f."""
    zero = np.all(right == 0, 0)
    if np.any(left[:, zero] != 0) or np.any(right[:, ~zero] == 0) or zero.all():
        return None
    ratio = np.where(zero, 0.0, left / np.where(zero, 1.0, right))
    top = int(np.argmax(np.abs(ratio[0])))
    if np.any(ratio[:, top] == 0):
        return None
    shape = ratio / ratio[:, top : top + 1]
    if np.any(np.abs(shape - shape[0]) > TOLERANCE):
        return None
    fixed = np.all(np.abs(ratio - ratio[0]) <= TOLERANCE * np.abs(ratio[0, top]))
    return (ratio[0], -1) if fixed else (shape[0], top)


def discover(predict: Callable[[Array, Any], Array], rows: Any, points: np.ndarray) -> Found:
    """Look for structure; host side.

    Args:
      predict: ``predict(flat raw (P,), row) -> scalar``.
      rows: pytree with leading axis R.
      points: (n, P) raw parameters to look at, n at least 3.

    Returns:
      A ``Found``; every parameter its own group and no amplitudes where nothing was found.

    >>> rows = np.linspace(0.0, 1.0, 5)
    >>> predict = lambda x, n: jnp.exp(x[0]) + jnp.exp(x[1] - x[2] * n)
    >>> found = discover(predict, rows, np.random.default_rng(0).standard_normal((4, 3)))
    >>> sorted(found.groups), found.amplitudes
    ([(0,), (1, 2)], (0, 1))
    """
    n_params = points.shape[1]
    n_rows = len(jax.tree.leaves(rows)[0])
    few = np.unique(np.linspace(0, n_rows - 1, min(n_rows, 6)).astype(int))
    some = jax.tree.map(lambda leaf: jnp.asarray(leaf)[few], rows)

    @jax.jit
    def look(points: Array) -> tuple[Array, Array, Array]:
        over = lambda f: jax.vmap(jax.vmap(f, (None, 0)), (0, None))  # noqa: E731
        slopes = over(jax.grad(predict))
        return slopes(points, rows), slopes(points, some), over(jax.hessian(predict))(points, some)

    slopes, here, curvature = (np.asarray(a) for a in look(jnp.asarray(points)))
    fine = np.all(np.isfinite(slopes), (1, 2)) & np.all(np.isfinite(curvature), (1, 2, 3))
    alone = Found(tuple((i,) for i in range(n_params)), np.ones((n_params, n_rows)), (-1,) * n_params, ())
    if fine.sum() < 3:
        return alone
    slopes, here, curvature = slopes[fine], here[fine], curvature[fine]

    groups: list[list[int]] = []
    features, reference = np.ones((n_params, n_rows)), [-1] * n_params
    stands_for = [
        sum(_ratio(other, own) is not None for other in slopes.T.swapaxes(1, 2)) for own in slopes.T.swapaxes(1, 2)
    ]
    order = sorted(range(n_params), key=lambda i: -stands_for[i])
    for i in order:
        for group in groups:
            found = _ratio(slopes[:, :, i], slopes[:, :, group[0]])
            if found is not None:
                features[i], reference[i] = found
                group.append(i)
                break
        else:
            groups.append([i])

    size = np.abs(here).max((0, 1)) + 1e-300
    amplitudes: list[int] = []
    for i in range(n_params):
        own = np.abs(curvature[:, :, i, i] - here[:, :, i]).max() <= TOLERANCE * size[i]
        apart = all(np.abs(curvature[:, :, i, j]).max() <= TOLERANCE * min(size[i], size[j]) for j in amplitudes)
        if own and apart and np.all(here[:, :, i] > 0):
            amplitudes.append(i)

    def scaled(i: int) -> tuple[int, ...] | None:
        """Groups with d2L / dx_i dx_j = dL / dx_j for their parameters; the others must not depend on the amplitude at all."""
        by_i, near = curvature[:, :, i], TOLERANCE * size
        whole = [np.abs(by_i - here)[:, :, g].max((0, 1)) <= near[g] for g in groups]
        none = [np.abs(by_i)[:, :, g].max((0, 1)) <= near[g] for g in groups]
        if not all(w.all() or n.all() for w, n in zip(whole, none, strict=True)):
            return None
        return tuple(a for a, w in enumerate(whole) if w.all())

    owned = tuple(scaled(i) for i in amplitudes)
    return Found(tuple(tuple(g) for g in groups), features, tuple(reference), tuple(amplitudes), owned)
