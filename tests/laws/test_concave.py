"""The floor for swarms: linear in a concave power of the shares, shrunk by the evidence."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.laws.concave import SMALLEST, concave_features
from camel_jax.recipes.recipe import dense, select_recipe
from camel_jax.tables.runs import select

KEY = jax.random.key(0)
OLMIX = pathlib.Path(__file__).parents[3] / "shared" / "data" / "olmix24.csv"
OPTIONS: dict[str, Any] = {"key": KEY, "starts": 1, "backtests": 0, "field": False}


def swarm(seed, n_runs=80, n_domains=12, spreads=(0.3, 0.05, 0.0), noise=0.02, power=0.5):
    """Runs of one size with zero shares, whose log losses are linear in a power of the shares; with the noise taken off, too."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_domains, 0.3), n_runs)
    weights = np.where(weights < 0.01, 0.0, weights)
    weights /= weights.sum(1, keepdims=True)
    slopes = np.asarray(spreads)[:, None] * rng.standard_normal((len(spreads), n_domains))
    clean = np.exp(1.0 + weights**power @ slopes.T)
    table = simulate.study(
        KEY, n_domains=n_domains, n_sets=len(spreads), n_mixtures=n_runs, sizes=(3e7,), checkpoints=1
    )
    losses = clean * np.exp(noise * rng.standard_normal(clean.shape))
    recipe = dataclasses.replace(table.recipe, weights=weights)
    return dataclasses.replace(table, recipe=recipe, losses=losses), clean


def loo_ridge(features, values):
    """Ridge regression with the strength of least leave-one-out error, by the formula for linear smoothers."""
    center, mean = features.mean(0), values.mean()
    left, size, right = np.linalg.svd(features - center, full_matrices=False)
    tried = []
    for strength in 10.0 ** np.arange(-4, 4.01, 0.25):
        keep = size**2 / (size**2 + strength)
        lever = (left**2 * keep).sum(1) + 1 / len(values)
        error = (values - mean - left @ (keep * (left.T @ (values - mean)))) / (1 - lever)
        slope = right.T @ (size / (size**2 + strength) * (left.T @ (values - mean)))
        tried.append((np.sum(error**2), slope))
    slope = min(tried, key=lambda pair: pair[0])[1]
    return lambda x: mean + (x - center) @ slope


def test_strengths_follow_the_evidence_and_a_set_without_an_effect_has_none():
    runs, clean = swarm(0)
    fitted = cj.fit(laws.concave(), runs, **OPTIONS)
    best = fitted.best()
    strong, weak, none = np.abs(np.asarray(best["slope"])).mean(1)
    assert strong > 2 * weak > 4 * none
    assert np.asarray(best["spread"])[0] == pytest.approx(0.3, rel=0.5)
    predicted = np.asarray(fitted.predict(runs.recipe))
    assert np.std(predicted[:, 2] / clean[:, 2]) < 0.005  # a quarter of the noise, on every set
    assert np.abs(predicted / clean - 1).mean() < 0.012


def test_held_out_mixtures_are_predicted_as_well_as_by_ridge_that_knows_the_power():
    ours, ridge = [], []
    for seed in range(6):
        runs, clean = swarm(seed, n_runs=120)
        kept = np.arange(120) < 60
        fitted = cj.fit(laws.concave(), select(runs, kept), **OPTIONS)
        root, losses = np.sqrt(np.asarray(runs.recipe.weights)), np.asarray(runs.losses)
        ours.append(np.asarray(fitted.predict(select_recipe(runs.recipe, ~kept))) / clean[~kept] - 1)
        said = [np.exp(loo_ridge(root[kept], np.log(losses[kept, v]))(root[~kept])) for v in range(3)]
        ridge.append(np.stack(said, 1) / clean[~kept] - 1)
    assert np.abs(ours).mean() <= 1.05 * np.abs(ridge).mean()


@pytest.mark.parametrize("power", [0.3, 1.0])
def test_the_power_is_learnt_from_the_table(power):
    runs, _ = swarm(1, n_runs=150, spreads=(0.5, 0.5), noise=0.005, power=power)
    found = np.asarray(cj.fit(laws.concave(), runs, **OPTIONS).best()["power"])
    assert found == pytest.approx(power, abs=0.12)


def test_one_bad_row_moves_little():
    runs, _ = swarm(2)
    losses = np.array(runs.losses)
    losses[7] *= 10.0
    plain, spoilt = (
        np.asarray(cj.fit(laws.concave(), table, **OPTIONS).predict(runs.recipe))
        for table in (runs, dataclasses.replace(runs, losses=losses))
    )
    assert np.abs(np.delete(spoilt / plain - 1, 7, 0)).mean() < 0.01


@pytest.mark.slow
def test_size_and_tokens_where_they_vary_and_a_saved_fit(tmp_path):
    rng = np.random.default_rng(0)
    runs = simulate.study(jax.random.key(3), n_domains=4, n_mixtures=20, sizes=(2e7, 6e7, 2e8, 6e8), checkpoints=2)
    r = runs.recipe
    slopes = 0.3 * rng.standard_normal((4, 4))
    base = 1.5 + 1.2 * (np.asarray(r.n_active) / 1e8) ** -0.2 + (np.asarray(r.tokens) / 1e9) ** -0.3
    clean = base[:, None] * np.exp(np.asarray(concave_features(r.weights, 0.5)) @ slopes.T)
    runs = dataclasses.replace(runs, losses=clean * np.exp(0.003 * rng.standard_normal(clean.shape)))
    below = np.asarray(r.n_active) < 3e8
    fitted = cj.fit(laws.concave(), select(runs, below), key=KEY, starts=2, resamples=4)
    unseen = select_recipe(r, ~below)
    predicted = np.asarray(fitted.predict(unseen))
    assert np.abs(predicted / clean[~below] - 1).mean() < 0.015
    fitted.save(tmp_path / "fit.npz")
    np.testing.assert_array_equal(cj.Fit.load(tmp_path / "fit.npz").predict(unseen), predicted)


def test_features_are_smooth_at_zero_shares_and_close_to_the_power():
    weights = jnp.array([0.0, 0.2, 0.8])
    slope = jax.jacfwd(lambda r: concave_features(r, 0.5))(weights)
    curve = jax.hessian(lambda r: concave_features(r, 0.5).sum())(weights)
    assert np.isfinite(slope).all() and np.isfinite(curve).all()
    assert slope[0, 0] == pytest.approx(0.5 * SMALLEST**-0.5)
    gap = concave_features(weights, 0.5) + np.sqrt(1 / 3) - np.sqrt(weights)
    assert np.abs(gap).max() < 0.011


@pytest.mark.slow
def test_an_optimum_over_mixtures_can_lie_on_the_edge():
    runs, _ = swarm(4, n_domains=4, spreads=(0.3, 0.3))
    fitted = cj.fit(laws.concave(), runs, **dict(OPTIONS, resamples=4))
    best = cj.optimize_mixture(fitted.losses_at(size=3e7, tokens=float(np.asarray(runs.recipe.tokens)[0])))
    grid = np.random.default_rng(0).dirichlet(np.ones(4), 2000)
    size, tokens = 3e7, float(np.asarray(runs.recipe.tokens)[0])
    one = jax.jit(
        jax.vmap(
            lambda w: fitted.inner_law.predict(
                fitted.best(), dense(size / fitted.units.size, tokens / fitted.units.tokens, w)
            )
        )
    )
    mean = lambda w: np.asarray(one(jnp.asarray(w)) * fitted.units.losses).mean(1)  # noqa: E731
    assert mean(np.asarray(best.weights)[None])[0] <= mean(grid).min() * (1 + 1e-3)


@pytest.mark.skipif(not OLMIX.exists(), reason="the public tables are not here")
def test_at_most_the_error_of_ridge_on_four_folds_of_a_public_swarm():
    runs = cj.read_runs(OLMIX)
    order = np.random.default_rng(0).permutation(len(runs))
    root, losses = np.sqrt(np.asarray(runs.recipe.weights)), np.asarray(runs.losses)
    for k in range(4):
        kept = np.ones(len(runs), bool)
        kept[order[k::4]] = False
        fitted = cj.fit(laws.concave(), select(runs, kept), **OPTIONS)
        ours = np.abs(np.asarray(fitted.predict(select_recipe(runs.recipe, ~kept))) / losses[~kept] - 1).mean()
        ridge = np.stack([loo_ridge(root[kept], losses[kept, v])(root[~kept]) for v in range(losses.shape[1])], 1)
        assert ours <= np.abs(ridge / losses[~kept] - 1).mean()
