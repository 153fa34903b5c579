"""Blends: each part is fitted apart, and left-out mixtures say what it weighs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitting_problems import KEY

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.backtest import is_unmixed
from camel_jax.fitting.objective import Robust, as_data, objective
from camel_jax.fitting.stacking import _mixtures_left_out, _sizes_left_out, best_weights
from camel_jax.laws.law import scale_runs, table_units
from camel_jax.tables.runs import select


@pytest.mark.slow
def test_a_blend_is_its_parts_fitted_apart(tmp_path):
    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=8, checkpoints=2, noise=0.004)
    law = laws.blend(skills=3, parts=("camel", "sodm"))
    fitted = cj.fit(law, runs, key=KEY, starts=2, resamples=3)
    weights = fitted.part_weights
    share = weights["sodm"]
    assert sum(weights.values()) == pytest.approx(1.0) and 0 < share < 1
    assert np.array_equal(fitted.raw["share"], [[share], [share]])
    assert np.array_equal(fitted.resampled["share"], np.full((3, 1), share))
    scaled = scale_runs(table_units(runs), runs)
    data = as_data(scaled)
    rng = np.random.default_rng(0)
    for name, part in law.parts:  # each part is at its own optimum, and the objective is that of CAMEL
        raw = {key.removeprefix(f"{name}."): x[0] for key, x in fitted.raw.items() if key.startswith(f"{name}.")}
        of = jax.jit(objective(part, data, Robust()))
        value = of(raw)
        for _ in range(8):
            away = jax.tree.map(lambda x: x + 0.03 * rng.standard_normal(np.shape(x)), raw)
            assert float(of(away)) > float(value)
        if name == "camel":
            assert float(value) == pytest.approx(fitted.objective[0], rel=1e-9)
    raw = {key: jnp.asarray(x[0]) for key, x in fitted.raw.items()}
    of_share = lambda share: law.log_prior(raw | {"share": share})  # noqa: E731
    assert (
        float(jax.grad(of_share)(raw["share"])[0]) == 0.0 and float(jax.hessian(of_share)(raw["share"])[0, 0]) == -1e6
    )
    params = fitted.inner_law.constrain(raw)
    recipe = jax.tree.map(lambda x: x[5], scaled.recipe)
    camel, sodm = (np.log(part.predict(params[name], recipe)) for name, part in law.parts)
    np.testing.assert_allclose(np.log(law.predict(params, recipe)), (1 - share) * camel + share * sodm, rtol=1e-12)
    fitted.save(tmp_path / "f.npz")
    loaded = cj.Fit.load(tmp_path / "f.npz")
    assert np.array_equal(loaded.predict(runs.recipe), fitted.predict(runs.recipe))
    assert np.array_equal(
        loaded.losses_at("1B", "20B").draws(np.ones(3) / 3), fitted.losses_at("1B", "20B").draws(np.ones(3) / 3)
    )
    with pytest.raises(ValueError, match="each have their own solver"):
        cj.fit(law, runs, key=KEY, solver="lbfgs")


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "sizes"), [("sodm", 2), ("camel", 3)])
def test_the_weight_of_a_part_is_what_left_out_mixtures_say(planted, sizes):
    """Losses of SODM with noise: SODM has most of the weight. Losses that SODM cannot follow: CAMEL has nearly all."""
    runs = simulate.study(
        jax.random.key(3), n_domains=3, n_mixtures=6, checkpoints=2, sizes=tuple(1e7 * 4.0 ** np.arange(sizes))
    )
    if planted == "sodm":
        wanted = np.asarray(runs.recipe.weights) ** 0.5 @ np.array([[2.0, 0.3], [0.3, 2.0], [0.1, 0.1]])
        smaller = (np.asarray(runs.recipe.n_active) / 1e7) ** -0.3 + (np.asarray(runs.recipe.tokens) / 1e8) ** -0.2
        losses = 1.5 + 0.3 / (0.2 + wanted) + smaller[:, None]
    else:  # what a domain is worth turns round with size
        turn = np.log(np.asarray(runs.recipe.n_active) / 2e7)[:, None] * np.asarray(runs.recipe.weights)[:, :1]
        losses = np.asarray(runs.losses) * np.exp(0.2 * turn)
    noise = 0.002 * np.random.default_rng(1).standard_normal(losses.shape)
    runs = dataclasses.replace(runs, losses=losses * np.exp(noise), sets=runs.sets[: losses.shape[1]])
    law = laws.blend(skills=1 if planted == "sodm" else 4, parts=("camel", "sodm"))
    share = cj.fit(law, runs, key=KEY, starts=2, backtests=0).part_weights["sodm"]
    assert share > 0.6 if planted == "sodm" else share < 0.2


def test_weights_are_the_usual_ones_where_nothing_tells_the_parts_apart():
    same = np.broadcast_to(0.01 * np.random.default_rng(0).standard_normal((1, 9, 2)), (3, 9, 2))
    np.testing.assert_allclose(
        best_weights([(same, np.ones((9, 2)))], np.array([0.5, 0.3, 0.2])), [0.5, 0.3, 0.2], atol=1e-4
    )


def test_opposite_errors_share_the_weight_and_a_part_of_none_gets_none():
    up = 0.01 * np.ones((1, 9, 1))
    weights = best_weights([(np.concatenate([up, -up, 0.0 * up]), np.ones((9, 1)))] * 4, np.array([0.8, 0.2, 0.0]))
    np.testing.assert_allclose(weights, [0.5, 0.5, 0.0], atol=0.02)


def test_a_part_that_hardly_counts_is_left_out():
    good = 0.001 * np.ones((1, 9, 1))
    assert best_weights([(np.concatenate([good, 50 * good]), np.ones((9, 1)))] * 8, np.array([0.8, 0.2])).tolist() == [
        1.0,
        0.0,
    ]


@pytest.mark.slow
def test_where_no_run_mixes_domains_sizes_are_left_out_and_thin_evidence_counts_little():
    runs = simulate.study(
        jax.random.key(3), n_domains=3, n_mixtures=6, checkpoints=1, sizes=tuple(1e7 * 3.0 ** np.arange(5))
    )
    single = np.eye(3)[np.asarray(runs.run) % 3]
    runs = dataclasses.replace(runs, recipe=dataclasses.replace(runs.recipe, weights=single))
    assert is_unmixed(runs)
    kept, judged = _sizes_left_out(runs)
    active = np.asarray(runs.recipe.n_active)
    for k, size in enumerate((9e7, 2.7e8, 8.1e8)):
        assert np.allclose(active[judged[k]], size) and active[kept[k]].max() < 0.5 * size
    assert not judged[:, active < 5e7].any()
    assert len(_mixtures_left_out(runs)[0]) == 0
    law = laws.blend(skills=3, parts=("camel", "sodm"))
    few = cj.fit(law, select(runs, active < 5e7), key=KEY, starts=1, backtests=0).part_weights
    assert sum(few.values()) == pytest.approx(1.0)


@pytest.mark.slow
def test_a_swarm_of_one_size_asks_the_floor_and_runs_of_several_sizes_ask_sodm():
    swarm = simulate.study(jax.random.key(3), n_domains=3, n_mixtures=12, checkpoints=1, sizes=(1e7,))
    weights = cj.fit(laws.blend(skills=3), swarm, key=KEY, starts=1, backtests=0).part_weights
    assert weights["sodm_joint"] == 0.0 and weights["concave"] > 0.0
    runs = simulate.study(jax.random.key(3), n_domains=3, n_mixtures=6, checkpoints=1, sizes=(1e7, 1e8))
    weights = cj.fit(laws.blend(skills=3), runs, key=KEY, starts=1, backtests=0).part_weights
    assert weights["concave"] == 0.0


def test_a_part_that_knows_no_size_leaves_size_to_the_first():
    swarm = simulate.study(jax.random.key(3), n_domains=3, n_mixtures=12, checkpoints=1, sizes=(1e7,))
    fitted = cj.fit(laws.blend(skills=3), swarm, key=KEY, starts=1, backtests=0, field=False)
    raw = {name: np.asarray(x).copy() for name, x in fitted.raw.items()}
    raw["share"][:] = [[0.0, 1.0]]  # the floor alone
    floor = dataclasses.replace(fitted, raw=raw)
    raw = {**raw, "share": np.zeros_like(raw["share"])}  # CAMEL alone
    camel = dataclasses.replace(fitted, raw=raw)
    tokens = np.asarray(swarm.recipe.tokens)[:1]
    at = lambda size, fit: np.log(np.asarray(fit.predict(cj.dense(size * np.ones(1), tokens, np.ones((1, 3)) / 3))))  # noqa: E731
    np.testing.assert_allclose(at(1e8, floor) - at(1e7, floor), at(1e8, camel) - at(1e7, camel), rtol=1e-9)
    assert np.abs(at(1e7, floor) - at(1e7, camel)).max() > 1e-6
