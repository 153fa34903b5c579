"""Coordinates, projections and designs on the simplex."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from camel_jax.recipes.simplex import dirichlet_design, from_simplex, lattice, project_simplex, tangent, to_simplex

LOWER = jnp.array([0.1, 0.0, 0.0, 0.05])
UPPER = jnp.array([0.3, 0.2, 0.9, 1.0])
to_box = jax.jit(to_simplex)
project = jax.jit(project_simplex)
design = jax.jit(dirichlet_design, static_argnums=1)


def test_without_caps_it_is_a_softmax():
    z = jax.random.normal(jax.random.key(0), (5,)) * 3
    np.testing.assert_allclose(to_simplex(z), jax.nn.softmax(z), atol=1e-15)
    np.testing.assert_allclose(to_simplex(z, jnp.zeros(5), jnp.ones(5)), jax.nn.softmax(z), atol=1e-14)
    floors = jnp.full(5, 0.1)
    np.testing.assert_allclose(to_simplex(z, floors), 0.1 + 0.5 * jax.nn.softmax(z), atol=1e-15)


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 10.0, 100.0, 700.0])
def test_floors_and_caps_hold_for_any_coordinates(spread):
    for seed in range(5):
        w = to_box(spread * jax.random.normal(jax.random.key(seed), (4,)), LOWER, UPPER)
        assert abs(float(w.sum()) - 1) < 1e-12
        assert bool(jnp.all(w >= LOWER) & jnp.all(w <= UPPER))


def test_coordinates_and_back():
    for seed in range(5):
        w = to_box(2 * jax.random.normal(jax.random.key(seed), (4,)), LOWER, UPPER)
        np.testing.assert_allclose(to_box(from_simplex(w, LOWER, UPPER), LOWER, UPPER), w, atol=1e-10)
        np.testing.assert_allclose(to_simplex(from_simplex(w)), w, atol=1e-14)


def test_fixed_shares_stay():
    w = to_box(jnp.array([5.0, -3.0, 1.0, 0.0]), jnp.array([0.2, 0, 0, 0]), jnp.array([0.2, 1, 0, 1]))
    assert float(w[0]) == pytest.approx(0.2, abs=1e-15)
    assert float(w[2]) == 0.0
    assert float(w.sum()) == pytest.approx(1.0, abs=1e-12)


def test_derivatives_of_the_capped_softmax():
    z = jax.random.normal(jax.random.key(3), (4,))
    slope = jax.jit(jax.grad(lambda z: jnp.sum(jnp.sin(3 * to_simplex(z, LOWER, UPPER)))))
    curve = jax.jit(jax.jacfwd(slope))(z)
    value = jax.jit(lambda z: jnp.sum(jnp.sin(3 * to_simplex(z, LOWER, UPPER))))
    step = 1e-5 * np.eye(4)
    np.testing.assert_allclose(slope(z), [(value(z + e) - value(z - e)) / 2e-5 for e in step], atol=1e-8)
    np.testing.assert_allclose(curve, [(slope(z + e) - slope(z - e)) / 2e-5 for e in step], atol=1e-8)
    shifted = jax.jit(jax.jacfwd(to_simplex))(z, LOWER, UPPER) @ jnp.ones(4)
    np.testing.assert_allclose(shifted, 0.0, atol=1e-14)


def test_permuted_domains_permute_the_mixture():
    z = jax.random.normal(jax.random.key(4), (4,))
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(to_box(z[order], LOWER[order], UPPER[order]), to_box(z, LOWER, UPPER)[order], atol=1e-13)
    np.testing.assert_allclose(
        project(z[order], LOWER[order], UPPER[order]), project(z, LOWER, UPPER)[order], atol=1e-14
    )


def test_tangent_sums_to_zero_over_the_free_domains():
    v = jnp.array([1.0, 2.0, 6.0])
    assert float(tangent(v).sum()) == 0.0
    np.testing.assert_allclose(tangent(v, jnp.array([True, False, True])), [-2.5, 0.0, 2.5])
    np.testing.assert_array_equal(tangent(v, jnp.zeros(3, bool)), jnp.zeros(3))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.integers(0, 10**6))
def test_projection_meets_its_optimality_conditions(point, seed):
    rng = np.random.default_rng(seed)
    middle = rng.dirichlet(np.ones(4))
    low, high = middle * rng.uniform(size=4), middle + (1 - middle) * rng.uniform(size=4)
    w = np.asarray(project(jnp.asarray(point), low, high))
    assert abs(w.sum() - 1) < 1e-12
    assert (w >= low - 1e-15).all() and (w <= high + 1e-15).all()
    pull = np.asarray(point) - w  # one level t: below it only at floors, above it only at caps
    inner = (w > low + 1e-12) & (w < high - 1e-12)
    t = pull[inner].mean() if inner.any() else None
    for i in range(4):
        if t is not None:
            assert pull[i] <= t + 1e-9 or w[i] >= high[i] - 1e-12
            assert pull[i] >= t - 1e-9 or w[i] <= low[i] + 1e-12


def test_projection_agrees_with_a_solver():
    point = np.array([0.9, -0.2, 0.4, 0.3])
    found = minimize(
        lambda w: np.sum((w - point) ** 2),
        np.full(4, 0.25),
        bounds=list(zip(np.asarray(LOWER), np.asarray(UPPER), strict=True)),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(project(jnp.asarray(point), LOWER, UPPER), found.x, atol=1e-6)


def test_projection_leaves_mixtures_alone_and_differentiates():
    w = jnp.array([0.2, 0.1, 0.5, 0.2])
    np.testing.assert_allclose(project(w, LOWER, UPPER), w, atol=1e-15)
    jacobian = jax.jacrev(project)(w, jnp.zeros(4), jnp.ones(4))
    np.testing.assert_allclose(jacobian, np.eye(4) - 0.25, atol=1e-14)
    np.testing.assert_array_equal(project(jnp.array([9.0, 0, 0, 0])), jnp.array([1.0, 0, 0, 0]))


def test_dirichlet_design_is_feasible_and_centered():
    draws = np.asarray(design(jax.random.key(0), 2000, jnp.array([0.5, 0.3, 0.2]), 5.0))
    np.testing.assert_allclose(draws.mean(0), [0.5, 0.3, 0.2], atol=0.02)
    corner = np.asarray(design(jax.random.key(1), 200, jnp.ones(6) / 6, 1e-3, 0.02, 0.4))
    np.testing.assert_allclose(corner.sum(1), 1.0, atol=1e-12)
    assert (corner >= 0.02 - 1e-15).all() and (corner <= 0.4 + 1e-15).all()


def test_lattice_holds_every_multiple_once():
    points = lattice(3, 5)
    by_hand = [p for p in itertools.product(range(6), repeat=3) if sum(p) == 5]
    assert sorted(map(tuple, np.rint(points * 5).astype(int).tolist())) == sorted(by_hand)
    assert lattice(1, 7).tolist() == [[1.0]]
    with pytest.raises(ValueError, match="use fewer"):
        lattice(20, 50)
    with pytest.raises(ValueError, match="at least one"):
        lattice(0, 5)
