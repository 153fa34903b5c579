import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from camel_jax.laws import allocation

S = 5
log_m = jax.jit(allocation.log_allocate)


def draw(seed, low=0.05, high=0.8, decades=2.0, size=S):
    rng = np.random.default_rng(seed)
    exponents = np.exp(rng.uniform(np.log(low), np.log(high), size))
    log_demand = -rng.uniform(0, decades * np.log(10), size)
    return log_demand, rng.normal(size=size), exponents, rng.uniform(-2, 3)


def pack(log_demand, log_amplitude, exponents, log_capacity):
    return jnp.concatenate([log_demand, log_amplitude, exponents, jnp.array([log_capacity])])


def unpacked(x):
    return allocation.log_allocate(x[:S], x[S : 2 * S], x[2 * S : 3 * S], x[3 * S])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 16]))
def test_capacity_constraint(seed, size):
    """Exponents in [0.01, 3], demands over 30 orders of magnitude, capacities from 1 to 1e12."""
    rng = np.random.default_rng(seed)
    exponents = np.exp(rng.uniform(np.log(0.01), np.log(3), size))
    log_demand = rng.uniform(-30, 0, size) * np.log(10)
    log_capacity = rng.uniform(0, 12) * np.log(10)
    m = log_m(log_demand, rng.normal(size=size), exponents, log_capacity)
    assert abs(np.logaddexp.reduce(np.asarray(m)) - log_capacity) < 1e-10


def test_capacity_constraint_over_thousands_of_draws():
    rng = np.random.default_rng(1)
    rows = 4000
    exponents = np.exp(rng.uniform(np.log(0.01), np.log(3), (rows, 16)))
    log_demand = rng.uniform(-30, 0, (rows, 16)) * np.log(10)
    log_capacity = rng.uniform(0, 12, rows) * np.log(10)
    m = jax.jit(jax.vmap(allocation.log_allocate))(log_demand, np.zeros((rows, 16)), exponents, log_capacity)
    assert np.max(np.abs(np.logaddexp.reduce(np.asarray(m), -1) - log_capacity)) < 1e-12


def test_public_bisection_misses_the_constraint():
    log_demand, log_amplitude, exponents, _ = draw(0)
    args = np.exp(log_demand), np.exp(log_amplitude), exponents, 1e9
    assert abs(reference.arithmetic_bisection(*args).sum() / 1e9 - 1) > 0.01
    assert abs(allocation.allocate(*args).sum() / 1e9 - 1) < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_plain_bisection_and_is_the_optimum(seed):
    log_demand, log_amplitude, exponents, log_capacity = draw(seed)
    args = np.exp(log_demand), np.exp(log_amplitude), exponents, np.exp(log_capacity)
    m = np.asarray(allocation.allocate(*args))
    np.testing.assert_allclose(m, reference.naive_capacities(*args), rtol=1e-10)
    best = reference.training_loss(m, *args[:3])
    rng = np.random.default_rng(seed)
    for _ in range(50):
        other = m * np.exp(0.05 * rng.normal(size=S))
        other *= m.sum() / other.sum()
        assert reference.training_loss(other, *args[:3]) >= best


def naive_unpacked(x):
    args = np.exp(x[:S]), np.exp(x[S : 2 * S]), x[2 * S : 3 * S], np.exp(x[3 * S])
    return np.log(reference.naive_capacities(*args))


def test_jacobian_against_finite_differences():
    points = [pack(*draw(seed)) for seed in range(3)]
    forward, backward = (
        jax.jit(jax.vmap(jacobian))(jnp.stack(points)) for jacobian in (jax.jacfwd(unpacked), jax.jacrev(unpacked))
    )
    for batched in (forward, backward):
        for x, found in zip(points, batched, strict=True):
            np.testing.assert_allclose(found, reference.gradient(naive_unpacked, x, 1e-3), rtol=1e-6, atol=1e-6)
    assert np.array_equal(jax.jit(jax.jacrev(unpacked))(points[2]).round(12), backward[2].round(12))


@pytest.mark.parametrize("outer,inner", [(jax.jacfwd, jax.jacrev), (jax.jacfwd, jax.jacfwd), (jax.jacrev, jax.jacrev)])
def test_hessian_against_finite_differences(outer, inner):
    points = [pack(*draw(seed)) for seed in range(2)]
    gradient = jax.jit(jax.jacfwd(unpacked))
    batched = jax.jit(jax.vmap(outer(inner(unpacked))))(jnp.stack(points))
    for x, found in zip(points, batched, strict=True):
        np.testing.assert_allclose(found, reference.gradient(gradient, x, 1e-4), rtol=1e-6, atol=1e-6)


def test_hessian_of_the_training_loss_matches_the_envelope_theorem():
    """At the optimum d loss / d log q_s = q_s A_s m_s^-alpha_s: the gradient needs no derivative of the split."""
    log_demand, log_amplitude, exponents, log_capacity = draw(3)

    def envelope(log_demand):
        m = allocation.log_allocate(log_demand, log_amplitude, exponents, log_capacity)
        return jnp.exp(log_demand + log_amplitude - exponents * m)

    def loss(log_demand):
        return jnp.sum(envelope(log_demand))

    gradient, hessian = jax.jit(lambda q: (jax.grad(loss)(q), jax.hessian(loss)(q)))(log_demand)
    value, jacobian = jax.jit(lambda q: (envelope(q), jax.jacfwd(envelope)(q)))(log_demand)
    np.testing.assert_allclose(gradient, value, rtol=1e-10)
    np.testing.assert_allclose(hessian, jacobian, rtol=1e-9, atol=1e-12)


def test_vmap_is_a_loop():
    args = [draw(s) for s in range(6)]
    batch = [np.stack(column) for column in zip(*args, strict=True)]
    looped = np.stack([log_m(*a) for a in args])
    np.testing.assert_allclose(jax.jit(jax.vmap(allocation.log_allocate))(*batch), looped, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("split", [allocation.allocate, allocation.allocate_closed])
def test_zero_shares(split):
    _, log_amplitude, exponents, _ = draw(4)
    demand = jnp.array([0.5, 0.0, 0.3, 0.0, 0.2])
    seen = np.array([0, 2, 4])
    args = jnp.exp(log_amplitude), exponents, 1e9
    m = jax.jit(split)(demand, *args)
    assert m[1] == m[3] == 0.0
    fewer = jax.jit(split)(demand[seen], jnp.exp(log_amplitude)[seen], exponents[seen], 1e9)
    if split is allocation.allocate:
        np.testing.assert_allclose(m[seen], fewer, rtol=1e-12)

    def training_loss(demand, amplitude, exponents, capacity):
        m = split(demand, amplitude, exponents, capacity)
        held = m > 0
        return jnp.sum(jnp.where(held, demand * amplitude * jnp.where(held, m, 1.0) ** -exponents, 0.0))

    def packed(x):
        return training_loss(x[:S], x[S : 2 * S], x[2 * S : 3 * S], x[3 * S])

    x = jnp.concatenate([demand, *map(jnp.atleast_1d, args)])
    gradient, hessian, jacobian = jax.jit(
        lambda x: (jax.grad(packed)(x), jax.hessian(packed)(x), jax.jacfwd(split)(x[:S], *args))
    )(x)
    assert np.all(np.isfinite(gradient)) and np.all(np.isfinite(hessian))
    assert np.all(np.isfinite(jacobian)) and np.all(np.asarray(jacobian)[:, [1, 3]] == 0)


def test_naive_form_fails_at_a_zero_share():
    """The same formula without guards, at the multiplier our solver finds."""
    exponents, demand = jnp.array([0.2, 0.4, 0.3]), jnp.array([0.6, 0.4, 0.0])

    def naive(demand):
        log_price = jnp.log(demand * exponents)
        nu = 1.3 * jax.nn.logsumexp(log_price / 1.3)
        return jnp.exp((log_price - nu) / (1 + exponents))

    def ours(demand):
        return allocation.allocate_closed(demand, 1.0, exponents, 1.0, reference=0.3)

    both = jax.jit(lambda q: [(f(q), jax.jacrev(f)(q)) for f in (naive, ours)])(demand)
    np.testing.assert_allclose(both[0][0], both[1][0], rtol=1e-12)
    assert not np.all(np.isfinite(both[0][1]))
    assert np.all(np.isfinite(both[1][1]))


def test_no_demand_at_all_and_a_single_skill():
    nothing = jnp.full(3, -jnp.inf)
    for split in (allocation.log_allocate, allocation.log_allocate_closed):
        total = jax.value_and_grad(lambda e, c, f=split: jnp.exp(f(nothing, 0.0, e, c)).sum(), (0, 1))
        for value in jax.tree.leaves(jax.jit(total)(jnp.full(3, 0.3), 5.0)):
            assert np.all(np.asarray(value) == 0)
        np.testing.assert_allclose(jax.jit(split)(jnp.array([-4.0]), 0.0, jnp.array([0.7]), 5.0), [5.0], rtol=1e-13)


def test_closed_form_is_exact_at_equal_exponents():
    for seed in range(5):
        log_demand, log_amplitude, exponents, log_capacity = draw(seed, decades=8)
        exponents = np.full(S, exponents[0])
        exact = log_m(log_demand, log_amplitude, exponents, log_capacity)
        for rescale in (False, True):
            closed = allocation.log_allocate_closed(log_demand, log_amplitude, exponents, log_capacity, None, rescale)
            np.testing.assert_allclose(closed, exact, rtol=1e-10, atol=1e-10)


def test_order_of_the_closed_form_in_the_spread_of_exponents():
    """Halving the spread: capacities as written err at first order, rescaled ones at second, their loss at fourth."""
    log_demand, log_amplitude, exponents, _ = draw(2, 0.2, 0.4)
    delta = exponents - exponents.mean()
    demand, amplitude = np.exp(log_demand), np.exp(log_amplitude)
    errors = []
    for spread in (0.1, 0.05):
        e = 0.3 + spread * delta
        exact = log_m(log_demand, log_amplitude, e, np.log(100.0))
        best = reference.training_loss(np.exp(exact), demand, amplitude, e)
        row = []
        for rescale in (False, True):
            closed = allocation.log_allocate_closed(log_demand, log_amplitude, e, np.log(100.0), None, rescale)
            row.append(np.max(np.abs(closed - exact)))
            row.append(abs(reference.training_loss(np.exp(closed), demand, amplitude, e) / best - 1))
        errors.append(row)
    capacities, loss, rescaled, rescaled_loss = np.array(errors[0]) / errors[1]
    assert 1.9 < capacities < 2.1 and 1.9 < loss < 2.1
    assert 3.8 < rescaled < 4.2
    assert 14 < rescaled_loss < 18


def test_unit_of_capacity():
    """Capacity in another unit, amplitudes changed to match, is the same split; the rescaled closed form nearly so."""
    log_demand, log_amplitude, exponents, log_capacity = draw(5)
    unit = np.log(1e6)
    other = log_m(log_demand, log_amplitude + exponents * unit, exponents, log_capacity + unit) - unit
    np.testing.assert_allclose(other, log_m(log_demand, log_amplitude, exponents, log_capacity), rtol=1e-11, atol=1e-11)
