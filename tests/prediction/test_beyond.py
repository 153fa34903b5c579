"""Beyond the table, predictions fall with size and tokens, whatever back-tests and the residual field say."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import camel_jax as cj
from camel_jax.evaluation import simulate
from camel_jax.fitting.intervals import predict_interval
from camel_jax.laws.law import constrain_all, in_units, predict_rows
from camel_jax.prediction.beyond import LEAST, MOST, corrected, expected_slowing, limited_field, nearest_fitted
from camel_jax.recipes.recipe import Recipe


@pytest.fixture(scope="module")
def fitted():
    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=8, sizes=(1e7, 3e7, 1e8, 3e8), noise=0.01)
    return cj.fit(cj.laws.sodm(), runs, key=jax.random.key(1), starts=1, backtests=2)


def rows_along(fitted, size_steps, token_steps, mixture):
    size = fitted.size_range[1] * np.asarray(size_steps)
    tokens = fitted.tokens_range[1] * np.asarray(token_steps)
    return Recipe(size, size, tokens, np.broadcast_to(mixture, (len(size), len(mixture))))


@pytest.mark.parametrize("slowing", [-1.0, MOST])
@pytest.mark.parametrize("sign", [-20.0, 20.0])
def test_losses_fall_beyond_the_table(fitted, slowing, sign):
    """Even with corrections far larger than any that were seen."""
    n_sets = len(fitted.sets)
    d = fitted.discrepancy._replace(slowing=np.full(n_sets, slowing))
    field = fitted.field._replace(coefficients=sign * np.abs(np.asarray(fitted.field.coefficients)))
    bent = dataclasses.replace(fitted, discrepancy=d, field=field)
    far = np.geomspace(1.0, 1000.0, 40)
    for mixture in np.random.default_rng(0).dirichlet(np.ones(3), 8):
        for steps in ((far, np.ones(40)), (np.ones(40), far), (far, far)):
            log = np.log(np.asarray(bent.predict(rows_along(fitted, *steps, mixture))))
            assert (np.diff(log, axis=0) < 1e-9).all()


def test_host_traced_and_draws_agree(fitted):
    d = fitted.discrepancy._replace(slowing=np.array([0.3, -0.4, 0.1])[: len(fitted.sets)])
    bent = dataclasses.replace(fitted, discrepancy=d)
    recipe = rows_along(fitted, [0.5, 2.0, 50.0], [3.0, 0.5, 9.0], np.array([0.2, 0.3, 0.5]))
    host = np.asarray(bent.predict(recipe))
    traced = np.asarray(jax.jit(lambda x: bent.predict(dataclasses.replace(recipe, tokens=x)))(recipe.tokens))
    draws = bent.draws(field=True)
    points = [draws.point(jax.tree.map(lambda x, i=i: jnp.asarray(x)[i], recipe)) for i in range(3)]
    np.testing.assert_allclose(traced, host, rtol=1e-12)
    np.testing.assert_allclose(np.stack(points), host, rtol=1e-12)


def test_within_the_table_nothing_is_slowed(fitted):
    d = fitted.discrepancy._replace(slowing=np.full(len(fitted.sets), 0.5))
    bent = dataclasses.replace(fitted, discrepancy=d)
    recipe = rows_along(fitted, [0.1, 1.0], [1.0, 0.2], np.array([0.2, 0.3, 0.5]))
    np.testing.assert_array_equal(np.asarray(bent.predict(recipe)), np.asarray(fitted.predict(recipe)))


def test_slowing_undoes_the_expected_error_one_step_beyond(fitted):
    d = fitted.discrepancy
    error = np.full(len(fitted.sets), 0.01)
    d = d._replace(common=np.zeros_like(d.common), own=np.broadcast_to(error, np.shape(d.own)))
    slowing = expected_slowing(d, np.full(len(fitted.sets), 0.2))
    size, tokens = 3.0 * np.asarray(d.size), 3.0 * np.asarray(d.tokens)
    reach = np.sqrt(
        np.log(3.0) ** 2 / (d.size_span**2 + d.width**2)
        + (d.tokens_share * np.log(3.0)) ** 2 / (d.tokens_span**2 + d.width**2)
    )
    assert size > d.size and tokens > d.tokens
    np.testing.assert_allclose(slowing, 0.01 * float(reach) / 0.2, rtol=1e-9)
    assert (expected_slowing(d, np.full(len(fitted.sets), 1e-9)) == MOST).all()
    assert (expected_slowing(d._replace(own=-np.asarray(d.own)), np.full(len(fitted.sets), 1e-9)) == LEAST).all()


def test_a_fading_field_is_held_by_the_fall_of_the_law():
    assert limited_field(-0.01, -0.02, 0.01, np) == pytest.approx(-0.016)
    assert limited_field(0.01, 0.02, 0.01, np) == pytest.approx(0.01)
    assert limited_field(-0.02, -0.02, 0.0, np) == pytest.approx(-0.02)


def test_a_field_of_one_size_stays_where_the_law_falls_no_more(fitted):
    """The law has fallen all that it will long before the field has faded."""
    d = fitted.discrepancy._replace(slowing=np.zeros(1))
    one = d._replace(size_span=np.asarray(0.0))
    steps = np.linspace(0.0, 1.0, 20)
    fall = np.minimum(0.5, 2.0 * steps)  # of the law, until a quarter of the way
    fades = -0.02 * (1.0 - steps)
    several, single = (-fall + corrected(x, fall, fades, -0.02, np) for x in (d, one))
    assert (np.diff(several) > 0).any() and (np.diff(single) <= 0).all()


def test_nearest_fitted_keeps_the_ratio_of_experts_and_never_repeats():
    recipe = Recipe(8e9, 1e9, 1e12, np.array([0.5, 0.5]), np.array([1e9, np.inf]))
    near = nearest_fitted(recipe, 1e8, 1e10, np)
    assert (near.n_total, near.n_active, near.tokens) == (8e8, 1e8, 1e10)
    assert near.supply is not None and np.isinf(near.supply).all()


def test_intervals_widen_outward_where_members_agree_again(fitted):
    """Members that differ at the edge of the table and meet further on: the spread shrinks there, the interval does not."""
    d = fitted.discrepancy
    small = {name: np.zeros_like(getattr(d, name)) for name in ("common", "own", "common_variance", "own_variance")}
    d = d._replace(scale=np.full(len(fitted.sets), 1e-6), **small)
    resampled = {name: np.repeat(np.asarray(x)[:1], 2, axis=0) for name, x in fitted.raw.items()}
    resampled["size_scale"] = resampled["size_scale"] + np.array([[-0.3], [0.3]])  # apart while the size term is large
    fine = {"resampled_objective": np.zeros(2), "resampled_status": np.zeros(2, int)}
    bare = dataclasses.replace(fitted, resampled=resampled, discrepancy=d, **fine)
    far, shrinks = np.geomspace(1.0, 1000.0, 40), 0
    params = constrain_all(bare.inner_law, resampled)
    for mixture in np.random.default_rng(0).dirichlet(np.ones(3), 4):
        for steps in ((far, np.ones(40)), (np.ones(40), far), (far, far)):
            rows = rows_along(bare, *steps, mixture)
            found = predict_interval(bare, rows)
            width = np.log(np.asarray(found.high) / np.asarray(found.low))
            assert (np.diff(width, axis=0) >= -1e-12).all()
            assert ((found.low <= found.point) & (found.point <= found.high)).all()
            spread = np.log(
                [
                    predict_rows(in_units(bare.inner_law, bare.units), jax.tree.map(lambda x, i=i: x[i], params), rows)
                    for i in (0, 1)
                ]
            )
            shrinks += int((np.diff(spread.std(0), axis=0) < -1e-12).sum())
    assert shrinks > 100  # so that the widths of the spread at the recipes alone would fail
