"""How a model of given capacity splits it over latent skills: the exact optimum and its closed form.

    m* = argmin_m  sum_s q_s A_s m_s^(-alpha_s)   subject to   sum_s m_s = M,  m_s >= 0
    m_s = exp((c_s - nu) / (1 + alpha_s)),  c_s = log(q_s A_s alpha_s)
    nu = log lambda, from  logsumexp_s(log m_s) = log M

In log space the equation for nu is convex, monotone, and its slope lies between -1 / (1 + min alpha) and
-1 / (1 + max alpha), so a bracketed Newton-like iteration needs a handful of steps for any input. A skill without
demand gets no capacity, and derivatives with respect to its inputs are zero.

======================  ====================================================  ==========
argument                meaning                                               unit
======================  ====================================================  ==========
``demand`` q            how much the mixture asks for each skill, shape (S,)  share
``amplitude`` A         loss of a skill at unit capacity, shape (S,)          nats
``exponents`` alpha     size exponents, shape (S,), positive
``capacity`` M          capacity to split, scalar                             parameters
======================  ====================================================  ==========
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from camel_jax.numerics.stable import bracketed_root, logsumexp, safe_log
from camel_jax.types import Array


def log_allocate(log_demand: Array, log_amplitude: Array, exponents: Array, log_capacity: Array) -> Array:
    """Logarithm of the capacities that minimise the training loss.

    Args:
      log_demand: log q, shape (S,); ``-inf`` for a skill nobody asks for.
      log_amplitude: log A, shape (S,) or scalar; ``-inf`` is legal.
      exponents: alpha, shape (S,), positive.
      log_capacity: log M, scalar.

    Returns:
      log m, shape (S,); ``-inf`` where there is no demand (everywhere if there is none at all).

    Source: Karush-Kuhn-Tucker conditions of the split; derivatives of every order by the implicit function theorem.

    >>> m = jnp.exp(log_allocate(jnp.log(jnp.array([0.9, 0.1])), 0.0, jnp.array([0.2, 0.4]), jnp.log(1e9)))
    >>> round(float(m.sum() / 1e9), 6)
    1.0
    """
    price = _log_price(log_demand, log_amplitude, exponents)
    present, price = _guard(price)
    share = 1 / (1 + jnp.asarray(exponents))
    fixed = jax.lax.stop_gradient((price, present, share, jnp.asarray(log_capacity)))
    low, high = _bracket(*fixed)
    # from the low end of a convex falling function no step overshoots: three or four are enough, see the tests
    nu = bracketed_root(_excess, (price, present, share, log_capacity), low, high, low, 10)
    return jnp.where(present, (price - nu) * share, -jnp.inf)


def allocate(demand: Array, amplitude: Array, exponents: Array, capacity: Array) -> Array:
    """Capacities that minimise the training loss ``sum_s q_s A_s m_s^(-alpha_s)`` under ``sum_s m_s = M``.

    Args:
      demand: q, shape (S,), non-negative; zeros are legal.
      amplitude: A, shape (S,) or scalar, non-negative.
      exponents: alpha, shape (S,), positive.
      capacity: M, scalar, positive.

    Returns:
      m, shape (S,), in the unit of ``capacity``.

    >>> allocate(jnp.array([0.5, 0.5, 0.0]), 1.0, jnp.array([0.3, 0.3, 0.3]), 10.0).round(6).tolist()
    [5.0, 5.0, 0.0]
    """
    return jnp.exp(log_allocate(safe_log(demand), safe_log(amplitude), exponents, safe_log(capacity)))


def log_allocate_closed(
    log_demand: Array,
    log_amplitude: Array,
    exponents: Array,
    log_capacity: Array,
    reference: Array | None = None,
    rescale: bool = False,
) -> Array:
    """Logarithm of the capacities in closed form, for exponents that lie close together.

    With ``Z = sum_j (q_j A_j alpha_j)^(1 / (1 + a))`` and ``a`` the reference exponent,
    ``m_s = (q_s A_s alpha_s)^(1 / (1 + alpha_s)) (M / Z)^((1 + a) / (1 + alpha_s))``.

    Equal to the exact split where all exponents are equal. As written it misses the constraint ``sum_s m_s = M`` by an
    amount of first order in the spread of the exponents (and depends on the unit of M); ``rescale`` divides that out,
    and what is left is of second order in the capacities and of fourth order in the training loss.

    Args:
      log_demand: log q, shape (S,); ``-inf`` for a skill nobody asks for.
      log_amplitude: log A, shape (S,) or scalar.
      exponents: alpha, shape (S,), positive.
      log_capacity: log M, scalar.
      reference: a, scalar; the mean of the exponents if None.
      rescale: True to meet the capacity constraint exactly.

    Returns:
      log m, shape (S,); ``-inf`` where there is no demand.

    >>> equal = jnp.array([0.3, 0.3])
    >>> demand = jnp.log(jnp.array([0.7, 0.3]))
    >>> bool(jnp.allclose(log_allocate_closed(demand, 0.0, equal, 5.0), log_allocate(demand, 0.0, equal, 5.0)))
    True
    """
    exponents = jnp.asarray(exponents)
    reference = jnp.asarray(jnp.mean(exponents) if reference is None else reference)
    present, price = _guard(_log_price(log_demand, log_amplitude, exponents))
    log_z = logsumexp(jnp.where(present, price / (1 + reference), -jnp.inf))
    log_m = jnp.where(present, (price + (1 + reference) * (log_capacity - _finite(log_z))) / (1 + exponents), -jnp.inf)
    if rescale:
        log_m = log_m + (log_capacity - _finite(logsumexp(log_m)))
    return log_m


def allocate_closed(
    demand: Array,
    amplitude: Array,
    exponents: Array,
    capacity: Array,
    reference: Array | None = None,
    rescale: bool = False,
) -> Array:
    """Capacities in closed form, for exponents that lie close together; see ``log_allocate_closed``.

    Args:
      demand: q, shape (S,), non-negative; zeros are legal.
      amplitude: A, shape (S,) or scalar, non-negative.
      exponents: alpha, shape (S,), positive.
      capacity: M, scalar, positive.
      reference: a, scalar; the mean of the exponents if None.
      rescale: True to meet the capacity constraint exactly.

    Returns:
      m, shape (S,), in the unit of ``capacity``.

    >>> allocate_closed(jnp.array([0.5, 0.5]), 1.0, jnp.array([0.3, 0.3]), 10.0).round(6).tolist()
    [5.0, 5.0]
    """
    log_inputs = safe_log(demand), safe_log(amplitude), exponents, safe_log(capacity)
    return jnp.exp(log_allocate_closed(*log_inputs, reference, rescale))


def _log_price(log_demand, log_amplitude, exponents):
    """c_s = log(q_s A_s alpha_s): what one skill pays for its first unit of capacity."""
    return log_demand + log_amplitude + jnp.log(exponents)


def _guard(price):
    """Which skills are asked for, and prices that are finite for all of them."""
    present = price > -jnp.inf
    return present, jnp.where(present, price, 0.0)


def _finite(x):
    """x, and 0 with derivative 0 where it is -inf."""
    return jnp.where(x > -jnp.inf, x, 0.0)


def _excess(nu, args):
    """How far, in log, the capacities at multiplier nu overshoot the capacity there is."""
    price, present, share, log_capacity = args
    return _finite(logsumexp(jnp.where(present, (price - nu) * share, -jnp.inf))) - log_capacity


def _bracket(price, present, share, log_capacity):
    """An interval that holds nu: at its low end one skill takes all of M, at its high end none more than M / S."""
    spread = jnp.log(jnp.asarray(price.shape[-1], price.dtype))
    low = jnp.max(jnp.where(present, price - log_capacity / share, -jnp.inf))
    high = jnp.max(jnp.where(present, price - (log_capacity - spread) / share, -jnp.inf))
    return _finite(low), _finite(high)
