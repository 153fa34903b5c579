"""The same optimum from every seed: where the objective has several basins, and where the best of them is a small one near a corner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax.mixture.optimize import optimize_mixture
from camel_jax.mixture.search import spread_out

NAMES = ["web", "code", "books", "wiki"]
SEEDS = range(6)


def basins(depths, weights):
    """A basin around every corner and every middle of two domains, of depths (10,); all but the best are the wider."""
    centers = jnp.asarray([(jnp.eye(4)[i] + jnp.eye(4)[j]) / 2 for i in range(4) for j in range(i, 4)])
    centers = 0.9 * centers + 0.1 / 4
    width = jnp.where(depths == jnp.max(depths), 0.08, 0.2)
    away = jnp.sum((weights - centers) ** 2, axis=-1) / width**2
    return (2.0 - 0.1 * jnp.sum(depths * jnp.exp(-away)))[None]


@pytest.mark.parametrize("best", range(10))
def test_every_basin_is_found_from_every_seed(best):
    depths = np.random.default_rng(best).uniform(0.6, 0.9, 10)
    depths[best] = 1.2
    function = jax.tree_util.Partial(basins, jnp.asarray(depths))
    found = [optimize_mixture(function, domains=NAMES, starts=4, key=jax.random.key(s), relax=0.0) for s in SEEDS]
    values = np.array([one.value.point for one in found])
    grid = np.random.default_rng(0).dirichlet(np.full(4, 0.6), 40_000)
    least = np.asarray(jax.vmap(function)(jnp.asarray(grid))).min()
    assert np.ptp(values) < 1e-6 and values.max() <= least + 1e-9
    assert not found[0].certificate.convex and found[0].certificate.agreeing < found[0].certificate.finished


def test_what_is_finished_lies_apart():
    points = jnp.asarray([[0.5, 0.5], [0.51, 0.49], [0.9, 0.1], [0.1, 0.9], [0.52, 0.48]])
    values = jnp.asarray([1.0, 1.1, 1.2, jnp.inf, 1.05])
    assert spread_out(points, values, 3).tolist() == [
        0,
        2,
        3,
    ]  # those near the first wait until all others had their turn
    assert spread_out(points, values, 5).tolist() == [0, 2, 3, 4, 1]
