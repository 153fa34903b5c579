"""Rows by expression, tables joined by name, and what a table leaves open."""

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import camel_jax as cj
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.expression import DEEPEST, columns_of, matching_rows
from camel_jax.tables.runs import Runs
from camel_jax.tables.sheet import TableError


def small(names=("a", "b", "c"), domains=("web", "c4 (en)"), sets=("web", "code"), supply=None):
    """Three runs of two checkpoints each, sizes 10M, 10M and 1B; the loss on the second set is missing once."""
    n = 2 * len(names)
    size = np.repeat(np.array([1e7, 1e7, 1e9])[: len(names)], 2)
    weights = np.repeat(np.array([[1.0, 0.0], [0.75, 0.25], [0.25, 0.75]])[: len(names)], 2, axis=0)
    losses = 3.0 - 0.1 * np.arange(2 * n).reshape(n, 2)
    losses[0, 1] = np.nan
    recipe = Recipe(size, size, np.tile([1e9, 2e9], len(names)), weights, supply)
    return Runs(recipe, losses, np.zeros((n, 0)), np.repeat(np.arange(len(names)), 2), domains, sets, (), tuple(names))


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("size < 1e9", [0, 1, 2, 3]),
        ("10M < size <= 1B", [4, 5]),
        ("run == 'b' or run in ['c', \"nobody\"]", [2, 3, 4, 5]),
        ("not final and size_total == 1e7", [0, 2]),
        ("`mix/c4 (en)` >= 0.25 and tokens == 2B", [3, 5]),
        ("mix/web * 2 - 1 > 0.25 and -loss/web < -2.5", [0, 1, 2]),
        ("loss/code > 0", [1, 2, 3, 4, 5]),  # not measured compares as false
        ("loss/code != loss/code", [0]),
        ("size not in (10M, 30M)", [4, 5]),
        ("tokens_per_parameter >= 200", [1, 3]),
        ("tokens / size / 100 == 1", [0, 2]),
    ],
)
def test_rows_by_expression(expression, rows):
    runs = small()
    assert np.flatnonzero(matching_rows(expression, runs)).tolist() == rows
    assert len(runs.select(expression)) == len(rows) and len(runs.drop(expression)) == len(runs) - len(rows)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("sise < 3", "did you mean 'size'"),
        ("mix/wob > 0.1", "did you mean 'mix/web'"),
        ("size", "no condition"),
        ("size <", "is not an expression"),
        ("size and final", "join conditions"),
        ("run < 3", "compares text with numbers"),
        ("run + 'x' == 'ax'", "compares text with numbers"),
        ("__import__('os').system('true')", "is none of"),
        ("size.__class__ == 1", "is none of"),
        ("[x for x in (1,)] == size", "is none of"),
        ("(lambda: 1)() < size", "is none of"),
        ("size ** 9 ** 9 > 1", "is none of"),
        ("run in 'abc'", "stands a list"),
        ("size is 3", "conditions are"),
        ("size < " + "(" * (DEEPEST + 5) + "1" + " + 0)" * (DEEPEST + 5), "brackets"),
        ("size < 1 or " * 400 + "final", "at most"),
    ],
)
def test_what_is_no_expression(expression, said):
    with pytest.raises(TableError, match="select") as error:
        matching_rows(expression, small())
    assert said in str(error.value) and "\n" not in str(error.value)


@given(st.text("sizetokn<>=!()+-*/ .10MB'`[],andorif", max_size=40))
def test_any_text_is_rows_or_one_error(text):
    try:
        rows = matching_rows(text, RUNS)
    except TableError:
        return
    assert rows.shape == (6,) and rows.dtype == bool


RUNS = small()


def test_python_does_not_warn_of_how_an_expression_is_written():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert matching_rows("size<1or tokens>0", RUNS).all()
    assert not told


def test_expressions_agree_with_pandas():
    runs = small()
    frame = runs.to_frame()
    ours = matching_rows("size < 1e9 and mix/web >= 0.75 and tokens > 1B", runs)
    theirs = (frame["size"] < 1e9) & (frame["mix/web"] >= 0.75) & (frame["tokens"] > 1e9)
    assert ours.tolist() == theirs.tolist() and set(frame.columns) <= set(columns_of(runs))


def test_tables_are_joined_by_name():
    one = small()
    two = small(("d", "e"), ("c4 (en)", "books"), ("code", "law"), supply=np.array([1e9, 2e9]))
    both = cj.concat([one, two])
    assert both.domains == ("web", "c4 (en)", "books") and both.sets == ("web", "code", "law")
    assert both.run_names == ("a", "b", "c", "d", "e") and len(both) == 10
    weights = np.asarray(both.recipe.weights)
    np.testing.assert_allclose(weights.sum(1), 1.0)
    np.testing.assert_array_equal(weights[6:, 1], two.recipe.weights[:, 0])
    np.testing.assert_array_equal(both.losses[6:, 1], two.losses[:, 0])
    assert np.isnan(both.losses[:6, 2]).all() and np.isnan(both.losses[6:, 0]).all()
    supply = both.recipe.supply
    assert supply is not None and np.isinf(supply[:6]).all() and supply[6].tolist() == [np.inf, 1e9, 2e9]
    permuted = dataclasses.replace(
        one,
        domains=one.domains[::-1],
        recipe=dataclasses.replace(one.recipe, weights=one.recipe.weights[:, ::-1]),
        sets=one.sets[::-1],
        losses=one.losses[:, ::-1],
    )
    again = cj.concat({"x": one, "y": permuted})
    np.testing.assert_array_equal(again.recipe.weights[:6], again.recipe.weights[6:])
    np.testing.assert_array_equal(again.losses[:6], again.losses[6:])
    with pytest.raises(TableError, match=r"'a', 'b', 'c': runs of one name.*give the tables names"):
        cj.concat([one, permuted])
    other = small(("a",), sets=("web", "law"))
    mixed = dataclasses.replace(other, recipe=dataclasses.replace(other.recipe, tokens=np.array([3e9, 4e9])))
    assert len(cj.concat([one, mixed])) == 8  # later checkpoints of a run, measured apart
    moved = dataclasses.replace(mixed.recipe, weights=np.full((2, 2), 0.5))
    with pytest.raises(TableError, match="'a': runs of one name"):
        cj.concat([one, dataclasses.replace(mixed, recipe=moved)])
    with pytest.raises(TableError, match="no table"):
        cj.concat([])


def test_what_is_dropped_is_named():
    runs = small()
    less = runs.drop(runs="b", sets=["web"])
    assert less.run_names == ("a", "c") and less.sets == ("code",) and np.unique(less.run).tolist() == [0, 1]
    assert len(runs.drop(np.array([0]))) == 5 and len(runs.drop(np.arange(6) < 2)) == 4
    with pytest.raises(TableError, match="no run 'z'; there are 'a', 'b', 'c'"):
        runs.drop(runs=["z"])


def test_a_table_says_what_it_cannot_tell():
    told = small().describe()
    text = str(told)
    assert "3 runs (6 rows)" in text and "two model sizes" in text and "no recipe was run twice" in text
    missing = dict(zip(told.sheets[2].columns["name"], told.sheets[2].columns["missing"], strict=True))
    assert missing == {"web": 0, "code": 1}
    shares = told.sheets[1].columns
    assert list(shares["low"]) == [0.25, 0.0] and list(shares["high"]) == [1.0, 0.75]
    one = small().select("size < 1e9 and tokens < 2e9").describe()
    assert any("one model size" in note for note in one.notes) and any("one token count" in note for note in one.notes)
    assert any("2 distinct mixtures" in note for note in one.notes)
    assert "no rows" in str(small().select("size < 0").describe().notes)


def test_runs_survive_a_file(tmp_path):
    runs = small()
    runs.save(tmp_path / "runs.csv")
    again = Runs.load(tmp_path / "runs.csv")
    assert again.domains == runs.domains and again.run_names == runs.run_names
    np.testing.assert_allclose(again.losses, runs.losses)
