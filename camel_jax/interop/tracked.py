"""A run as a tracker holds it: settings, and histories of what was logged. Every source gives a list of these."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

FINISHED, UNFINISHED, UNKNOWN = "finished", "unfinished", "unknown"


@dataclasses.dataclass
class TrackedRun:
    """One run of a source, or one row of a plain table.

    Attributes:
      place: where it stands, for messages: a file with its line, a folder, or a tracker's address.
      name: what the source calls it; None for a row of a plain table, whose name is in a column.
      run_id: the source's own identity of it; runs of one id are one run that was resumed. "" where there is none.
      project: the group it belongs to, or "".
      state: "finished", "unfinished" or "unknown", and ``told`` is the source's own word for it.
      told: the word with which the source tells the state.
      config: settings, flat names.
      history: what was logged, one mapping a step in the order of logging; the key "step" holds the step where there is one.
      started: when it began, in seconds; orders the parts of a resumed run.
      flat: a row of a plain table: it is one row of the result, never merged with others.
    """

    place: str
    name: str | None = None
    run_id: str = ""
    project: str = ""
    state: str = UNKNOWN
    told: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    started: float = 0.0
    flat: bool = False


@dataclasses.dataclass
class Found:
    """What one source holds.

    Attributes:
      source: how to call it in messages.
      kind: its format, such as "wandb".
      runs: its runs.
      notes: what a reader should know about how they were read.
      estimator: how its losses were estimated, where the format says it; "" otherwise.
    """

    source: str
    kind: str
    runs: list[TrackedRun]
    notes: list[str] = dataclasses.field(default_factory=list)
    estimator: str = ""


def flatten(tree: Mapping[str, Any], prefix: str = "", out: dict[str, Any] | None = None) -> dict[str, Any]:
    """Nested settings as one level, names joined with a point; lists of plain values stay out, except as text.

    >>> flatten({"model": {"n_params": 70, "name": "x"}, "lr": 0.1})
    {'model.n_params': 70, 'model.name': 'x', 'lr': 0.1}
    """
    out = {} if out is None else out
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            flatten(value, name, out)
        else:
            out[name] = plain(value)
    return out


def plain(value: Any) -> Any:
    """A scalar as Python's own; text of anything else.

    >>> plain(3), plain([1, 2]), plain("Infinity")
    (3, '[1, 2]', 'Infinity')
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return str(value)


def as_number(value: Any) -> float | None:
    """A number from a cell that holds one, in whatever way; None where it does not.

    >>> as_number("2.5"), as_number("NaN"), as_number("2,5"), as_number(True)
    (2.5, nan, None, None)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        text = value.strip()
        if "_" in text:
            return None
        try:
            return float(text)
        except ValueError:
            return None
    return None


def is_measured(value: Any) -> bool:
    """Whether a cell holds something: neither blank nor NaN nor infinite.

    >>> [is_measured(v) for v in (1.0, "2", float("nan"), "", None, "NaN", "inf")]
    [True, True, False, False, False, False, False]
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return False
    number = as_number(value)
    return math.isfinite(number) if number is not None else True


def dict_text(text: Any) -> dict[str, Any] | None:
    """The mapping that a cell holds as text, in JSON or as Python prints it; None where it is no mapping.

    >>> dict_text("{'a': nan, 'b': None}"), dict_text('{"a": true}'), dict_text("{web")
    ({'a': nan, 'b': None}, {'a': True}, None)
    """
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = _literal(ast.parse(text.strip(), mode="eval").body)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _literal(node: ast.AST) -> Any:
    if isinstance(node, ast.Dict):
        return {_literal(k): _literal(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Name) and node.id in ("nan", "inf", "NaN", "Infinity"):
        return float(node.id.replace("NaN", "nan").replace("Infinity", "inf"))
    return ast.literal_eval(node)  # type: ignore[arg-type]


def join_resumed(runs: Sequence[TrackedRun]) -> tuple[list[TrackedRun], list[str]]:
    """Parts of one run, told by its id, as one run; later settings and the last state count.

    Args:
      runs: parts, in any order.

    Returns:
      (runs, notes about what was joined).

    >>> parts = [TrackedRun("b", "r", "1", state=FINISHED, started=2.0), TrackedRun("a", "r", "1", started=1.0)]
    >>> runs, notes = join_resumed(parts)
    >>> runs[0].state, notes
    ('finished', ['run r (id 1) was resumed: 2 parts are joined by its id'])
    """
    by_id: dict[tuple[str, str], list[TrackedRun]] = {}
    for number, run in enumerate(runs):
        by_id.setdefault((run.project, run.run_id or f" {number}"), []).append(run)
    out, notes = [], []
    for parts in by_id.values():
        parts = sorted(parts, key=lambda run: run.started)
        last = parts[-1]
        if len(parts) > 1:
            notes.append(f"run {last.name} (id {last.run_id}) was resumed: {len(parts)} parts are joined by its id")
            config: dict[str, Any] = {}
            for part in parts:
                config |= part.config
            history = [row for part in parts for row in part.history]
            last = dataclasses.replace(last, config=config, history=history)
        out.append(last)
    return out, notes


_SETTINGS = ("config.json", "params.json", "hparams.json", "mixture.json")


def settings_beside(folder: pathlib.Path) -> dict[str, Any]:
    """Settings in the JSON files that stand beside a run's records: config.json, params.json, hparams.json, mixture.json.

    Args:
      folder: the run's folder.

    Raises:
      ValueError: one of them is no JSON.
    """
    out: dict[str, Any] = {}
    for name in _SETTINGS:
        if (folder / name).is_file():
            prefix = "mixture" if name == "mixture.json" else "config"
            out |= flatten(read_json(folder / name), prefix)
    return out


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON file that holds names with values.

    Args:
      path: the file.

    Raises:
      ValueError: it is no JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{path}: {where}is not JSON") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no names with values")
    return found
