"""Moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from camel_jax.types import Array


class Prior(NamedTuple):
    """Quadratic penalty 1/2 (x - mean)' precision (x - mean) on the flat raw parameters of one set.

    Attributes:
      mean: (P,).
      precision: (P, P), symmetric and positive semi-definite, or its diagonal (P,).
    """

    mean: Any
    precision: Any


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
