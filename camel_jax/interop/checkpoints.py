"""From what a run logged to rows of a run table: one row a checkpoint, at the tokens at which something was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from camel_jax.interop.mapping import OUTCOMES
from camel_jax.interop.tracked import UNFINISHED, TrackedRun, as_number, is_measured
from camel_jax.recipes.sizes import parse_tokens

Row = dict[str, Any]


def parse_checkpoints(text: str) -> int | None:
    """How many checkpoints of a run are taken: 1 for "last", None for "all".

    >>> parse_checkpoints("last"), parse_checkpoints("all"), parse_checkpoints("8")
    (1, None, 8)
    """
    word = text.strip().lower()
    if word == "last":
        return 1
    if word == "all":
        return None
    if word.isdecimal() and int(word) > 0:
        return int(word)
    raise ValueError(f"checkpoints {text!r}: give last, all, or how many, evenly spaced in tokens")


def flat_row(run: TrackedRun, meanings: Mapping[str, str], notes: list[str]) -> Row:
    """The row of a plain table, under the names of a run table.

    Args:
      run: the row.
      meanings: name in the source -> name in the run table.
      notes: gets a line for what a reader should know.

    Raises:
      ValueError: two columns of one meaning with different values.
    """
    return _meant(run, run.history[0], meanings)


def _meant(run: TrackedRun, cells: Mapping[str, Any], meanings: Mapping[str, str]) -> Row:
    out: Row = {}
    origin: dict[str, str] = {}
    for theirs, ours in meanings.items():
        value = cells.get(theirs)
        if theirs not in cells or value is None or (isinstance(value, str) and not value.strip()):
            continue
        if ours in out and not _equal(out[ours], value):
            raise ValueError(
                f"{run.place}: columns {origin[ours]!r} and {theirs!r} both mean {ours!r}, and hold {out[ours]} and {value}"
            )
        if ours not in out or not is_measured(out[ours]):
            out[ours], origin[ours] = value, theirs
    return out


def _equal(a: Any, b: Any) -> bool:
    if not is_measured(a) or not is_measured(b) or a == b:
        return True
    x, y = as_number(a), as_number(b)
    return x is not None and y is not None and math.isclose(x, y, rel_tol=1e-9)


def history_rows(
    run: TrackedRun,
    meanings: Mapping[str, str],
    count: int | None,
    tokens_per_step: float | None,
    need_tokens: bool,
    notes: list[str],
) -> list[Row]:
    """Rows of a run with a history.

    Args:
      run: the run.
      meanings: name in the source -> name in the run table.
      count: checkpoints to take, evenly spaced in tokens with the last among them; None takes all.
      tokens_per_step: tokens of a step where tokens were not logged.
      need_tokens: whether tokens must be known here: nobody gives them, for all runs at once or in another source.
      notes: gets a line for whatever a reader should know.

    Returns:
      Rows in ascending tokens; none where nothing was measured.

    Raises:
      ValueError: a recipe that changes within the run, or outcomes at no known tokens.
    """
    settings = _settings(run, meanings)
    planned = settings.pop("tokens", None)
    logs_tokens = any(
        ours == "tokens" and is_measured(row.get(theirs)) for theirs, ours in meanings.items() for row in run.history
    )
    events = _events(run, meanings, tokens_per_step if not logs_tokens else None, logs_tokens, notes)
    if not events:
        return []
    if any(tokens is None for tokens, _ in events):
        if count != 1 and len(events) > 1:
            raise ValueError(
                f"{run.place}: run {run.name} logs no tokens, so that its {len(events)} checkpoints cannot be told apart:"
                " give --tokens-per-step, or take --checkpoints last"
            )
        if planned is None and need_tokens:
            raise ValueError(
                f"{run.place}: run {run.name} tells no tokens: map a column to 'tokens', or give --tokens-per-step"
            )
        if planned is not None and run.state == UNFINISHED:
            raise ValueError(
                f"{run.place}: run {run.name} did not finish ({run.told}) and logs no tokens: the {planned} that were planned are not"
                " those that it saw"
            )
        last: Row = {}  # metrics that were logged one by one have steps of their own: the last value of each
        for _, outcomes in events:
            last |= outcomes
        rows = [settings | ({} if planned is None else {"tokens": planned}) | last]
    else:
        rows = [settings | {"tokens": tokens} | outcomes for tokens, outcomes in _merge(run, events, notes)]
    for row in rows:
        row["run"] = run.name
    return _spaced(rows, count)


def _settings(run: TrackedRun, meanings: Mapping[str, str]) -> Row:
    """What holds for the whole run: its recipe, from its settings or from a history in which it stays the same."""
    out = _meant(run, run.config, {k: v for k, v in meanings.items() if not v.startswith(OUTCOMES) and v != "run"})
    for theirs, ours in meanings.items():
        if ours in ("tokens", "run") or ours.startswith(OUTCOMES):
            continue
        values = [row[theirs] for row in run.history if is_measured(row.get(theirs))]
        if not values:
            continue
        low, high = values[0], values[-1]
        numbers = [number for value in values if (number := as_number(value)) is not None]
        if len(numbers) == len(values):
            low, high = min(numbers), max(numbers)
            differ = high - low > 1e-3 * max(abs(high), 1e-300)
        else:
            differ = any(value != values[0] for value in values)
        if differ or (ours in out and not _equal(out[ours], values[-1])):
            other = low if differ else out[ours]
            raise ValueError(
                f"{run.place}: run {run.name}: {theirs!r} ({ours}) changes from {other} to {high}: a run has one recipe"
            )
        out[ours] = values[-1]
    return out


def _events(
    run: TrackedRun, meanings: Mapping[str, str], tokens_per_step: float | None, logs_tokens: bool, notes: list[str]
) -> list[tuple[float | None, Row]]:
    """(tokens, outcomes) of every step at which something was measured, in the order of logging."""
    outcomes = {theirs: ours for theirs, ours in meanings.items() if ours.startswith(OUTCOMES)}
    counters = [theirs for theirs, ours in meanings.items() if ours == "tokens"]
    events: list[tuple[float | None, Row]] = []
    tokens: float | None = None
    carried, nans = 0, {}
    for row in run.history:
        new = next((row[name] for name in counters if is_measured(row.get(name))), None)
        if logs_tokens and new is not None:
            new = _tokens(run, new)
            if tokens is not None and new < tokens:
                beyond = [event for event in events if event[0] is not None and event[0] > new]
                if beyond:
                    events = [event for event in events if event not in beyond]
                    notes.append(
                        f"run {run.name} went back to {new:,.0f} tokens: {len(beyond)} evaluations beyond, from before, are left out"
                    )
            tokens = new
        elif tokens_per_step is not None:
            step = as_number(row.get("step"))
            tokens = step * tokens_per_step if step is not None else tokens
        measured = _meant(run, row, outcomes)
        for name, value in list(measured.items()):
            if not is_measured(value):
                nans[name] = tokens
                del measured[name]
        if measured:
            carried += logs_tokens and new is None
            events.append((tokens, measured))
    if carried:
        notes.append(f"run {run.name}: {carried} evaluations stand at the tokens that were logged last before them")
    if nans:
        names, at = " and ".join(sorted(nans)), max((x for x in nans.values() if x is not None), default=None)
        where = f", last at {at:,.0f} tokens" if at is not None else ""
        notes.append(f"run {run.name}: {names} not finite at some steps{where}: they count as not measured")
    early = [event for event in events if event[0] is None]
    if logs_tokens and early:
        notes.append(f"run {run.name}: {len(early)} evaluations before any tokens were logged are left out")
        events = [event for event in events if event[0] is not None]
    return [event for event in events if event[0] is None or event[0] > 0]


def _tokens(run: TrackedRun, value: Any) -> float:
    number = as_number(value)
    if number is None:
        try:
            return parse_tokens(value)
        except ValueError as error:
            raise ValueError(f"{run.place}: run {run.name}: {error}") from None
    return number


def _merge(run: TrackedRun, events: list[tuple[float | None, Row]], notes: list[str]) -> list[tuple[float, Row]]:
    """One row a number of tokens; what was measured again there counts as it was measured last."""
    rows: dict[float, Row] = {}
    again = 0
    for tokens, outcomes in events:
        assert tokens is not None
        row = rows.setdefault(tokens, {})
        again += any(name in row and not _equal(row[name], value) for name, value in outcomes.items())
        row |= outcomes
    if again:
        notes.append(f"run {run.name}: {again} evaluations were made again at the same tokens: the last ones count")
    return sorted(rows.items())


def _spaced(rows: list[Row], count: int | None) -> list[Row]:
    """``count`` rows nearest to evenly spaced tokens; the last is always among them."""
    if count is None or len(rows) <= count:
        return rows
    tokens = [float(as_number(row["tokens"]) or 0.0) for row in rows]
    picked = set()
    for k in range(1, count + 1):
        target = tokens[-1] * k / count
        picked.add(min(range(len(rows)), key=lambda i: abs(tokens[i] - target)))
    return [rows[i] for i in sorted(picked)]
