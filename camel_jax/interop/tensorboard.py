"""TensorBoard event files, read without TensorFlow or TensorBoard: records in the frames of TFRecord, events as protocol buffers.

Event files of version 2 ("brain.Event:2", the only one since 2016). Tested with the writers of tensorboard 2.21 and tensorboardX 2.6.5.
"""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Iterator
from typing import Any

from camel_jax.interop.protowire import WireError, fields, first, float32, float64, signed
from camel_jax.interop.tracked import Found, TrackedRun, settings_beside

_MASK = 0xA282EAD8


def is_tensorboard(path: pathlib.Path) -> bool:
    """Whether a path is an event file, or a folder with some below it."""
    if path.is_file():
        return "tfevents" in path.name
    return any(True for _ in path.rglob("*tfevents*"))


def read_tensorboard(path: pathlib.Path) -> Found:
    """Runs of event files: a folder is a run, and several files in it are one run that was resumed.

    Args:
      path: an event file, or a folder; a run is called by its folder, relative to this one. Settings are hyper-parameters that were
        logged, and a ``config.json``, ``params.json`` or ``hparams.json`` beside the events.

    Raises:
      ValueError: a file that is damaged or of an unknown version.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*tfevents*") if p.is_file())
    folders: dict[pathlib.Path, list[pathlib.Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    runs: dict[pathlib.Path, TrackedRun] = {}
    notes: list[str] = []
    for folder, members in sorted(folders.items()):
        run = _read_folder(folder, members, notes)
        parent = next((p for p in folder.parents if p in runs), None)
        if parent is not None and any(key.startswith("hparams.") for key in run.config):
            runs[parent].config |= run.config  # writers put hyper-parameters into a folder below the run's own
            runs[parent].history += [{k: v for k, v in row.items() if k != "step"} for row in run.history]
            continue
        inside = path.is_dir() and folder != path
        run.name = folder.relative_to(path).as_posix() if inside else folder.resolve().name
        runs[folder] = run
    if runs:
        notes.append("event files do not say whether a run finished: all are taken")
    return Found(str(path), "tensorboard", list(runs.values()), notes)


def _read_folder(folder: pathlib.Path, members: list[pathlib.Path], notes: list[str]) -> TrackedRun:
    run = TrackedRun(str(folder))
    if len(members) > 1:
        notes.append(f"{folder}: {len(members)} event files are one run that was resumed")
    rows: dict[int, dict[str, Any]] = {}
    for _, file in sorted((_started(file), file) for file in members):
        for event in _records(file, notes):
            try:
                _event(event, file, run, rows)
            except (WireError, UnicodeDecodeError, struct.error):
                raise ValueError(f"{file}: an event cannot be read: the file is damaged or of a new version") from None
    run.history = [rows[step] for step in sorted(rows)]
    run.config |= settings_beside(folder)
    return run


def _started(file: pathlib.Path) -> float:
    part = file.name.partition("tfevents.")[2].split(".")[0]
    return float(part) if part.isdecimal() else 0.0


def _records(file: pathlib.Path, notes: list[str]) -> Iterator[bytes]:
    data = file.read_bytes()
    at = 0
    while at < len(data):
        if at + 12 > len(data):
            notes.append(f"{file} is cut off after {at:,} of its bytes: what came before is read")
            return
        size, check = struct.unpack("<QI", data[at : at + 12])
        if _crc(data[at : at + 8]) != check:
            raise ValueError(f"{file}: byte {at}: is no record of an event file")
        if at + 16 + size > len(data):
            notes.append(f"{file} is cut off after {at:,} of its bytes: what came before is read")
            return
        yield data[at + 12 : at + 12 + size]
        at += 16 + size


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def _crc(data: bytes) -> int:
    """The masked Castagnoli checksum of TFRecord."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 255] ^ (value >> 8)
    value ^= 0xFFFFFFFF
    return (((value >> 15) | (value << 17)) + _MASK) & 0xFFFFFFFF


def _event(event: bytes, file: pathlib.Path, run: TrackedRun, rows: dict[int, dict[str, Any]]) -> None:
    step, summary = 0, b""
    for number, value in fields(event):
        if number == 2:
            step = signed(value)
        elif number == 3 and value != b"brain.Event:2":
            raise ValueError(f"{file}: {value.decode(errors='replace')!r} is an unknown version; brain.Event:2 is read")
        elif number == 5:
            summary = value
    for number, one in fields(summary):
        if number == 1:
            _value(one, step, run, rows)


def _value(one: bytes, step: int, run: TrackedRun, rows: dict[int, dict[str, Any]]) -> None:
    tag, number, plugin, content = "", None, b"", b""
    for field, value in fields(one):
        if field == 1:
            tag = value.decode()
        elif field == 2:
            number = float32(value)
        elif field == 8:
            number = _scalar(value)
        elif field == 9:
            data = first(value, 1, b"")
            plugin, content = first(data, 1, b""), first(data, 2, b"")
    if plugin == b"hparams":
        run.config |= _hparams(content)
    elif number is not None and plugin in (b"", b"scalars"):
        rows.setdefault(step, {"step": step})[tag] = number


def _scalar(tensor: bytes) -> float | None:
    """The number of a tensor with a single one (newer writers log scalars so)."""
    kind = first(tensor, 1, 0)
    for field, value in fields(tensor):
        if field == 4 and len(value) in (4, 8):
            return float32(value) if kind == 1 else float64(value) if kind == 2 else None
        if field == 5:
            return float32(value[:4]) if len(value) == 4 else None
        if field == 6:
            return float64(value[:8]) if len(value) == 8 else None
    return None


def _hparams(content: bytes) -> dict[str, Any]:
    """Hyper-parameters of a session that starts: a map from names to values."""
    out: dict[str, Any] = {}
    for number, session in fields(content):
        if number != 3:  # the session's start
            continue
        for field, entry in fields(session):
            if field == 1:
                name, value = first(entry, 1, b"").decode(), first(entry, 2, b"")
                for kind, cell in fields(value):
                    if kind == 2:
                        out[f"hparams.{name}"] = float64(cell)
                    elif kind == 3:
                        out[f"hparams.{name}"] = cell.decode()
                    elif kind == 4:
                        out[f"hparams.{name}"] = bool(cell)
    return out
