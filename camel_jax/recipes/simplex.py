"""Mixtures as points of the simplex: unconstrained coordinates, projections and designs.

A mixture with floors a and caps b has unconstrained coordinates z through a saturating softmax,

    w_i = a_i + 1 / (1 / (b_i - a_i) + exp(-(z_i + t))),   t such that sum_i w_i = 1,

which is exactly ``a + (1 - sum a) softmax(z)`` where no cap can bind, and stays strictly inside the box otherwise.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.types import Array

_TINY = 1e-300  # smallest mass still given to the free part, so that its logarithm exists


def _log_terms(shift: Array, z: Array, log_inverse_range: Array) -> Array:
    return -jnp.logaddexp(log_inverse_range, -(z + shift))


def _log_slopes(shift: Array, z: Array, log_inverse_range: Array) -> Array:
    """Logarithm of the derivative of each share by the shift: share x (1 - share / range)."""
    logs = _log_terms(shift, z, log_inverse_range)
    return 2.0 * logs - (z + shift)


def _log_excess(shift: Array, z: Array, log_inverse_range: Array, log_mass: Array) -> Array:
    return jax.nn.logsumexp(_log_terms(shift, z, log_inverse_range)) - log_mass


@jax.custom_jvp
def _shift(z: Array, log_inverse_range: Array, log_mass: Array) -> Array:
    """The t at which the free part carries the free mass; -1e3..1e3 above the uncapped value."""
    low = log_mass - jax.nn.logsumexp(z)  # without caps this is the root, and caps only push it up
    high = low + 1e3 + jnp.max(z) - jnp.min(z)

    def step(state: tuple) -> tuple:
        low, high, t, value, i = state
        slope = jnp.exp(jax.nn.logsumexp(_log_slopes(t, z, log_inverse_range)) - value - log_mass)
        low, high = jnp.where(value < 0, t, low), jnp.where(value < 0, high, t)
        newton = t - value / jnp.where(slope > 0, slope, 1.0)
        inside = (slope > 0) & (newton >= low) & (newton <= high)
        t = jnp.where(inside, newton, 0.5 * (low + high))
        return low, high, t, _log_excess(t, z, log_inverse_range, log_mass), i + 1

    tolerance = 4 * jnp.finfo(z.dtype).eps
    first = (low, high, low, _log_excess(low, z, log_inverse_range, log_mass), 0)
    return jax.lax.while_loop(lambda s: (jnp.abs(s[3]) > tolerance) & (s[4] < 60), step, first)[2]


@_shift.defjvp
def _shift_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    t = _shift(*primals)  # calls itself, so that second derivatives are right too
    moved = jax.jvp(lambda *args: _log_excess(t, *args), primals, tangents)[1]
    slope = jax.grad(_log_excess)(t, *primals)
    steep = slope > 0
    return t, jnp.where(steep, -moved / jnp.where(steep, slope, 1.0), 0.0)


def to_simplex(z: Array, lower: Array | None = None, upper: Array | None = None) -> Array:
    """Mixture of unconstrained coordinates: a softmax with floors and caps.

    Args:
      z: coordinates, shape (K,); adding a constant changes nothing.
      lower: floors, shape (K,), sum at most 1; None for zero.
      upper: caps, shape (K,), sum at least 1; None for no caps.

    Returns:
      Mixture, shape (K,): sums to 1, strictly between floors and caps where these leave room.

    >>> w = to_simplex(jnp.zeros(3), jnp.array([0.1, 0.0, 0.0]), jnp.array([1.0, 0.2, 1.0]))
    >>> bool(abs(w.sum() - 1) < 1e-12), bool(w[1] < 0.2)
    (True, True)
    """
    z = jnp.asarray(z, float)
    floor = jnp.zeros_like(z) if lower is None else jnp.asarray(lower, z.dtype)
    mass = jnp.maximum(1.0 - floor.sum(), 0.0)
    if upper is None:
        return floor + mass * jax.nn.softmax(z)
    room = jnp.maximum(jnp.asarray(upper, z.dtype) - floor, 0.0)
    free = room < mass  # a cap above the free mass cannot bind
    tiny = jnp.asarray(max(_TINY, float(jnp.finfo(z.dtype).tiny)), z.dtype)
    log_inverse_range = jnp.where(free, -jnp.log(jnp.where(free, jnp.maximum(room, tiny), 1.0)), -jnp.inf)
    t = _shift(z, log_inverse_range, jnp.log(jnp.maximum(mass, tiny)))
    share = jnp.exp(_log_terms(t, z, log_inverse_range))
    return floor + jnp.minimum(jnp.where(mass > 0, share, 0.0), room)


def from_simplex(weights: Array, lower: Array | None = None, upper: Array | None = None) -> Array:
    """Unconstrained coordinates of a mixture strictly inside its floors and caps: the inverse of :func:`to_simplex`.

    Args:
      weights: mixture, shape (K,).
      lower, upper: floors and caps, shape (K,), or None.

    Returns:
      z, shape (K,), finite; shares at a bound are moved inside by 1e-12 first.

    >>> w = jnp.array([0.5, 0.2, 0.3])
    >>> bool(jnp.allclose(to_simplex(from_simplex(w)), w))
    True
    """
    weights = jnp.asarray(weights, float)
    floor = jnp.zeros_like(weights) if lower is None else jnp.asarray(lower, weights.dtype)
    share = jnp.maximum(weights - floor, 1e-12)
    if upper is None:
        return jnp.log(share)
    room = jnp.maximum(jnp.asarray(upper, weights.dtype) - floor, 0.0)
    free = room < jnp.maximum(1.0 - floor.sum(), 0.0)
    left = jnp.where(free, jnp.maximum(1.0 - share / jnp.where(free, jnp.maximum(room, 1e-12), 1.0), 1e-12), 1.0)
    return jnp.log(share) - jnp.log(left)


def tangent(vector: Array, free: Array | None = None) -> Array:
    """Component of a vector along the simplex: sums to zero over the free domains, zero elsewhere.

    Args:
      vector: shape (..., K).
      free: boolean (K,), domains that may move; None for all.

    >>> tangent(jnp.array([1.0, 2.0, 3.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    vector = jnp.asarray(vector)
    if free is None:
        return vector - vector.mean(-1, keepdims=True)
    count = jnp.maximum(jnp.sum(free), 1)
    mean = jnp.sum(jnp.where(free, vector, 0.0), -1, keepdims=True) / count
    return jnp.where(free, vector - mean, 0.0)


def project_simplex(point: Array, lower: Array | float = 0.0, upper: Array | float = 1.0) -> Array:
    """Closest mixture to a point, exactly: ``argmin |w - p|^2`` with ``sum w = 1`` and ``lower <= w <= upper``.

    The answer is ``clip(p - t, lower, upper)``; t is found by walking the 2K corners of that piecewise linear sum.

    Args:
      point: shape (K,), finite.
      lower, upper: floors and caps, shape (K,) or scalar, with ``sum lower <= 1 <= sum upper``; otherwise the
        result is the floors or the caps themselves, which do not sum to 1.

    Returns:
      Mixture, shape (K,); differentiable almost everywhere.

    >>> project_simplex(jnp.array([0.9, 0.4, -0.3])).tolist()
    [0.75, 0.25, 0.0]
    """
    point = jnp.asarray(point, float)
    low = jnp.broadcast_to(jnp.asarray(lower, point.dtype), point.shape)
    high = jnp.broadcast_to(jnp.asarray(upper, point.dtype), point.shape)
    corners = jnp.sort(jnp.concatenate([point - low, point - high]))
    sums = jnp.clip(point[None, :] - corners[:, None], low, high).sum(1)  # falls from sum(high) to sum(low)
    index = jnp.clip(jnp.sum(sums >= 1.0) - 1, 0, corners.size - 2)
    middle = jax.lax.stop_gradient(0.5 * (corners[index] + corners[index + 1]))
    free = (point - middle > low) & (point - middle < high)
    at_bound = jnp.where(point - middle <= low, low, high)
    total = jnp.sum(jnp.where(free, point, at_bound))
    t = jnp.where(jnp.any(free), (total - 1.0) / jnp.maximum(jnp.sum(free), 1), middle)
    return jnp.where(free, jnp.clip(point - t, low, high), at_bound)


def dirichlet_design(
    key: Array,
    count: int,
    center: Array,
    concentration: float | Array = 1.0,
    lower: Array | float = 0.0,
    upper: Array | float = 1.0,
) -> Array:
    """Random mixtures: Dirichlet draws around a center, projected onto floors and caps.

    Args:
      key: a ``jax.random`` key.
      count: number of mixtures n.
      center: mean of the draws before projection, shape (K,), on the simplex.
      concentration: Dirichlet parameters are ``K * concentration * center``; 1 with a uniform center is uniform on the
        simplex, small is near the corners. Scalar, or one per mixture, shape (n,).
      lower, upper: floors and caps, shape (K,) or scalar.

    Returns:
      (n, K).

    >>> dirichlet_design(jax.random.key(0), 5, jnp.ones(3) / 3, upper=0.5).shape
    (5, 3)
    """
    center = jnp.asarray(center, float)
    parameters = jnp.broadcast_to(jnp.asarray(concentration, float), (count,))[:, None] * center.size * center
    # log-gammas: with small parameters plain gammas underflow to an all-zero row
    draws = jax.nn.softmax(jax.random.loggamma(key, jnp.maximum(parameters, 1e-3)), -1)
    return jax.vmap(lambda point: project_simplex(point, lower, upper))(draws)


def lattice(n_domains: int, divisions: int) -> np.ndarray:
    """All mixtures whose shares are multiples of ``1 / divisions`` (a simplex lattice design), on the host.

    Returns:
      (n, K) with n = (divisions + K - 1 choose K - 1).

    Raises:
      ValueError: it would hold more than 5 million mixtures, or an argument is below 1.

    >>> lattice(3, 2).shape
    (6, 3)
    """
    if n_domains < 1 or divisions < 1:
        raise ValueError(f"a lattice needs at least one domain and one division, got {n_domains} and {divisions}")
    size = 1
    for i in range(1, n_domains):
        size = size * (divisions + i) // i
    if size > 5_000_000:
        raise ValueError(f"a lattice of {n_domains} domains in steps of 1/{divisions} has {size} mixtures; use fewer")
    bars = itertools.combinations(range(divisions + n_domains - 1), n_domains - 1)
    cuts = np.fromiter(itertools.chain.from_iterable(bars), int, size * (n_domains - 1)).reshape(size, n_domains - 1)
    edges = np.concatenate([np.full((size, 1), -1), cuts, np.full((size, 1), divisions + n_domains - 1)], axis=1)
    return (np.diff(edges, axis=1) - 1) / divisions
