"""Any source, a file or a frame, as named columns of cells; nothing is judged here yet."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import os
import pathlib
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from camel_jax.runtime import require
from camel_jax.storage import check_source
from camel_jax.tables.json_lines import from_json_lines

if TYPE_CHECKING:
    import pandas as pd

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>"})


class Problem(NamedTuple):
    """One broken rule: the column, the places it was broken (as "line 3 (run a)"), and the rule."""

    column: str
    places: tuple[str, ...]
    rule: str

    def __str__(self) -> str:
        shown = ", ".join(self.places[:3]) + (f" and {len(self.places) - 3} more" if len(self.places) > 3 else "")
        where = f"column {self.column!r}" if self.column else ""
        head = ", ".join(part for part in (where, shown) if part)
        return f"{head}: {self.rule}" if head else self.rule


class TableError(ValueError):
    """A table that breaks the schema. The message is one line with every problem in it.

    Attributes:
      source: the file, or "DataFrame".
      problems: tuple of ``Problem``.

    >>> import pandas as pd
    >>> import camel_jax as cj
    >>> frame = pd.DataFrame({"run": ["a"], "size": ["70M"], "tokens": ["2B"], "mix/web": [0.75], "loss/web": [3.1]})
    >>> cj.read_runs(frame)
    Traceback (most recent call last):
        ...
    camel_jax.tables.sheet.TableError: DataFrame: ...
    """

    def __init__(self, source: str, problems: Sequence[Problem]):
        self.source, self.problems = source, tuple(problems)
        if len(self.problems) == 1:
            text = f"{source}: {self.problems[0]}"
        else:
            listed = "; ".join(f"({i}) {problem}" for i, problem in enumerate(self.problems, 1))
            text = f"{source}: {len(self.problems)} problems: {listed}"
        super().__init__(" ".join(text.split()))


class Sheet(NamedTuple):
    """Named columns of cells (text or numbers) and how to call each row."""

    source: str
    names: list[str]
    cells: list[np.ndarray]
    rows: list[str]
    comma: bool = False  # text with decimal commas


def rename(sheet: Sheet, columns: Mapping[str, str | None] | None) -> Sheet:
    """Apply a mapping of column names, with ``*`` for any text."""
    if not columns:
        return sheet
    names: list[str | None] = list(sheet.names)
    unused, clashes = [], []
    for theirs, ours in columns.items():
        hits = [i for i, name in enumerate(sheet.names) if name == theirs]
        pattern = re.compile("(.*)".join(re.escape(part) for part in theirs.split("*")), re.DOTALL)
        if not hits and "*" in theirs:
            hits = [i for i, name in enumerate(sheet.names) if pattern.fullmatch(name) and name not in columns]
        if not hits:
            unused.append(theirs)
        for i in hits:
            match = pattern.fullmatch(sheet.names[i])
            names[i] = ours if ours is None or match is None else _fill(ours, match.groups())
            if names[i] is not None and names[i] in names[:i] + names[i + 1 :]:
                clashes.append(names[i])
    problems = []
    if unused:
        rule = f"mapped column {', '.join(map(repr, unused))} is not in the table; it has {listed_names(sheet.names)}"
        problems.append(Problem("", (), rule))
    if clashes:
        problems.append(Problem("", (), f"the mapping gives two columns the name {clashes[0]!r}"))
    if problems:
        raise TableError(sheet.source, problems)
    keep = [i for i, name in enumerate(names) if name is not None]
    return sheet._replace(names=[str(names[i]) for i in keep], cells=[sheet.cells[i] for i in keep])


def _fill(pattern: str, groups: Sequence[str]) -> str:
    for group in groups:
        pattern = pattern.replace("*", group, 1)
    return pattern


def listed_names(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "no columns"


def is_missing(cell: Any) -> bool:
    """Whether a cell stands for "not measured": blank, NA, NaN, null."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return True
    return type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, str) and cell.strip().lower() in _MISSING)


def broken(source: str, rule: str) -> TableError:
    """An error of one rule about the whole of a table."""
    return TableError(source, [Problem("", (), rule)])


Source: TypeAlias = "str | os.PathLike[str] | pd.DataFrame"


# Reading: any source -> Sheet


def load_sheet(source: Source, name: str | None) -> Sheet:
    """A file, text or frame as a sheet, by what it is."""
    if not isinstance(source, (str, os.PathLike)):
        if type(source).__name__ != "DataFrame":
            raise TypeError(f"a table is a path or a DataFrame, not {type(source).__name__}")
        return _from_frame(source, name or "DataFrame")
    path = pathlib.Path(source)
    name = name or ("standard input" if str(path) == "-" else str(path))

    def fail(rule: str) -> TableError:
        return TableError(name, [Problem("", (), rule)])

    if str(path) == "-":
        return _from_bytes(standard_input(), "", name, fail)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix.lower()
    if path.is_dir():
        raise fail("is a folder, not a table")
    if not path.exists():
        raise fail("no such file")
    try:
        check_source(path)
    except ValueError:
        raise fail("is a pipe or a device, not a file: save the table first") from None
    if suffix not in (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".pq"):
        raise fail(f"unknown kind of file {suffix or '(no suffix)'}: tables are .csv, .tsv, .jsonl or .parquet")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise fail(f"cannot be read ({error.strerror})") from None
    return _from_bytes(raw, suffix, name, fail)


@functools.cache
def standard_input() -> bytes:
    """All of standard input; kept, since a command may read a table twice."""
    return sys.stdin.buffer.read()


def _from_bytes(raw: bytes, suffix: str, name: str, fail: Callable[[str], TableError]) -> Sheet:
    """A table from the bytes of a file; without a suffix its kind is told by how it begins."""
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error):
            raise fail("cannot be unpacked: the gzip file is damaged") from None
    if suffix in (".parquet", ".pq") or (not suffix and raw[:4] == b"PAR1"):
        require("parquet", "pyarrow", f"reading {name}")
        import pandas as pd

        try:
            return _from_frame(pd.read_parquet(io.BytesIO(raw)), name)
        except TableError:
            raise
        except Exception as error:  # pyarrow raises many kinds
            raise fail(f"cannot be read as Parquet ({str(error).splitlines()[0][:120]})") from None
    if suffix in (".jsonl", ".ndjson") or (not suffix and raw.lstrip()[:1] == b"{"):
        try:
            names, columns, places = from_json_lines(raw.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise fail("not UTF-8 text: save it as UTF-8") from None
        except ValueError as error:
            raise fail(str(error)) from None
        if not places:
            raise fail("is empty")
        cells = [np.array([*column, None], dtype=object)[:-1] for column in columns]
        return Sheet(name, names, cells, places)
    return sheet_from_text(raw, name, fail)


def sheet_from_text(raw: bytes, name: str, fail: Callable[[str], TableError]) -> Sheet:
    """A CSV file's bytes as a sheet."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise fail("is UTF-16 text: save it as UTF-8 CSV")
    if raw[:4] == b"PAR1" or b"\0" in raw[:4096]:
        raise fail("is not text: a Parquet file must end in .parquet, a spreadsheet must be saved as CSV")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise fail(f"line {line}: not UTF-8 text (byte {raw[error.start]:#04x}): save it as UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    hint = re.match(r"sep=(.)\n", text)  # first line written by spreadsheets
    skipped = 1 if hint else 0
    text = text[hint.end() :] if hint else text
    header = next((line for line in text.split("\n") if line.strip()), "")
    if not header:
        raise fail("is empty")
    unquoted = re.sub(r'"[^"]*"', "", header)
    delimiter = hint[1] if hint else max(",;\t", key=unquoted.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    lines, records, ragged = [], [], []
    names: list[str] = []
    try:
        for record in reader:
            if not any(cell.strip() for cell in record):
                continue
            if not names:
                names = [cell.strip() for cell in record]
                while names and not names[-1]:
                    names.pop()  # trailing delimiters
                continue
            while len(record) > len(names) and not record[-1].strip():
                record.pop()
            if len(record) != len(names):
                ragged.append((f"line {reader.line_num + skipped}", len(record)))
            lines.append(f"line {reader.line_num + skipped}")
            records.append(record)
    except csv.Error as error:
        raise fail(f"line {reader.line_num + skipped}: not CSV ({error})") from None
    if ragged:
        rule = f"{ragged[0][1]} cells where the header has {len(names)}"
        raise TableError(name, [Problem("", tuple(place for place, _ in ragged), rule)])
    cells = [np.array([record[i].strip() for record in records], dtype=object) for i in range(len(names))]
    return Sheet(name, names, cells, lines, comma=delimiter != ",")


def _from_frame(frame: pd.DataFrame, name: str) -> Sheet:
    names = [str(column).strip() for column in frame.columns]
    cells = []
    for i in range(len(names)):
        column = frame.iloc[:, i]
        kind = getattr(column.dtype, "kind", "O")
        if kind in "iuf":
            cells.append(column.to_numpy(dtype=float, na_value=np.nan))
        else:
            values = [None if is_missing(cell) else cell for cell in column.tolist()]
            cells.append(np.array([*values, None], dtype=object)[:-1])
    return Sheet(name, names, cells, [f"row {i}" for i in range(1, len(frame) + 1)])
