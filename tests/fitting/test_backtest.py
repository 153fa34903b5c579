"""Back-tests inside a table: what a law that does not see mixtures would get at the held-out size."""

import dataclasses

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.backtest import blind_errors

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def table():
    return simulate.study(KEY, n_domains=2, n_mixtures=6, sizes=(1e7, 3e7, 1e8), checkpoints=2, noise=0.002)


def test_blind_errors_are_those_of_the_mean_prediction_at_the_same_tokens(table):
    tested = cj.select(table, np.asarray(table.recipe.n_active) == 1e8)
    rng = np.random.default_rng(0)
    error = 0.01 * rng.normal(size=tested.losses.shape)
    error[0, 0] = np.nan
    mass = np.where(np.isfinite(error), rng.uniform(0.5, 2.0, (len(tested), 1)), 0.0)
    found = blind_errors(error, tested, mass)
    tokens, measured = np.asarray(tested.recipe.tokens), np.log(np.asarray(tested.losses))
    for i in range(len(tested)):
        for v in range(error.shape[1]):
            rows = [j for j in range(len(tested)) if tokens[j] == tokens[i] and np.isfinite(error[j, v])]
            mean = np.average([measured[j, v] - error[j, v] for j in rows], weights=[mass[j, v] for j in rows])
            expected = measured[i, v] - mean if np.isfinite(error[i, v]) else np.nan
            np.testing.assert_allclose(found[i, v], expected, rtol=1e-12, atol=1e-14)


def test_blind_errors_need_two_mixtures_at_the_same_tokens(table):
    tested = cj.select(table, np.asarray(table.recipe.n_active) == 1e8)
    error, mass = np.full(tested.losses.shape, 0.01), np.ones(tested.losses.shape)
    alone = cj.select(tested, np.all(tested.recipe.weights == tested.recipe.weights[0], axis=1))
    assert np.isnan(blind_errors(error[: len(alone)], alone, mass[: len(alone)])).all()
    apart = dataclasses.replace(tested.recipe, tokens=np.asarray(tested.recipe.tokens) * 1.1 ** np.arange(len(tested)))
    assert np.isnan(blind_errors(error, dataclasses.replace(tested, recipe=apart), mass)).all()


def test_a_law_that_sees_mixtures_beats_its_blind_self_and_one_that_does_not_equals_it(table):
    helped = dataclasses.replace(table, losses=np.asarray(table.losses) * np.exp(-0.3 * table.recipe.weights))
    (sees,) = cj.fit(laws.dml(), helped, key=KEY, starts=1, field=False).backtests
    assert 0 < 2 * sees.mean_relative_error < sees.blind_error
    (blind,) = cj.fit(laws.chinchilla(), helped, key=KEY, starts=1, field=False).backtests
    assert blind.blind_error == pytest.approx(blind.mean_relative_error, rel=1e-9)
