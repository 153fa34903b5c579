"""Solves and logarithms that go over many lanes at once."""

import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax.numerics.batched import fast_log, lower_pairs, solve_packed


@pytest.mark.parametrize("n", [4, 15])
def test_packed_solve_and_logarithm(n):
    rng = np.random.default_rng(n)
    root = rng.standard_normal((6, n, n + 2))
    full, rhs = root @ root.transpose(0, 2, 1), rng.standard_normal((6, n))
    packed = jnp.stack([full[:, i, j] for i, j in lower_pairs(n)])
    want = np.linalg.solve(full, rhs[..., None])[..., 0]
    np.testing.assert_allclose(
        solve_packed(packed, rhs.T, lower_pairs(n), jnp.zeros((n, 6))).T, want, rtol=1e-7, atol=1e-9
    )
    x = np.concatenate([np.logspace(-300, 300, 20001), np.linspace(0.5, 2.0, 10001)])
    np.testing.assert_allclose(fast_log(jnp.asarray(x)), np.log(x), rtol=1e-15, atol=1e-16)
    np.testing.assert_array_equal(
        fast_log(jnp.array([0.0, -1.0, np.inf, np.nan, 1.0])), [-np.inf, np.nan, np.nan, np.nan, 0.0]
    )
