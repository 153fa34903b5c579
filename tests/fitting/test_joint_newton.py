from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting import joint_newton
from camel_jax.fitting.objective import Robust, as_data, objective, residuals
from camel_jax.laws import camel_derivatives
from camel_jax.laws.law import scale_runs, table_units
from camel_jax.solvers import minimize, status

LAW = laws.camel(skills=3)


def make_table(sparsity):
    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=8, sizes=(1e7, 4e7), sparsity=sparsity)
    scaled = scale_runs(table_units(runs), runs)
    return scaled, as_data(scaled)


@pytest.fixture(scope="module")
def table():
    return make_table((1.0,))


@pytest.fixture(scope="module")
def sparse_table():
    """Some of its models are mixtures of experts, so that the share of active parameters is a parameter."""
    return make_table((1.0, 4.0))


def start(scaled, seed):
    return LAW.init(jax.random.key(seed), scaled)


@pytest.mark.parametrize("which", ["table", "sparse_table"])
def test_pack_and_unpack(which, request):
    raw = start(request.getfixturevalue(which)[0], 0)
    again = camel_derivatives.unpack(*camel_derivatives.pack(raw), 3)
    assert set(again) == set(raw)
    for name in raw:
        np.testing.assert_array_equal(again[name], raw[name])


@pytest.mark.parametrize(("exact", "block"), [(False, 1000), (True, 1000), (False, 7), (True, 7)])
def test_arrow_is_the_hessian(sparse_table, exact, block, monkeypatch):
    """Against automatic differentiation, for slopes and curvatures of any sign, in one piece and in blocks of rows."""
    monkeypatch.setattr(camel_derivatives, "BLOCK", block)
    scaled, data = sparse_table
    law = laws.camel(skills=3, exact=exact)
    theta, phi = camel_derivatives.pack(start(scaled, 1))
    shape, size = phi.shape, theta.size
    recipe = data.recipe
    rows = camel_derivatives.Table(recipe.weights, *map(jnp.log, (recipe.n_total, recipe.n_active, recipe.tokens)))

    def total(x):
        log_ratio = residuals(law, camel_derivatives.unpack(x[:size], x[size:].reshape(shape), 3), data)
        return jnp.sum(jnp.sin(3 * log_ratio) * data.weights[:, None])

    theta = theta.at[-1].set(0.7)  # the start has it at 0, where its second derivative vanishes
    x = jnp.concatenate([theta, phi.ravel()])
    gradient, hessian = jax.jit(lambda x: (jax.grad(total)(x), jax.hessian(total)(x)))(x)
    ratio = residuals(law, camel_derivatives.unpack(theta, phi, 3), data).T
    slope, curvature = 3 * jnp.cos(3 * ratio) * data.weights, -9 * jnp.sin(3 * ratio) * data.weights
    assert (len(slope[0]) > block) == (block == 7) and len(slope[0]) % 7  # the last block is padded
    compiled = jax.jit(partial(camel_derivatives.arrow, exact=exact))
    arrow, by_theta, by_phi = compiled(theta, phi, rows, curvature, slope, 1.0)
    np.testing.assert_allclose(jnp.concatenate([by_theta, by_phi.ravel()]), gradient, atol=1e-11)
    scale = np.abs(hessian).max()
    np.testing.assert_allclose(arrow.shared, hessian[:size, :size], atol=1e-12 * scale)
    width = shape[1]
    for v in range(shape[0]):
        own = slice(size + v * width, size + (v + 1) * width)
        np.testing.assert_allclose(arrow.cross[v], hessian[:size, own], atol=1e-12 * scale)
        np.testing.assert_allclose(arrow.own[v], hessian[own, own], atol=1e-12 * scale)


@pytest.fixture(scope="module")
def solver(table):
    data = table[1]
    robust = Robust()

    @jax.jit
    def run(raw, counts, warm=False):
        own = data._replace(weights=data.weights * counts)
        return joint_newton.minimize_joint(LAW, raw, own, robust, warm=warm)

    return run


@pytest.mark.slow
def test_converges_below_lbfgs_and_reports_the_true_objective(table, solver):
    scaled, data = table
    raw = start(scaled, 2)
    function = objective(LAW, data, Robust())
    ours = solver(raw, jnp.ones(len(scaled)))
    theirs = jax.jit(lambda raw: minimize.lbfgs(function, raw, max_steps=1500))(raw)
    assert ours.status == status.CONVERGED
    np.testing.assert_allclose(jax.jit(function)(ours.params), ours.objective, rtol=1e-10)
    assert ours.objective <= 1.01 * theirs.objective
    assert ours.steps < 250
    again = solver(ours.params, jnp.ones(len(scaled)), True)
    assert again.steps <= 20 and ours.objective >= again.objective >= 0.999 * ours.objective


def test_a_large_table_begins_on_some_of_its_rows(table, solver):
    scaled, data = table
    raw, few = start(scaled, 2), joint_newton.Schedule(large=len(scaled), stride=2)
    plain = solver(raw, jnp.ones(len(scaled)))
    staged = jax.jit(lambda raw: joint_newton.minimize_joint(LAW, raw, data, Robust(), few))(raw)
    assert staged.status == status.CONVERGED and staged.objective <= 1.02 * plain.objective
    np.testing.assert_allclose(objective(LAW, data, Robust())(staged.params), staged.objective, rtol=1e-10)


def test_a_broken_start_is_a_status(table, solver):
    scaled, _ = table
    raw = start(scaled, 3)
    raw["floors"] = raw["floors"] + jnp.nan
    assert solver(raw, jnp.ones(len(scaled))).status == status.NON_FINITE


def test_which_fits_have_the_structure(table):
    scaled, data = table
    assert joint_newton.supports(LAW, data, start(scaled, 0))
    exact = laws.camel(skills=3, exact=True)
    assert joint_newton.supports(exact, data, exact.init(jax.random.key(0), scaled))
    added = laws.camel(skills=3, coupled=False)
    assert not joint_newton.supports(added, data, added.init(jax.random.key(0), scaled))
