"""The leaderboard on any table: what is held out, baselines without a law, and rows that outlive a method that breaks."""

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import baselines, methods, regressions, simulate, splits
from camel_jax.evaluation.leaderboard import mean_over_folds
from camel_jax.evaluation.prediction import Prediction
from camel_jax.evaluation.scores import Row, score
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, mixture_ids, scales, select, split_by_scale

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def table():
    return simulate.study(
        jax.random.key(3), law=laws.dml(), n_domains=4, n_mixtures=16, sizes=(2e7, 6e7, 2e8), checkpoints=3, noise=0.002
    )


@pytest.fixture(scope="module")
def swarm(table):
    """One size and one token count."""
    recipe = table.recipe
    one = (np.asarray(recipe.n_active) == 2e7) & (np.asarray(recipe.tokens) == np.max(recipe.tokens))
    return select(table, one)


@pytest.mark.parametrize(
    "text, meant",
    [
        ("largest", ("sizes", 1)),
        (2, ("sizes", 2)),
        ("3", ("sizes", 3)),
        ("sizes=2", ("sizes", 2)),
        ("mixtures=0.25", ("mixtures", 0.25)),
        ("tokens", ("tokens", 0.5)),
        ("tokens=0.3", ("tokens", 0.3)),
    ],
)
def test_what_is_held_out_in_words(text, meant):
    assert splits.parse_holdout(text) == meant


@pytest.mark.parametrize(
    "text", ["all", "0", "-1", "1.5", "sizes=", "sizes=0.5", "mixtures=2", "mixtures", "tokens=0", ""]
)
def test_other_words_are_refused_with_the_rule(text):
    with pytest.raises(ValueError, match="say sizes=K"):
        splits.parse_holdout(text)


def test_every_mixture_is_held_out_once_with_all_its_rows(table):
    folds = splits.split(table, "mixtures=0.25")
    assert [one.name for one in folds] == [f"mixtures=0.25, fold {k} of 4" for k in (1, 2, 3, 4)]
    assert sum(len(one.above) for one in folds) == len(table)
    for one in folds:
        known = {row.tobytes() for row in np.asarray(one.below.recipe.weights).round(3)}
        asked = {row.tobytes() for row in np.asarray(one.above.recipe.weights).round(3)}
        assert len(asked) == 4 and not known & asked


def test_tokens_hold_out_the_longest_training_of_every_size(table):
    (one,) = splits.split(table, "tokens")
    assert len(one.below) == len(table) // 3  # checkpoints at a third, two thirds and all of the tokens
    for size in scales(table):
        most = np.max(np.asarray(one.below.recipe.tokens)[np.asarray(one.below.recipe.n_active) == size])
        least = np.min(np.asarray(one.above.recipe.tokens)[np.asarray(one.above.recipe.n_active) == size])
        assert most < least


def test_tables_with_nothing_to_hold_out_are_named(swarm):
    for holdout, words in ((1, "t: cannot hold out 1 size"), ("tokens", "t: cannot hold out tokens")):
        with pytest.raises(ValueError, match=words):
            cj.leaderboard({"t": swarm}, ["ridge"], holdout=holdout, key=KEY)
    with pytest.raises(ValueError, match="t: cannot hold out mixtures=0"):
        cj.leaderboard({"t": select(swarm, np.arange(6))}, ["ridge"], holdout="mixtures=0.25", key=KEY)


def test_a_method_that_breaks_costs_only_its_own_row(swarm):
    def broken(runs, recipe, key):
        raise IndexError("deep inside")

    kept = []
    rows = cj.leaderboard(
        {"t": swarm},
        {"broken": broken, "ridge": regressions.ridge},
        holdout="mixtures=0.5",
        key=KEY,
        found=kept.append,
    )
    assert [row.method for row in kept] == ["broken", "ridge"] * 2 and rows == kept
    assert rows[0].failure == "IndexError: deep inside" and rows[0].table == "t"
    mean = {row.method: row for row in mean_over_folds(rows)}
    assert mean["ridge"].error == pytest.approx(np.mean([rows[1].error, rows[3].error]))
    assert mean["ridge"].holdout == "mixtures=0.5, mean of 2 folds" and mean["ridge"].held_out == len(swarm)
    assert np.isnan(mean["broken"].error) and "deep inside" in mean["broken"].failure


def test_an_interrupt_loses_no_row_that_was_found(swarm):
    def stopped(runs, recipe, key):
        raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        cj.leaderboard(
            {"t": swarm},
            {"ridge": regressions.ridge, "stopped": stopped},
            holdout="mixtures=0.5",
            key=KEY,
            found=kept.append,
        )
    assert [row.method for row in kept] == ["ridge"]


def test_a_law_with_nothing_to_scale_is_fitted_to_a_table_of_one_size(swarm):
    fitted = cj.fit(laws.chinchilla(), swarm, key=KEY, starts=2, field=False)
    predicted = np.asarray(fitted.predict(swarm.recipe))
    logs = np.log(np.asarray(swarm.losses))
    assert predicted.std(0).max() < 1e-12  # a floor alone
    np.testing.assert_allclose(np.log(predicted[0]), np.median(logs, 0), atol=np.ptp(logs, 0).max())


def linear_in_roots(noise, n=60, seed=0):
    """A swarm whose log losses are linear in the square roots of the shares, log size and log tokens."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(5), n)
    size, tokens = rng.choice([1e7, 1e8, 1e9], n), rng.choice([1e9, 4e9], n)
    slope = rng.normal(size=(5, 2))
    logs = 1.0 - 0.05 * np.log(size / 1e8)[:, None] - 0.03 * np.log(tokens / 1e9)[:, None]
    logs = logs + 0.2 * np.sqrt(weights) @ slope
    losses = np.exp(logs + noise * rng.normal(size=(n, 2)))
    recipe = Recipe(size, size, tokens, weights)
    return Runs(recipe, losses, np.zeros((n, 0)), np.arange(n), tuple("abcde"), ("x", "y")), np.exp(logs)


def test_ridge_finds_a_linear_law_and_its_intervals_cover():
    runs, clean = linear_in_roots(0.01, n=240)
    below, above = select(runs, np.arange(80)), select(runs, np.arange(80, 240))
    said = regressions.ridge(below, above.recipe, KEY)
    assert np.abs(said.point / clean[80:] - 1.0).mean() < 0.005
    low, high = said.bounds[0.9]
    inside = ((np.asarray(above.losses) >= low) & (np.asarray(above.losses) <= high)).mean()
    assert 0.84 < inside < 0.96


def test_ridge_is_the_mean_of_the_posterior_at_its_best_evidence():
    runs, _ = linear_in_roots(0.05, n=30, seed=1)
    plain = regressions._scales(runs.recipe, runs.recipe)
    roots, y = np.sqrt(np.asarray(runs.recipe.weights)), np.log(np.asarray(runs.losses)[:, 0])

    def evidence(ratio):  # restricted likelihood, written out
        cov = np.eye(30) + ratio * roots @ roots.T
        inv = np.linalg.inv(cov)
        inner = plain.T @ inv @ plain
        p = inv - inv @ plain @ np.linalg.solve(inner, plain.T @ inv)
        noise = y @ p @ y / (30 - plain.shape[1])
        return -0.5 * (np.linalg.slogdet(cov)[1] + np.linalg.slogdet(inner)[1] + (30 - plain.shape[1]) * np.log(noise))

    ratios = np.exp(np.linspace(-10, 12, 2001))
    best = ratios[np.argmax([evidence(r) for r in ratios])]
    cov = np.eye(30) + best * roots @ roots.T
    flat = np.linalg.solve(plain.T @ np.linalg.solve(cov, plain), plain.T @ np.linalg.solve(cov, y))
    mean = plain @ flat + best * roots @ roots.T @ np.linalg.solve(cov, y - plain @ flat)
    np.testing.assert_allclose(regressions._ridge_one(plain, roots, y, plain, roots)[0], mean, atol=1e-4)


def test_loglinear_recovers_its_own_law():
    rng = np.random.default_rng(0)
    weights, slope = rng.dirichlet(np.ones(4), 50), rng.normal(size=(4, 3))
    clean = 1.5 + np.exp(weights @ slope)
    n = np.full(50, 1e8)
    runs = Runs(Recipe(n, n, 10 * n, weights), clean, np.zeros((50, 0)), np.arange(50), tuple("abcd"), tuple("xyz"))
    said = regressions.loglinear(select(runs, np.arange(30)), select(runs, np.arange(30, 50)).recipe, KEY)
    np.testing.assert_allclose(said.point, clean[30:], rtol=2e-3)


def test_too_few_rows_are_said(swarm):
    few = select(swarm, np.arange(2))
    for method in (regressions.ridge, regressions.loglinear):
        with pytest.raises(ValueError, match="needs at least"):
            method(few if method is regressions.ridge else select(swarm, np.arange(1)), few.recipe, KEY)


def test_the_order_at_one_scale_knows_only_what_was_measured(table):
    below, above = split_by_scale(table)
    said = baselines.rank_at_one_scale(below, above.recipe, KEY)
    assert said.order_only and not said.bounds
    largest = np.asarray(below.recipe.n_active) == scales(below)[-1]
    ends = largest & (np.asarray(below.recipe.tokens) == np.asarray(below.recipe.tokens)[largest].max())
    for name, weights in zip(said.point, np.asarray(above.recipe.weights), strict=True):
        (row,) = np.flatnonzero(ends & (np.abs(np.asarray(below.recipe.weights) - weights).sum(1) < 1e-9))
        np.testing.assert_array_equal(name, np.asarray(below.losses)[row])
    row = score(Row("t", "m", 1, len(above)), said, above, below)
    assert np.isnan(row.error) and row.failure == "" and row.pairs > 0.9 and row.rank_sets > 0.9
    kept = mixture_ids(below) != mixture_ids(below)[0]
    fewer = baselines.rank_at_one_scale(select(below, kept), above.recipe, KEY)
    unknown = np.isnan(fewer.point).all(1)
    assert unknown.sum() == 3  # the three checkpoints of the mixture that is gone
    whole = above.recipe.n_total, above.recipe.n_active, above.recipe.tokens
    total, active, tokens = (np.asarray(a)[:2] for a in whole)
    strange = Recipe(total, active, tokens, np.eye(4)[:2])
    with pytest.raises(ValueError, match="fewer than two"):
        baselines.rank_at_one_scale(below, strange, KEY)


def test_pairs_count_the_order_of_mixtures_of_one_size_and_token_count(swarm):
    truth = np.asarray(swarm.losses)
    row = Row("t", "m", 1, len(swarm))
    assert score(row, Prediction(truth, {}, 0, True), swarm).pairs == 1.0
    assert score(row, Prediction(-truth, {}, 0, True), swarm).pairs == 0.0
    assert score(row, Prediction(np.ones_like(truth), {}, 0, True), swarm).pairs == 0.5


def test_every_name_of_the_board_is_a_method():
    assert {"ridge", "loglinear", "rank_at_one_scale", "camel", "blend"} <= set(methods.methods())
