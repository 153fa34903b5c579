"""Sweeps: tables in, tables out; stopped and resumed to the same bytes; input that is refused in one line."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import call, own_flags, refused  # noqa: F401  (own_flags is used by its name)

from camel_jax.proxy import jobs, rows
from camel_jax.proxy.corpus import build_corpus
from camel_jax.proxy.sweep import sweep
from camel_jax.proxy.train import Settings
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.read import read_runs

HEADER = "run,size,size_total,tokens,seed,mix/math,mix/knowledge\n"
ROWS = "short,6.2K,,8K,0,0.25,0.75\nlong,6224,,120K,3,0.5,0.5\n"
OPTIONS = ("--domain-bytes", 20_000, "--context", 32, "--batch", 4, "--workers", 1)


def put(folder, text, name="recipes.csv"):
    path = folder / name
    path.write_text(text.replace(",,", ",6224,"))
    return path


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two recipes that nothing disturbed: its folder and what it said."""
    folder = tmp_path_factory.mktemp("sweep")
    began = time.monotonic()
    code, out, err = call(
        "sweep", put(folder, HEADER + ROWS), "--out", folder / "runs.csv", "--curves", folder / "c.csv", *OPTIONS
    )
    assert code == 0, err
    assert time.monotonic() - began < 60
    return folder, out, err


def test_two_recipes(swept):
    folder, out, err = swept
    assert sorted(path.name for path in folder.iterdir()) == ["c.csv", "recipes.csv", "runs.csv", "runs.json"]
    ignored = []
    runs = read_runs(folder / "runs.csv", on_ignored=ignored.extend)
    assert ignored == ["seed"] and runs.run_names == ("short", "long") and runs.tasks == ("arithmetic", "biographies")
    assert runs.recipe.tokens.tolist() == [62 * 128, 938 * 128] and set(runs.recipe.n_active) == {6224}
    np.testing.assert_allclose(runs.recipe.weights, [[0.25, 0.75], [0.5, 0.5]])
    assert np.all(runs.losses[1] < runs.losses[0]) and np.all((runs.losses > 0.5) & (runs.losses < np.log(96) + 0.5))
    record = json.loads((folder / "runs.json").read_text())
    assert [row["seed"] for row in record["runs"]] == [0, 3] and record["tokens"] == 1000 * 128
    assert (
        record["corpus"]["domains"]["math"]["train_bytes"] == 20_000
        and record["settings"]["dtype"] == Settings().resolved().dtype
    )
    assert {"jax", "flax", "python"} <= set(record["versions"]) and all(row["seconds"] > 0 for row in record["runs"])
    curve = [row for row in csv.DictReader((folder / "c.csv").open()) if row["run"] == "long"]
    assert len(curve) == 20 and int(curve[-1]["tokens"]) == 938 * 128
    assert "[2/2] long: 6224 active parameters" in err and "tokens/s" in err and "Losses, nats per byte" in out


@pytest.mark.slow
def test_a_killed_sweep_resumes_to_the_same_bytes(swept, tmp_path):
    table, out = put(tmp_path, HEADER + ROWS), tmp_path / "runs.csv"
    parts = tmp_path / "runs.csv.parts"
    arguments = [str(a) for a in ("sweep", table, "--out", out, *OPTIONS)]
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored if a shell started us with &
    command = [sys.executable, "-c", f"{heed}; from camel_jax.cli import main; main()", *arguments]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=pathlib.Path(rows.__file__).parents[2]
    ) as process:
        deadline = time.monotonic() + 100
        while not list(parts.glob("*.row")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == f"interrupted: the same command with --resume goes on from {parts}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipes.csv", "runs.csv.parts"]
    assert len(list(parts.glob("*.row"))) == 1
    assert "go on with --resume" in refused(*arguments)
    code, _, err = call(*arguments, "--resume")
    assert code == 0 and "1 of 2 rows were there already" in err
    assert out.read_bytes() == (swept[0] / "runs.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipes.csv", "runs.csv", "runs.json"]


@pytest.mark.skipif(os.name != "posix", reason="no process groups")
def test_an_interrupt_while_a_worker_starts_shows_no_traceback():
    command = [sys.executable, "-m", "camel_jax.proxy.worker", "none", "{}"]
    home = pathlib.Path(rows.__file__).parents[2]
    with rows._no_interrupt():
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home)
    worker.send_signal(signal.SIGINT)
    assert worker.communicate(timeout=60)[1] == "" and worker.returncode == -signal.SIGINT


def test_bad_input_ends_in_one_line(tmp_path):
    good, out = put(tmp_path, HEADER + ROWS), tmp_path / "runs.csv"

    def says(text, *options, target=out):
        table = put(tmp_path, text, "bad.csv")
        line = refused("sweep", table, "--out", target, *OPTIONS, *options)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "recipes.csv"]
        return line

    rules = {
        "no proxy model is near 3000 active parameters: the ladder is 6224,": ROWS.replace("6.2K,,", "3K,3000,"),
        "6224 active parameters is near 900000 in total": ROWS.replace("8K,0", "8K,1").replace("6.2K,,", "6.2K,900K,"),
        "must be a whole number from 0": ROWS.replace("8K,0", "8K,-1"),
        "two rows of one run have 62 steps": "short,6.2K,,8K,0,0.5,0.5\nshort,6.2K,,7950,0,0.5,0.5\n",
        "occurs twice with the same tokens": "short,6.2K,,8K,0,0.5,0.5\n" * 2,
        "shares sum to 1.25": ROWS.replace("0.75", "1.0"),
    }
    for rule, table_rows in rules.items():
        assert rule in says(HEADER + table_rows)
    assert "no text for domain 'web'" in says((HEADER + ROWS).replace("math", "web"))
    assert "holds no text" not in says(HEADER + ROWS, "--folder", f"math={tmp_path / 'none'}")
    assert "is not DOMAIN=PATH" in says(HEADER + ROWS, "--folder", "math")
    assert "a run table is .csv" in says(HEADER + ROWS, target=tmp_path / "runs.txt")
    assert "there is no folder" in says(HEADER + ROWS, target=tmp_path / "none" / "runs.csv")
    assert "no runs.csv.parts to go on with" in says(HEADER + ROWS, "--resume").replace(f"{tmp_path}/", "")
    assert "too little text for a context" in refused("sweep", good, "--out", out, "--context", 6_000, *OPTIONS[:2])


def test_rows_that_are_there_are_not_trained_again(tmp_path, monkeypatch):
    trained, widths = [], []

    def train(shape, settings, weights, seeds, steps, text, tell, width, **_):
        trained.extend(seeds.tolist())
        widths.append(width)
        tell(steps // 2)
        row = {
            "accuracies": [0.5],
            "answers": [1.0],
            "curve": [[steps, 2.0]],
            "seconds": 1.0,
            "evaluation_seconds": 0.1,
        }
        return [{**row, "losses": [2.0 + seed / 8]} for seed in seeds.tolist()]

    monkeypatch.setattr(rows, "train_lanes", train)
    corpus = build_corpus(("math",), domain_bytes=20_000, items=12)
    settings = Settings(batch=4, context=32, validation_symbols=1_000, dtype="float32")
    size = np.full(3, 6224.0)
    recipe = Recipe(size, size, np.full(3, 1_280.0), np.ones((3, 1)))
    two = Recipe(*(np.asarray(a)[:2] for a in (size, size, recipe.tokens, recipe.weights)))
    options = {"settings": settings, "method": "lanes", "lanes": 2}
    first = sweep(two, ["a", "b"], corpus, tmp_path / "rows", seeds=[0, 1], **options)
    with pytest.raises(ValueError, match="holds 2 finished rows"):
        sweep(two, ["a", "b"], corpus, tmp_path / "rows", seeds=[0, 1], **options)
    lines, steps = [], []
    more = sweep(
        recipe,
        ["a", "b", "c"],
        corpus,
        tmp_path / "rows",
        seeds=[0, 1, 2],
        resume=True,
        progress=lambda done, total: steps.append((done, total)),
        tell=lines.append,
        **options,
    )
    assert lines[0] == "2 of 3 rows were there already" and len(lines) == 2 and lines[1].startswith("[3/3] c:")
    assert steps[0][0] > 2 * 1_280 and steps[-1] == (3 * 1_280, 3 * 1_280)
    assert trained == [0, 1, 2] and first.runs.losses.tolist() == [[2.0], [2.125]]
    assert more.runs.losses.tolist() == [[2.0], [2.125], [2.25]] and more.seeds.tolist() == [0, 1, 2]
    assert widths == [2, 2]  # one lane was left: an accelerator may round otherwise in a narrower program
    other = jobs.make_jobs(recipe, ["a", "b", "c"], [0, 1, 2], corpus, Settings(batch=4, context=32, rate=0.1))
    assert not {job.key for job in other} & {path.stem for path in (tmp_path / "rows").glob("*.row")}


def test_a_dead_worker_is_told(tmp_path, monkeypatch):
    corpus = build_corpus(("math",), domain_bytes=20_000, items=10)
    recipe = Recipe(np.array([6224.0]), np.array([6224.0]), np.array([2_000.0]), np.ones((1, 1)))
    monkeypatch.setattr(rows, "environment", lambda: {**os.environ, "JAX_PLATFORMS": "nonsense"})
    with pytest.raises(RuntimeError, match="a training process died"):
        sweep(recipe, ["a"], corpus, tmp_path / "rows", method="workers")
    assert not list((tmp_path / "rows").iterdir())
