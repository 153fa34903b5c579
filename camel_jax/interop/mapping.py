"""Which column of a source is what in a run table: the mapping, its file ``mapping.toml``, and how it is shown."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from camel_jax.interop.tracked import Found, is_measured
from camel_jax.interop.units import parse_unit
from camel_jax.storage import replacing

VERSION = 1
OUTCOMES = ("loss/", "acc/")
PREFIXES = ("mix/", "supply/", *OUTCOMES)
PLAIN = ("run", "size", "size_total", "tokens")


@dataclasses.dataclass
class ColumnMapping:
    """What the columns of sources mean.

    Attributes:
      columns: name in the source -> name in the run table; ``*`` stands for any text in both. Two columns may have one meaning
        (a metric that was renamed), as long as no row fills both differently.
      units: name in the source -> unit of a loss or an accuracy.
      constants: name in the run table -> its value in every run, such as ``size``.
      checkpoints: "last", "all", or how many of a run, evenly spaced in tokens.
      tokens_per_step: tokens of a step, where only steps were logged.
      bytes_per_token: turns losses per byte into losses per token; of every set, under "*" or by name.
      domain_column: column that names the one corpus that a run was trained on.
      normalize: whether shares that do not sum to one are divided by their sum.
    """

    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    units: dict[str, str] = dataclasses.field(default_factory=dict)
    constants: dict[str, str] = dataclasses.field(default_factory=dict)
    checkpoints: str = "last"
    tokens_per_step: float | None = None
    bytes_per_token: dict[str, float] = dataclasses.field(default_factory=dict)
    domain_column: str | None = None
    normalize: bool = False


def expand(columns: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """A mapping without ``*``: what each of these names means; an exact name comes before a pattern.

    Args:
      columns: name or pattern -> meaning.
      names: those of the sources.

    Raises:
      ValueError: a meaning that no run table has, or patterns that give one name two meanings.

    >>> expand({"eval/*/loss": "loss/*"}, ["eval/web/loss", "lr"])
    {'eval/web/loss': 'loss/web'}
    """
    for theirs, ours in columns.items():
        if ours and ours not in PLAIN and not any(ours.startswith(p) and len(ours) > len(p) for p in PREFIXES):
            raise ValueError(
                f"{theirs!r} is mapped to {ours!r}; a run table has {', '.join(PLAIN)} and {'<name>, '.join(PREFIXES)}<name>"
            )
        if ours.count("*") > theirs.count("*"):
            raise ValueError(f"{theirs!r} is mapped to {ours!r}, which has more '*'")
    patterns = [
        (re.compile("(.+?)".join(map(re.escape, t.split("*"))), re.DOTALL), t, o)
        for t, o in columns.items()
        if "*" in t
    ]
    out: dict[str, str] = {}
    for name in names:
        if name in columns:
            if columns[name] and "*" not in columns[name]:
                out[name] = columns[name]
            continue
        meanings = {}
        for pattern, theirs, ours in patterns:
            if ours and (match := pattern.fullmatch(name)):
                meaning = ours
                for part in match.groups():
                    meaning = meaning.replace("*", part, 1)
                meanings[meaning] = theirs
        if len(meanings) > 1:
            raise ValueError(
                f"column {name!r} is mapped twice: " + ", ".join(f"{t!r} makes it {m!r}" for m, t in meanings.items())
            )
        out.update(dict.fromkeys([name] if meanings else [], next(iter(meanings), "")))
    return out


def column_names(found: Sequence[Found]) -> list[str]:
    """Names of all columns of sources, in the order in which they occur."""
    names: dict[str, None] = {}
    for one in found:
        for run in one.runs:
            names.update(dict.fromkeys(run.config))
            for row in run.history:
                names.update(dict.fromkeys(row))
    names.pop("step", None)
    return list(names)


def values_of(found: Sequence[Found], wanted: Iterable[str] | None = None) -> dict[str, list[Any]]:
    """Measured cells of each column, one list a column; as many as there are."""
    out: dict[str, list[Any]] = {} if wanted is None else {name: [] for name in wanted}
    for one in found:
        for run in one.runs:
            for cells in (run.config, *run.history):
                for name, value in cells.items():
                    if wanted is None:
                        out.setdefault(name, [])
                    if name in out and is_measured(value):
                        out[name].append(value)
    return out


def table_of(mapping: ColumnMapping, found: Sequence[Found]) -> list[list[str]]:
    """A row a mapped column for people: name, meaning, unit, examples of values, how many cells are filled."""
    meanings = expand(mapping.columns, column_names(found))
    cells = values_of(found, meanings)
    rows = []
    for theirs, ours in sorted(meanings.items(), key=lambda pair: _order(pair[1])):
        examples = list(dict.fromkeys(_short(value) for value in cells[theirs]))
        shown = ", ".join(examples[:3]) + (", ..." if len(examples) > 3 else "")
        rows.append([theirs, ours, mapping.units.get(theirs, ""), shown, f"{len(cells[theirs]):,}"])
    rows += [["(given)", ours, "", value, ""] for ours, value in mapping.constants.items()]
    if mapping.tokens_per_step:
        rows.append(["step", "tokens", f"{mapping.tokens_per_step:,.0f} a step", "", ""])
    if mapping.domain_column:
        rows.append([mapping.domain_column, "mix/* (one corpus a run)", "", "", ""])
    return rows


def _order(ours: str) -> tuple[int, int]:
    kinds = (*PLAIN, "mix", "supply", "loss", "acc")
    return kinds.index(ours.partition("/")[0]), 0


def _short(value: Any) -> str:
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def write_mapping(mapping: ColumnMapping, path: pathlib.Path) -> None:
    """Write a mapping as TOML, for the next import.

    Args:
      mapping: the mapping.
      path: where; replaced as a whole.
    """
    lines = [
        "# How camel-jax import read a source: name in the source = name in the run table.",
        f"version = {VERSION}",
        "",
    ]
    options: dict[str, Any] = {"checkpoints": mapping.checkpoints, "normalize": mapping.normalize}
    options |= {"tokens_per_step": mapping.tokens_per_step, "domain_column": mapping.domain_column}
    tables = {
        "options": {name: value for name, value in options.items() if value is not None},
        "set": mapping.constants,
        "columns": mapping.columns,
        "units": mapping.units,
        "bytes_per_token": mapping.bytes_per_token,
    }
    for title, table in tables.items():
        if table:
            lines += [f"[{title}]", *(f"{_toml(str(key))} = {_toml(value)}" for key, value in table.items()), ""]
    with replacing(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_mapping(path: pathlib.Path) -> ColumnMapping:
    """Read a ``mapping.toml``.

    Args:
      path: the file.

    Raises:
      ValueError: it is no TOML, of another version, or holds what no mapping has.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is no TOML ({error})") from None
    version = content.pop("version", VERSION)
    if version != VERSION:
        raise ValueError(f"{path}: version {version} of a mapping is unknown; version {VERSION} is read")
    known = {"options", "set", "columns", "units", "bytes_per_token"}
    for name, table in content.items():
        if name not in known or not isinstance(table, dict):
            raise ValueError(f"{path}: {name!r} is no table of a mapping; there are {', '.join(sorted(known))}")
    columns, units = content.get("columns", {}), content.get("units", {})
    for title, table in (("columns", columns), ("units", units)):
        for name, value in table.items():
            if not isinstance(value, str):
                raise ValueError(f'{path}: [{title}] {name!r} must be text, as in "loss/web"')
    for name, unit in units.items():
        try:
            parse_unit(unit)
        except ValueError as error:
            raise ValueError(f"{path}: [units] {name!r}: {error}") from None
    per_token = content.get("bytes_per_token", {})
    options = dict(content.get("options", {}))
    mapping = ColumnMapping(dict(columns), dict(units), {k: str(v) for k, v in content.get("set", {}).items()})
    try:
        mapping.bytes_per_token = {name: float(value) for name, value in per_token.items()}
        mapping.checkpoints = str(options.pop("checkpoints", "last"))
        if "tokens_per_step" in options:
            mapping.tokens_per_step = float(options.pop("tokens_per_step"))
    except (TypeError, ValueError):
        raise ValueError(f"{path}: bytes_per_token and tokens_per_step must be numbers") from None
    mapping.domain_column = options.pop("domain_column", None)
    mapping.normalize = options.pop("normalize", False) is True
    if options:
        raise ValueError(f"{path}: unknown option {next(iter(options))!r}")
    expand(mapping.columns, ())
    return mapping
