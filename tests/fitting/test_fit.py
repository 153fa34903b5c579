"""Fitting: planted truths come back, scipy does no better, and lanes do not disturb each other."""

import dataclasses
import functools
import os
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from fitting_problems import KEY, build
from jax.flatten_util import ravel_pytree

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.objective import Robust, as_data, objective, row_weights
from camel_jax.laws.law import Units, predict_rows, scale_runs, table_units
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers import status
from camel_jax.tables.runs import final_rows, resample_counts, scales, split_by_scale

NAMES = ["camel", "chinchilla", "dml", "sodm", "sodm_joint"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_planted_law_is_recovered_at_an_unseen_scale(name):
    law = build(name)
    clean = simulate.study(
        jax.random.key(2), law=law, n_domains=2, n_mixtures=8, sizes=(2e7, 6e7, 2e8, 8e8), checkpoints=2, noise=1e-6
    )
    below, above = split_by_scale(clean)
    fitted = cj.fit(law, below, key=KEY, starts=4, backtests=0, robust=Robust(delta=1e-3, noise=1e-6))
    error = np.abs(np.asarray(fitted.predict(above.recipe)) / above.losses - 1.0)
    assert error.mean() < 1.5e-3
    assert error.max() < 6e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chinchilla", "dml", "sodm", "sodm_joint"])
def test_published_forms_have_a_finite_optimum(name, runs):
    options = {"starts": 4, "weighting": "uniform", "field": False, "backtests": 0}
    fitted = cj.fit(laws.CONSTRUCTORS[name](upgraded=False), runs, key=KEY, **options)
    best = fitted.only_best()
    assert (fitted.status != status.NON_FINITE).all()
    assert np.isfinite(best.predict(runs.recipe)).all()
    assert max(float(np.abs(x).max()) for x in jax.tree.leaves(best.raw)) < 1e3


def scipy_objectives(law, runs, starts, memory=10):
    """What L-BFGS-B reaches from the starts that ``fit`` draws with ``KEY``."""
    scaled = scale_runs(table_units(runs), runs)
    value = objective(law, as_data(scaled), Robust())
    drawn = [law.init(key, scaled) for key in jax.random.split(jax.random.split(KEY, 3)[0], starts)]
    unravel = ravel_pytree(drawn[0])[1]
    pair = jax.jit(jax.value_and_grad(lambda x: value(unravel(x))))
    reached = []
    for raw in drawn:
        found = scipy.optimize.minimize(
            lambda x: [np.asarray(a) for a in pair(x)],
            ravel_pytree(raw)[0],
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 3000, "maxfun": 5000, "maxcor": memory},
        )
        reached.append(found.fun)
    return np.asarray(reached)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dml", "sodm"])
def test_scipy_from_the_same_starts_does_no_better(name, runs):
    law = build(name)
    fitted = cj.fit(law, runs, key=KEY, starts=6, backtests=0)
    assert (np.sort(fitted.objective) <= 1.01 * np.sort(scipy_objectives(law, runs, 6))).mean() >= 0.99


@pytest.mark.slow
def test_camel_objective_is_what_scipy_reaches_from_the_same_starts(runs):
    law = build("camel")
    fitted = cj.fit(law, runs, key=KEY, starts=3, backtests=0)
    assert (fitted.objective <= 1.01 * scipy_objectives(law, runs, 3, memory=30)).all()


@pytest.fixture(scope="module")
def batch(runs):
    """name -> the fit of a batch of starts and resamples, which several tests read."""
    return functools.cache(lambda name: cj.fit(build(name), runs, key=KEY, starts=3, resamples=3))


@pytest.mark.parametrize("name", ["camel", "dml"])
def test_a_batch_gives_what_a_loop_gives(name, runs, batch):
    law, together = build(name), batch(name)
    assert together.objective.shape == (3,)
    data = as_data(scale_runs(table_units(runs), runs))

    @jax.jit
    def value(raw, counts):
        return objective(law, data._replace(weights=data.weights * counts), Robust())(raw)

    for i in range(3):
        raw = jax.tree.map(lambda x, i=i: jnp.asarray(x)[i], together.raw)
        np.testing.assert_allclose(value(raw, np.ones(len(runs))), together.objective[i], rtol=1e-9)
    counts = np.asarray(resample_counts(jax.random.split(KEY, 3)[1], runs, 3), float)
    start = jax.tree.map(lambda x: jnp.asarray(x)[int(np.argmin(together.objective))], together.raw)
    for i in range(3):
        raw = jax.tree.map(lambda x, i=i: jnp.asarray(x)[i], together.resampled)
        np.testing.assert_allclose(value(raw, counts[i]), together.resampled_objective[i], rtol=1e-9)
        assert together.resampled_objective[i] <= float(value(start, counts[i])) * (1 + 1e-9)


@pytest.mark.parametrize("name", ["camel", "dml"])
def test_same_key_same_bytes_and_a_second_call_compiles_nothing(name, runs, batch, tmp_path):
    law = build(name)
    compiled = []
    batch(name).save(tmp_path / "a.npz")

    def count(event, *_, **__):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        again = cj.fit(law, runs, key=KEY, starts=3, resamples=3)
    finally:
        jax.monitoring.clear_event_listeners()
    again.save(tmp_path / "b.npz")
    assert not compiled
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = cj.load_fit(tmp_path / "a.npz")
    np.testing.assert_array_equal(back.predict(runs.recipe), again.predict(runs.recipe))
    assert back.domains == runs.domains
    assert back.inner_law.settings == law.settings


def test_a_saved_fit_that_is_not_one_is_refused(tmp_path):
    junk = tmp_path / "junk.npz"
    junk.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ValueError, match="not a saved fit"):
        cj.load_fit(junk)
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="not a saved fit"):
        cj.load_fit(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="not a saved fit"):
        cj.load_fit(tmp_path / "pickled.npz")


def test_missing_losses_are_the_same_as_absent_rows(runs):
    law = build("dml")
    losses = np.array(runs.losses)
    gone = np.zeros(len(runs), bool)
    gone[[3, 8, 20]] = True
    losses[gone] = np.nan
    masked = cj.fit(law, dataclasses.replace(runs, losses=losses), key=KEY, starts=6, backtests=0)
    scaled = row_weights(runs)
    assert np.isfinite(masked.objective).all()
    full = cj.fit(law, runs, key=KEY, starts=6, backtests=0)
    difference = np.abs(np.asarray(masked.predict(runs.recipe)) / np.asarray(full.predict(runs.recipe)) - 1.0)
    assert difference.max() < 0.02
    assert scaled.sum() == pytest.approx(2.0 * 21)


def test_one_bad_start_does_not_disturb_the_others(runs, batch):
    law = build("camel")

    def init(key, table):
        raw = law.init(key, table)
        first = jax.random.split(jax.random.split(KEY, 3)[0], 3)[0]
        bad = jnp.all(jax.random.key_data(key) == jax.random.key_data(first))
        return raw | {"floors": jnp.where(bad, jnp.nan, raw["floors"])}

    planted = cj.fit(law._replace(init=init), runs, key=KEY, starts=3, backtests=0)
    clean = batch("camel")
    assert planted.status[0] == status.NON_FINITE
    np.testing.assert_allclose(planted.objective[1:], clean.objective[1:], rtol=1e-6)
    assert "non-finite value" in planted.check()
    assert np.isfinite(planted.predict(runs.recipe)).all()


def test_every_start_failing_is_an_error(runs):
    law = build("camel")
    broken = law._replace(init=lambda key, table: jax.tree.map(lambda x: x * jnp.nan, law.init(key, table)))
    with pytest.raises(cj.FitError, match="none of 2 starts"):
        cj.fit(broken, runs, key=KEY, starts=2)


def test_bad_settings_are_named(runs):
    with pytest.raises(ValueError, match="solver 'simplex'"):
        cj.fit(build("dml"), runs, key=KEY, solver="simplex")
    with pytest.raises(ValueError, match="weighting 'odd'"):
        cj.fit(build("dml"), runs, key=KEY, weighting="odd")
    with pytest.raises(ValueError, match="starts must be at least 1"):
        cj.fit(build("dml"), runs, key=KEY, starts=0)


def test_resamples_keep_checkpoints_together_and_sizes_full(runs):
    counts = np.asarray(resample_counts(jax.random.key(3), runs, 50))
    run = np.asarray(runs.run)
    for r in np.unique(run):
        assert (counts[:, run == r] == counts[:, run == r][:, :1]).all()
    for size in scales(runs):
        rows = (np.asarray(runs.recipe.n_active) == size) & final_rows(runs)
        assert (counts[:, rows].sum(1) == rows.sum()).all()


@pytest.mark.slow
def test_moe_share_and_decay_of_repeats_are_recovered_where_the_table_varies_them():
    law = laws.camel(skills=3)
    base: dict[str, Any] = dict(n_domains=2, n_mixtures=8, sizes=(2e7, 6e7, 2e8), sparsity=(1.0, 4.0, 16.0))
    table = simulate.study(jax.random.key(4), checkpoints=2, **base)
    r, units = table.recipe, Units(1e8, 1e9, np.ones(2))
    supply = np.broadcast_to(0.02 * np.max(r.tokens), r.weights.shape)  # up to 50 epochs
    limited = dataclasses.replace(table, recipe=dataclasses.replace(r, supply=supply))
    scaled = scale_runs(units, limited)
    planted = law.constrain(law.init(jax.random.key(9), scaled))
    planted = planted._replace(active_share=jnp.asarray(0.6), repeat=jnp.asarray(6.0))
    noise = 1.0 + 0.001 * np.asarray(jax.random.normal(jax.random.key(5), np.shape(table.losses)))
    losses = noise * np.asarray(jax.jit(partial(predict_rows, law))(planted, scaled.recipe))
    limited = dataclasses.replace(limited, losses=losses)
    best = cj.fit(law, limited, key=KEY, starts=1, backtests=0, field=False, max_steps=800).best()
    assert float(best.active_share) == pytest.approx(0.6, abs=0.1)
    assert float(best.repeat) == pytest.approx(6.0, rel=0.25)


def test_float32_is_refused(runs):
    jax.config.update("jax_enable_x64", False)  # as in a new process
    try:
        with pytest.raises(ValueError, match="needs float64"):
            cj.fit(build("dml"), runs, key=KEY)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_a_tpu_is_told_where_to_fit(runs, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(ValueError, match="JAX_PLATFORMS=cpu"):
        cj.fit(build("dml"), runs, key=KEY)


def test_float32_is_enough_to_predict(runs):
    """The path for accelerators without float64: fit in float64, predict in float32."""
    law = laws.camel(skills=3)
    scaled = scale_runs(table_units(runs), runs)
    params = law.constrain(law.init(KEY, scaled))
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (params, scaled.recipe))
    coarse = jax.vmap(law.predict, (None, 0))(*single)
    assert coarse.dtype == jnp.float32
    np.testing.assert_allclose(coarse, jax.vmap(law.predict, (None, 0))(params, scaled.recipe), rtol=1e-5)


EIGHT = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=7, checkpoints=2, noise=0.004)
for law in (laws.dml(), laws.camel(skills=3)):
    fitted = cj.fit(law, runs, key=jax.random.key(1), starts=3, resamples=3)
    print(len(jax.devices()), *np.concatenate([fitted.objective, fitted.resampled_objective]).tolist())
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(batch):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    out = subprocess.run([sys.executable, "-c", EIGHT], capture_output=True, text=True, check=True, env=env)
    lines = [[float(x) for x in line.split()] for line in out.stdout.splitlines()]
    assert len(jax.devices()) == 1 and len(lines) == 2
    for name, (devices, *eight) in zip(("dml", "camel"), lines, strict=True):
        assert devices == 8.0
        one = batch(name)
        near = 1e-10 if jax.default_backend() == "cpu" else 1e-3  # an accelerator rounds otherwise, and stops elsewhere
        np.testing.assert_allclose(np.concatenate([one.objective, one.resampled_objective]), eight, rtol=near)


def test_resamples_converge(runs):
    fitted = cj.fit(build("camel"), runs, key=KEY, starts=2, resamples=4, backtests=0)
    assert (fitted.resampled_status == status.CONVERGED).all()
    # started again from where it ended, a resample has nothing left to gain
    scaled = scale_runs(table_units(runs), runs)
    data, law = as_data(scaled), fitted.inner_law
    counts = resample_counts(jax.random.split(KEY, 3)[1], runs, 4)
    value = objective(law, data._replace(weights=data.weights * counts[0]), Robust())
    raw, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.asarray(x)[0], fitted.resampled))
    slope = jax.jit(jax.value_and_grad(lambda x: value(unravel(x))))
    again = scipy.optimize.minimize(lambda x: [np.asarray(a) for a in slope(x)], raw, jac=True, method="L-BFGS-B")
    assert again.fun > fitted.resampled_objective[0] * 0.99


def test_a_recipe_with_supply_predicts_like_one_with_plenty(runs, batch):
    fitted = batch("camel")
    r = jax.tree.map(lambda x: jnp.asarray(x)[:4], runs.recipe)
    plenty = Recipe(r.n_total, r.n_active, r.tokens, r.weights, jnp.full(2, 1e15))
    np.testing.assert_allclose(fitted.predict(plenty), fitted.predict(r), rtol=1e-12)


@pytest.mark.parametrize("name", ["chinchilla", "camel"])
def test_rows_of_padding_change_nothing(name, runs):
    law, options = build(name), {"key": KEY, "starts": 1, "resamples": 2}
    plain, padded = (cj.fit(law, runs, pad_rows=n, **options) for n in (None, len(runs) + 5))
    np.testing.assert_allclose(padded.predict(runs.recipe), plain.predict(runs.recipe), rtol=1e-6)
    np.testing.assert_allclose(padded.resampled_objective, plain.resampled_objective, rtol=1e-5)
    np.testing.assert_allclose(padded.discrepancy.weights, plain.discrepancy.weights, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="cannot pad a table of"):
        cj.fit(law, runs, pad_rows=len(runs) - 1, **options)
