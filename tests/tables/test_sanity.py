"""Odd tables are told of, and named; healthy ones of every public source are not."""

import dataclasses
import functools
import time

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.tables import read_runs
from camel_jax.tables.finding import Finding
from camel_jax.tables.runs import final_rows, mixture_ids, select
from camel_jax.tables.sanity import check_sanity, left_out

FACTS = {"early", "few"}  # true by counting, healthy or not
STUDIES = {
    "web": {"n_domains": 3, "n_mixtures": 16, "sizes": (2e7, 6e7, 1.5e8, 4e8)},
    "swarm": {"n_domains": 5, "n_mixtures": 30, "sizes": (2e7, 1e8, 3e8), "checkpoints": 1},
}


@functools.cache
def study(name="web"):
    return simulate.study(jax.random.key(3), **STUDIES[name])


def counts(runs, **new):
    """The table with other sizes or tokens."""
    if "n_active" in new:
        new["n_total"] = new["n_active"]
    return dataclasses.replace(runs, recipe=dataclasses.replace(runs.recipe, **new))


def scaled(runs, rows, sets, by):
    """The table with some losses multiplied."""
    losses = np.array(runs.losses)
    losses[np.ix_(np.atleast_1d(rows), np.atleast_1d(sets))] *= by
    return dataclasses.replace(runs, losses=losses)


def put(runs, rows, sets, to):
    """The table with some losses replaced by a function of them."""
    losses = np.array(runs.losses)
    at = np.ix_(np.atleast_1d(rows), np.atleast_1d(sets))
    losses[at] = to(losses[at])
    return dataclasses.replace(runs, losses=losses)


def half(runs, seed=0):
    """A random half of the runs, as rows."""
    run = np.asarray(runs.run)
    return np.flatnonzero((np.random.default_rng(seed).random(run.max() + 1) < 0.5)[run])


def at_size(runs, i):
    size = np.asarray(runs.recipe.n_active)
    return np.flatnonzero(size == np.unique(size)[i])


def twice(runs, n, noise=0.0):
    """The table with the first runs again under other names."""
    rows = np.flatnonzero(np.asarray(runs.run) < n)
    both = np.concatenate([np.arange(len(runs)), rows])
    again = select(runs, np.arange(len(runs)))
    take = jax.tree.map(lambda x: np.asarray(x)[both], dataclasses.replace(again, run=np.asarray(again.run)))
    run = np.concatenate([np.asarray(runs.run), np.asarray(runs.run)[rows] + np.asarray(runs.run).max() + 1])
    losses = np.array(take.losses)
    losses[len(runs) :] *= np.exp(noise * np.random.default_rng(0).normal(size=losses[len(runs) :].shape))
    names = (*runs.run_names, *(f"{name}-again" for name in runs.run_names[:n]))
    return dataclasses.replace(take, run=run, run_names=names, losses=losses)


def dealt(runs, what, sets: slice | list[int] = slice(None), seed=0):
    """Losses or mixtures of runs dealt out anew."""
    run, generator = np.asarray(runs.run), np.random.default_rng(seed)
    each = np.bincount(run).max()
    order = generator.permutation(run.max() + 1)
    moved = (order[:, None] * each + np.arange(each)).ravel()  # rows of a run lie together
    if what == "mixtures":
        return counts(runs, weights=np.asarray(runs.recipe.weights)[moved])
    losses = np.array(runs.losses)
    losses[:, sets] = losses[moved][:, sets]
    return dataclasses.replace(runs, losses=losses)


def swapped(runs):
    return counts(runs, n_active=np.asarray(runs.recipe.tokens), tokens=np.asarray(runs.recipe.n_active))


def upside_down(runs):
    size = np.asarray(runs.recipe.n_active)
    return counts(runs, n_active=(size.min() * size.max()) / size)


def tokens_upside_down(runs):
    tokens = np.asarray(runs.recipe.tokens)
    return counts(runs, tokens=(tokens.min() * tokens.max()) / tokens)


def part(values, rows, by):
    values = np.array(values)
    values[rows] = values[rows] * by
    return values


ODD = {
    "sizes and tokens swapped": ("swapped", "tokens", swapped),
    "all tokens in thousands": ("swapped", "tokens", lambda r: counts(r, tokens=np.asarray(r.recipe.tokens) / 1e3)),
    "sizes in millions": ("units", "size", lambda r: counts(r, n_active=np.asarray(r.recipe.n_active) / 1e6)),
    "tokens in billions": ("units", "tokens", lambda r: counts(r, tokens=np.asarray(r.recipe.tokens) / 1e9)),
    "half the tokens in thousands": (
        "units", "tokens", lambda r: counts(r, tokens=part(r.recipe.tokens, half(r), 1e-3))),
    "half the tokens in millions": (
        "units", "tokens", lambda r: counts(r, tokens=part(r.recipe.tokens, half(r, 1), 1e-6))),
    "a fifth of the tokens a thousand times": (
        "units", "tokens", lambda r: counts(r, tokens=part(r.recipe.tokens, at_size(r, 1), 1e3))),
    "half the sizes in thousands": ("units", "size", lambda r: counts(r, n_active=part(r.recipe.n_active, half(r), 1e-3))),
    "half of a set in perplexity": ("losses", "loss/v0", lambda r: put(r, half(r), 0, np.exp)),
    "half of a set in bits": ("losses", "loss/v1", lambda r: scaled(r, half(r), 1, 1 / np.log(2))),
    "a tenth of a set in bits": ("outlier", "loss/v1", lambda r: scaled(r, half(r)[::5], 1, 1 / np.log(2))),
    "the largest size in bits": ("shifted", "size", lambda r: scaled(r, at_size(r, -1), [0, 1, 2], 1 / np.log(2))),
    "half of all sets in bits": ("losses", "loss/v2", lambda r: scaled(r, half(r, 2), [0, 1, 2], 1 / np.log(2))),
    "a set in perplexity": ("losses", "loss/v0", lambda r: put(r, np.arange(len(r)), 0, lambda x: np.exp(2 * x))),
    "ten runs twice": ("duplicate", "run", lambda r: twice(r, 10)),
    "one run twice": ("duplicate", "run", lambda r: twice(r, 1)),
    "losses copied between recipes": ("duplicate", "loss/*", lambda r: put_rows(r, 7, 40)),
    "losses dealt out anew": ("shuffled", "loss/v0", lambda r: dealt(r, "losses")),
    "one set dealt out anew": ("shuffled", "loss/v1", lambda r: dealt(r, "losses", [1], 5)),
    "mixtures dealt out anew": ("shuffled", "mix/*", lambda r: dealt(r, "mixtures")),
    "mixtures dealt out otherwise": ("shuffled", "mix/*", lambda r: dealt(r, "mixtures", seed=9)),
    "losses that rise with size": ("rises", "loss/v0", upside_down),
    "losses that rise with tokens": ("rises", "loss/v1", tokens_upside_down),
    "one set turned over": ("rises", "loss/v0", lambda r: put(r, np.arange(len(r)), 0, lambda x: 4 / x)),
    "the largest size up": ("shifted", "size", lambda r: scaled(r, at_size(r, -1), [0, 1, 2], 1.15)),
    "a middle size up": ("shifted", "size", lambda r: scaled(r, at_size(r, 2), [0, 1, 2], 1.12)),
    "the largest size down": ("shifted", "size", lambda r: scaled(r, at_size(r, -1), [0, 1, 2], 0.85)),
    "a constant set": ("constant", "loss/v1", lambda r: put(r, np.arange(len(r)), 1, lambda x: 0 * x + 2.5)),
    "a mostly constant set": ("constant", "loss/v0", lambda r: put(r, half(r, 2), 0, lambda x: 0 * x + 2.5)),
    "twelve runs": ("few", "", lambda r: select(r, np.isin(r.run, [0, 1, 2, 17, 18, 19, 33, 34, 35, 50, 51, 52]))),
    "a loss ten times": ("outlier", "loss/v0", lambda r: scaled(r, 61, 0, 10)),
    "a loss a tenth": ("outlier", "loss/v1", lambda r: scaled(r, 61, 1, 0.1)),
    "a loss three times": ("outlier", "loss/v2", lambda r: scaled(r, 100, 2, 3)),
    "a loss and a half": ("outlier", "loss/v0", lambda r: scaled(r, 80, 0, 1.5)),
    "two losses in one set": ("outlier", "loss/v1", lambda r: scaled(r, [20, 110], 1, 1.6)),
    "a row ten times": ("diverged", "", lambda r: scaled(r, 61, [0, 1, 2], 10)),
    "a run that diverged": ("diverged", "", lambda r: scaled(r, [60, 61, 62], [0, 1, 2], 2.5)),
    "short runs": ("early", "tokens", lambda r: counts(r, tokens=np.asarray(r.recipe.tokens) / 10)),
}  # fmt: skip


def put_rows(runs, one, other):
    losses = np.array(runs.losses)
    losses[other] = losses[one]
    return dataclasses.replace(runs, losses=losses)


def test_a_simulated_table_is_healthy():
    for name in STUDIES:
        assert check_sanity(study(name)) == ()
    assert check_sanity(twice(study(), 10, noise=1e-3)) == ()  # replicates are measurements


@pytest.mark.parametrize("name", ODD)
def test_odd_tables_are_told_of(name):
    kind, column, alter = ODD[name]
    found = check_sanity(alter(study()))
    assert (kind, column) in {(one.kind, one.column) for one in found}, [str(one) for one in found]
    assert all(len(str(one).splitlines()) == 1 and any(c.isdigit() for c in str(one)) for one in found)


@pytest.mark.parametrize("by", [10, 3, 1.5, 0.1])
def test_one_bad_loss_is_named_with_its_row(by):
    seen = 0
    for row in range(3, 192, 27):
        found = [one for one in check_sanity(scaled(study(), row, 1, by)) if one.kind == "outlier"]
        seen += (row,) in [one.rows for one in found] and all(one.column == "loss/v1" for one in found)
        assert all(one.rows == (row,) for one in found)
    assert seen >= 6  # of 7; a mixture alone in its corner has no neighbours


def test_what_is_left_out():
    runs = scaled(study(), 61, 0, 10)
    mask = left_out(runs, check_sanity(runs))
    assert np.argwhere(mask).tolist() == [[61, 0]]
    assert not left_out(study(), ()).any()
    whole = left_out(study(), (Finding("outlier", "", (4,), ""),))
    assert np.flatnonzero(whole.all(1)).tolist() == [4]


def test_odd_shapes_do_not_raise():
    runs = study()
    generator = np.random.default_rng(0)
    for n in range(0, 30):
        some = select(runs, generator.integers(0, len(runs), n)) if n else select(runs, np.zeros(len(runs), bool))
        losses = np.where(generator.random(np.shape(some.losses)) < 0.4, np.nan, some.losses)
        check_sanity(dataclasses.replace(some, losses=losses))
    for shares in (np.ones((192, 1)), np.zeros((192, 0)), np.eye(3)[np.zeros(192, int)]):
        check_sanity(counts(runs, weights=shares))
    for losses in (np.full((192, 3), np.nan), np.full((192, 3), 2.0), np.zeros((192, 0)), np.full((192, 3), np.inf)):
        check_sanity(dataclasses.replace(runs, losses=losses))
    check_sanity(counts(runs, n_active=np.full(192, 1e8), tokens=np.full(192, 1e9)))
    check_sanity(counts(runs, supply=np.array([1e9, np.inf, 1e8])))


def test_it_is_cheap():
    big = simulate.study(
        jax.random.key(0), n_domains=8, n_sets=30, n_mixtures=84, sizes=(2e7, 6e7, 1.5e8, 4e8), checkpoints=3
    )
    begun = time.process_time()
    check_sanity(big)
    assert len(big) == 1008 and time.process_time() - begun < 2.0


def healthy(runs):
    """A table and parts of it that are as good."""
    size, mixture, run = np.asarray(runs.recipe.n_active), mixture_ids(runs), np.asarray(runs.run)
    sizes = np.unique(size)
    yield runs
    yield select(runs, final_rows(runs))
    if len(sizes) >= 3:
        yield select(runs, size < sizes[-1])
        yield select(runs, size > sizes[0])
        yield select(runs, np.isin(size, sizes[::2]))
    if mixture.max() >= 12:
        yield select(runs, mixture % 2 == 0)
        yield select(runs, mixture % 3 == 1)
    yield select(runs, (np.random.default_rng(0).random(run.max() + 1) < 0.6)[run])


def test_no_false_alarm_on_public_tables(data_folder):
    n = 0
    for path in sorted(data_folder.glob("*.csv")):
        try:
            runs = read_runs(path)
        except cj.TableError:
            continue  # lists of tasks, and curves
        for some in healthy(runs):
            found = check_sanity(some)
            assert {one.kind for one in found} <= FACTS, [str(one) for one in found]
            each = np.asarray(some.recipe.tokens) / np.asarray(some.recipe.n_active)
            assert all((each[list(one.rows)] < 5).all() for one in found if one.kind == "early")
            n += 1
    assert n >= 50


def test_a_fit_names_a_bad_row_and_learns_nothing_from_it():
    runs = study()
    options = {"key": jax.random.key(0), "starts": 1, "backtests": 1}
    good = cj.fit(laws.chinchilla(), runs, **options)
    bad = cj.fit(laws.chinchilla(), scaled(runs, 61, 0, 10), **options)
    assert any("loss/v0" in note and "times the" in note for note in bad.notes), bad.notes
    assert not any("times the" in note for note in good.notes)
    np.testing.assert_allclose(bad.discrepancy.scale, good.discrepancy.scale, rtol=0.02)
    np.testing.assert_allclose(bad.predict(runs.recipe), good.predict(runs.recipe), rtol=0.02)
