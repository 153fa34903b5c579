"""Declared and discovered structure: the derivatives of automatic differentiation, and steps along amplitudes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from dml_problem import NAMES, K, R, S, V, declare, flat, predict

from camel_jax.solvers import least_squares as module
from camel_jax.solvers import projected_starts
from camel_jax.solvers.discover import discover
from camel_jax.solvers.projection import LARGEST, rescale
from camel_jax.solvers.structure import Term, structure


def sodm(raw, row):
    mixture, n, d, _ = row
    present = mixture > 0
    log_share = jnp.log(jnp.where(present, mixture, 1.0))
    demand = jnp.sum(jnp.where(present, jnp.exp(raw["c"] + jnp.exp(raw["g"]) * log_share), 0.0))
    p = 1.0 + jnp.exp(raw["p"])
    size, data = raw["a"] - jnp.exp(raw["alpha"]) * n, raw["b"] - jnp.exp(raw["beta"]) * d
    return jnp.exp(raw["e"]) + 1.0 / demand + (jnp.exp(p * size) + jnp.exp(p * data)) ** (1.0 / p)


@partial(jax.jit, static_argnums=0)
def normal_equations(model, data, raw, weights, residual):
    value, jacobian = model.evaluate(data, raw)
    return value, *model.normal(data, jacobian, weights, weights * residual)


def check_rescale(law, raw, weights, residual):
    """Rescaled terms are those of the moved parameters, and the move is the step of the normal equations."""
    form, eye = law.form, 0.1 * np.eye(law.form.n_params)
    value, (slopes, chain) = form.evaluate(law.data, raw)
    small = 0.01 * residual  # so that no step is cut
    pull, shares = jnp.zeros_like(raw), form.shares(law.data, (slopes, chain))
    moved = rescale(form.scales, shares, slopes, value, small, weights, pull, eye)
    assert [len(s.moves) for s in form.scales] == [1, K, 1, 1] and np.abs(moved.change).max() < LARGEST
    again, (slopes_again, _) = form.evaluate(law.data, raw + moved.change)
    np.testing.assert_allclose(moved.value, again, rtol=1e-12)
    for mine, direct in zip(moved.slopes, slopes_again, strict=True):
        np.testing.assert_allclose(mine, np.broadcast_to(direct, mine.shape), rtol=1e-11, atol=1e-14)
    ways = np.zeros((4, form.n_params))
    for i, scale in enumerate(form.scales):
        ways[i, [k for k, _ in scale.moves]] = [change for _, change in scale.moves]
    jacobian = np.stack([np.broadcast_to(s, value.shape) for s in shares])
    gram = np.einsum("irl,jrl,rl->lij", jacobian, jacobian, weights) + ways @ eye @ ways.T
    step = -np.linalg.solve(gram, np.einsum("irl,rl->li", jacobian, weights * small)[..., None])[..., 0]
    np.testing.assert_allclose(moved.change, ways.T @ step.T, rtol=1e-6, atol=1e-10)
    far = rescale(form.scales, shares, slopes, value, 100.0 * residual, weights, pull, eye)
    assert np.abs(far.change[0]).max() <= LARGEST * (1 + 1e-12)


def test_inverse_sums_couplings_and_absent_branches_have_the_derivatives_of_autodiff():
    rng = np.random.default_rng(5)
    mixture = rng.dirichlet(np.ones(K), R)
    mixture[::4, 1] = 0.0
    n, d = rng.standard_normal((2, R))
    shapes = {k: ((K,) if k in "cg" else ()) for k in ("c", "g", "e", "a", "alpha", "b", "beta", "p")}
    log_share = np.log(np.where(mixture > 0, mixture, 1.0))
    terms = [
        Term([{"e": 1.0}]),
        Term([{("c", i): 1.0, ("g", i): log_share[:, i]} for i in range(K)], power=-1.0, present=(mixture > 0).T),
        Term([{"a": 1.0, "alpha": -n}, {"b": 1.0, "beta": -d}], coupling="p"),
    ]
    law = structure(shapes, terms, positive=["g", "alpha", "beta"])
    names = sorted(shapes)
    tree = jax.tree.structure(dict.fromkeys(names, 0))
    auto = module.Rowwise(sodm, tree, tuple(shapes[k] for k in names), True)
    raw = 0.5 * rng.standard_normal((auto.n_params, 4))
    weights, residual = rng.uniform(size=(2, R, 4))
    data = (mixture, n, d, np.ones(R))
    added = [Term([{"a": 1.0, "alpha": -n}]), Term([{"b": 1.0, "beta": -d}])]
    apart = structure({k: v for k, v in shapes.items() if k != "p"}, terms[:2] + added, positive=["g", "alpha", "beta"])
    check_rescale(apart, jnp.asarray(raw[:-1]), jnp.asarray(weights), jnp.asarray(residual))
    assert not law.form.scales  # coupled terms keep theirs
    value, matrix, gradient = normal_equations(law.form, law.data, raw, weights, residual)
    value2, matrix2, gradient2 = normal_equations(auto, data, raw, weights, residual)
    np.testing.assert_allclose(value, value2, rtol=1e-12)
    np.testing.assert_allclose(gradient, gradient2, rtol=1e-9, atol=1e-12)
    mine = {frozenset(p): matrix[k] for k, p in enumerate(law.form.pairs)}
    theirs = {frozenset(p): matrix2[k] for k, p in enumerate(auto.pairs)}
    assert mine.keys() == theirs.keys()
    for pair in mine:
        np.testing.assert_allclose(mine[pair], theirs[pair], rtol=1e-9, atol=1e-12)


def test_projection_never_raises_the_error_it_minimises(problem):
    rows, losses, starts, _, _ = problem
    law = declare(rows)
    start = flat({k: a[None] for k, a in starts.items()})
    seen = np.ones_like(losses, bool)
    project = partial(projected_starts.project_starts, law.form, law.data)
    moved = projected_starts.project_all(project, start, losses, seen, np.ones((1, R)))

    def error(x):
        value, _ = law.form.evaluate(law.data, jnp.asarray(x[0].reshape(-1, K + 4).T))
        return np.mean((np.exp(value).T.reshape(S, V, R) / losses.T - 1.0) ** 2, -1)

    assert np.all(error(moved) <= error(start) * (1 + 1e-9))


def test_structure_is_found_in_a_plain_function(problem, structured):
    rows, _, starts, _, _ = problem
    shapes = tuple(np.shape(starts[k])[2:] for k in NAMES)
    model = module.Rowwise(predict, jax.tree.structure(dict.fromkeys(NAMES, 0)), shapes, True)
    points = np.random.default_rng(1).standard_normal((5, model.n_params))
    found = discover(lambda x, row: model.scalar(tuple(x), row), rows, points)
    assert {frozenset(g) for g in found.groups} == {frozenset({1}), frozenset({2, 4, 5, 6}), frozenset({0, 3})}
    assert found.amplitudes == (1, 2, 3)
    owners = [{i for g in groups or () for i in found.groups[g]} for groups in found.scaled]
    assert owners == [{1}, {2, 4, 5, 6}, {0, 3}]

    def curved(x, row):  # no two slopes are proportional, nothing is an amplitude
        return jnp.sin(x[0] * row) + jnp.cos(x[1] + x[0] * row**2) + 3.0

    alone = discover(curved, np.linspace(0.1, 1.0, 7), points[:, :2])
    assert alone.groups == ((0,), (1,)) and alone.amplitudes == ()
