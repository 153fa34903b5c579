"""Several sources as one table, joined by run id and tokens: never by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from camel_jax.interop.mapping import OUTCOMES
from camel_jax.interop.tracked import as_number, is_measured
from camel_jax.recipes.sizes import parse_tokens

Row = dict[str, Any]
Placed = list[tuple[str, Row]]


def merge_rows(
    sources: Sequence[str], tables: Sequence[Placed], drop_incomplete: bool, notes: list[str]
) -> tuple[list[Row], list[str]]:
    """Join tables.

    Rows of one run at the same tokens are one row. A table whose rows have no tokens, one a run, gives its recipe to all rows of the
    run and its outcomes to the run's last row.

    Args:
      sources: names of the tables, for messages.
      tables: (place, row) of each.
      drop_incomplete: leave out runs that lack a mixture or an outcome, in place of an error.
      notes: gets a line for what was joined or left out.

    Returns:
      (rows, places), every row with what it was told anywhere.

    Raises:
      ValueError: rows without a run, tables without a run in common, or one cell that two tables fill differently.

    >>> recipes = [("a.csv line 2", {"run": "x", "mix/web": 1.0, "tokens": 2e9})]
    >>> scores = [("b.csv line 2", {"run": "x", "acc/qa": 0.5})]
    >>> merge_rows(["a.csv", "b.csv"], [recipes, scores], False, [])[0]
    [{'run': 'x', 'mix/web': 1.0, 'tokens': 2000000000.0, 'acc/qa': 0.5}]
    """
    for table in tables:
        for place, row in table:
            if not is_measured(row.get("run")):
                raise ValueError(f"{place}: names no run: map a column to 'run'")
            row["run"] = _id(row["run"])
    first = 0
    if len(tables) > 1 and not any(
        "tokens" in row for _, row in tables[0]
    ):  # begin with a table that has tokens, if there is one
        first = next((i for i, table in enumerate(tables) if all("tokens" in row for _, row in table)), 0)
    rest = [i for i in range(len(tables)) if i != first]
    out, out_source = list(tables[first]), sources[first]
    apart: list[tuple[str, Placed]] = []
    while rest:  # a table with a run in common comes before one without, whatever the order in which they are named
        known = {row["run"] for _, row in out}
        i = next((i for i in rest if known & {row["run"] for _, row in tables[i]}), rest[0])
        rest.remove(i)
        if known & {row["run"] for _, row in tables[i]} or not rest:
            out = _join(out, out_source, tables[i], sources[i], notes)
        else:
            apart.append((out_source, out))
            out, out_source = list(tables[i]), sources[i]
    for source, group in reversed(apart):
        out, out_source = _join(group, source, out, out_source, notes), source
    out = _complete(out, len(tables) > 1, drop_incomplete, notes)
    return [row for _, row in out], [f"{place} (run {row['run']})" for place, row in out]


def _id(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _tokens(row: Row) -> float | None:
    value = row.get("tokens")
    if not is_measured(value):
        return None
    number = as_number(value)
    if number is None:
        try:
            number = parse_tokens(str(value))
        except (TypeError, ValueError):
            return None
    return number


def _join(left: Placed, left_source: str, right: Placed, right_source: str, notes: list[str]) -> Placed:
    runs_left = {row["run"] for _, row in left}
    runs_right = {row["run"] for _, row in right}
    common = runs_left & runs_right
    if not common:
        if any(map(_is_whole, left)) and any(map(_is_whole, right)):
            notes.append(
                f"{left_source} and {right_source} have no run in common: their rows stand one below the other"
            )
            return left + right
        some = ", ".join(sorted(runs_left)[:2]), ", ".join(sorted(runs_right)[:2])
        raise ValueError(
            f"{left_source} and {right_source} have no run in common: runs are called {some[0]} there and {some[1]} here;"
            " rename them, or use --name-by"
        )
    if _stands_alone(left) and _stands_alone(right):
        run = sorted(common)[0]
        clash = _clash_of_runs(left, right, run)
        if clash:
            raise ValueError(
                f"{left_source} and {right_source} both have a run {run!r}, and {clash}: they are two runs; use --name-by"
            )
    out = [(place, dict(row)) for place, row in left]
    by_run: dict[str, list[tuple[str, Row]]] = {}
    for entry in out:
        by_run.setdefault(entry[1]["run"], []).append(entry)
    extra: Placed = []
    seen: dict[str, str] = {}
    for place, row in right:
        run, tokens = row["run"], _tokens(row)
        mine = by_run.get(run, [])
        if not mine:
            extra.append((place, dict(row)))
            continue
        if tokens is None:
            if run in seen:
                raise ValueError(
                    f"{place}: run {run!r} stands there twice without tokens (first in {seen[run]}): which checkpoint is it?"
                )
            seen[run] = place
            last = max(mine, key=lambda entry: _tokens(entry[1]) or 0.0)
            for entry in mine:
                part = (
                    row
                    if entry is last
                    else {k: v for k, v in row.items() if not k.removeprefix("_how ").startswith(OUTCOMES)}
                )
                _fill(entry, part, place)
            continue
        hits = [entry for entry in mine if _tokens(entry[1]) in (tokens, None)]
        if hits:
            for entry in hits:
                _fill(entry, row, place)
        else:
            entry = (place, dict(row))
            _fill(entry, _recipe(mine[0][1]), mine[0][0])
            out.append(entry)
            mine.append(entry)
        for entry in mine:  # a run has one recipe, whichever of its checkpoints tells it
            told = any(k.startswith("mix/") for k in entry[1])
            lacking = {k: v for k, v in _recipe(row).items() if not (told and k.startswith("mix/"))}
            _fill(entry, {k: v for k, v in lacking.items() if not is_measured(entry[1].get(k))}, place)
    notes.append(f"{right_source} is joined to {left_source} by run: {len(common)} runs in common")
    return out + extra


def _recipe(row: Row) -> Row:
    return {k: v for k, v in row.items() if k.startswith(("mix/", "size", "supply/"))}


def _clash_of_runs(left: Placed, right: Placed, run: str) -> str:
    """Why two rows of one name are two runs, or "" where they may be one."""
    mine = next(row for _, row in left if row["run"] == run)
    theirs = next(row for _, row in right if row["run"] == run)
    for name, value in mine.items():
        if name.startswith(("mix/", "size")) and name in theirs and not _same(theirs[name], value):
            return f"{name} is {value} there and {theirs[name]} here"
    return ""


def _stands_alone(table: Placed) -> bool:
    """Whether every row has a mixture and an outcome of its own."""
    return all(map(_is_whole, table))


def _is_whole(entry: tuple[str, Row]) -> bool:
    return any(k.startswith("mix/") for k in entry[1]) and any(k.startswith(OUTCOMES) for k in entry[1])


def _same(a: Any, b: Any) -> bool:
    x, y = as_number(a), as_number(b)
    return a == b or (x is not None and y is not None and abs(x - y) <= 1e-9 * max(abs(x), abs(y)))


def _fill(entry: tuple[str, Row], other: Row, place: str) -> None:
    mine = entry[1]
    for name, value in other.items():
        if not is_measured(value) and not name.startswith("_how "):
            continue
        if is_measured(mine.get(name)) and not _same(mine[name], value) and name not in ("run", "tokens"):
            if name.startswith("_how "):
                continue
            raise ValueError(
                f"run {mine['run']!r}: {name} is {mine[name]} in {entry[0]} and {value} in {place}: map one of them to another name"
            )
        if name.startswith("_how ") and name in mine:
            continue
        if name not in mine or not is_measured(mine[name]):
            mine[name] = value


def _complete(table: Placed, merged: bool, drop: bool, notes: list[str]) -> Placed:
    """Rows that have a mixture and an outcome; the others are an error, or left out with a note."""
    out: Placed = []
    no_outcome, no_mixture = [], []
    any_mixture = any(k.startswith("mix/") for _, row in table for k in row)
    for place, row in table:
        if not any(k.startswith(OUTCOMES) and is_measured(v) for k, v in row.items()):
            no_outcome.append(f"{row['run']} ({place})")
        elif any_mixture and not any(k.startswith("mix/") and is_measured(v) for k, v in row.items()):
            no_mixture.append(f"{row['run']} ({place})")
        else:
            out.append((place, row))
    if no_mixture:
        more = f" and {len(no_mixture) - 3} more" if len(no_mixture) > 3 else ""
        told = f"no mixture for run {', '.join(no_mixture[:3])}{more}"
        if not drop:
            raise ValueError(f"{told}; --drop-incomplete leaves them out")
        notes.append(f"{told}: left out")
    if no_outcome:
        more = f" and {len(no_outcome) - 3} more" if len(no_outcome) > 3 else ""
        notes.append(
            f"nothing was measured in {len(no_outcome)} rows, which are left out: {', '.join(no_outcome[:3])}{more}"
        )
    if not out:
        raise ValueError("no run has both a mixture and an outcome" if any_mixture else "no row has an outcome")
    return out
