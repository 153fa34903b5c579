"""Priors that are read off a log density."""

import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax.solvers.prior import quadratic_prior


def test_quadratic_prior_reads_a_log_density():
    def log_prior(raw):
        spread = raw["t"] - jnp.mean(raw["t"])
        return -0.5 * (4.0 * jnp.sum(spread**2) + 2.0 * (raw["a"] - 1.5) ** 2)

    prior = quadratic_prior(log_prior, {"a": jnp.zeros(()), "t": jnp.ones(3)})
    x = np.array([0.3, 1.0, -2.0, 0.5])
    got = 0.5 * (x - prior.mean) @ prior.precision @ (x - prior.mean)
    assert got == pytest.approx(float(-log_prior({"a": x[0], "t": x[1:]})), rel=1e-9)
    with pytest.raises(ValueError, match="not quadratic"):
        quadratic_prior(lambda raw: -jnp.sum(raw**4), jnp.ones(2))
    with pytest.raises(ValueError, match="not concave"):
        quadratic_prior(lambda raw: jnp.sum(raw**2), jnp.ones(2))
