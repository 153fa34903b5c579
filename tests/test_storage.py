"""Chunks, rows and snapshots that were damaged are refused; files appear whole; two processes do not write one file."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import own_flags, refusal, refused  # noqa: F401  (own_flags is used by its name)

from camel_jax import storage
from camel_jax.fitting.plan import is_sound, solution_like
from camel_jax.proxy.snapshots import load_row, load_snapshot, save_row, save_snapshot
from camel_jax.solvers.minimize import NON_FINITE, Solution
from camel_jax.storage import ArchiveError, Kept, check_source, check_target, locked


def test_a_chunk_is_used_only_as_it_was_written(tmp_path):
    raw = {"a": np.ones((3, 2)), "b": np.ones(3)}
    solution = Solution(raw, np.array([1.0, 2.0, np.inf]), np.array([0, 1, NON_FINITE], np.int32), np.ones(3, np.int32))
    kept, like = Kept(tmp_path, ("settings",), np.zeros(2)), solution_like(raw, 1)

    def get(inputs=0.0, like=like):
        return kept.get(inputs, lambda: pytest.fail("solved again"), like, is_sound)

    np.testing.assert_array_equal(kept.get(0.0, lambda: solution, like, is_sound).params["a"], raw["a"])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    np.testing.assert_array_equal(get().objective, solution.objective)

    def says():
        with pytest.raises(ArchiveError) as error:
            get()
        line = str(error.value)
        assert str(path) in line and "delete it" in line and "\n" not in line
        return line

    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        says()
    for other in (
        solution._replace(status=np.array([0, 1, 7], np.int32)),
        solution._replace(params={**raw, "b": np.full(3, np.nan)}),
    ):
        kept.put(0.0, {}, other)
        assert "no result" in says()
    for other in (solution._replace(steps=np.ones(2, np.int32)), solution._replace(objective=np.ones(3, np.float32))):
        kept.put(0.0, {}, other)
        assert "array" in says()
    kept.put(1.0, {}, solution)
    (new,) = set(tmp_path.iterdir()) - {path}
    path.write_bytes(new.read_bytes())
    assert "other work" in says()
    path.unlink()
    assert kept.get(0.0, lambda: solution, like, is_sound) is not None  # computed again


def test_rows_and_snapshots_of_sweeps(tmp_path):
    row = {"losses": [2.0, np.nan], "accuracies": [0.5], "answers": [1.0], "curve": [[10, 2.5], [20, 2.0]]}
    row |= {"seconds": 1.5, "evaluation_seconds": 0.25}
    path = tmp_path / "a.row"
    save_row(path, row, "key")
    back = load_row(path, "key", 2, 1)
    assert back is not None and back["curve"] == row["curve"] and back["seconds"] == 1.5
    assert load_row(tmp_path / "none.row", "key", 2, 1) is None
    for arguments, says in (
        (("other", 2, 1), "another recipe"),
        (("key", 3, 1), "losses"),
        (("key", 2, 2), "accuracies"),
    ):
        assert says in refusal(lambda p, a=arguments: load_row(p, *a), path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert "delete it" in refusal(lambda p: load_row(p, "key", 2, 1), path)
    state, note = (np.arange(3.0), np.ones((), np.int32)), {"step": 3, "curve": [[1, 2.0]], "seconds": 1.0}
    save_snapshot(path, state, note)
    found = load_snapshot(path, state)
    assert found is not None and found[1] == note
    assert "array" in refusal(lambda p: load_snapshot(p, (np.arange(4.0), np.ones((), np.int32))), path)


# Targets, sources and locks
def test_targets_are_refused_before_the_work(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    cases = {
        tmp_path / ("x" * 300): "too long",
        tmp_path / "/".join(["y" * 200] * 30): "cannot write",
        tmp_path / "a\0b": "null",
        tmp_path / "pipe": "is a pipe",
        pathlib.Path("/dev/null"): "is a device",
        tmp_path: "is a folder",
        tmp_path / "none" / "x.csv": "there is no folder",
    }
    for path, says in cases.items():
        with pytest.raises(ValueError) as error:
            check_target(path)
        assert says in str(error.value).lower() and "\n" not in str(error.value), path
    longest = tmp_path / ("z" * 251 + ".csv")
    with storage.replacing(longest) as part:
        part.write_text("1")
    assert longest.read_text() == "1"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["pipe", longest.name])
    with pytest.raises(ValueError, match="is a pipe"):
        check_source(tmp_path / "pipe")


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "runs.csv")
    assert "is a pipe" in refused("fit", tmp_path / "runs.csv", "--out", tmp_path / "f.npz")


def _try(path, answers):
    try:
        with locked(path):
            answers.put("held")
    except ValueError as error:
        answers.put(str(error))


def test_two_processes_do_not_write_one_file(tmp_path):
    path, context = tmp_path / "out.csv", multiprocessing.get_context("spawn")
    answers = context.Queue()

    def other():
        process = context.Process(target=_try, args=(path, answers))
        process.start()
        process.join()
        return answers.get(timeout=60)

    with locked(path):
        assert f"process {os.getpid()} is writing it" in other()
    assert not list(tmp_path.iterdir()) and other() == "held"
    hold = f"import time; from camel_jax.storage import locked\nwith locked({str(path)!r}): print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "1\n"
        with pytest.raises(ValueError, match=f"process {process.pid} is writing it"), locked(path):
            pass
        process.send_signal(signal.SIGKILL)
    with locked(path):  # whoever is dead holds nothing
        pass
    assert not list(tmp_path.iterdir())
