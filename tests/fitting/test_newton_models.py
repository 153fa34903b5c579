import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting import joint_newton
from camel_jax.fitting.newton_models import dense_model, free_model, quadratic_priors
from camel_jax.fitting.objective import Robust, as_data, objective
from camel_jax.laws.law import scale_runs, table_units
from camel_jax.solvers import status


@pytest.fixture(scope="module")
def table():
    """Some of its models are mixtures of experts, so that the share of active parameters is a parameter."""
    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=8, sizes=(1e7, 4e7), sparsity=(1.0, 4.0))
    scaled = scale_runs(table_units(runs), runs)
    return scaled, as_data(scaled)


@pytest.mark.parametrize("exact", [False, True])
def test_the_matrix_free_model_is_the_dense_one(table, exact):
    """Gradients, products with every part of the matrix, and steps from a basis of the whole space."""
    scaled, data = table
    law = laws.camel(skills=3, exact=exact)
    known = law.derivatives
    assert known is not None
    theta, phi = known.pack(law.init(jax.random.key(1), scaled))
    rng = np.random.default_rng(0)
    curvature, slope = rng.random((2, phi.shape[0], len(scaled)))
    slope = 0.2 * (slope - 0.5)
    own, move = rng.standard_normal(phi.shape), rng.standard_normal(theta.shape)

    @jax.jit
    def both(theta, phi, second):
        out = []
        for dense in (True, False):
            prior = quadratic_priors(law, known, theta, phi, 3, dense)
            at = theta, phi, curvature, slope, second
            model = (
                dense_model(known, data.recipe, prior, *at)
                if dense
                else free_model(known, data.recipe, prior, theta.size, *at)
            )
            firm = model.own + 30.0 * jnp.eye(phi.shape[1])
            left = jnp.linalg.cholesky(firm)
            reduced = model.by_theta - model.to_shared(jnp.linalg.solve(firm, model.by_phi[..., None])[..., 0])
            step, _ = model.solve(model.decompose(left), reduced, 1e-9)
            value = prior.add_value(jnp.zeros(()), theta)
            out.append((model.by_theta, model.by_phi, model.own, model.to_own(move), model.to_shared(own), value, step))
        return out

    for second in (0.0, 1.0):
        dense, free = both(theta, phi, second)
        for one, other in zip(dense[:-1], free[:-1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(one).max())
        if not second:  # a positive definite matrix, whose step is the same in any coordinates
            np.testing.assert_allclose(dense[-1], free[-1], rtol=1e-5, atol=1e-6 * np.abs(dense[-1]).max())


@pytest.mark.slow
def test_the_blocks_are_those_of_gauss_newton(table):
    scaled, data = table
    law = laws.camel(skills=3)
    known = law.derivatives
    assert known is not None
    theta, phi = known.pack(law.init(jax.random.key(1), scaled))
    curvature = np.random.default_rng(0).random((phi.shape[0], len(scaled)))
    shared = known.arrow(theta, phi, data.recipe, curvature, jnp.zeros_like(curvature), 0.0)[0].shared
    each, last = known.blocks(theta, phi, data.recipe, curvature)
    for i in range(3):
        np.testing.assert_allclose(each[i], shared[3 * i : 3 * i + 3, 3 * i : 3 * i + 3], atol=1e-12)
    np.testing.assert_allclose(last, shared[9:, 9:], atol=1e-10)


@pytest.mark.slow
def test_both_reach_the_same_optimum(table):
    scaled, data = table
    law = laws.camel(skills=3)
    raw = law.init(jax.random.key(2), scaled)
    found = []
    for dense in (True, False):
        schedule = joint_newton.Schedule(dense=dense, products=40)
        run = jax.jit(lambda raw, schedule=schedule: joint_newton.minimize_joint(law, raw, data, Robust(), schedule))
        found.append(run(raw))
    assert all(s.status == status.CONVERGED for s in found)
    assert abs(found[0].objective / found[1].objective - 1.0) < 1e-3
    np.testing.assert_allclose(objective(law, data, Robust())(found[1].params), found[1].objective, rtol=1e-10)
