"""Arithmetic that stays finite where laws live: at zero shares, over many orders of magnitude, through implicit solves.

Every guard is a double ``where``: the argument is replaced by a harmless one *before* the risky operation, so neither
the value nor any derivative can be NaN. Where an operand is exactly zero the derivative is zero by definition (the term
is absent).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from camel_jax.types import Array


def safe_log(x: Array) -> Array:
    """Natural logarithm of a non-negative array; ``-inf`` with derivative 0 where ``x <= 0``.

    Args:
      x: any shape, non-negative.

    Returns:
      Array of the same shape.

    >>> jax.grad(lambda x: jnp.exp(safe_log(x)))(0.0).item()
    0.0
    """
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), -jnp.inf)


def safe_divide(numerator: Array, denominator: Array, fallback: float = 0.0) -> Array:
    """``numerator / denominator``, and ``fallback`` with derivative 0 where the denominator is 0.

    Args:
      numerator: any shape.
      denominator: any shape that broadcasts with ``numerator``.
      fallback: value where ``denominator == 0``.

    Returns:
      Array of the broadcast shape.

    >>> safe_divide(1.0, jnp.array([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    fine = denominator != 0
    return jnp.where(fine, numerator / jnp.where(fine, denominator, 1.0), fallback)


def xlogy(x: Array, y: Array) -> Array:
    """``x log y`` with ``0 log y = 0`` for any ``y``, and all derivatives 0 there.

    Args:
      x: any shape.
      y: any shape that broadcasts with ``x``, positive wherever ``x`` is not 0.

    Returns:
      Array of the broadcast shape.

    >>> xlogy(jnp.array([0.0, 2.0]), jnp.array([0.0, 1.0])).tolist()
    [0.0, 0.0]
    """
    present = x != 0
    return jnp.where(present, x * jnp.log(jnp.where(present, y, 1.0)), 0.0)


def log_power(log_base: Array, exponent: Array) -> Array:
    """Logarithm of ``base ** exponent`` from ``log base``; ``base = 0`` (``log_base = -inf``) is legal.

    Args:
      log_base: any shape, ``-inf`` allowed.
      exponent: any shape that broadcasts with ``log_base``; positive wherever ``log_base`` is ``-inf``.

    Returns:
      ``exponent * log_base``; ``-inf`` with derivative 0 where ``log_base`` is ``-inf``.

    >>> log_power(-jnp.inf, 0.5).item()
    -inf
    >>> jax.grad(lambda e: jnp.exp(log_power(-jnp.inf, e)))(0.5).item()
    0.0
    """
    present = log_base > -jnp.inf
    return jnp.where(present, exponent * jnp.where(present, log_base, 0.0), -jnp.inf)


def power(base: Array, exponent: Array) -> Array:
    """``base ** exponent`` for ``base >= 0`` and ``exponent > 0``; 0 with derivative 0 where ``base`` is 0.

    The plain operator has an infinite derivative there for exponents below one, and NaN in the exponent.

    Args:
      base: any shape, non-negative.
      exponent: any shape that broadcasts with ``base``, positive.

    Returns:
      Array of the broadcast shape.

    >>> jax.grad(power)(0.0, 0.5).item()
    0.0
    """
    return jnp.exp(log_power(safe_log(base), exponent))


def logsumexp(log_terms: Array, axis: int = -1) -> Array:
    """``log sum exp`` along an axis, where any term, or every term, may be ``-inf``.

    Args:
      log_terms: any shape.
      axis: the axis summed over.

    Returns:
      Array without that axis; ``-inf`` with derivative 0 where every term is ``-inf``.

    >>> jax.grad(lambda x: logsumexp(x + jnp.array([-jnp.inf, 0.0])))(1.0).item()
    1.0
    """
    top = jax.lax.stop_gradient(jnp.max(log_terms, axis=axis, keepdims=True))
    top = jnp.where(top > -jnp.inf, top, 0.0)
    present = log_terms > -jnp.inf
    terms = jnp.where(present, jnp.exp(jnp.where(present, log_terms - top, 0.0)), 0.0)
    return safe_log(jnp.sum(terms, axis=axis)) + jnp.squeeze(top, axis)


@partial(jax.custom_jvp, nondiff_argnums=(0, 5))
def bracketed_root(
    residual: Callable[[Array, Any], Array], args: Any, low: Array, high: Array, guess: Array, max_steps: int = 12
) -> Array:
    """Root ``x`` of ``residual(x, args) = 0`` for a scalar function that is monotone on ``[low, high]``.

    Halley steps (cubic convergence, from the first two derivatives in ``x``), kept inside a bracket that shrinks at
    every evaluation; a step that leaves the bracket is replaced by its midpoint. Stops when a step is below
    ``sqrt(eps)``: the error left is of the order of its cube.

    Derivatives with respect to ``args`` come from the implicit function theorem, ``dx = -(dF/dargs dargs) / (dF/dx)``,
    with the root inside the rule differentiable in turn: derivatives of every order are those of the exact root,
    forward and reverse. ``low``, ``high`` and ``guess`` carry no derivative.

    Args:
      residual: ``residual(x, args) -> scalar``, twice differentiable in ``x``; traced values it uses are in ``args``.
      args: pytree of arrays.
      low: scalar, lower end of the bracket.
      high: scalar, upper end of the bracket.
      guess: scalar, first iterate; clipped into the bracket.
      max_steps: cap on the number of steps.

    Returns:
      The root, a scalar.

    >>> sqrt = lambda a: bracketed_root(lambda x, a: x * x - a, a, 0.0, 10.0, 1.0)
    >>> round(float(sqrt(2.0)), 6), round(float(jax.grad(jax.grad(sqrt))(1.0)), 6)
    (1.414214, -0.25)
    """

    def slope(x):
        return jax.jvp(lambda x: residual(x, args), (x,), (jnp.ones_like(x),))

    def step(state):
        x, low, high, _, count = state
        (value, first), (_, second) = jax.jvp(slope, (x,), (jnp.ones_like(x),))
        newton = -safe_divide(value, first)
        # on a monotone function the Newton direction says on which side the root lies
        low, high = jnp.where(newton > 0, x, low), jnp.where(newton < 0, x, high)
        halley = newton / jnp.maximum(1 + 0.5 * newton * safe_divide(second, first), 0.5)
        slack = tolerance * (1 + jnp.abs(x))  # at convergence rounding may put the bracket on the wrong side
        inside = (x + halley >= low - slack) & (x + halley <= high + slack) & (first != 0)
        new = jnp.where(inside, x + halley, 0.5 * (low + high))
        return new, low, high, jnp.abs(new - x), count + 1

    def unfinished(state):
        x, _, _, moved, count = state
        return (count < max_steps) & (moved > tolerance * (1 + jnp.abs(x)))

    x = jnp.clip(jnp.asarray(guess), low, high)
    x = x.astype(jnp.result_type(x, float, *jax.tree.leaves(args)))
    tolerance = jnp.sqrt(jnp.finfo(x.dtype).eps)
    low, high = jnp.asarray(low, x.dtype), jnp.asarray(high, x.dtype)
    start = (x, low, high, jnp.full_like(x, jnp.inf), 0)
    return jax.lax.while_loop(unfinished, step, start)[0]


@bracketed_root.defjvp
def _bracketed_root_jvp(residual, max_steps, primals, tangents):
    args, low, high, guess = primals
    # the rule calls the function itself, so the root it uses is differentiable once more
    x = bracketed_root(residual, args, low, high, guess, max_steps)
    _, along = jax.jvp(lambda args: residual(x, args), (args,), (tangents[0],))
    _, first = jax.jvp(lambda x: residual(x, args), (x,), (jnp.ones_like(x),))
    return x, -safe_divide(along, first)
