"""The Newton step of the barrier method: which way to go from a mixture, where the curvature may be of any sign.

The matrix is shifted as little as needed to be positive definite (modified Cholesky factorisation: Gill, Murray & Wright, Practical
Optimization, 4.4.2), and the step keeps the equalities.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from camel_jax.types import Array

MANY = 64  # domains up to which all columns of second derivatives are taken at once
AT_ONCE = 32  # columns that are taken together beyond


def curvature(function: Callable[[Array], Array], weights: Array) -> tuple[Array, Array, Array]:
    """Second derivatives (K, K), gradient (K,) and value of a function of a mixture (K,).

    Of more than ``MANY`` domains, the columns are taken some at a time: laws with a term for each domain and set would hold an array
    of K x V numbers for each column else.
    """

    def slope_and_value(w: Array) -> tuple[Array, tuple[Array, Array]]:
        value, slope = jax.value_and_grad(function)(w)
        return slope, (value, slope)

    if weights.shape[0] <= MANY:
        hessian, (value, gradient) = jax.jacfwd(slope_and_value, has_aux=True)(weights)
        return hessian, gradient, value
    gradient, push, (value, _) = jax.linearize(slope_and_value, weights, has_aux=True)
    hessian = jax.lax.map(push, jnp.eye(weights.shape[0], dtype=weights.dtype), batch_size=AT_ONCE)
    return 0.5 * (hessian + hessian.T), gradient, value


def shifted_solve(matrix: Array, right: Array) -> Array:
    """Solve as ``modified_cholesky_solve`` does; where many domains need no shift, by the library's factorisation.

    Args:
      matrix: (K, K), symmetric, diagonal of order one. right: (K, c).
    """
    if matrix.shape[0] <= MANY:
        return modified_cholesky_solve(matrix, right)
    factor = jnp.linalg.cholesky(matrix)
    return jax.lax.cond(
        jnp.all(jnp.isfinite(factor)),
        lambda: jax.scipy.linalg.cho_solve((factor, True), right),
        lambda: modified_cholesky_solve(matrix, right),
    )


def modified_cholesky_solve(matrix: Array, right: Array) -> Array:
    """Solve with a symmetric matrix, shifted as little as needed to be positive definite.

    Args:
      matrix: (K, K), symmetric, diagonal of order one. right: (K, c).
    """
    size = matrix.shape[0]
    eps = jnp.finfo(matrix.dtype).eps
    diagonal = jnp.abs(jnp.diagonal(matrix))
    off = jnp.max(jnp.abs(matrix - jnp.diag(jnp.diagonal(matrix))))
    bound = jnp.maximum(jnp.maximum(jnp.max(diagonal), off / max(1.0, (size * size - 1.0) ** 0.5)), eps)
    least = eps * 16 * jnp.maximum(jnp.max(diagonal), 1.0)
    index = jnp.arange(size)

    def eliminate(j: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        table, pivots = state
        row = table[j]
        column = jnp.where(index > j, row[:size], 0.0)  # symmetric: the row is the column
        pivot = jnp.maximum(jnp.maximum(jnp.abs(row[j]), least), jnp.max(column**2) / bound)
        return table - (column / pivot)[:, None] * row[None, :], pivots.at[j].set(pivot)

    def substitute(i: int, solution: Array) -> Array:
        j = size - 1 - i
        row = table[j]
        known = jnp.where(index > j, row[:size], 0.0) @ solution
        return solution.at[j].set((row[size:] - known) / pivots[j])

    table = jnp.concatenate([matrix, right], 1)
    table, pivots = jax.lax.fori_loop(0, size, eliminate, (table, jnp.ones(size, matrix.dtype)))
    return jax.lax.fori_loop(0, size, substitute, jnp.zeros_like(right))


def _small_solve(matrix: Array, right: Array) -> Array:
    """Solve with the Schur complement of the equality rows; rows of zeros are padding."""
    ridge = jnp.where(jnp.diagonal(matrix) > 0, 0.0, 1.0)
    if matrix.shape[0] == 1:
        return right / (matrix[0] + ridge)
    return jnp.linalg.solve(matrix + jnp.diag(ridge), right)


def newton_step(matrix: Array, right: Array, equal: Array, free: Array) -> Array:
    """Direction that solves the Newton system among directions with ``equal @ d = 0``, over the free domains.

    Args:
      matrix: (K, K), symmetric. right: (K,), or (K, c) for as many directions.
      equal: (E, K), orthonormal rows, or zeros as padding. free: (K,), which domains can move.
    """
    columns = right if right.ndim == 2 else right[:, None]
    matrix = jnp.where(free[:, None] & free[None, :], matrix, 0.0) + jnp.diag(jnp.where(free, 0.0, 1.0))
    columns = jnp.where(free[:, None], columns, 0.0)
    # curvature along the equality rows does not matter on them, so it can be made positive
    lift = 1.0 + jnp.max(jnp.abs(jnp.where(free, jnp.diagonal(matrix), 0.0)) * (jnp.abs(jnp.diagonal(matrix)) < 1e3))
    matrix = matrix + lift * equal.T @ equal
    unit = jax.lax.rsqrt(jnp.maximum(jnp.abs(jnp.diagonal(matrix)), 1e-8))
    scaled = matrix * unit[:, None] * unit[None, :]
    solved = unit[:, None] * shifted_solve(scaled, unit[:, None] * jnp.concatenate([columns, equal.T], 1))
    plain, moved = jnp.split(solved, [columns.shape[1]], axis=1)
    dw = plain - moved @ _small_solve(equal @ moved, equal @ plain)
    # round-off against the equality rows must not build up
    dw = dw - equal.T @ (equal @ dw)
    dw = jnp.where(free[:, None], dw, 0.0)
    return dw if right.ndim == 2 else dw[:, 0]
