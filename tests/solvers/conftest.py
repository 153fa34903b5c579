"""The small problem, and its solutions by structure and by automatic differentiation."""

import pytest
from dml_problem import PRIOR, declare, make, predict

from camel_jax.solvers.least_squares import least_squares


@pytest.fixture(scope="session")
def problem():
    return make()


@pytest.fixture(scope="session")
def structured(problem):
    rows, losses, starts, counts, _ = problem
    return least_squares(declare(rows), starts, losses, weights=counts, prior=PRIOR, rtol=1e-12)


@pytest.fixture(scope="session")
def generic(problem):
    rows, losses, starts, counts, _ = problem
    return least_squares(predict, starts, losses, rows=rows, weights=counts, prior=PRIOR, rtol=1e-12)
