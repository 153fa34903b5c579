"""What a law leaves unexplained and a mixture keeps: a Gaussian process on log residuals over mixtures and sizes.

The residual of a mixture at one size tells a good part of its residual at the next. Per run, the residuals of its
checkpoints are averaged with weights progress^3; over runs, their covariance is

    k((r, N), (r', N')) = exp(-|r - r'|^2 / (2 length^2)) exp(-|log N - log N'| / reach)   + noise where both are the same run

The correction decays to nothing far from the measured mixtures and sizes, so that extrapolation is left to the law.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from camel_jax.runs import Recipe, Runs, progress

Array = Any

LENGTH, REACH, NOISE, POWER = 0.15, 2.0, 0.2, 3.0


class ResidualField(NamedTuple):
    """The posterior mean of the process, ready to evaluate.

    Attributes:
      weights: (G, K) mixtures of the runs. log_size: (G,) log active parameters.
      coefficients: (G, V); the correction of set v is the kernel row times column v.
    """

    weights: Array
    log_size: Array
    coefficients: Array


def no_field(n_domains: int, n_sets: int) -> ResidualField:
    """A field without runs: no correction."""
    return ResidualField(np.zeros((0, n_domains)), np.zeros(0), np.zeros((0, n_sets)))


def fit_field(runs: Runs, residuals: Array) -> ResidualField:
    """Posterior mean of the residual process given the residuals of a fitted law.

    Args:
      runs: the table the law was fitted on.
      residuals: (R, V) log measured minus log predicted losses, NaN where not measured.
    """
    run, left = np.asarray(runs.run), np.asarray(residuals, float)
    seen = np.isfinite(left)
    weight = np.where(seen, progress(runs)[:, None] ** POWER, 0.0)
    total = np.zeros((run.max() + 1, left.shape[1]))
    mass = np.zeros_like(total)
    np.add.at(total, run, weight * np.where(seen, left, 0.0))
    np.add.at(mass, run, weight)
    mean = total / np.maximum(mass, 1e-300)
    first = np.unique(run, return_index=True)[1]
    mixtures = np.asarray(runs.recipe.weights, float)[first]
    log_size = np.log(np.asarray(runs.recipe.n_active, float)[first])
    cov = np.asarray(_kernel(mixtures, log_size, mixtures, log_size, np))
    coefficients = np.zeros_like(mean)
    for v in range(mean.shape[1]):
        known = mass[:, v] > 0
        noisy = cov[np.ix_(known, known)] + NOISE * np.eye(known.sum())
        coefficients[known, v] = np.linalg.solve(noisy, mean[known, v])
    return ResidualField(mixtures, log_size, coefficients)


def field_correction(field: ResidualField, recipe: Recipe) -> Array:
    """Log correction of the losses of one recipe, shape (V,); vmap over recipes."""
    weights, log_size = jnp.atleast_2d(recipe.weights), jnp.log(jnp.atleast_1d(recipe.n_active))
    row = _kernel(weights, log_size, jnp.asarray(field.weights), jnp.asarray(field.log_size), jnp)[0]
    return row @ jnp.asarray(field.coefficients)


def _kernel(weights: Array, log_size: Array, others: Array, other_sizes: Array, xp: Any) -> Array:
    apart = xp.sum((weights[:, None] - others[None]) ** 2, axis=-1)
    scale = xp.abs(log_size[:, None] - other_sizes[None])
    return xp.exp(-apart / (2.0 * LENGTH**2) - scale / REACH)
