"""Equivalent compute: against laws that can be solved by hand, with draws, and where nothing suffices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import camel_jax as cj
from camel_jax.budget.equivalent import equivalent_compute
from camel_jax.evaluation import simulate


def law(size_exponent=0.2, data_exponent=0.2):
    """A loss whose second domain costs 0.1 a share; the scale of the rest falls with size and tokens."""

    def at(size, tokens):
        return lambda w: (2.0 + (size / 1e9) ** -size_exponent * (tokens / 1e9) ** -data_exponent + 0.1 * w[1])[None]

    return at


@pytest.mark.parametrize(("vary", "power"), [("both", 0.2), ("tokens", 0.2), ("size", 0.2)])
def test_a_product_of_powers_is_solved_exactly(vary, power):
    found = equivalent_compute(law(), [1.0, 0.0], [0.0, 1.0], 1e9, 1e9, vary=vary)
    # the mixture may lose 0.1 more of its scale: s^-power = 1.1, where s is the ratio of budgets
    assert found.ratio.point == pytest.approx(1.1 ** (-1 / power), rel=1e-3)
    assert found.saving.point == pytest.approx(1 - found.ratio.point)
    assert np.isnan(found.ratio.low) and len(found.draws) == 0
    assert found.cost == pytest.approx(6e18)


def test_a_worse_mixture_needs_more_than_the_budget_and_one_out_of_reach_says_so():
    worse = equivalent_compute(law(), [0.0, 1.0], [1.0, 0.0], 1e9, 1e9)
    assert worse.ratio.point == pytest.approx(0.9 ** (-1 / 0.2), rel=1e-3) and worse.saving.point < 0
    flat = equivalent_compute(law(1e-6, 1e-6), [0.0, 1.0], [1.0, 0.0], 1e9, 1e9)
    assert np.isinf(flat.ratio.point) and "more than 100000 % of the compute" in flat.told()
    free = equivalent_compute(law(1e-6, 1e-6), [1.0, 0.0], [0.0, 1.0], 1e9, 1e9)
    assert free.ratio.point == 0.0


def test_draws_are_solved_one_by_one():
    slopes = jnp.linspace(0.05, 0.15, 41)

    def at(size, tokens):
        scale = (size / 1e9) ** -0.2 * (tokens / 1e9) ** -0.2
        return lambda w: (2.0 + scale + slopes * w[1])[:, None]

    found = equivalent_compute(at, [1.0, 0.0], [0.0, 1.0], 1e9, 1e9)
    each = (1 + slopes) ** (-1 / 0.2)  # the scale of the rest is the same in all draws, so each is solved by hand
    np.testing.assert_allclose(found.draws, each, rtol=2e-3)
    assert found.ratio.low == pytest.approx(np.quantile(each, 0.05), rel=0.02)
    assert found.ratio.high == pytest.approx(np.quantile(each, 0.95), rel=0.02)


def test_errors_that_both_mixtures_share_cancel():
    """Draws that differ by a level, even one that grows with the size, say nothing about the mixture."""
    levels = jnp.linspace(-0.3, 0.3, 41)

    def at(size, tokens):
        clean = law()(size, tokens)
        return lambda w: (clean(w) + levels * jnp.log(size / 1e7))[:, None]

    found = equivalent_compute(at, [1.0, 0.0], [0.0, 1.0], 1e9, 1e9)
    assert found.ratio.high - found.ratio.low < 1e-9 and found.ratio.point == pytest.approx(1.1**-5, rel=2e-3)


def test_other_costs_and_accuracies():
    at = law()
    cost = lambda recipe: recipe.n_active  # noqa: E731
    found = equivalent_compute(at, [1.0, 0.0], [0.0, 1.0], 1e9, 1e9, cost=cost)
    assert found.ratio.point == pytest.approx(1.1 ** (-0.5 / 0.2), rel=1e-3)

    def knows(size, tokens):
        return lambda w: cj.Outcome(at(size, tokens)(w), jnp.exp(-at(size, tokens)(w)))

    same = equivalent_compute(knows, [1.0, 0.0], [0.0, 1.0], 1e9, 1e9, objective=cj.mean_accuracy())
    assert same.ratio.point == pytest.approx(1.1 ** (-1 / 0.2), rel=1e-3)


@pytest.mark.slow
def test_a_fit_gives_an_interval_that_holds_the_point():
    runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    fitted = cj.fit(cj.laws.dml(), runs, key=jax.random.key(1), starts=1, resamples=4, backtests=0)
    best = cj.optimize_mixture(fitted.losses_at("300M", "10B"), starts=4)
    found = equivalent_compute(fitted.losses_at, best.weights, best.reference, "300M", "10B")
    assert 0 < found.ratio.point < 1 and found.ratio.low < found.ratio.point < found.ratio.high
    assert len(found.draws) == 128 and "of the compute (90 % interval" in repr(found)
    sparse = equivalent_compute(fitted.losses_at, best.weights, best.reference, "1B-A300M", "10B")
    assert sparse.ratio.point == pytest.approx(found.ratio.point, rel=1e-6)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="vary must be one of"):
        equivalent_compute(law(), [1.0, 0.0], [0.0, 1.0], 1e9, 1e9, vary="time")
    with pytest.raises(ValueError, match="reference"):
        equivalent_compute(law(), [1.0, 0.0], [0.2, 0.2], 1e9, 1e9)
