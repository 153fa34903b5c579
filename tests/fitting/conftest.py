"""Tables that the tests of fits share."""

import jax
import pytest

from camel_jax.evaluation import simulate


@pytest.fixture(scope="session")
def runs():
    return simulate.study(jax.random.key(0), n_domains=2, n_mixtures=7, checkpoints=2, noise=0.004)
