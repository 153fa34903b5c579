"""Small symmetric systems and logarithms over a trailing axis of lanes, written so that one XLA loop serves every lane.

A symmetric matrix of P parameters is *packed*: an array (P (P + 1) / 2, L), one row for each pair of a static list.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from camel_jax.types import Array

Pairs = tuple[tuple[int, int], ...]
UNROLL = 12  # unrolled by entry up to here: above, compile time grows faster than speed


def lower_pairs(n: int) -> Pairs:
    """Pairs (i, j), j <= i, of the lower triangle, row by row.

    >>> lower_pairs(2)
    ((0, 0), (1, 0), (1, 1))
    """
    return tuple((i, j) for i in range(n) for j in range(i + 1))


@lru_cache(maxsize=256)
def pair_index(pairs: Pairs) -> dict[tuple[int, int], int]:
    """Row of each pair in the packed array, for either order of the pair."""
    return {p: k for k, (i, j) in enumerate(pairs) for p in ((i, j), (j, i))}


def diagonal_rows(pairs: Pairs) -> tuple[int, ...]:
    """Packed rows of the diagonal, by parameter."""
    row = pair_index(pairs)
    n = max(i for i, _ in pairs) + 1
    return tuple(row[i, i] for i in range(n))


def _solve_unrolled(matrix: Array, rhs: Array, pairs: Pairs, ridge: Array) -> Array:
    row, n = pair_index(pairs), rhs.shape[0]
    low: dict[tuple[int, int], Array] = {}
    inverse, y = [], []
    for j in range(n):
        pivot = matrix[row[j, j]] + ridge[j] - sum((low[j, k] * low[j, k] for k in range(j)), start=0.0)
        inverse.append(lax.rsqrt(pivot))
        for i in range(j + 1, n):
            low[i, j] = (matrix[row[i, j]] - sum((low[i, k] * low[j, k] for k in range(j)), start=0.0)) * inverse[j]
        y.append((rhs[j] - sum((low[j, k] * y[k] for k in range(j)), start=0.0)) * inverse[j])
    x: list[Any] = [None] * n
    for j in reversed(range(n)):
        x[j] = (y[j] - sum((low[k, j] * x[k] for k in range(j + 1, n)), start=0.0)) * inverse[j]
    return jnp.stack(x)


def _solve_by_lane(matrix: Array, rhs: Array, pairs: Pairs, ridge: Array) -> Array:
    row, n = pair_index(pairs), rhs.shape[0]
    order = np.array([[row[i, j] for j in range(n)] for i in range(n)])
    full = jnp.moveaxis(matrix[order], -1, 0) + jnp.eye(n, dtype=matrix.dtype) * ridge.T[:, :, None]

    def solve(full: Array, rhs: Array) -> Array:
        left = lax.linalg.cholesky(full, symmetrize_input=False)
        half = lax.linalg.triangular_solve(left, rhs[:, None], left_side=True, lower=True)
        return lax.linalg.triangular_solve(left, half, left_side=True, lower=True, transpose_a=True)[:, 0]

    return by_matrix(solve, full, rhs.T).T


def by_matrix(function: Callable[..., Any], *stacks: Array) -> Any:
    """A function that calls LAPACK, of one matrix each, over the leading axis of stacks.

    On a CPU one after the other: a batched call of LAPACK takes threads from a pool that all virtual devices share, and two devices
    that do so at once can wait for each other for good (jaxlib 0.10).

    >>> by_matrix(jnp.linalg.cholesky, jnp.full((2, 1, 1), 4.0)).ravel().tolist()
    [2.0, 2.0]
    """
    if jax.default_backend() == "cpu":
        return lax.map(lambda one: function(*one), stacks)
    return jax.vmap(function)(*stacks)


def solve_packed(matrix: Array, rhs: Array, pairs: Pairs, ridge: Array) -> Array:
    """Solve positive definite systems, one a lane, by Cholesky.

    Args:
      matrix: (P (P + 1) / 2, L), packed.
      rhs: (P, L).
      pairs: which entry each packed row holds.
      ridge: (P, L), added to the diagonal.

    Returns:
      (P, L); NaN in the lanes whose matrix is not positive definite.

    >>> matrix, rhs = jnp.array([[3.0], [2.0], [2.0]]), jnp.array([[2.0], [1.0]])
    >>> solve_packed(matrix, rhs, lower_pairs(2), jnp.ones((2, 1))).ravel().tolist()
    [0.5, 0.0]
    """
    solve = _solve_unrolled if rhs.shape[0] <= UNROLL else _solve_by_lane
    return solve(matrix, rhs, pairs, ridge)


# Remez approximation of (log(1 + f) - 2 s) / s^3 in s^2, s = f / (2 + f): the coefficients of fdlibm's e_log.c, highest first.
_LOG_SERIES = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)


def fast_log(x: Array) -> Array:
    """Natural logarithm by splitting off the exponent; no derivative rule, for code that has its own.

    Three times as fast as XLA's float64 logarithm on a CPU, to two units in the last place. Other types take the built-in one.

    Args:
      x: any shape.

    Returns:
      Array of the same shape; -inf at 0, NaN at any other value that is not a positive, finite, normal number.

    >>> bool(abs(fast_log(jnp.float64(10.0)) - np.log(10.0)) < 1e-15)
    True
    """
    if x.dtype != jnp.float64:
        return jnp.log(x)
    shifted = lax.bitcast_convert_type(x, jnp.int64) - 0x3FE6A09E667F3BCD  # bits of sqrt(1/2): mantissa lands around 1
    exponent = shifted >> 52
    mantissa = lax.bitcast_convert_type(shifted - (exponent << 52) + 0x3FE6A09E667F3BCD, jnp.float64)
    value = exponent.astype(x.dtype) * 0.6931471805599453 + log_near_one(mantissa)
    return jnp.where((x >= np.finfo(np.float64).tiny) & (x < jnp.inf), value, jnp.where(x == 0, -jnp.inf, jnp.nan))


def log_near_one(x: Array) -> Array:
    """Natural logarithm between the roots of 1/2 and 2, to float64's precision; nothing useful elsewhere.

    >>> bool(abs(log_near_one(jnp.float64(1.3)) - np.log(1.3)) < 1e-16)
    True
    """
    s = (x - 1.0) / (x + 1.0)
    z = s * s
    series = jnp.full_like(z, _LOG_SERIES[0])
    for coefficient in _LOG_SERIES[1:]:
        series = series * z + coefficient
    return 2.0 * s + s * z * series


def total(terms: list[Array]) -> Array:
    """Sum of a few arrays, unrolled so that one loop serves it.

    >>> total([jnp.ones(2), jnp.ones(2)]).tolist()
    [2.0, 2.0]
    """
    return functools.reduce(jnp.add, terms)


def add_first(whole: Array, part: Array) -> Array:
    """A part added to the first entries of an array along every axis.

    Not by ``at[...].add``: where the part is the whole, its index is empty, and jaxlib 0.11.2 ends the process when it compiles such
    an index for several devices.

    >>> add_first(jnp.ones(3), jnp.ones(2)).tolist()
    [2.0, 2.0, 1.0]
    """
    return whole + jnp.pad(part, [(0, n - m) for n, m in zip(whole.shape, part.shape, strict=True)])


def eliminate(matrix: Array, rights: Array) -> Array:
    """Solve a few positive definite systems (n, n, L) for rights (c, n, L) by elimination without pivots, n small.

    >>> eliminate(jnp.array([[[2.0], [1.0]], [[1.0], [2.0]]]), jnp.array([[[3.0], [3.0]]])).ravel().tolist()
    [1.0, 1.0]
    """
    n = matrix.shape[0]
    table = [[matrix[i, j] for j in range(n)] + [rights[:, i]] for i in range(n)]
    for j in range(n):
        for i in range(j + 1, n):
            factor = table[i][j] / table[j][j]
            table[i] = [
                a - factor * b if c >= j else a for c, (a, b) in enumerate(zip(table[i], table[j], strict=True))
            ]
    out: list[Any] = [None] * n
    for i in reversed(range(n)):
        out[i] = (table[i][n] - sum(table[i][j] * out[j] for j in range(i + 1, n))) / table[i][i]
    return jnp.stack(out, 1)


def shifted_solve(go: Array, left: Array, other: Array, diagonal: Array, rights: Array) -> Array:
    """Solve with symmetric matrices ``sum_s left_s other_s' + diag``, shifted as little as needed to be positive definite.

    Args:
      go: scalar, true. left, other: (S, K, L). diagonal: (K, L), so that the diagonal of the whole is of order one.
      rights: (c, K, L).

    Returns:
      (c, K, L). Source of the shift: Gill, Murray & Wright, Practical Optimization, 4.4.2.

    >>> left = jnp.array([[[0.5], [0.5]]])  # 0.25 everywhere, and 0.75 more on the diagonal
    >>> shifted_solve(jnp.array(True), left, left, jnp.full((2, 1), 0.75), jnp.full((1, 2, 1), 1.25)).ravel().round(9).tolist()
    [1.0, 1.0]
    """
    size = rights.shape[1]
    least = jnp.finfo(rights.dtype).eps * 16

    def column(j: int, left: Array, other: Array, diagonal: Array, rights: Array, done: list) -> tuple:
        head = total([left[s, j] * other[s, j] for s in range(left.shape[0])]) + diagonal[j]
        tail = total([left[s, j + 1 :] * other[s, j] for s in range(left.shape[0])])
        right = rights[:, j]
        for k, (below, inverse, known) in enumerate(done):
            factor = below[j - k - 1] * inverse
            head, tail, right = head - below[j - k - 1] * factor, tail - below[j - k :] * factor, right - known * factor
        pivot = jnp.maximum(jnp.abs(head), least)
        if j + 1 < size:  # after scaling no entry of the diagonal exceeds one, which bounds the pivots
            pivot = jnp.maximum(pivot, jnp.max(tail * tail, 0))
        return tail, 1.0 / pivot, right

    done: list[tuple[Array, Array, Array]] = []
    for j in range(size):
        done.append(once(go, functools.partial(column, j), left, other, diagonal, rights, done))

    def substitute(block: list[int], done: list, found: list) -> list:
        for j in block:
            below, inverse, right = done[j]
            known = total([right] + [-below[i] * found[i] for i in range(len(found))])
            found = [known * inverse, *found]
        return found

    found: list[Array] = []
    for last in range(size, 0, -4):
        block = list(range(last - 1, max(last - 5, -1), -1))
        found = once(go, functools.partial(substitute, block), done, found)
    return jnp.stack(found, 1)


def once(go: Array, function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, computed once: the compiler does not repeat the work of a branch in every reader of its result.

    Args:
      go: scalar that is true, which the compiler must not know. function: of arrays, without an axis of vmap. args: passed on.

    >>> float(once(jnp.array(True), jnp.sin, jnp.zeros(())))
    0.0
    """
    shapes = jax.eval_shape(function, *args)
    blank = functools.partial(jax.tree.map, lambda shape: jnp.zeros(shape.shape, shape.dtype))
    return jax.lax.cond(go, function, lambda *_: blank(shapes), *args)
