"""The database of a study: what is told once is there once, contradictions are refused, killed writers lose nothing."""

import sqlite3
from typing import Any

import numpy as np
import pytest

import camel_jax as cj
from camel_jax.study.store import Store, StudyError

SETTINGS: dict[str, Any] = {"domains": ["web", "code"], "target": ("1B", "20B"), "ladder": ["10M", "30M"], "law": "dml"}


@pytest.fixture
def study(tmp_path):
    return cj.Study(tmp_path / "study.db", **SETTINGS)


def given(study, name, loss=3.0, **more):
    return study.tell(name, {"web": loss}, size="10M", tokens="200M", mixture={"web": 0.4, "code": 0.6}, **more)


def test_a_study_opens_as_it_was_begun(study, tmp_path):
    again = cj.Study(tmp_path / "study.db")
    assert again.settings == study.settings and again.settings.tokens == 20e9
    cj.Study(tmp_path / "study.db", **SETTINGS)  # the same settings again
    with pytest.raises(StudyError, match="another ladder, law"):
        cj.Study(tmp_path / "study.db", **dict(SETTINGS, ladder=["10M"], law="sodm"))
    with pytest.raises(StudyError, match="another bounds"):
        cj.Study(tmp_path / "study.db", bounds={"web": (0.1, None)})
    other = cj.Study(tmp_path / "study.db", **dict(SETTINGS, name="second", law="sodm"))
    assert other.settings.law == "sodm" and cj.Study(tmp_path / "study.db").settings.law == "dml"


def test_a_result_told_twice_is_there_once(study):
    assert given(study, "a") == 1 and given(study, "a") == 0
    assert study.tell("a", {"code": 2.0}) == 1  # a set that was evaluated later
    assert study.runs().losses.tolist() == [[3.0, 2.0]]
    with pytest.raises(StudyError, match=r"run a at 2e\+08 tokens: loss/web was told as 3 and now is 3.1"):
        given(study, "a", 3.1)
    assert given(study, "a", 3.1, replace=True) == 1
    assert study.runs().losses.tolist() == [[3.1, 2.0]]
    assert study.states() == {"finished": 1, "under way": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ({"run": "b", "losses": {"web": 3.0}}, "did not ask for it"),
        ({"run": "a", "losses": {}}, "give its losses"),
        ({"run": "a", "losses": {"web": float("nan")}}, "loss/web is nan; it must be finite and above zero"),
        ({"run": "a", "losses": {"web": -1.0}}, "above zero"),
        ({"run": "a", "losses": {"web": "three"}}, "'three', not a number"),
        ({"run": "a", "accuracies": {"qa": 1.2}}, r"must lie in \[0, 1\]"),
        ({"run": "a", "losses": {"books": 3.0}, "tokens": "100M"}, "none of the study's validation sets"),
        ({"run": "a", "losses": {"web": 3.0}, "mixture": {"web": 0.5}}, "sum to 1"),
        (
            {"run": "", "losses": {"web": 3.0}, "size": "1M", "tokens": "1B", "mixture": [0.5, 0.5]},
            "1 to 200 characters",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(study, told, rule):
    given(study, "a")
    before = study.history()
    with pytest.raises(ValueError, match=rule):
        study.tell(**told)
    assert study.history().equals(before)


def test_a_table_is_taken_whole_or_not_at_all(study):
    from camel_jax.recipes.recipe import Recipe

    weights = np.array([[0.25, 0.75], [0.5, 0.5]])
    recipe = Recipe(np.full(2, 1e7), np.full(2, 1e7), np.full(2, 2e8), weights)
    table = cj.Runs(
        recipe, np.array([[3.0], [2.9]]), np.zeros((2, 0)), np.arange(2), ("code", "web"), ("web",), (), ("a", "b")
    )
    given(study, "b")
    with pytest.raises(StudyError, match="run b at"):
        study.tell_runs(table)
    assert study.runs().run_names == ("b",)
    assert study.tell_runs(table, replace=True) == 2
    runs = study.runs()  # shares in the order of the study's domains, not of the table's
    assert dict(zip(runs.run_names, runs.recipe.weights[:, 0].tolist(), strict=True)) == {"a": 0.75, "b": 0.5}
    with pytest.raises(StudyError, match="domains are x, y"):
        study.tell_runs(
            cj.Runs(recipe, np.ones((2, 1)), np.zeros((2, 0)), np.arange(2), ("x", "y"), ("web",), (), ("a", "b"))
        )


def test_dropped_runs_are_left_out(study):
    given(study, "a")
    given(study, "b", 2.5)
    study.drop("a")
    assert study.runs().run_names == ("b",) and study.states()["dropped"] == 1
    with pytest.raises(StudyError, match="no run 'c'"):
        study.drop("c")
    given(study, "a", 3.0)  # told once more: it was no failure
    study.tell("a", {"code": 2.0})
    assert set(study.runs().run_names) == {"a", "b"}


def test_places_that_hold_no_study(tmp_path):
    with pytest.raises(StudyError, match="no study 'study'; to begin one"):
        cj.Study(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(StudyError, match="there is no folder"):
        cj.Study(tmp_path / "none" / "study.db")
    with pytest.raises(StudyError, match="is a folder"):
        cj.Study(tmp_path)
    (tmp_path / "text.db").write_text("run,size\n" * 100)
    with pytest.raises(StudyError, match="not a database"):
        cj.Study(tmp_path / "text.db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table people (name text)")
    with pytest.raises(StudyError, match="a database of something else"):
        cj.Study(tmp_path / "other.db", **SETTINGS)
    for url, rule in (("mysql://host/x", "not in mysql"), ("://", "cannot be read")):
        with pytest.raises(StudyError, match=rule):
            cj.Study(url)


def test_passwords_are_not_told():
    pytest.importorskip("psycopg")
    store = Store("postgresql://user:secret@localhost:1/none", "study")
    with pytest.raises(StudyError) as error:
        store.exists()
    assert "secret" not in str(error.value) and "localhost:1" in str(error.value)


def test_a_study_of_a_newer_version_is_refused(study, tmp_path):
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("update camel_jax_studies set version = 2")
    with pytest.raises(StudyError, match="version 2 of its tables; this package reads version 1"):
        cj.Study(tmp_path / "study.db")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"domains": ["web"]}, "name at least two"),
        ({"domains": ["web", "web"]}, "each once"),
        ({"ladder": None}, "give the sizes"),
        ({"target": ("1B", "20B", "x")}, "give a size, or size and tokens"),
        ({"law": "unknown"}, "the laws are"),
        ({"objective": "acc/qa=1,web=2"}, "losses or accuracies, not both"),
        ({"noise": -1.0}, "noise must be above zero"),
        ({"bounds": {"weeb": (0.1, None)}}, "did you mean 'web'"),
        ({"measured": {"web": (0.1, 0.2)}}, "unknown setting 'measured'"),
        ({"cost_model": "unknown"}, "unknown"),
    ],
)
def test_settings_that_make_no_sense_begin_nothing(tmp_path, change, rule):
    with pytest.raises(ValueError, match=rule):
        cj.Study(tmp_path / "study.db", **(SETTINGS | change))
    assert not (tmp_path / "study.db").exists()
