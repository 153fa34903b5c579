"""What back-tests say of a law's error beyond its table, against the same by brute force."""

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.intervals import predict_interval
from camel_jax.prediction import error_prior as prior
from camel_jax.prediction.discrepancy import _quantile, discrepancy_scale, leverage, leverages
from camel_jax.prediction.error_prior import (
    ErrorPrior,
    Scatter,
    Seen,
    error_over_prior,
    error_prior,
    robust_variance,
    scale_errors,
    scatter_at,
    within_scale,
)
from camel_jax.recipes.recipe import dense

SETTINGS = error_prior("camel")
SCALE = np.array([0.004, 0.006, 0.005])
SEEN = [
    Seen(2, np.array([0.012, 0.020, 0.010]), 0.8, SCALE),
    Seen(2, np.array([0.021, 0.033, 0.024]), 1.7, SCALE),
    Seen(3, np.array([0.004, 0.011, 0.006]), 0.5, 0.9 * SCALE),
]


def test_slopes_are_the_gaussian_posterior_of_every_scenario():
    found = scale_errors(SETTINGS, SEEN, SCALE, one_size=False, unmixed=False)
    typical = np.median(SCALE) / SETTINGS.level
    reach, below = np.array([x.leverage for x in SEEN]), np.array([x.below for x in SEEN])
    alike = np.where(below[:, None] == below, 1.0, SETTINGS.lasting)
    noise = np.array([np.mean(x.scale**2) for x in SEEN]) / prior.CELLS
    errors, n = np.array([x.error for x in SEEN]), 3
    shared = SETTINGS.common_share
    for h, spread in enumerate(prior.SCENARIOS):
        variance = (
            SETTINGS.slope * (typical / prior.REFERENCE) ** SETTINGS.power * np.exp(SETTINGS.spread * spread)
        ) ** 2
        total = variance * (shared + (1 - shared) / n) * alike * np.outer(reach, reach)
        total += np.diag(noise * (1 / n + prior.SHARED_NOISE))
        cross = variance * shared * SETTINGS.lasting * reach
        np.testing.assert_allclose(found.common[h], cross @ np.linalg.inv(total) @ errors.mean(1), rtol=1e-8)
        left = variance * shared - cross @ np.linalg.inv(total) @ cross
        np.testing.assert_allclose(found.common_variance[h], left, rtol=1e-6)
        assert found.own_variance[h] < variance * (1 - shared)
    assert found.weights.sum() == pytest.approx(1.0)


def test_scenarios_of_large_slopes_gain_from_large_errors_and_lose_from_small_ones():
    def median(factor):
        seen = [x._replace(error=factor * x.error) for x in SEEN]
        weights = scale_errors(SETTINGS, seen, SCALE, one_size=False, unmixed=False).weights
        return prior.SCENARIOS[np.searchsorted(np.cumsum(weights), 0.5)]

    assert median(0.1) < median(1.0) < median(10.0)
    before = scale_errors(SETTINGS, [], SCALE, one_size=False, unmixed=False)
    assert not before.common.any() and not before.own.any()
    alone = scale_errors(SETTINGS, SEEN, SCALE, one_size=True, unmixed=False)
    assert not alone.common.any()  # back-tests of other tables are not this one's


def test_error_within_resists_one_bad_row_and_never_vanishes():
    def within(residuals, runs=80):
        return within_scale(SETTINGS, robust_variance(residuals, np.ones(len(residuals))), runs)

    rng = np.random.default_rng(0)
    residuals = 0.004 * rng.normal(size=(80, 3))
    clean = within(residuals)
    for bad in (np.log(10.0), np.log(3.0), -np.log(10.0)):
        altered = residuals.copy()
        altered[7, 1] = bad
        assert np.abs(within(altered) / clean - 1.0).max() < 0.15
    gaps = np.where(rng.random(residuals.shape) < 0.2, np.nan, residuals)
    assert np.abs(within(gaps) / clean - 1.0).max() < 0.2
    assert (within(0.0 * residuals, 4) > 0.0).all()
    assert np.isfinite(within(np.full((4, 2), np.nan), 4)).all()


def test_every_law_has_a_prior_of_its_own_or_the_common_one():
    assert isinstance(error_prior("dml"), ErrorPrior) and error_prior("nobody's") == error_prior("all laws")
    for name in laws.CONSTRUCTORS:
        settings = error_prior(name)
        assert all(np.isfinite(settings)) and 0 < settings.common_share < 1 and 0 < settings.lasting < 1


def test_quantiles_of_mixtures_of_normals():
    rng = np.random.default_rng(0)
    means, deviations, weights = np.array([0.0, 1.0]), np.array([0.5, 2.0]), np.array([0.7, 0.3])
    which = rng.choice(2, 400_000, p=weights)
    drawn = means[which] + deviations[which] * rng.normal(size=len(which))
    for mass in (0.05, 0.5, 0.95):
        said = _quantile(means[None, :, None], deviations[None, :, None], weights[:, None], mass)[0, 0]
        assert said == pytest.approx(np.quantile(drawn, mass), abs=0.02)


@pytest.fixture(scope="module")
def fitted():
    table = simulate.study(
        jax.random.key(0), law=laws.dml(), n_domains=2, n_mixtures=10, sizes=(2e7, 6e7, 2e8), checkpoints=1, noise=0.004
    )
    return cj.fit(laws.dml(), table, key=jax.random.key(1), starts=2, resamples=8)


@pytest.mark.parametrize("size", [1e8, 2e9, 5e10])
def test_draws_and_intervals_say_the_same(fitted, size):
    at = dense(size, 2e9, (0.4, 0.6))
    said = predict_interval(fitted, at, 0.8)
    drawn = np.log(np.asarray(fitted.draws(field=True).predict(at)))
    low, high = np.quantile(drawn, [0.1, 0.9], axis=0)
    width = np.log(np.asarray(said.high) / np.asarray(said.low))
    np.testing.assert_allclose(high - low, width, rtol=0.45)  # of 128 draws, and of 8 resamples


def test_leverage_is_nothing_within_the_table_and_grows_beyond(fitted):
    d = fitted.discrepancy
    inside, near, far = (float(leverage(d, dense(n, 1e9, (0.4, 0.6)))) for n in (1e8, 4e8, 4e9))
    assert inside < 1e-9 < near < far
    rows = jax.tree.map(lambda *x: np.stack(x), *(dense(n, 1e9, (0.4, 0.6)) for n in (1e8, 4e8, 4e9)))
    np.testing.assert_allclose(leverages(d, rows), [0.0, near, far], atol=1e-9)
    widths = [np.asarray(discrepancy_scale(d, dense(4e9, t, (0.4, 0.6)))) for t in (1e9, 1e11, 1e13)]
    assert (widths[0] < widths[1]).all() and (widths[1] < widths[2]).all()
    one = d._replace(size_span=0.0)
    assert float(leverage(one, dense(4e9, 1e9, (0.4, 0.6)))) > far


def test_errors_that_scatter_little_make_the_error_within_smaller_and_large_ones_do_not_make_it_larger():
    settings = error_prior("blend")
    errors = np.random.default_rng(0).normal(0.3, 0.5, (400, 3))  # their mean is no scatter but the slope beyond
    little = scatter_at(errors, np.ones((400, 3)), 200)
    assert little.ratio == pytest.approx(0.25, rel=0.1) and little.runs == 200
    errors[7] = 50.0  # a run that does not belong
    assert scatter_at(errors, np.ones((400, 3)), 200).ratio == pytest.approx(little.ratio, rel=0.15)
    assert error_over_prior([little], settings) < 0.6
    assert error_over_prior([little, Scatter(9.0, 200)], settings) > 0.7
    assert error_over_prior([Scatter(9.0, 200)], settings) == 1.0
