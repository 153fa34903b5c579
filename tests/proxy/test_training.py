"""The proxy corpus, the tiny models and their training: against slow obvious versions, and against themselves."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import camel_jax
from camel_jax.proxy import probes, problems, sources
from camel_jax.proxy.batched import train_lanes
from camel_jax.proxy.corpus import BUILT_IN, build_corpus, load_corpus, save_corpus
from camel_jax.proxy.language import Language
from camel_jax.proxy.model import LADDER, SPARSITIES, Block, Shape, apply, count_params, find_shape, make_params
from camel_jax.proxy.train import Settings, Text, first_state, place_text, programs, rates_of, sample, schedule_at
from camel_jax.proxy.worker import train_one

TINY = Shape(16, 1, 1)
SETTINGS = Settings(batch=4, context=32, validation_symbols=2_000, dtype="float32")


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(domain_bytes=80_000, items=40, people=20)


@pytest.fixture(scope="module")
def text(corpus):
    few = {name: corpus.tasks[name] for name in ("arithmetic",)}  # each costs a compilation
    return place_text(corpus._replace(tasks=few), SETTINGS)


def spelled(corpus, symbols):
    return bytes(corpus.alphabet[np.asarray(symbols)]).decode("latin-1")


# The corpus


def test_same_seed_same_bytes(corpus, tmp_path):
    again = build_corpus(domain_bytes=80_000, items=40, people=20)
    assert again.record == corpus.record
    other = build_corpus(domain_bytes=80_000, items=40, people=20, seed=1)
    for name in BUILT_IN:
        mine, theirs = (c.record["domains"][name] for c in (corpus, other))
        assert mine["train_sha256"] != theirs["train_sha256"]
    assert corpus.record["domains"]["code"]["files"] > 0 and corpus.record["domains"]["math"]["files"] == 0
    save_corpus(corpus, tmp_path / "c.npz")
    back = load_corpus(tmp_path / "c.npz")
    assert back.record == corpus.record and back.domains == corpus.domains
    chex.assert_trees_all_equal(back.train + back.validation, corpus.train + corpus.validation)
    for name, task in corpus.tasks.items():
        chex.assert_trees_all_equal(back.tasks[name], task)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "code"])
def test_train_and_validation_share_no_document(corpus, name):
    k = corpus.domains.index(name)
    sides = [set(spelled(corpus, side[k]).split("\n")[:-1]) for side in (corpus.train, corpus.validation)]
    assert min(map(len, sides)) > 5 and not sides[0] & sides[1]


def test_code_is_split_by_file_and_has_no_comments(corpus):
    k = corpus.domains.index("code")
    train, held = (spelled(corpus, side[k]) for side in (corpus.train, corpus.validation))
    pieces = [held[i : i + 300] for i in range(0, len(held) - 300, 300)]
    assert len(pieces) >= 10 and not [piece for piece in pieces if piece in train]
    assert '"""' not in train and "\n#" not in train and "\n    #" not in train


def test_facts_of_validation_were_seen_in_other_words():
    people = problems.make_people(0, 20)
    known = problems.biographies(people, 0, 60_000, False)
    held = set(problems.biographies(people, 0, 8_000, True))
    assert len(set(people.names)) == 20 and people.popularity[0] > 2 * people.popularity[-1]
    train = set(known)
    for person in range(20):
        for attribute in range(4):
            kept = people.kept[person, attribute]
            told = [problems.sentence(people, person, attribute, w) for w in range(3)]
            assert told[kept] not in train
            assert all(told[w] in train and told[w] not in held for w in range(3) if w != kept)


def test_problems_have_right_answers():
    for kind, question, answer in problems.problems(0, 20_000, False):
        assert not problems.in_validation(question, 0)
        left = question.split("=")[0] if kind != "equation" else ""
        if kind in ("sum", "difference", "product"):
            assert eval(left) == int(answer)
        elif kind == "remainder":
            assert eval(left.replace("mod", "%")) == int(answer)
        elif kind == "equation":
            plus, total = question.removeprefix("x+").removesuffix("; x=").split("=")
            assert int(answer) + int(plus) == int(total)
        else:
            terms = [int(term) for term in (question + answer).split(",")]
            assert set(np.diff(terms)) == {terms[1] - terms[0]}


def test_language_keeps_stems_and_punctuation():
    words = Language(0)
    out = words.translate("The parser returns a token, and the parsers return tokens.").split()
    assert out[0].lower() == words.translate("the") != "the" and out[0][0].isupper()
    assert out[1].startswith("parser"[:4]) and out[4].endswith(",") and out[-1].endswith(".")
    assert len(out) == 10 and Language(1).translate("the") != words.translate("the")


def test_folders_of_text(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    letters = list("abcdefgh é")
    for i in range(30):
        (folder / f"{i:02d}.txt").write_text("".join(rng.choice(letters, 1_500)), encoding="utf-8")
    (folder / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("hidden")
    made = build_corpus(("mine", "math"), {"mine": folder}, domain_bytes=25_000, items=10)
    assert made.record["domains"]["mine"]["files"] == 30 and list(made.tasks) == ["arithmetic"]
    train, held = (
        spelled(made, side[0]).encode("latin-1").decode(errors="replace") for side in (made.train, made.validation)
    )
    assert set(train) <= {*letters, "\n", "�"} and "é" in train
    assert not set(held.split("\n")[:-1]) & set(train.split("\n"))
    small = tmp_path / "small"
    small.mkdir()
    with pytest.raises(ValueError, match="holds no text"):
        build_corpus(("a",), {"a": small})
    (small / "a.txt").write_text("too short")
    with pytest.raises(ValueError, match="at least 10000 and 1000"):
        build_corpus(("a",), {"a": small})
    with pytest.raises(ValueError, match="no such folder"):
        build_corpus(("a",), {"a": tmp_path / "none"})
    with pytest.raises(ValueError, match="no text for domain 'web'"):
        build_corpus(("web",))
    with pytest.raises(ValueError, match="below 20000"):
        build_corpus(domain_bytes=10)


def test_sources_note_their_files():
    notes = []
    files = sources.library_files()[:3]
    code = [source for _, source in sources.library_modules(files, notes.append)]
    assert [note.bytes for note in notes] == [path.stat().st_size for path in files]
    assert all(len(note.sha256) == 64 for note in notes) and all("\n\n" not in source for source in code)


# Benchmarks


def test_right_choices_are_right(corpus):
    people = problems.make_people(0, 20)
    facts = {person: {people.facts[name][i] for name in problems.ATTRIBUTES} for i, person in enumerate(people.names)}
    # brackets are asked where the code that comes with Python has enough of them: not before 3.12
    more = {"brackets"} if sys.version_info >= (3, 12) else set()
    assert set(corpus.tasks) - more == {"arithmetic", "biographies", "language_words", "prose_words"}
    for name, task in corpus.tasks.items():
        n, choices, _ = task.symbols.shape
        assert n >= 20 and set(task.right) == set(range(choices))
        for i in range(n):
            shown = [spelled(corpus, task.symbols[i, c][task.asked[i, c]]) for c in range(choices)]
            prompt = spelled(corpus, task.symbols[i, 0]).removesuffix("\n")[: int(np.argmax(task.asked[i, 0]))]
            right = shown[task.right[i]]
            assert len(set(shown)) == choices
            if name == "biographies":
                person = next(person for person in facts if person in prompt)
                assert right.removesuffix(".") in facts[person]
            elif name == "arithmetic":
                kinds = [(k, q, a) for k, q, a in problems.problems(0, 80_000 // 8, True) if "\n" + q == prompt]
                assert kinds[0][2] + "\n" == right
            elif name != "brackets":
                assert {len(choice) for choice in shown} == {len(right)}
                held = spelled(corpus, corpus.validation[corpus.domains.index(name.split("_")[0])])
                assert prompt + right in held or len(held) >= 80_000 // 8


def test_brackets_that_close():
    code = [
        "x" * 50 + "\n" + "value = table[first(a, b), {key: other[1, 2]}]\ncall(long_name, [1, 2, 3], {4, 5, 6})\n" * 3
    ]
    items = probes.brackets(code, 0, 9)
    assert sorted(item.choices[item.right] for item in items) == [*")))]]]}}}"]
    for item in items:
        depth: list[str] = []
        for char in item.prompt:
            if char in "([{":
                depth.append(char)
            elif depth and depth[-1] == "([{"[")]}".index(char)] if char in ")]}" else False:
                depth.pop()
        assert depth[-1] == "([{"[")]}".index(item.choices[item.right])] and sorted(item.choices) == [*")]}"]


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


# The model


@pytest.mark.parametrize("experts", [(1, 1), *SPARSITIES], ids=str)
def test_counts_match_the_arrays(experts):
    for base in (LADDER[0], LADDER[3], LADDER[-1]):
        shape = dataclasses.replace(base, experts=experts[0], top_k=experts[1])
        arrays = jax.eval_shape(lambda shape=shape: make_params(shape, 0))
        total, embedding = count_params(arrays)
        assert (total, embedding) == (shape.n_total, 96 * shape.width)
        expert = 2 * shape.width * shape.hidden * shape.layers
        assert shape.n_active == total - (shape.experts - shape.top_k) * expert
        assert abs(shape.n_active / base.n_active - 1) < 0.005
        if experts[1] == 1:
            assert shape.n_active == base.n_active
        found = find_shape(shape.n_active, shape.n_total)
        assert found == shape or abs(found.n_total / shape.n_total - 1) < 0.02
    assert LADDER[-1].n_active > 100 * LADDER[0].n_active


def test_sizes_off_the_ladder_are_refused():
    with pytest.raises(ValueError, match=r"no proxy model has 7000 active.*6224, 13944"):
        find_shape(7000, 7000)
    with pytest.raises(ValueError, match=r"6224 active parameters has 9000 in total: there are 6224, 10"):
        find_shape(6224, 9000)


def test_half_precision_stays_near():
    params = make_params(TINY, 0)
    symbols = jax.random.randint(jax.random.key(0), (2, 12), 0, 96)
    full, half = (
        jax.jit(functools.partial(apply, TINY, dtype=d))(params, symbols)[0] for d in (jnp.float32, jnp.bfloat16)
    )
    assert full.dtype == half.dtype == jnp.float32 and {leaf.dtype for leaf in jax.tree.leaves(params)} == {full.dtype}
    gap = np.abs(full - half)
    assert 1e-5 < gap.max() < 0.1 * np.abs(full).max()
    assert Settings().resolved().dtype == ("float32" if jax.default_backend() == "cpu" else "bfloat16")


def test_predictions_do_not_see_the_future():
    for shape in (TINY, dataclasses.replace(TINY, experts=4)):
        params = make_params(shape, 0)
        a = jax.random.randint(jax.random.key(0), (2, 12), 0, 96)
        b = a.at[:, 7].set((a[:, 7] + 1) % 96)
        run = jax.jit(functools.partial(apply, shape))
        one, two = (run(params, x)[0] for x in (a, b))
        np.testing.assert_allclose(one[:, :7], two[:, :7], atol=1e-6)
        assert np.abs(one[:, 7:] - two[:, 7:]).max(-1).min() > 1e-5


@pytest.mark.parametrize("k", [1, 2])
def test_experts_equal_a_loop_over_tokens(k):
    from flax import nnx

    shape = dataclasses.replace(TINY, experts=4, top_k=k)
    block = Block(shape, nnx.Rngs(params=1))
    x = 1.0 + jax.random.normal(jax.random.key(2), (40, 16), jnp.float32)
    places = int(np.ceil(1.25 * k * 40 / 4))
    router, up, down = (np.asarray(part[...]) for part in (block.router, block.up, block.down))
    odds = scipy.special.softmax(np.asarray(x) @ router, -1)
    used = np.zeros(4, int)
    kept, whole = np.zeros((40, 16)), np.zeros((40, 16))
    for i in range(40):
        for e in np.argsort(-odds[i], kind="stable")[:k]:
            out = np.square(np.maximum(np.asarray(x)[i] @ up[e], 0)) @ down[e]
            whole[i] += odds[i, e] * out
            kept[i] += odds[i, e] * out * (used[e] < places)
            used[e] += 1
    assert used.max() > places  # some tokens are dropped in training
    with jax.default_matmul_precision("highest"):
        (dropped, _), (out, imbalance) = jax.jit(lambda x: (block._route(x, True), block._route(x, False)))(x)
    np.testing.assert_allclose(dropped, kept, atol=2e-5)
    np.testing.assert_allclose(out, whole, atol=2e-5)
    expected = 4 * np.sum(used / (40 * k) * odds.mean(0))
    np.testing.assert_allclose(imbalance, expected, rtol=1e-5)


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


# Training


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


def test_items_keep_the_right_choice():
    items = probes.next_words(
        ["one two three four five seven eight nine kilo lima"] * 3 + ["x" * 45 + " alpha gamma delta omega."], 0, 4
    )
    assert items and all(
        item.choices[item.right].strip() in "seven eight nine kilo lima alpha gamma delta omega" for item in items
    )
