"""Files of trackers made byte by byte from their published formats, so that they are read in tests where no client is installed."""

import json
import struct
import zlib

import numpy as np
import pytest

from camel_jax.interop.assemble import import_runs
from camel_jax.interop.guess import guess
from camel_jax.interop.sources import open_sources
from camel_jax.interop.tensorboard import _crc


def message(*fields):
    """Bytes of a protocol buffer from (number, value): int, bytes, text, float (8 bytes) or np.float32."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif type(value) is np.float32:
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, float):
            out += varint(number << 3 | 1) + struct.pack("<d", value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def wandb_log(records, block=32768):
    """A log in LevelDB's frames; a record that crosses a block is cut in parts."""
    out = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for record in records:
        first = True
        while True:
            left = block - len(out) % block
            if left < 7:
                out += b"\0" * left
                left = block
            part, record = record[: left - 7], record[left - 7 :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not record]
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not record:
                break
    return out


def items(tree, nested=False):
    return [(1, message((2 if nested else 1, key), (16, json.dumps(value)))) for key, value in tree.items()]


def wandb_run(name, run_id, config, history, code: int | None = 0):
    records = [
        message(
            (17, message((1, run_id), (3, "swarm"), (4, message(*items(config))), (8, name), (17, message((1, 5)))))
        )
    ]
    records += [message((2, message(*items(row, nested=True)))) for row in history]
    records += (
        [message((3, message(*items({"final": 1})))), message((18, message((1, code))))] if code is not None else []
    )
    return wandb_log(records)


def brought_in(path, checkpoints="all", change=None):
    found = open_sources([str(path)])
    mapping = guess(found).mapping
    mapping.checkpoints = checkpoints
    if change:
        change(mapping)
    return import_runs(found, mapping)


CONFIG = {"n_params": 7e7, "mixture": {"web": 0.25, "code": 0.75}, "_wandb": {"v": 1}}
ROWS = [{"_step": k, "tokens": (k + 1) * 1e9, "eval/web/loss": 3 - k / 10, "_timestamp": 1.0} for k in range(3)]


def test_wandb(tmp_path):
    long = [row | {"text": "x" * 40_000} for row in ROWS]  # records that cross blocks
    for name, rows, code in (("a", ROWS, 0), ("b", long, 0), ("c", ROWS, 1), ("d", ROWS, None)):
        folder = tmp_path / "wandb" / f"offline-run-20260101_000000-{name}"
        folder.mkdir(parents=True)
        (folder / f"run-{name}.wandb").write_bytes(wandb_run(name, name, CONFIG, rows, code))
    result = brought_in(tmp_path)
    assert result.runs.run_names == ("a", "b")
    np.testing.assert_allclose(result.runs.losses[:, 0], [3, 2.9, 2.8] * 2)
    np.testing.assert_array_equal(result.runs.recipe.weights, [[0.25, 0.75]] * 6)
    assert any(
        "2 runs did not finish" in note and "failed (exit 1)" in note and "no exit was logged" in note
        for note in result.notes
    )


def test_wandb_removed_setting(tmp_path):
    log = wandb_log(
        [
            message((17, message((1, "x"), (8, "x"), (4, message(*items(CONFIG | {"width": 3})))))),
            message((5, message((1, message((2, "mixture"), (2, "web"), (16, "0.5"))), (2, message((1, "width")))))),
            message((5, message((1, message((2, "mixture"), (2, "code"), (16, "0.5")))))),
            message((2, message(*items(ROWS[0], nested=True)))),
            message((18, message((1, 0)))),
        ]
    )
    (tmp_path / "run-x.wandb").write_bytes(log)
    (run,) = open_sources([str(tmp_path)])[0].runs
    assert run.config == {"config.n_params": 7e7, "config.mixture.web": 0.5, "config.mixture.code": 0.5}


def event(step, *values, version=None):
    body = message((1, 1.0), (2, step)) + (
        message((3, version)) if version else message((5, message(*((1, v) for v in values))))
    )
    size = struct.pack("<Q", len(body))
    return size + struct.pack("<I", _crc(size)) + body + struct.pack("<I", _crc(body))


def scalar(tag, value, new=False):
    if not new:
        return message((1, tag), (2, np.float32(value)))
    plugin = message((1, message((1, "scalars"))))
    return message((1, tag), (9, plugin), (8, message((1, 1), (4, struct.pack("<f", value)))))


@pytest.mark.parametrize("new", [False, True])
def test_tensorboard(new, tmp_path):
    folder = tmp_path / "group" / "a"
    folder.mkdir(parents=True)
    data = event(0, version="brain.Event:2")
    for step in (1000, 2000):
        data += event(step, scalar("eval/web/loss", 3 - step / 4000, new), scalar("eval/code/loss", 2.0, new))
    path = folder / "events.out.tfevents.1.host"
    path.write_bytes(data)
    (folder / "config.json").write_text(json.dumps({"n_params": "70M", "mixture": {"web": 0.5, "code": 0.5}}))

    def steps(mapping):
        mapping.tokens_per_step = 2e6

    runs = brought_in(tmp_path, change=steps).runs
    assert runs.run_names == ("group/a",) and runs.recipe.tokens.tolist() == [2e9, 4e9]
    assert runs.losses[:, runs.sets.index("web")].tolist() == [2.75, 2.5]
    path.write_bytes(data[:-5])
    assert any("cut off" in note for note in brought_in(tmp_path, change=steps).notes)
    path.write_bytes(data.replace(b"brain.Event:2", b"brain.Event:3"))
    with pytest.raises(ValueError, match=r"brain.Event:2 is read"):
        brought_in(tmp_path, change=steps)
    path.write_bytes(b"hello world, this is no event file")
    with pytest.raises(ValueError, match="no record of an event file"):
        brought_in(tmp_path, change=steps)


def mlflow_run(folder, name, status, stage="active"):
    for part in ("params", "metrics/eval/web", "tags"):
        (folder / part).mkdir(parents=True)
    (folder / "meta.yaml").write_text(
        f"lifecycle_stage: {stage}\nrun_id: {folder.name}\nrun_name: '{name}'\nstatus: {status}\n"
    )
    for key, value in {"n_params": "7e7", "mix.web": "0.25", "mix.code": "0.75"}.items():
        (folder / "params" / key).write_text(value)
    (folder / "metrics" / "tokens").write_text("1 1e9 0\n2 2e9 1\n")
    (folder / "metrics" / "eval" / "web" / "loss").write_text("1 3.0 0\n2 nan 1\n3 2.9 1\n")
    (folder / "tags" / "mlflow.user").write_text("me")


def test_mlflow(tmp_path):
    experiment = tmp_path / "mlruns" / "1"
    experiment.mkdir(parents=True)
    (experiment / "meta.yaml").write_text("experiment_id: '1'\nname: swarm\n")
    mlflow_run(experiment / "one", "it''s", 3)
    mlflow_run(experiment / "two", "b", 4)
    mlflow_run(experiment / "three", "c", 3, "deleted")
    result = brought_in(tmp_path)
    assert result.runs.run_names == ("it's",) and result.runs.losses[:, 0].tolist() == [3.0, 2.9]
    assert any("1 FAILED" in note for note in result.notes)
    (experiment / "one" / "metrics" / "tokens").write_text("nothing\n")
    with pytest.raises(ValueError, match="line 1: is no metric of MLflow"):
        brought_in(tmp_path)
    other = tmp_path / "other.db"
    other.write_bytes(b"SQLite format 3\0" + b"\0" * 200)
    with pytest.raises(ValueError, match="cannot be read as a store of MLflow"):
        open_sources([str(other)])


def test_two_kinds_in_one_folder(tmp_path):
    (tmp_path / "run-x.wandb").write_bytes(wandb_run("x", "x", CONFIG, ROWS))
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"wandb and trainer_state: say which with --kind"):
        brought_in(tmp_path)
    assert len(open_sources([str(tmp_path)], "wandb")[0].runs) == 1
    with pytest.raises(ValueError, match="--kind excel: there are"):
        open_sources([str(tmp_path)], "excel")


def test_missing_clients_are_named(monkeypatch):
    import importlib

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ValueError, match=r"pip install 'camel-jax\[wandb\]'"):
        open_sources(["wandb:lab/swarm"])
    with pytest.raises(ValueError, match=r"pip install 'camel-jax\[mlflow\]'"):
        open_sources(["http://127.0.0.1:1"])
