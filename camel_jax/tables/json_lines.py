"""JSON lines as a table: an object a line, nested names joined with a slash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def from_json_lines(text: str) -> tuple[list[str], list[list[Any]], list[str]]:
    """Names, columns of cells and places of a text of JSON lines; a name that a line leaves out is blank there.

    Args:
      text: an object a line; blank lines are passed over.

    Returns:
      (names, cells per name, "line N" per row).

    Raises:
      ValueError: a line that is no JSON object; the message begins with its number.

    >>> from_json_lines('{"run": "a", "mix": {"web": 1}}')
    (['run', 'mix/web'], [['a'], [1]], ['line 1'])
    """
    rows: list[dict[str, Any]] = []
    places = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            twice = str(error) if str(error).startswith("name ") else "is not JSON"
            raise ValueError(f"line {number}: {twice}") from None
        if not isinstance(found, dict):
            raise ValueError(f"line {number}: is no object with names")
        rows.append(_flat(found, "", {}))
        places.append(f"line {number}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for row in rows] for name in names], places


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"name {next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return out


def _flat(tree: Mapping[str, Any], prefix: str, out: dict[str, Any]) -> dict[str, Any]:
    for key, value in tree.items():
        name = f"{prefix}/{key}" if prefix else str(key).strip()
        if isinstance(value, Mapping):
            _flat(value, name, out)
        else:
            out[name] = json.dumps(value) if isinstance(value, list) else value
    return out
