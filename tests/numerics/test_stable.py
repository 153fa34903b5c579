import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from camel_jax.numerics import stable


def both_derivatives(f, x):
    return jax.jit(lambda x: [d(f)(x) for d in (jax.grad, jax.jacfwd, jax.hessian)])(x)


CASES = [
    # guarded form, naive form, a point where the naive form has a derivative that is not finite
    (lambda x: jnp.exp(0.5 * stable.safe_log(x)), lambda x: jnp.where(x > 0, jnp.exp(0.5 * jnp.log(x)), 0.0), 0.0),
    (lambda x: stable.power(x, 0.5), lambda x: x**0.5, 0.0),
    (lambda x: stable.power(0.0, x), lambda x: jnp.exp(x * jnp.log(0.0)), 0.5),
    (lambda x: stable.safe_divide(1.0, x), lambda x: jnp.where(x != 0, 1.0 / x, 0.0), 0.0),
    (lambda x: stable.xlogy(x, x), lambda x: jnp.where(x > 0, x * jnp.log(x), 0.0), 0.0),
    (lambda x: jnp.exp(stable.log_power(-jnp.inf, x)), lambda x: jnp.exp(x * -jnp.inf), 0.5),
    (
        lambda x: jnp.exp(stable.logsumexp(x * jnp.full(3, -jnp.inf))),
        lambda x: jnp.exp(jax.nn.logsumexp(x * jnp.full(3, -jnp.inf))),
        1.0,
    ),
]


@pytest.mark.parametrize("ours,naive,x", CASES[:-1])
def test_finite_where_the_naive_form_is_not(ours, naive, x):
    assert all(np.isfinite(d) for d in both_derivatives(ours, x))
    assert not all(np.isfinite(d) for d in both_derivatives(naive, x))
    assert np.isfinite(ours(x))


@pytest.mark.parametrize("transform", [jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))])
def test_guarded_terms_have_zero_derivative(transform):
    nothing = jnp.array([-jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(transform(lambda x: jnp.exp(stable.logsumexp(nothing + x)))(0.3), 0.0)
    np.testing.assert_array_equal(transform(lambda x: stable.safe_divide(x, 0.0 * x))(0.3), 0.0)


def test_values_agree_with_plain_arithmetic():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 3, (2, 50))
    np.testing.assert_allclose(stable.safe_log(x), np.log(x), rtol=1e-14)
    np.testing.assert_allclose(stable.safe_divide(x, y), x / y, rtol=1e-14)
    np.testing.assert_allclose(stable.xlogy(x, y), x * np.log(y), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(stable.power(x, y), x**y, rtol=1e-13)
    np.testing.assert_allclose(stable.log_power(np.log(x), y), y * np.log(x), rtol=1e-14)
    terms = rng.normal(0, 300, (5, 7))
    terms[:, 2] = -np.inf
    np.testing.assert_allclose(stable.logsumexp(terms), np.logaddexp.reduce(terms, -1), rtol=1e-14)
    assert stable.logsumexp(jnp.full(4, -jnp.inf)) == -jnp.inf


@settings(max_examples=30, deadline=None)
@given(st.floats(-8, 8), st.floats(0, 1))
def test_root_of_a_steep_function(target, where):
    low, high = target - 40.0 * where, target + 40.0 * (1 - where)
    root = jax.jit(
        lambda a: stable.bracketed_root(lambda x, a: jnp.tanh(x - a) + 0.01 * (x - a), a, low, high, low, 60)
    )
    assert abs(root(target) - target) < 1e-9


def test_root_that_starts_on_a_plateau_and_one_at_the_edge():
    # the derivative is zero at the guess: only the bracket can help
    root = stable.bracketed_root(lambda x, a: jnp.maximum(x, 1.0) - a, 2.5, 0.0, 8.0, 0.0, 60)
    assert abs(root - 2.5) < 1e-9
    assert stable.bracketed_root(lambda x, a: x - a, 1.0, 1.0, 3.0, 2.0) == 1.0


def cube_root(args):
    return stable.bracketed_root(lambda x, a: x**3 + a[1] * x - a[0], args, 0.0, 10.0, 1.0, 30)


def test_root_derivatives_of_three_orders():
    args = jnp.array([3.0, 0.7])
    value, first = jax.jit(cube_root), jax.jit(jax.grad(cube_root))
    np.testing.assert_allclose(first(args), reference.gradient(value, args), rtol=1e-8)
    seconds = [jax.hessian(cube_root), jax.jacrev(jax.grad(cube_root)), jax.jacfwd(jax.jacfwd(cube_root))]
    for second in jax.jit(lambda args: [hessian(args) for hessian in seconds])(args):
        np.testing.assert_allclose(second, reference.gradient(first, args), rtol=1e-8)
    third = jax.jit(jax.jacfwd(seconds[0]))(args)
    np.testing.assert_allclose(third, reference.gradient(jax.jit(seconds[0]), args), rtol=1e-7)


def test_one_newton_step_after_stop_gradient_has_a_wrong_hessian():
    """The shortcut this module does not take: right gradient, wrong curvature."""

    def shortcut(a):
        x = jax.lax.stop_gradient(cube_root(a))
        return x - (x**3 + a[1] * x - a[0]) / (3 * x**2 + a[1])

    args = jnp.array([3.0, 0.7])
    (g1, h1), (g2, h2) = jax.jit(lambda a: [(jax.grad(f)(a), jax.hessian(f)(a)) for f in (shortcut, cube_root)])(args)
    np.testing.assert_allclose(g1, g2, rtol=1e-10)
    assert np.max(np.abs(h1 - h2)) > 1e-2


def test_root_is_the_same_in_a_batch():
    batch = jnp.stack([jnp.linspace(0.5, 400.0, 6), jnp.linspace(0.0, 2.0, 6)], -1)
    looped = jnp.stack([jax.jit(cube_root)(a) for a in batch])
    np.testing.assert_allclose(jax.vmap(cube_root)(batch), looped, rtol=1e-14)
