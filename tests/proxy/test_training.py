"""Training of the tiny models: scores one at a time, lanes against single runs, and runs that were killed."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import SETTINGS, TINY

import camel_jax
from camel_jax.proxy.batched import train_lanes
from camel_jax.proxy.corpus import save_corpus
from camel_jax.proxy.model import LADDER, apply
from camel_jax.proxy.train import Text, first_state, programs, rates_of, sample, schedule_at
from camel_jax.proxy.worker import train_one


def test_scores_equal_those_one_at_a_time(corpus, text):
    start, _, evaluate = programs(TINY, SETTINGS, False)
    params = start(np.int32(3)).params
    outcome = evaluate(params, text)

    run = jax.jit(functools.partial(apply, TINY))

    def surprise(symbols):
        logits, _ = run(params, jnp.asarray(symbols[None, :-1]))
        return -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits[0])), symbols[1:, None].astype(int), 1)[:, 0]

    width = SETTINGS.context + 1
    for k in (0, 3):
        windows = [corpus.validation[k][i * width : (i + 1) * width] for i in range(text.windows.shape[1])]
        np.testing.assert_allclose(outcome.losses[k], np.mean([surprise(w) for w in windows]), rtol=1e-5)
    task = corpus.tasks["arithmetic"]
    totals = np.array(
        [
            [surprise(row)[asked[1:]].sum() for row, asked in zip(*pair, strict=True)]
            for pair in zip(task.symbols, task.asked, strict=True)
        ]
    )
    np.testing.assert_allclose(outcome.accuracies[0], np.mean(totals.argmin(1) == task.right), atol=1e-6)
    np.testing.assert_allclose(outcome.answers[0], totals[np.arange(len(totals)), task.right].mean(), rtol=1e-5)


def test_balance_loss_spreads_the_tokens(text):
    shape, ends = dataclasses.replace(TINY, experts=4), {}
    imbalance = jax.jit(lambda params: apply(shape, params, text.windows[:, :8, :-1].reshape(-1, 32))[1])
    for balance in (SETTINGS.balance, 0.0):
        start, train, _ = programs(shape, dataclasses.replace(SETTINGS, balance=balance), False)
        state = train(
            start(np.int32(0)), np.full(5, 0.2, np.float32), np.int32(0), np.array([0, 150, 150], np.int32), text
        )
        ends[balance] = float(imbalance(state.params))
    assert ends[SETTINGS.balance] < 1.35 and ends[0.0] > ends[SETTINGS.balance] + 0.2


def test_batches_follow_the_mixture():
    domains = jnp.arange(4, dtype=jnp.uint8)
    text = Text(jnp.repeat(domains, 500), 500 * jnp.arange(4), jnp.full(4, 500), jnp.zeros((4, 1, 33), jnp.uint8), {})
    settings = dataclasses.replace(SETTINGS, batch=20)
    weights = np.array([0.0, 0.5, 0.13, 0.37], np.float32)
    draw = jax.jit(jax.vmap(lambda step: sample(text, settings, weights, jnp.int32(0), step)))
    seen = np.asarray(draw(jnp.arange(200)))
    assert seen.shape == (200, 20, 33) and np.all(seen == seen[:, :, :1])
    counts = np.stack([(seen[:, :, 0] == k).sum(1) for k in range(4)], -1)
    assert np.all(np.abs(counts - 20 * weights) <= 1 + 1e-4) and not counts[:, 0].any()
    np.testing.assert_allclose(counts.mean(0) / 20, weights, atol=0.01)
    last = np.array([0.5, 0.5, 0.0, 0.0], np.float32)
    only = sample(text, settings, last, jnp.int32(0), jnp.int32(1))
    assert set(np.unique(np.asarray(only))) == {0, 1}


def test_places_are_paired_over_mixtures(text):
    draw = jax.jit(lambda weights, seed: sample(text, SETTINGS, weights, seed, jnp.int32(9)))
    pure, half = np.array([1, 0, 0, 0, 0], np.float32), np.array([0.5, 0.5, 0, 0, 0], np.float32)
    np.testing.assert_array_equal(draw(pure, 5)[:2], draw(half, 5)[:2])
    assert not np.array_equal(draw(pure, 5)[2:], draw(half, 5)[2:])
    assert not np.array_equal(draw(pure, 5), draw(pure, 6))


@pytest.mark.parametrize("total", [1, 20, 500])
def test_schedule_ends_at_zero_at_every_budget(total):
    rates = np.array([float(schedule_at(jnp.int32(i), jnp.int32(total), SETTINGS)) for i in range(total)])
    warm = max(1, int(np.ceil(0.05 * total)))
    assert rates.argmax() in (warm - 1, warm) and rates.max() == pytest.approx(1.0, abs=1e-6)
    assert np.all(np.diff(rates[:warm]) > 0) and np.all(np.diff(rates[warm:]) < 0)
    assert total == 1 or rates[-1] < 10 / total


def test_rates_of_matrices_fall_with_the_width():
    for shape in LADDER[:3]:
        params = jax.eval_shape(lambda shape=shape: first_state(shape, 0)).params
        rates = rates_of(shape, params)
        rates = {jax.tree_util.keystr(path): rate for path, rate in jax.tree_util.tree_leaves_with_path(rates)}
        slow = {rate for name, rate in rates.items() if "embedding" not in name and "gain" not in name}
        assert len(rates) == 14 and slow == {32 / shape.width}
        assert {rate for name, rate in rates.items() if "embedding" in name or "gain" in name} == {1.0}


SHAPES = [TINY, pytest.param(dataclasses.replace(TINY, experts=4), marks=pytest.mark.slow)]


@pytest.mark.parametrize("shape", SHAPES, ids=["dense", "experts"])
def test_lanes_equal_single_runs(shape, text):
    weights = np.random.default_rng(0).dirichlet(np.ones(5), 3).astype(np.float32)
    seeds = np.array([0, 0, 4], np.int32)
    with jax.default_matmul_precision("highest"):  # else a rounding of a GPU's decides between experts
        together = train_lanes(shape, SETTINGS, weights, seeds, 12, text)
        each = [
            train_one(job(shape, w, int(s), 12), text, SETTINGS, lambda _: None)
            for w, s in zip(weights, seeds, strict=True)
        ]
    for lane, alone in enumerate(each):
        np.testing.assert_allclose(together[lane]["losses"], alone["losses"], rtol=2e-4)
        np.testing.assert_allclose(together[lane]["answers"], alone["answers"], rtol=1e-3)
        np.testing.assert_allclose(np.array(together[lane]["curve"]), np.array(alone["curve"]), rtol=2e-4)
    assert abs(together[0]["losses"][0] - together[1]["losses"][0]) > 1e-3


def test_mixtures_seeds_and_budgets_compile_nothing(text):
    own = dataclasses.replace(SETTINGS, rate=0.5 * SETTINGS.rate)  # programs that no other test has compiled
    start, train, evaluate = programs(TINY, own, False)
    for seed, total, weights in ((0, 2, np.full(5, 0.2)), (1, 3, np.eye(5)[0])):
        state = train(
            start(np.int32(seed)), weights.astype(np.float32), np.int32(seed), np.array([0, 2, total], np.int32), text
        )
        evaluate(state.params, text)
    assert (start._cache_size(), train._cache_size(), evaluate._cache_size()) == (1, 1, 1)


def test_a_model_learns_more_than_frequencies(corpus, text):
    weights = np.eye(5)[corpus.domains.index("knowledge")]
    row = train_one(job(TINY, weights, 0, 300), text, SETTINGS, lambda note: None)
    held = corpus.validation[corpus.domains.index("knowledge")]
    counts = np.bincount(held, minlength=96) / len(held)
    entropy = -np.sum(counts[counts > 0] * np.log(counts[counts > 0]))
    assert row["losses"][corpus.domains.index("knowledge")] < entropy - 0.3
    assert row["losses"][corpus.domains.index("code")] > row["losses"][corpus.domains.index("knowledge")]


def job(shape, weights, seed, steps, snapshot="/nowhere/none.npz", every=1e9):
    task = {"shape": dataclasses.asdict(shape), "weights": np.asarray(weights).tolist(), "seed": seed}
    return task | {"steps": steps, "snapshot": str(snapshot), "every": every}


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_numbers(text, tmp_path):
    snapshot = tmp_path / "run.npz"
    weights = np.full(5, 0.2)
    whole = train_one(job(TINY, weights, 1, 30), text, SETTINGS, lambda note: None)

    def die(note):
        if note["step"] > 14:
            raise Killed

    with pytest.raises(Killed):
        train_one(job(TINY, weights, 1, 30, snapshot, 0.0), text, SETTINGS, die)
    steps = []
    rest = train_one(job(TINY, weights, 1, 30, snapshot, 0.0), text, SETTINGS, lambda note: steps.append(note["step"]))
    assert snapshot.exists() and steps[0] > 12
    for name in ("losses", "accuracies", "answers", "curve"):
        assert rest[name] == whole[name]


@pytest.mark.slow
def test_killed_lanes_go_on_to_the_same_numbers(text, tmp_path):
    snapshot = tmp_path / "lanes.npz"
    weights, seeds = np.eye(5, dtype=np.float32)[:2], np.zeros(2, np.int32)
    whole = train_lanes(TINY, SETTINGS, weights, seeds, 30, text, width=3)

    def die(step):
        if step > 14:
            raise Killed

    with pytest.raises(Killed):
        train_lanes(TINY, SETTINGS, weights, seeds, 30, text, snapshot=snapshot, every=0.0, width=3, tell=die)
    rest = train_lanes(TINY, SETTINGS, weights, seeds, 30, text, snapshot=snapshot, every=0.0, width=3)
    assert [row["curve"] for row in rest] == [row["curve"] for row in whole]
    assert [row["losses"] for row in rest] == [row["losses"] for row in whole]


SHARDED = """
import dataclasses, json, sys
import jax, numpy as np
from camel_jax.proxy.corpus import load_corpus
from camel_jax.proxy.batched import train_lanes
from camel_jax.proxy.model import Shape
from camel_jax.proxy.train import Settings, place_text
assert jax.device_count() == 2
settings = Settings(batch=4, context=32, validation_symbols=2_000, dtype="float32")
text = place_text(load_corpus(sys.argv[1]), settings)
rows = train_lanes(Shape(16, 1, 1), settings, np.eye(5)[[0, 1, 1]], np.arange(3), 12, text)
print(json.dumps([row["losses"] for row in rows]))
"""


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only a CPU has virtual devices")
def test_lanes_over_two_devices_equal_one(corpus, text, tmp_path):
    save_corpus(corpus._replace(tasks={}), tmp_path / "c.npz")
    here = train_lanes(TINY, SETTINGS, np.eye(5)[[0, 1, 1]], np.arange(3), 12, text)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    env = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(pathlib.Path(camel_jax.__file__).parents[1])}
    command = [sys.executable, "-c", SHARDED, str(tmp_path / "c.npz")]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120)
    np.testing.assert_allclose(json.loads(out.stdout), [row["losses"] for row in here], rtol=1e-4)
    assert len({row["losses"][0] for row in here}) == 3
