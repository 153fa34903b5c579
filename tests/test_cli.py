"""The command line in process: exit codes, one-line errors, files that are whole or absent, the same bytes twice."""

import contextlib
import io
import os

import jax
import pytest
from malformed import GOOD, WRONG

from camel_jax import cli


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Compiled programs of these tests stay out of the user's cache, and of other tests."""
    before = jax.config.jax_compilation_cache_dir
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
        yield
    jax.config.update("jax_compilation_cache_dir", before)


def call(*arguments):
    """(exit code, stdout, stderr) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    return end.value.code, out.getvalue(), err.getvalue()


def refused(*arguments):
    """The one line of a command that must refuse its input."""
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("error: ") and "Traceback" not in err
    return err


def put(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_tables_end_in_one_line(case, tmp_path):
    path = put(tmp_path, case[0], case[1])
    line = refused("fit", path, "--out", tmp_path / "fit.npz")
    assert str(path) in line and all(fragment in line for fragment in case[2])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_help_and_usage():
    code, out, err = call()
    assert code == 0 and err == ""
    assert all(command in out for command in ("demo", "fit", "predict", "mix"))
    assert "No such command" in refused("fits")
    assert "Missing option '--out'" in refused("fit", "t.csv")
    assert "--resamples" in refused("fit", "t.csv", "--out", "f.npz", "--resamples", "-1")
    assert "--resamples" in refused("fit", "t.csv", "--out", "f.npz", "--resamples", "many")


def test_bad_options_are_found_before_work(tmp_path):
    path = put(tmp_path, "t.csv", GOOD)
    assert "no folder" in refused("fit", path, "--out", tmp_path / "none" / "f.npz")
    assert "is a folder" in refused("fit", path, "--out", put_folder(tmp_path / "f.npz"))
    assert "written as .npz" in refused("fit", path, "--out", tmp_path / "f.csv")
    assert "the laws are camel, chinchilla" in refused("fit", path, "--out", tmp_path / "g.npz", "--law", "cammel")
    assert "--skills" in refused("fit", path, "--out", tmp_path / "g.npz", "--law", "dml", "--skills", "3")
    assert "THEIRS=OURS" in refused("fit", path, "--out", tmp_path / "g.npz", "--map", "size")
    assert "no such file" in refused("fit", tmp_path / "no.csv", "--out", tmp_path / "g.npz")
    assert "is a folder" in refused("fit", tmp_path, "--out", tmp_path / "g.npz")


def test_too_few_runs_is_said(tmp_path):
    line = refused("fit", put(tmp_path, "t.csv", GOOD), "--out", tmp_path / "f.npz")
    assert "needs at least" in line and "runs" in line


def put_folder(path):
    path.mkdir()
    return path
