"""Intervals, the residual field, back-tests and the leaderboard, on simulated tables."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import methods, scores, simulate
from camel_jax.fitting.backtest import (
    MIXTURE_SHARE,
    BackTest,
    mixture_share,
    slope_variance,
)
from camel_jax.fitting.intervals import coverage, predict_interval
from camel_jax.fitting.result import usable_draws
from camel_jax.prediction import residual_field
from camel_jax.prediction.discrepancy import EARLY, error_within
from camel_jax.prediction.residual_field import field_correction, fit_field, no_field, thin, unknown_share
from camel_jax.recipes.recipe import Recipe, dense
from camel_jax.solvers import status
from camel_jax.tables.runs import final_rows, progress, select, split_by_scale

KEY = jax.random.key(1)
LAW = laws.dml()


@pytest.fixture(scope="module")
def split():
    table = simulate.study(
        jax.random.key(0), law=LAW, n_domains=2, n_mixtures=12, sizes=(2e7, 6e7, 2e8, 6e8), checkpoints=2, noise=0.004
    )
    return split_by_scale(table)


@pytest.fixture(scope="module")
def fitted(split):
    return cj.fit(LAW, split[0], key=KEY, starts=4, resamples=12)


def test_intervals_cover_what_is_measured_at_the_next_size(split, fitted):
    above = split[1]
    wide, narrow = (predict_interval(fitted, above.recipe, level) for level in (0.9, 0.5))
    assert (np.asarray(wide.low) < np.asarray(narrow.low)).all()
    assert (np.asarray(narrow.low) < np.asarray(fitted.predict(above.recipe))).all()
    assert coverage(wide, above.losses) >= 0.85
    assert coverage(narrow, above.losses) >= 0.3
    with pytest.raises(ValueError, match="level must lie"):
        predict_interval(fitted, above.recipe, 1.0)


def test_draws_and_intervals_leave_out_the_same_resamples(split, fitted):
    codes = fitted.resampled_status.copy()
    codes[0] = status.NON_FINITE  # with an objective that is finite: it stopped where the law was not
    broken = dataclasses.replace(fitted, resampled_status=codes)
    raw, keep = usable_draws(broken)
    assert raw is broken.resampled and keep.tolist() == list(range(1, 12))
    without = jax.tree.map(lambda x: x[1:], fitted.resampled)
    names = ("resampled_objective", "resampled_status")
    fewer = dataclasses.replace(fitted, resampled=without, **{name: getattr(fitted, name)[1:] for name in names})
    chex.assert_trees_all_close(*(predict_interval(fit, split[1].recipe) for fit in (broken, fewer)), rtol=1e-12)
    none = dataclasses.replace(fitted, resampled_status=np.full(12, status.NON_FINITE))
    assert usable_draws(none)[0] is fitted.raw


def test_intervals_widen_with_distance(fitted):
    def width(size, tokens, weights=(0.5, 0.5)):
        interval = predict_interval(fitted, dense(size, tokens, weights))
        return np.log(np.asarray(interval.high) / np.asarray(interval.low))

    assert (width(2e9, 2e9) > width(2e8, 2e9)).all()
    assert (width(2e8, 2e12) > width(2e8, 2e9)).all()
    first = np.sort(np.asarray(fitted.discrepancy.mixtures)[:, 0])
    gap = int(np.argmax(np.diff(first)))
    between = first[gap : gap + 2].mean()
    here, away = (width(2e8, 2e9, (x, 1 - x)) for x in (first[gap], between))
    assert (away > here).all()


def test_intervals_are_wider_before_the_shortest_run_ends(split, fitted):
    d = fitted.discrepancy
    finished, tokens = float(d.finished), np.asarray(split[0].recipe.tokens)
    assert finished == residual_field.shortest_run(split[0]) and float(d.typical) > 1.0
    early, end, later = (
        float(error_within(d, dense(2e8, t, d.mixtures[0]))[0]) for t in (finished / 8, finished, tokens.max())
    )
    assert early == pytest.approx(8**EARLY * end) and later == pytest.approx(end)
    assert end == pytest.approx(float(d.scale[0] / d.typical))
    unaware = d._replace(finished=np.asarray(0.0), typical=np.asarray(1.0))
    assert float(error_within(unaware, dense(2e8, finished / 8, d.mixtures[0]))[0]) == pytest.approx(float(d.scale[0]))


def test_draws_center_on_the_point_and_carry_the_error_in_scale(fitted):
    here, far = fitted.losses_at("200M", "5B", field=True), fitted.losses_at("5B", "5B", field=True)
    mixture = jnp.array([0.4, 0.6])
    draws = here.draws(mixture)
    assert draws.shape[1] == 2
    np.testing.assert_allclose(np.exp(np.log(draws).mean(0)), here(mixture), rtol=1e-9)
    np.testing.assert_allclose(here(mixture), fitted.predict(dense(2e8, 5e9, mixture)), rtol=1e-12)
    assert (np.log(far.draws(mixture)).std(0) > np.log(draws).std(0)).all()
    slope = jax.jacfwd(here)(mixture)
    step = 1e-6 * jnp.array([1.0, -1.0])
    np.testing.assert_allclose(slope @ step, (here(mixture + step) - here(mixture - step)) / 2, rtol=1e-4)
    assert here.domains == ("d0", "d1")
    assert float(here.reference.sum()) == pytest.approx(1.0)


def test_decisions_see_the_law_and_not_the_field(fitted):
    bare = dataclasses.replace(fitted, field=no_field(2, 2))
    for mixture in ([0.4, 0.6], [1.0, 0.0]):
        seen = fitted.losses_at("200M", "5B")(jnp.array(mixture))
        np.testing.assert_allclose(seen, bare.predict(dense(2e8, 5e9, mixture)), rtol=1e-12)
    assert np.abs(field_correction(fitted.field, dense(2e8, 5e9, [0.4, 0.6]))).max() > 1e-6


def test_field_is_the_gaussian_process_it_says(split):
    below = split[0]
    left = np.asarray(jax.random.normal(jax.random.key(4), np.shape(below.losses))) * 0.01
    left[3, 1] = np.nan
    noise, length = 0.2, 0.3
    fitted = fit_field(below, left, noise=noise, length=length)
    w, n, d = (np.asarray(x) for x in (below.recipe.weights, below.recipe.n_active, below.recipe.tokens))
    shortest = min(d[below.run == run].max() for run in np.unique(below.run))
    assert d.min() < shortest  # early checkpoints are part of the check

    def kernel(weights, size, tokens):
        near = np.exp(-((w - weights) ** 2).sum(-1) / (2 * length**2))
        late = np.minimum(d / tokens, tokens / d) ** (1 / residual_field.FADE)
        mixed = near * (residual_field.STEADY + (1 - residual_field.STEADY) * late) + residual_field.COMMON * late
        early = np.sqrt(np.maximum(shortest / d, 1.0) * max(shortest / tokens, 1.0))
        return early * np.minimum(n / size, size / n) ** (1 / residual_field.REACH) * mixed

    cov = np.stack([kernel(*row) for row in zip(w, n, d, strict=True)])
    cov += np.diag(noise * progress(below) ** -residual_field.POWER)
    row = kernel(np.array([0.3, 0.7]), 6e8, 1e9)
    known = np.ones(len(left), bool)
    for v in range(2):
        known = np.isfinite(left[:, v])
        expected = row[known] @ np.linalg.solve(cov[np.ix_(known, known)], left[known, v])
        np.testing.assert_allclose(field_correction(fitted, dense(6e8, 1e9, [0.3, 0.7]))[v], expected, rtol=1e-8)
    share = unknown_share(
        fitted, Recipe(*(np.array([x, x]) for x in (6e8, 6e8, 1e9)), weights=np.array([[0.3, 0.7], [40.0, -39.0]]))
    )
    before = 1.0 + residual_field.COMMON + noise
    ended = row[known] / np.sqrt(max(shortest / 1e9, 1.0))  # the share is that of a run that ends here
    expected = 1.0 - ended @ np.linalg.solve(cov[np.ix_(known, known)], ended) / before
    np.testing.assert_allclose(share[0, 1], expected, rtol=1e-8)
    assert (
        share[0, 0] < share[0, 1] < share[1, 1] < 1.0
    )  # set 1 lacks a row; far from all mixtures, only what they share is known
    nowhere = field_correction(fitted, dense(1e30, 1e9, [0.3, 0.7]))
    np.testing.assert_allclose(nowhere, 0.0, atol=1e-9)
    assert fit_field(below, np.full_like(left, np.nan)).coefficients.max() == 0.0


@pytest.mark.parametrize(("noise", "length"), [(0.05, 0.3), (1.6, 0.075)])
def test_evidence_finds_the_noise_and_the_length_of_a_planted_field(noise, length):
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(60), 3)
    mixtures, sizes = rng.dirichlet(np.ones(3), 30), np.array([1e7, 1e8])
    place = residual_field.Place(
        mixtures[run % 30], np.log(sizes[run // 30]), np.log(1e9 * (1.0 + np.arange(len(run)) % 3)).astype(float)
    )
    done = np.exp(place.log_tokens) / 3e9
    planted = residual_field.ResidualField(
        *place, np.zeros(0), np.asarray(length), *map(np.asarray, (residual_field.COMMON, residual_field.REACH))
    )
    cov = residual_field._kernel(place, planted, np) + np.diag(noise / done**residual_field.POWER)
    left = 0.01 * np.linalg.cholesky(cov) @ rng.normal(size=(len(run), 40))
    left[::5, :3] = np.nan  # sets with gaps are left out of the choice
    found = residual_field.choose_settings(place, left, done)
    assert abs(np.log2(found[0] / noise)) <= 1.0 and abs(np.log2(found[1] / length)) <= 0.5
    scaled = residual_field.choose_settings(place, 100.0 * left, done)
    assert scaled == found  # the size of the residuals says nothing about either


def test_field_thins_checkpoints_before_runs(split):
    below = split[0]
    names, counts = np.unique(below.run, return_counts=True)
    assert counts.min() > 1
    few = thin(below, 2 * len(names))
    assert len(few) <= 2 * len(names) and set(np.asarray(below.run)[few]) == set(names)
    assert set(np.flatnonzero(final_rows(below))) <= set(few)
    fewer = thin(below, 3)
    np.testing.assert_allclose(np.asarray(below.recipe.n_active)[fewer], np.max(below.recipe.n_active))


def test_backtests_scale_the_intervals(split, fitted):
    (test,) = fitted.backtests
    assert test.size == pytest.approx(2e8)
    assert 0 < test.mean_relative_error < 0.05
    assert 0.5 < test.coverage <= 1.0 and 0.0 < test.width < 0.2
    assert not cj.fit(LAW, split_by_scale(split[0])[0], key=KEY, starts=1).backtests


def test_a_bias_at_every_larger_size_is_learnt_and_taken_off():
    """Losses that fall slower than a power law: each fit below a size is too low above it, and the next is told so."""
    table = simulate.study(
        jax.random.key(0),
        law=LAW,
        n_domains=2,
        n_mixtures=8,
        sizes=(1e7, 3e7, 1e8, 3e8, 1e9),
        checkpoints=1,
        noise=0.001,
    )
    active = np.asarray(table.recipe.n_active)
    bent = np.asarray(table.losses) * np.exp(0.004 * np.log(active / 1e7) ** 2)[:, None]
    below, above = split_by_scale(dataclasses.replace(table, losses=bent))
    told, untold = (cj.fit(LAW, below, key=KEY, starts=2, field=False, backtests=n) for n in (3, 0))
    error = [np.mean(np.abs(np.asarray(f.predict(above.recipe)) / above.losses - 1.0)) for f in (told, untold)]
    assert error[0] < 0.93 * error[1]
    assert (np.asarray(told.discrepancy.slowing) > 0.0).all()
    assert (np.asarray(untold.discrepancy.slowing) == 0.0).all()
    covered = [coverage(predict_interval(f, above.recipe), above.losses) for f in (told, untold)]
    assert covered[0] >= covered[1]


def test_a_field_that_does_harm_forward_is_weakened(split, monkeypatch):
    below = split[0]
    honest = cj.fit(LAW, below, key=KEY, starts=2)
    wrong = lambda runs, residuals, **_: fit_field(runs, -3.0 * np.asarray(residuals), noise=0.01, length=3.0)  # noqa: E731
    monkeypatch.setattr("camel_jax.fitting.backtest.fit_field", wrong)
    harmed = cj.fit(LAW, below, key=KEY, starts=2)
    assert np.abs(harmed.field.coefficients).sum() < np.abs(honest.field.coefficients).sum()


def test_slopes_of_errors_are_told_from_noise():
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(12), 3)  # three checkpoints a run
    away, weights = rng.normal(size=(12, 4))[run], rng.uniform(0.5, 1.0, 36)
    noise = rng.normal(size=(1, 400)) + rng.normal(size=(12, 400))[run] + 0.5 * rng.normal(size=(36, 400))
    planted = away @ (0.8 * rng.normal(size=(4, 400)))
    variance, slopes = slope_variance(planted + noise, away, weights, run)
    assert slopes == 4
    assert variance == pytest.approx(0.64, abs=0.1)
    assert slope_variance(noise, away, weights, run)[0] == pytest.approx(0.0, abs=0.05)
    assert slope_variance(planted, away, weights, run, noise=False)[0] == pytest.approx(0.64, abs=0.1)
    gaps = np.where(rng.random(noise.shape) < 0.2, np.nan, planted + noise)
    assert slope_variance(gaps, away, weights, run)[0] == pytest.approx(0.64, abs=0.12)
    assert slope_variance(noise[:6], away[:6], weights[:6], run[:6]) == (0.0, 0)
    found = mixture_share([BackTest(1e9, slope_variance=variance, slopes=slopes)])
    assert MIXTURE_SHARE < found < variance


@pytest.mark.parametrize("most", [8, 2])
def test_errors_in_mixtures_are_told_where_the_refits_of_resamples_were_taken_off(most):
    """The uncertainty of parameters below smaller sizes is not counted as an error of the law: the draws hold that of the whole fit."""
    runs = simulate.study(jax.random.key(3), n_domains=3, n_mixtures=8, sizes=(1e7, 3e7, 1e8, 3e8), checkpoints=1)
    largest = np.flatnonzero(np.asarray(runs.recipe.n_active) == 3e8)
    runs = select(runs, ~np.isin(np.arange(len(runs)), largest[most:]))
    fitted = cj.fit(laws.dml(), runs, key=KEY, starts=1, resamples=4)
    told = [test.slopes > 0 for test in fitted.backtests]
    assert told == ([False, True] if most > 2 else [True, False])  # two runs tell of no slope
    assert float(fitted.discrepancy.mixture_share) == pytest.approx(mixture_share(fitted.backtests))


def test_spearman_shares_ties():
    from scipy.stats import spearmanr

    a, b = np.array([1.0, 2.0, 2.0, 5.0, 0.0, np.nan]), np.array([2.0, 1.0, 3.0, 9.0, 0.0, 1.0])
    assert scores.spearman(a, b) == pytest.approx(spearmanr(a[:5], b[:5])[0])
    assert np.isnan(scores.spearman(np.ones(5), np.arange(5.0)))


def test_scores_of_a_perfect_and_of_a_shuffled_prediction(split):
    above = split[1]
    truth = np.asarray(above.losses)
    bounds = {0.5: (truth * 0.999, truth * 1.001), 0.9: (truth * 0.99, truth * 1.01)}
    empty = scores.Row("t", "m", 1, len(above))
    perfect = scores.score(empty, methods.Prediction(truth, bounds, 1), above)
    assert perfect.error == 0.0
    assert perfect.regret == 0.0
    assert perfect.rank_mean == perfect.rank_sets == pytest.approx(1.0)
    assert perfect.cover90 == perfect.cover50 == 1.0
    assert perfect.width90 == pytest.approx(1.0)
    wrong = scores.score(empty, methods.Prediction(truth[::-1] * 1.1, {}, 1), above)
    assert wrong.error > 5.0
    assert np.isnan(wrong.cover90)
    assert wrong.regret >= 0.0
    assert wrong.error_low <= wrong.error <= wrong.error_high


def test_a_prediction_that_is_not_a_number_is_a_failure_not_a_gap(split):
    above = split[1]
    point = np.array(above.losses)
    point[2, 1] = np.nan
    row = scores.score(scores.Row("t", "m", 1, len(above)), methods.Prediction(point, {}, 1), above)
    assert row.failure == f"1 of {point.size} predictions are not finite"
    assert np.isnan(row.error)


def test_leaderboard_judges_every_method_and_says_why_one_cannot(split):
    table = cj.Runs(**{f.name: getattr(split[0], f.name) for f in dataclasses.fields(split[0])})
    chosen = {
        "dml": methods.law_method(LAW, starts=2, field=False),
        "nearest_run": methods.nearest_run,
        "boosted_trees": methods.boosted_trees,
        "needs more": methods.law_method(LAW._replace(min_runs=lambda runs: 10**6)),
    }
    said = []
    rows = {r.method: r for r in cj.leaderboard({"t": table}, chosen, key=KEY, progress=said.append)}
    assert rows["dml"].error < rows["nearest_run"].error
    assert rows["dml"].error < rows["boosted_trees"].error
    assert "needs at least 1000000 runs" in rows["needs more"].failure
    assert said[0] == "t, sizes=1: dml"
    with pytest.raises(ValueError, match="unknown law nothing"):
        methods.methods(["nothing"])
    with pytest.raises(ValueError, match="t: cannot hold out 5"):
        cj.leaderboard({"t": table}, chosen, holdout=5, key=KEY)
