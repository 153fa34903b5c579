"""Ranges of nearly optimal shares do not depend on how many of their ends are sought together."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

import camel_jax.mixture.near_optimal  # noqa: F401
from camel_jax.mixture import barrier

module = sys.modules["camel_jax.mixture.near_optimal"]  # the package has a function of that name


@pytest.mark.slow
def test_ends_sought_in_groups_are_those_sought_at_once(monkeypatch):
    best = jnp.array([0.4, 0.3, 0.2, 0.1])

    def losses(w):
        return (2.0 + jnp.array([3.0, 1.0, 1.0, 0.2]) @ (w - best) ** 2)[None]

    found = []
    for most in (8, 3):
        monkeypatch.setattr(barrier, "AT_ONCE", most)
        module._extremes.clear_cache()
        near = module.near_optimal(losses, 0.005, domains=["a", "b", "c", "d"], samples=4, starts=4)
        found.append(np.stack([near.low, near.high]))
    module._extremes.clear_cache()
    assert (found[0][0] < best - 0.01).all() and (found[0][1] > best + 0.01).all()
    np.testing.assert_allclose(found[1], found[0], atol=1e-9)
