"""Plain tables as trackers export them: CSV, TSV, JSON lines, Parquet, packed or not, or standard input.

Two shapes that Weights & Biases exports are told apart: columns ``config`` and ``summary`` that hold mappings as text are spread, and
the table under a chart, with a column a run, is turned into a row a step.
"""

from __future__ import annotations

import re
from typing import Any

from camel_jax.interop.tracked import UNKNOWN, Found, TrackedRun, dict_text, flatten, is_measured
from camel_jax.tables.sheet import load_sheet as load_table

_CHART = re.compile(r"(?P<run>.+?)\s+-\s+(?P<metric>[^ ].*?)(?P<edge>__MIN|__MAX)?")
_STEPS = ("step", "_step", "global_step", "train/global_step", "trainer/global_step", "tokens")
_STATE = ("state", "status", "_state")


def read_delimited(source: str) -> Found:
    """Rows of a table, each a ``TrackedRun`` without a name: which column names the run is for the mapping to say.

    Args:
      source: a path, or "-" for standard input.

    Raises:
      TableError: what no table reader can read.
      ValueError: a chart's table in which one column stands for two runs.
    """
    sheet = load_table(source, None)
    twice = next((name for name in sheet.names if sheet.names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{sheet.source}: column {twice!r} occurs twice: which is meant?")
    if not sheet.rows:
        raise ValueError(f"{sheet.source}: has a header and no rows")
    rows = [dict(zip(sheet.names, cells, strict=True)) for cells in zip(*sheet.cells, strict=True)]
    if runs := _chart(sheet.source, sheet.names, rows):
        return Found(
            sheet.source, "wandb chart", runs, ["a chart's table: a row a step, a run by the name of its column"]
        )
    notes = []
    for name in sheet.names:
        if any(dict_text(row[name]) is not None for row in rows):
            notes.append(f"column {name!r} holds mappings as text: it is spread into columns '{name}.*'")
            for place, row in zip(sheet.rows, rows, strict=True):
                tree = dict_text(row[name])
                if tree is None and is_measured(row[name]):
                    raise ValueError(f"{sheet.source}: {place}, column {name!r}: holds no mapping, as other rows do")
                del row[name]
                row |= {key: value for key, value in flatten(tree or {}, name).items() if "._" not in key}
    state = next((name for name in sheet.names if name.lower() in _STATE), None)
    found = []
    for place, row in zip(sheet.rows, rows, strict=True):
        word = str(row.get(state) or "").strip() if state else ""
        run = TrackedRun(f"{sheet.source}, {place}", state=state_of(word), told=word, flat=True)
        run.history = [{str(key).strip(): value for key, value in row.items()}]
        found.append(run)
    return Found(sheet.source, "table", found, notes)


def state_of(word: str) -> str:
    """The state that a tracker's word for it means.

    >>> state_of("Finished"), state_of("crashed"), state_of("CA")
    ('finished', 'unfinished', 'unknown')
    """
    word = word.lower()
    if word in ("finished", "completed", "complete", "done", "success", "succeeded"):
        return "finished"
    unfinished = (
        "running",
        "crashed",
        "failed",
        "killed",
        "scheduled",
        "pending",
        "preempted",
        "preempting",
        "aborted",
    )
    return "unfinished" if word in unfinished else UNKNOWN


def _chart(source: str, names: list[str], rows: list[dict[str, Any]]) -> list[TrackedRun]:
    """Runs of a chart's table; none if it is another table."""
    steps = [name for name in names if name.lower() in _STEPS]
    rest = [name for name in names if name not in steps]
    matches = {name: _CHART.fullmatch(name) for name in rest}
    if len(steps) != 1 or not rest or not all(matches.values()):
        return []
    runs: dict[str, TrackedRun] = {}
    for name, match in matches.items():
        assert match is not None
        if match["edge"]:
            continue
        run = runs.setdefault(match["run"], TrackedRun(f"{source}, columns of {match['run']}", match["run"]))
        key = "step" if steps[0].lower() != "tokens" else "tokens"
        for row in rows:
            if is_measured(row[name]):
                run.history.append({key: row[steps[0]], match["metric"]: row[name]})
    return list(runs.values())
