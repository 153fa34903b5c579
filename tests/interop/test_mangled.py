"""Mangled exports through the command: a right table or one clear line, and nothing joined by position."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from mangled import RIGHT, ROWS, WRONG

from camel_jax import cli
from camel_jax.tables.read import read_runs


def call(*arguments):
    """(exit code, stdout, stderr) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    return end.value.code, out.getvalue(), err.getvalue()


def put(folder, files):
    paths = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(path if "/" not in name else path.parent)
    return paths


@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT.keys())
def test_right_table(case, tmp_path):
    paths = put(tmp_path, case[0])
    out = tmp_path / "out"
    out.mkdir()
    code, _, err = call("import", *paths, *case[1], "--yes", "--out", out / "runs.csv")
    assert code == 0, err
    runs = read_runs(out / "runs.csv")
    prefix = "id" if "ratios.csv" in case[0] else ""
    assert sorted(runs.run_names) == [f"{prefix}{row[0]}" for row in ROWS]
    at = {name: k for k, name in enumerate(runs.domains)}
    for i, k in enumerate(np.asarray(runs.run)):
        row = next(row for row in ROWS if f"{prefix}{row[0]}" == runs.run_names[k]).split(",")
        if case[1] != ["--set", "size=70M"]:
            assert runs.recipe.n_active[i] == float(row[2])
        assert runs.recipe.tokens[i] == float(row[3])
        np.testing.assert_allclose(
            [runs.recipe.weights[i, at[d]] for d in ("web", "code")], [float(c) for c in row[4:6]], atol=1e-12
        )
        where = [runs.sets.index(s) for s in ("web", "code")]
        np.testing.assert_allclose(runs.losses[i, where], [float(c) for c in row[6:]], rtol=1e-8)


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_one_clear_line(case, tmp_path, monkeypatch):
    paths = put(tmp_path, case[0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    code, _, err = call("import", *paths, *case[1], "--yes", "--out", tmp_path / "out" / "runs.csv")
    lines = [line for line in err.splitlines() if not line.startswith(("note: ", "reading sources"))]
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), err
    for fragment in case[2]:
        assert fragment in lines[0]
    assert not list((tmp_path / "out").iterdir())


def test_enough():
    assert len(RIGHT) + len(WRONG) >= 60


def test_a_mapping_is_confirmed_and_serves_again(tmp_path):
    (path,) = put(tmp_path, RIGHT["plain"][0])
    out = tmp_path / "runs.csv"
    code, told, err = call("import", path, "--out", out)
    assert code == 2 and "--yes" in err and not out.exists()
    assert "eval/web/loss" in told and "3.1, 2.8, 2.9" in told  # the guess is shown with examples
    assert call("import", path, "--out", out, "--yes")[0] == 0
    first = out.read_bytes()
    mapping = tmp_path / "mapping.toml"
    kept = mapping.read_bytes()
    assert call("import", path, "--out", out, "--mapping", mapping)[0] == 0
    assert out.read_bytes() == first and mapping.read_bytes() == kept
    mapping.write_text(mapping.read_text().replace("version = 1", "version = 9"))
    code, _, err = call("import", path, "--out", out, "--mapping", mapping)
    assert code == 2 and "version 9" in err


def test_one_corpus_a_run(tmp_path):
    text = "run,size,tokens,corpus,loss/web\na,70M,2B,c4,3.0\nb,70M,2B,pile,3.1\nc,70M,2B,c4,3.2\n"
    (path,) = put(tmp_path, {"t.csv": text})
    assert call("import", path, "--domain-column", "corpus", "--yes", "--out", tmp_path / "runs.csv")[0] == 0
    runs = read_runs(tmp_path / "runs.csv")
    assert runs.domains == ("c4", "pile")
    np.testing.assert_array_equal(runs.recipe.weights, [[1, 0], [0, 1], [1, 0]])


def test_units_stay_in_the_table(tmp_path):
    text = "run,size,tokens,mix/a,mix/b,eval/web/bpb\nx,70M,2B,1,0,1.0\ny,70M,2B,0,1,1.1\n"
    (path,) = put(tmp_path, {"t.csv": text})
    code, out, _ = call("import", path, "--yes", "--json", "--out", tmp_path / "runs.csv")
    assert code == 0 and json.loads(out)["unit"] == "nats per byte"
    assert "nats per byte" in (tmp_path / "runs.csv").read_text()
    np.testing.assert_allclose(read_runs(tmp_path / "runs.csv").losses[:, 0], np.log(2) * np.array([1.0, 1.1]))
    assert call("import", path, "--yes", "--bytes-per-token", "4", "--out", tmp_path / "runs.csv")[0] == 0
    np.testing.assert_allclose(read_runs(tmp_path / "runs.csv").losses[:, 0], 4 * np.log(2) * np.array([1.0, 1.1]))


def test_standard_input(tmp_path, monkeypatch):
    from camel_jax.tables import sheet

    class Stream:
        buffer = io.BytesIO(RIGHT["plain"][0]["t.csv"].encode())

        @staticmethod
        def isatty():
            return False

    sheet.standard_input.cache_clear()
    monkeypatch.setattr("sys.stdin", Stream)
    try:
        assert call("import", "-", "--yes", "--out", tmp_path / "runs.csv")[0] == 0
    finally:
        sheet.standard_input.cache_clear()
    assert len(read_runs(tmp_path / "runs.csv")) == 4
    shutil.rmtree(tmp_path)
