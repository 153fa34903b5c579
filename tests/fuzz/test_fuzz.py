"""Whatever is handed in: an answer, or one error of the family of ValueError that says where and what; never a traceback.

A fixed budget, the same cases every time; ten times as many under the marker ``slow``. Cases that were found once stand as examples.
"""

import os
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from commands import call, own_flags  # noqa: F401  (own_flags is used by its name)
from hostile import TEXT, altered, limits_files, tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import camel_jax as cj
from camel_jax.cli.limits import gather
from camel_jax.cli.options import ShareLimits
from camel_jax.mixture.limits import parse_limits
from camel_jax.storage import ArchiveError, read_archive, write_archive
from camel_jax.tables import read_runs
from camel_jax.tables.sanity import check_sanity

Check = Callable[..., None]
TRIES = {"tables": 250, "archives": 200, "limits": 250, "commands": 60}


def budget(what, times=1):
    return settings(
        max_examples=TRIES[what] * times,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=cast("list[HealthCheck]", list(HealthCheck)),
    )


def one_line(error):
    text = str(error)
    assert text and len(text.splitlines()) == 1, text
    return text


def both(what: str) -> Callable[[st.SearchStrategy[Any]], Callable[[Check], tuple[Check, Check]]]:
    """The quick run and the slow one of a test that takes one drawn value."""

    def wrap(strategy):
        def decorate(check):
            @budget(what)
            @given(strategy)
            def quick(value):
                check(value)

            @pytest.mark.slow
            @budget(what, 10)
            @given(strategy)
            def long(value):
                check(value)

            return quick, long

        return decorate

    return wrap


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    here = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("fuzz"))
    yield
    os.chdir(here)


def write(name, content):
    with open(name, "wb") as file:
        file.write(content)
    return name


@both("tables")(tables())
def _table(content):
    try:
        runs = read_runs(write("t.csv", content))
    except cj.TableError as error:
        assert "t.csv" in one_line(error)
        return
    assert np.all(np.abs(np.sum(runs.recipe.weights, -1) - 1) < 1e-9)
    for found in check_sanity(runs):
        one_line(found)


@both("limits")(limits_files())
def _limits(file):
    try:
        limits = gather(("web", "code"), ShareLimits(_path(write(*file))))
        parse_limits(("web", "code"), **limits, tokens=1e9)
    except ValueError as error:
        one_line(error)


@both("archives")(st.data())
def _archive(data):
    header = {"name": "x", "numbers": [1, 2.5, None]}
    write_archive("a.fit", "saved fit", header, {"raw/a": np.arange(6.0).reshape(2, 3), "b": np.zeros(0)})
    with open("a.fit", "rb") as file:
        good = file.read()
    bad = altered(data.draw, good)
    try:
        found = read_archive(write("b.fit", bad), "saved fit")
    except ArchiveError as error:
        assert "b.fit" in one_line(error)
        return
    assert bad == good and found[0] == header


WORDS = st.one_of(
    st.sampled_from(["fit", "mix", "predict", "report", "front", "path", "budget", "design", "export", "import", "leaderboard"]),
    TEXT,
)  # fmt: skip
OPTIONS = st.sampled_from(
    ["--out", "--law", "--resamples", "--starts", "--seed", "--skills", "--size", "--tokens", "--min", "--max", "--limits", "--json",
     "--objective", "--prior", "--map", "--benchmarks", "--flops", "--sizes", "--to", "--processes", "--coordinator", "--no-such"]
)  # fmt: skip


@st.composite
def command_lines(draw):
    """Words of a command line on a table of two runs, which no law can be fitted to, or on files that are none."""
    words = [draw(WORDS)]
    words += draw(st.lists(st.one_of(st.sampled_from(["two.csv", "none.csv", "a.fit", "."]), TEXT), max_size=2))
    for option in draw(st.lists(OPTIONS, max_size=4)):
        words += [option, draw(st.one_of(TEXT, st.sampled_from(["two.csv", "o.fit", "camel"])))]
    return [word.replace("\0", "0") for word in words if not word.startswith("/")]


@both("commands")(command_lines())
def _command(words):
    rows = ["run,size,tokens,mix/web,mix/code,loss/web", "a,70M,2B,0.75,0.25,3.1", "b,70M,2B,0.25,0.75,3.1"]
    write("two.csv", "\n".join(rows).encode())
    write("a.fit", b"no fit")
    code, out, err = call(*words)
    assert code in (0, 2) and "Traceback" not in out + err
    if code:
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and len(errors[0]) > len("error: "), err


def _path(name):
    import pathlib

    return pathlib.Path(name)


test_tables, test_ten_times_the_tables = _table
test_limits, test_ten_times_the_limits = _limits
test_archives, test_ten_times_the_archives = _archive
test_commands, test_ten_times_the_commands = _command
