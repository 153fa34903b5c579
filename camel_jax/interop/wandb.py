"""Weights & Biases: offline run folders (read without the client and without network), and projects through the client's API.

A ``.wandb`` file is a log of records in the frames of LevelDB: blocks of 32 KiB, each record with a checksum. The records are
protocol buffers. Written by clients 0.12 to 0.31; tested with 0.31.0.
"""

from __future__ import annotations

import importlib
import json
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from camel_jax.interop.protowire import WireError, fields, first, signed
from camel_jax.interop.tracked import FINISHED, UNFINISHED, Found, TrackedRun, flatten, join_resumed, plain

BLOCK, HEAD = 32768, 7
MAGIC, VERSION = b":W&B", 0
_HISTORY, _SUMMARY, _CONFIG, _RUN, _EXIT = 2, 3, 5, 17, 18


def is_wandb(path: pathlib.Path) -> bool:
    """Whether a path is a ``.wandb`` file or a folder that holds some, down to the depth at which the client writes them."""
    return path.suffix == ".wandb" if path.is_file() else bool(_logs(path))


def _logs(folder: pathlib.Path) -> list[pathlib.Path]:
    found = {log for depth in ("*.wandb", "*/*.wandb", "*/*/*.wandb") for log in folder.glob(depth)}
    return sorted(log for log in found if "latest-run" not in log.parts)


def read_wandb(path: pathlib.Path) -> Found:
    """Runs of offline folders.

    Args:
      path: a ``.wandb`` file, a run's folder, or the ``wandb`` folder with many of them.

    Returns:
      ``Found``; parts of one run id are one run.

    Raises:
      ValueError: a file that is no log of the client, or one of an unknown version.
    """
    logs = [path] if path.is_file() else _logs(path)
    notes: list[str] = []
    parts = [_read_log(log, notes) for log in logs]
    runs, joined = join_resumed([run for run in parts if run is not None])
    return Found(str(path), "wandb", runs, notes + joined)


def _read_log(log: pathlib.Path, notes: list[str]) -> TrackedRun | None:
    run = TrackedRun(str(log), run_id=log.stem.removeprefix("run-"), state=UNFINISHED, told="no exit was logged")
    tree: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    seen = False
    for record in _records(log, notes):
        try:
            for kind, body in fields(record):
                seen |= kind in (_RUN, _HISTORY)
                if kind == _RUN:
                    _run(run, body, tree)
                elif kind == _CONFIG:
                    _config(body, tree)
                elif kind == _HISTORY:
                    run.history.append(_row(body, with_step=True))
                elif kind == _SUMMARY:
                    summary |= _row(body, with_step=False)
                elif kind == _EXIT:
                    code = signed(first(body, 1, 0))
                    run.state, run.told = (FINISHED, "finished") if code == 0 else (UNFINISHED, f"failed (exit {code})")
        except (WireError, ValueError, UnicodeDecodeError):
            raise ValueError(f"{log}: a record cannot be read: was it written by a client newer than 0.31?") from None
    if not seen:
        notes.append(f"{log} holds no run")
        return None
    tree.pop("_wandb", None)
    run.config = {f"config.{key}": value for key, value in flatten(tree).items()}
    _add_summary(run, summary)
    run.name = run.name or run.run_id
    return run


def _records(log: pathlib.Path, notes: list[str]) -> Iterator[bytes]:
    """Records of a log; one that was cut off by a crash ends the log, with a note."""
    data = log.read_bytes()
    if len(data) < HEAD or data[:4] != MAGIC:
        raise ValueError(f"{log}: is no log of the wandb client (it does not begin with ':W&B')")
    magic, version = struct.unpack("<HB", data[4:HEAD])
    if magic != 0xBEE1 or version != VERSION:
        raise ValueError(
            f"{log}: version {version} of the log is unknown; version {VERSION} is read (wandb 0.12 to 0.31)"
        )
    at, whole = HEAD, b""
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < HEAD:
            at += left
            continue
        head = data[at : at + HEAD]
        if len(head) < HEAD or not any(head):
            break
        check, size, kind = struct.unpack("<IHB", head)
        part = data[at + HEAD : at + HEAD + size]
        if len(part) < size:
            notes.append(f"{log} is cut off after {at:,} of its bytes: what came before is read")
            return
        if zlib.crc32(bytes([kind]) + part) != check or kind not in (1, 2, 3, 4):
            raise ValueError(f"{log}: byte {at}: a record fails its checksum: the file is damaged")
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            yield whole
        at += HEAD + size


def _run(run: TrackedRun, body: bytes, tree: dict[str, Any]) -> None:
    for number, value in fields(body):
        if number == 1:
            run.run_id = value.decode()
        elif number == 3:
            run.project = value.decode()
        elif number == 8:
            run.name = value.decode()
        elif number == 4:
            _config(value, tree)
        elif number == 17:
            run.started = first(value, 1, 0) + first(value, 2, 0) / 1e9


def _item(body: bytes) -> tuple[list[str], Any]:
    path: list[str] = []
    value: Any = None
    nested: list[str] = []
    for number, content in fields(body):
        if number == 1:
            path = [content.decode()]
        elif number == 2:
            nested.append(content.decode())
        elif number == 16:
            value = json.loads(content)
    return nested or path, value


def _config(body: bytes, tree: dict[str, Any]) -> None:
    for number, content in fields(body):
        path, value = _item(content) if number in (1, 2) else ([], None)
        if not path:
            continue
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        if number == 1:
            branch[path[-1]] = value
        else:
            branch.pop(path[-1], None)


def _row(body: bytes, with_step: bool) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    step = None
    for number, content in fields(body):
        if number == 1:
            path, value = _item(content)
            if path:
                tree[".".join(path)] = value
        elif number == 2 and with_step:
            step = first(content, 1, 0)
    row = {key: value for key, value in flatten(tree).items() if not key.startswith("_")}
    if with_step:
        row["step"] = tree.get("_step", step)
    return row


def _add_summary(run: TrackedRun, summary: dict[str, Any]) -> None:
    """What stands in the summary alone, such as a last evaluation, counts as logged at the end."""
    logged = set().union(*run.history) if run.history else set()
    rest = {key: value for key, value in summary.items() if key not in logged and not key.startswith("_")}
    if rest and run.history:
        run.history[-1] |= rest
    elif rest:
        run.history.append(rest)


def read_wandb_project(address: str, api: Any = None) -> Found:
    """Runs of a project on a server, through the client's API.

    Args:
      address: ``entity/project``.
      api: a ``wandb.Api``; made from the client's own settings if None.

    Raises:
      ValueError: the client is not installed, has no key, or finds no such project.
    """
    if api is None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError:
            raise ValueError(f"wandb:{address}: needs the client: pip install 'camel-jax[wandb]'") from None
        try:
            api = wandb.Api()
        except Exception as error:  # the client raises many kinds
            raise ValueError(f"wandb:{address}: {_line(error)}") from None
    runs = []
    try:
        for one in api.runs(address):
            state = FINISHED if one.state == "finished" else UNFINISHED
            config = {key: value for key, value in dict(one.config).items() if not str(key).startswith("_")}
            run = TrackedRun(f"{address}/{one.id}", one.name, one.id, address, state, one.state)
            run.config = {f"config.{key}": value for key, value in flatten(config).items()}
            for row in one.scan_history():
                kept = {
                    key: plain(value) for key, value in row.items() if not key.startswith("_") and value is not None
                }
                run.history.append(kept | {"step": row.get("_step")})
            _add_summary(run, flatten(dict(one.summary)))
            runs.append(run)
    except Exception as error:
        raise ValueError(f"wandb:{address}: {_line(error)}") from None
    return Found(f"wandb:{address}", "wandb", runs)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
