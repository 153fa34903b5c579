"""Repetition: what repeated tokens and excess parameters are worth, in every law, and nothing of it without a supply."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.laws.law import predict_rows, scale_runs, table_units
from camel_jax.laws.repetition import LEAVES, effective_data, effective_size, overfitting
from camel_jax.recipes.recipe import Recipe, select_recipe
from camel_jax.tables.runs import select

TABLES = pathlib.Path(__file__).parents[3] / "shared" / "data"
NAMES = ("camel", "camel_paper", "chinchilla", "concave", "dml", "sodm", "sodm_joint")
MANY = {
    "repeat": 10.0,
    "size_per_token": 1.0,
    "excess": 3.0,
    "overfit_ceiling": 2.0,
    "overfit_size": 5.0,
    "overfit_steepness": 1.5,
    "overfit_epochs": 20.0,
    "overfit_onset": 2.0,
}
MANY = {name: jnp.asarray(value) for name, value in MANY.items()}


def build(name):
    return laws.camel(skills=3) if name == "camel" else laws.CONSTRUCTORS[name]()


def one(tokens, weights, supply, size=1.0):
    supply = None if supply is None else jnp.asarray(supply)
    return Recipe(jnp.asarray(size), jnp.asarray(size), jnp.asarray(tokens), jnp.asarray(weights), supply)


@pytest.fixture(scope="module")
def plain():
    return simulate.study(jax.random.key(0), n_domains=2, n_sets=2, n_mixtures=5, checkpoints=2)


@pytest.fixture(scope="module")
def limited(plain):
    """The same table, up to twenty epochs of its first domain."""
    r = plain.recipe
    supply = np.stack([0.05 * np.asarray(r.tokens), np.full(len(plain), np.inf)], 1)
    return dataclasses.replace(plain, recipe=dataclasses.replace(r, supply=supply))


def by_hand(recipe, n):
    """D', N' and P of the module's formulas, domain by domain, in plain arithmetic."""
    p = {k: float(v) for k, v in MANY.items()}
    data = size = lost = 0.0
    for r, supply in zip(np.asarray(recipe.weights), np.asarray(recipe.supply), strict=True):
        if r == 0:
            continue
        u = min(r * float(recipe.tokens), supply)
        repeats = r * float(recipe.tokens) / u - 1
        data += u + u * p["repeat"] * (1 - np.exp(-repeats / p["repeat"]))
        useful = p["size_per_token"] * u
        extra = r * n / useful - 1
        size += r * n if extra <= 0 else useful + useful * p["excess"] * (1 - np.exp(-extra / p["excess"]))
        x = (r * n / (u * p["overfit_size"])) ** p["overfit_steepness"]
        again = (1 - np.exp(-repeats / p["overfit_epochs"])) ** p["overfit_onset"]
        lost += p["overfit_ceiling"] * r * x / (1 + x) * again
    return data, size, lost


@pytest.mark.parametrize("weights", [[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]])
@pytest.mark.parametrize("size", [0.5, 40.0])
def test_the_formulas_domain_by_domain(weights, size):
    recipe = one(10.0, weights, [0.5, 8.0])
    found = effective_data(MANY, recipe), effective_size(MANY, recipe, size), overfitting(MANY, recipe, size)
    np.testing.assert_allclose(found, by_hand(recipe, size), rtol=1e-12)


def test_the_loss_rises_again_only_where_parameters_outnumber_unique_tokens():
    def lost(size, tokens):
        return float(overfitting(MANY, one(tokens, [1.0], [1.0]), size))

    assert lost(100.0, 1.0) == 0.0  # one epoch
    assert lost(0.01, 100.0) < 1e-3 < 1.0 < lost(100.0, 100.0) < 2.0
    epochs = [lost(10.0, e) for e in (2.0, 10.0, 40.0, 1e6)]
    assert np.all(np.diff(epochs) > 0)
    law = build("chinchilla")
    table = simulate.study(jax.random.key(1), n_domains=1, n_mixtures=2, checkpoints=2)
    table = dataclasses.replace(table, recipe=dataclasses.replace(table.recipe, supply=np.ones((len(table), 1))))
    params = law.constrain(law.init(jax.random.key(0), table)) | {k: jnp.asarray(v)[None] for k, v in MANY.items()}
    many, few = (
        [float(law.predict(params, one(e, [1.0], [1.0], size=n))[0]) for e in (1.0, 5.0, 60.0)] for n in (50.0, 0.1)
    )
    assert many[1] < many[0] < many[2]
    assert few[0] > few[1] > few[2]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_there_where_the_table_has_a_supply_and_nowhere_else(name, plain, limited):
    law = build(name)
    here, there = (law.init(jax.random.key(3), scale_runs(table_units(x), x)) for x in (plain, limited))
    assert set(there) - set(here) == set(LEAVES) and not set(here) - set(there)
    for leaf in here:  # the start is the same otherwise
        np.testing.assert_array_equal(here[leaf], there[leaf])


@pytest.mark.parametrize("name", NAMES)
def test_every_law_reads_the_supply(name, plain, limited):
    law = build(name)
    scaled = scale_runs(table_units(limited), limited)
    params = law.constrain(law.init(jax.random.key(3), scaled))
    weights = jnp.array([0.6, 0.4])
    short, ample = (law.predict(params, one(2.0, weights, [u, 1e9])) for u in (0.05, 1e9))
    assert (short > ample).all()
    np.testing.assert_allclose(law.predict(params, one(2.0, weights, None)), ample, rtol=1e-12)
    # a law of a table without one takes the published constant for repeated tokens
    other = law.constrain(law.init(jax.random.key(3), scale_runs(table_units(plain), plain)))
    assert (law.predict(other, one(2.0, weights, [0.05, 1e9])) > law.predict(other, one(2.0, weights, None))).all()


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_finite_at_zero_shares_and_at_one_epoch(name, limited):
    law = build(name)
    raw = law.init(jax.random.key(4), scale_runs(table_units(limited), limited))

    @jax.jit
    def slopes(raw, weights):
        def total(raw, weights):
            return law.predict(law.constrain(raw), one(1.0, weights, [0.5, jnp.inf], size=30.0)).sum()

        return jax.grad(total, (0, 1))(raw, weights)

    for weights in ([0.0, 1.0], [1.0, 0.0], [0.5, 0.5]):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes(raw, jnp.asarray(weights))))


@pytest.mark.slow
def test_a_planted_rise_is_found_and_predicted_at_a_larger_size():
    law = build("chinchilla")
    rng = np.random.default_rng(0)
    size = np.repeat([1e7, 3e7, 1e8, 3e8, 1e9], 24)
    tokens = np.tile(np.repeat([1e9, 4e9, 1.6e10, 6.4e10], 6), 5)
    supply = np.tile([1e8, 3e8, 1e9, 4e9, 1.6e10, 6.4e10], 20)[:, None]
    recipe = Recipe(size, size, tokens, np.ones((120, 1)), supply)
    runs = dataclasses.replace(
        simulate.study(jax.random.key(0), n_domains=1, n_mixtures=24, sizes=(1e7, 3e7, 1e8, 3e8, 1e9), checkpoints=1),
        recipe=recipe,
    )
    scaled = scale_runs(table_units(runs), runs)
    planted = law.constrain(law.init(jax.random.key(5), scaled))
    planted |= {"overfit_size": jnp.array([300.0]), "overfit_epochs": jnp.array([30.0]), "repeat": jnp.array([20.0])}
    clean = np.asarray(predict_rows(law, planted, scaled.recipe))
    runs = dataclasses.replace(runs, losses=clean * np.exp(0.002 * rng.standard_normal(clean.shape)))
    below = select(runs, size < 5e8)
    fitted = cj.fit(law, below, key=jax.random.key(0), starts=4, backtests=0, field=False)
    there = size > 5e8
    predicted = np.asarray(fitted.predict(select_recipe(recipe, there)))
    error = np.abs(predicted / clean[there] - 1)
    assert np.mean(error) < 0.01
    assert np.ptp(clean[there]) > 0.5  # there was something to say


@pytest.mark.slow
@pytest.mark.skipif(not TABLES.exists(), reason="the public tables are not here")
def test_repeated_runs_of_a_public_table_are_predicted_at_larger_sizes():
    runs = cj.read_runs(TABLES / "datablations.csv")
    active, r = np.asarray(runs.recipe.n_active), runs.recipe
    fitted = cj.fit(build("sodm"), select(runs, active < 1e9), key=jax.random.key(0), starts=8, backtests=0)
    there = (active > 1e9) & (active < 2e9)
    error = np.abs(np.asarray(fitted.predict(select_recipe(r, there))) / np.asarray(runs.losses)[there] - 1)
    epochs = (np.asarray(r.tokens) / np.asarray(r.supply)[:, 0])[there]
    assert error.mean() < 0.07 and error[epochs <= 16].mean() < 0.03


@pytest.mark.slow
@pytest.mark.skipif(not TABLES.exists(), reason="the public tables are not here")
def test_capacity_of_routed_models_is_learnt_from_smaller_ones():
    runs = cj.read_runs(TABLES / "moe_routed.csv")
    active = np.asarray(runs.recipe.n_active)
    errors = []
    for share in (None, 1.0, 0.0):
        r = runs.recipe
        n = r.n_active if share == 1.0 else r.n_total
        table = (
            runs if share is None else dataclasses.replace(runs, recipe=dataclasses.replace(r, n_active=n, n_total=n))
        )
        fitted = cj.fit(build("camel"), select(table, active < 3e8), key=jax.random.key(0), starts=2, backtests=0)
        there = select(table, active > 3e8)
        errors.append(np.abs(np.asarray(fitted.predict(there.recipe)) / np.asarray(there.losses) - 1).mean())
        if share is None:
            assert 0.4 < float(fitted.best().active_share) < 0.65
    assert errors[0] < 0.6 * min(errors[1:])
