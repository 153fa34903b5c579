"""From sources and a mapping to a run table that the schema accepts, with notes about all that was decided on the way."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from camel_jax.interop.checkpoints import flat_row, history_rows, parse_checkpoints
from camel_jax.interop.mapping import OUTCOMES, PLAIN, ColumnMapping, column_names, expand
from camel_jax.interop.merge import merge_rows
from camel_jax.interop.shares import complete_shares, one_hot
from camel_jax.interop.tracked import UNFINISHED, Found, TrackedRun, as_number, is_measured
from camel_jax.interop.units import BYTE, SHARE, TOKEN, Unit, check_range, parse_unit
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import Runs

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
_IDS = ("id", "run_id", "runid")


@dataclasses.dataclass
class Imported:
    """A run table out of trackers.

    Attributes:
      frame: the table, in the schema of ``read_runs`` with a column ``unit``: what a loss of it is.
      runs: the same, checked.
      unit: "nats per token" or "nats per byte".
      notes: what was left out, joined, carried or converted, a line each.
    """

    frame: pd.DataFrame
    runs: Runs
    unit: str
    notes: list[str]


def import_runs(
    found: Sequence[Found],
    mapping: ColumnMapping,
    *,
    unfinished: bool = False,
    name_by: str = "name",
    drop_incomplete: bool = False,
) -> Imported:
    """Make one run table of sources.

    Args:
      found: the sources, as ``open_sources`` reads them.
      mapping: what their columns mean.
      unfinished: whether runs that crashed or still run are taken too.
      name_by: what runs of trackers are called by: "name", "id", or "project/name".
      drop_incomplete: whether runs without a mixture, or without an outcome, are left out where sources are merged; an error if not.

    Returns:
      ``Imported``.

    Raises:
      ValueError: what cannot be made a table without guessing, named with its place.
    """
    meanings = expand(mapping.columns, column_names(found))
    used = set(meanings) | {"step"}
    for theirs in mapping.columns:
        if "*" not in theirs and theirs not in used and mapping.columns[theirs]:
            raise ValueError(f"no source has a column {theirs!r}, which the mapping names; see its [columns]")
    if mapping.domain_column is not None and mapping.domain_column not in column_names(found):
        raise ValueError(f"no source has a column {mapping.domain_column!r}, the domain column")
    if not any(ours.startswith(OUTCOMES) for ours in meanings.values()):
        raise ValueError("no column is mapped to loss/<set> or acc/<task>: map one, as in --map 'eval/*/loss=loss/*'")
    notes = [note for one in found for note in one.notes]
    alone = len(found) == 1 and "tokens" not in mapping.constants
    tables = [_rows_of(one, meanings, mapping, unfinished, name_by, alone, notes) for one in found]
    rows, places = merge_rows([one.source for one in found], tables, drop_incomplete, notes)
    family = _family(rows, places, mapping, notes)
    notes += complete_shares(rows, places, mapping.normalize)
    unit = f"nats per {family}"
    return _checked(rows, unit, ", ".join(one.source for one in found), notes)


def _rows_of(
    found: Found,
    meanings: dict[str, str],
    mapping: ColumnMapping,
    unfinished: bool,
    name_by: str,
    need_tokens: bool,
    notes: list[str],
) -> list[tuple[str, Row]]:
    """(place, row) of one source, losses in nats with their unit and estimator beside them."""
    runs = [run for run in found.runs if unfinished or run.state != UNFINISHED]
    if left := [run for run in found.runs if run.state == UNFINISHED and not unfinished]:
        words = ", ".join(
            f"{count} {word}" for word, count in Counter(run.told or "unfinished" for run in left).items()
        )
        names = ", ".join(str(run.name or run.place) for run in left[:3]) + (" ..." if len(left) > 3 else "")
        notes.append(f"{found.source}: {len(left)} runs did not finish and are left out ({words}): {names}")
    if not runs:
        raise ValueError(
            f"{found.source}: none of its {len(found.runs)} runs finished; --unfinished takes them all the same"
        )
    _name(found, runs, name_by)
    _check_identity(found, runs, meanings)
    _check_units(found, runs, meanings, mapping)
    count = parse_checkpoints(mapping.checkpoints)
    out: list[tuple[str, Row]] = []
    silent = []
    for run in runs:
        if run.flat:
            rows = [flat_row(run, meanings, notes)]
            step = as_number(run.history[0].get("step"))
            if mapping.tokens_per_step and step is not None:
                rows[0].setdefault("tokens", step * mapping.tokens_per_step)
        else:
            rows = history_rows(run, meanings, count, mapping.tokens_per_step, need_tokens, notes)
            if not rows:
                silent.append(str(run.name))
        for row in rows:
            for ours, value in mapping.constants.items():
                if ours in row and str(row[ours]) != str(value):
                    raise ValueError(f"{run.place}: {ours} is {row[ours]}, and {value} is given for all runs")
                row[ours] = value
            row |= {"_domain": _setting(run, mapping.domain_column)} if mapping.domain_column else {}
            out.append((run.place, row))
    if silent:
        notes.append(
            f"{found.source}: {len(silent)} runs measured nothing that is mapped, and are left out: {', '.join(silent[:3])}"
        )
    if not out:
        raise ValueError(f"{found.source}: no run measured anything that is mapped to loss/<set> or acc/<task>")
    _in_nats(found, out, meanings, mapping)
    if mapping.domain_column:
        known = [(place, row) for place, row in out if any(name in row for name in ("_domain",))]
        one_hot([row for _, row in known], [place for place, _ in known], [row.pop("_domain") for _, row in known])
    return out


def _setting(run: TrackedRun, name: str | None) -> Any:
    values = [row[name] for row in run.history if name in row and is_measured(row[name])]
    return run.config.get(name or "", values[-1] if values else None)


def _name(found: Found, runs: list[TrackedRun], name_by: str) -> None:
    """Give every run of a tracker the name that it is joined by; no two have the same."""
    if name_by not in ("name", "id", "project/name"):
        raise ValueError(f"--name-by {name_by}: there are name, id and project/name")
    named = [run for run in runs if not run.flat]
    if name_by != "name":
        for run in named:
            run.name = (run.run_id or run.name) if name_by == "id" else f"{run.project}/{run.name}"
    by_name: dict[str | None, list[TrackedRun]] = {}
    for run in named:
        by_name.setdefault(run.name, []).append(run)
    for name, several in by_name.items():
        if len(several) > 1:
            which = ", ".join(run.run_id or run.place for run in several[:3])
            projects = {run.project for run in several}
            hint = "--name-by project/name" if len(projects) == len(several) else "--name-by id"
            raise ValueError(
                f"{found.source}: {len(several)} runs are called {name!r} ({which}): tell them apart with {hint}"
            )


def _check_identity(found: Found, runs: list[TrackedRun], meanings: dict[str, str]) -> None:
    """In a plain table, one name with two ids is two runs: their rows are no checkpoints of each other."""
    name_column = next((theirs for theirs, ours in meanings.items() if ours == "run"), None)
    seen: dict[Any, tuple[str, str, Any]] = {}
    for run in runs:
        if not run.flat or name_column is None:
            continue
        row = run.history[0]
        for column in row:
            if column.lower() in (*_IDS, "project") and column != name_column and is_measured(row[column]):
                key = (column, row.get(name_column))
                place, _, value = seen.setdefault(key, (run.place, column, row[column]))
                if value != row[column]:
                    raise ValueError(
                        f"{run.place}: two runs are called {row.get(name_column)!r}: {column!r} is {row[column]} here and {value} in"
                        f" {place}: map {column!r} to 'run', or rename one"
                    )


def _unit(mapping: ColumnMapping, theirs: str, ours: str) -> Unit:
    default = "fraction" if ours.startswith("acc/") else "nats per token"
    name = next((mapping.units[key] for key in (theirs, ours, ours.partition("/")[0]) if key in mapping.units), default)
    unit = parse_unit(name)
    if (unit.family == SHARE) != ours.startswith("acc/"):
        raise ValueError(f"column {theirs!r} is mapped to {ours!r}, which cannot be in {unit.name}")
    return unit


def _check_units(found: Found, runs: list[TrackedRun], meanings: dict[str, str], mapping: ColumnMapping) -> None:
    for theirs, ours in meanings.items():
        if not ours.startswith(OUTCOMES):
            continue
        unit = _unit(mapping, theirs, ours)
        values = []
        for run in runs:
            for row in run.history:
                value = row.get(theirs)
                if value is None or (
                    isinstance(value, str) and value.strip().lower() in ("", "nan", "na", "n/a", "none", "null", "-")
                ):
                    continue
                number = as_number(value)
                if number is None:
                    raise ValueError(f"{run.place}: column {theirs!r}: {str(value)[:40]!r} is not a number")
                if math.isfinite(number):
                    values.append(number)
        if values:
            check_range(unit, values, theirs, found.source)


def _in_nats(found: Found, rows: list[tuple[str, Row]], meanings: dict[str, str], mapping: ColumnMapping) -> None:
    """Losses and accuracies in the units of a run table; the family and the estimator of each loss stay beside it."""
    units: dict[str, Unit] = {}
    for theirs, ours in meanings.items():
        if ours.startswith(OUTCOMES):
            unit = _unit(mapping, theirs, ours)
            if units.setdefault(ours, unit) != unit and _has(found, theirs):
                raise ValueError(
                    f"{found.source}: {ours!r} comes from columns in {units[ours].name} and in {unit.name} ({theirs!r}): map one"
                )
    for _, row in rows:
        for ours in [name for name in row if name.startswith(OUTCOMES)]:
            number = as_number(row[ours])
            if number is None or not math.isfinite(number):
                del row[ours]
                continue
            unit = units[ours]
            row[ours] = unit.convert(number)
            if unit.family == BYTE:
                row[f"_how {ours}"] = (BYTE, found.estimator)
            elif unit.family == TOKEN:
                row[f"_how {ours}"] = (TOKEN, "")


def _has(found: Found, name: str) -> bool:
    return any(name in cells for run in found.runs for cells in (run.config, *run.history))


def _family(rows: list[Row], places: list[str], mapping: ColumnMapping, notes: list[str]) -> str:
    """Bring all losses into one family, or refuse; returns "token" or "byte"."""
    seen: dict[str, tuple[tuple[str, str], str]] = {}
    families: dict[str, str] = {}
    for place, row in zip(places, rows, strict=True):
        for key in [key for key in row if key.startswith("_how ")]:
            ours, how = key.removeprefix("_how "), row.pop(key)
            before, where = seen.setdefault(ours, (how, place))
            if before != how:
                told = [family + (f" ({estimator})" if estimator else "") for family, estimator in (before, how)]
                raise ValueError(
                    f"{place}: {ours!r} is per {told[1]} here and per {told[0]} in {where}: two estimators differ by as much as a"
                    " mixture's effect, and are not mixed: map one of them to another name"
                )
            families[ours] = how[0]
            if how[0] == BYTE and mapping.bytes_per_token:
                ratio = mapping.bytes_per_token.get(ours.removeprefix("loss/"), mapping.bytes_per_token.get("*"))
                if ratio is not None:
                    row[ours] *= ratio
                    families[ours] = TOKEN
    kinds = set(families.values())
    if len(kinds) > 1:
        first = {kind: next(ours for ours, family in families.items() if family == kind) for kind in kinds}
        raise ValueError(
            f"{first[BYTE]!r} is per byte and {first[TOKEN]!r} per token: a table has one of them; convert with --bytes-per-token,"
            " or leave one out"
        )
    if mapping.bytes_per_token and TOKEN in kinds:
        notes.append("losses per byte were multiplied by the bytes per token that are given")
    return next(iter(kinds), TOKEN)


def _checked(rows: list[Row], unit: str, source: str, notes: list[str]) -> Imported:
    import pandas as pd

    names = {name: None for name in PLAIN}
    for prefix in ("mix/", "supply/", *OUTCOMES):
        names |= {name: None for row in rows for name in row if name.startswith(prefix)}
    columns = {
        name: [row.get(name) for row in rows] for name in names if any(is_measured(row.get(name)) for row in rows)
    }
    for name in ("size", "size_total", "tokens"):
        if name in columns:
            columns[name] = [as_number(v) if as_number(v) is not None else v for v in columns[name]]
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    runs = read_runs(frame, name=source)
    frame = pd.DataFrame({name: _typed(values) for name, values in columns.items()})
    if len(runs.sets):
        frame.insert(len([name for name in columns if name in PLAIN]), "unit", unit)
    finished = len(set(frame["run"]))
    notes.append(f"{len(frame)} rows of {finished} runs, losses in {unit}")
    return Imported(frame, runs, unit, notes)


def _typed(values: list[Any]) -> Any:
    numbers = [as_number(value) for value in values]
    if all(number is None for number in numbers) or any(
        n is None and is_measured(v) for n, v in zip(numbers, values, strict=True)
    ):
        return values
    known = [math.nan if number is None else number for number in numbers]
    whole = all(
        number == number and number == round(number) and abs(number) < 2**53 and number >= 1000 for number in known
    )
    return [int(number) for number in known] if whole else known
