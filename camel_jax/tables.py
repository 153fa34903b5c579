"""Run tables: CSV, Parquet and DataFrame <-> ``Runs``. Outside data is checked here, once, and nowhere else.

================  ===================================================================  ==========
column            meaning                                                              required
================  ===================================================================  ==========
run               run id; one row is one checkpoint of a run                           yes
size              active parameters: a count, or "122M", or "7B-A150M" (both)          yes
size_total        total parameters, when ``size`` gives the active ones alone          no
tokens            training tokens seen at this checkpoint: a count, or "30B"           yes
mix/<domain>      share of a training domain; the shares of a row sum to 1             yes
loss/<set>        validation loss, nats per token; blank = not measured                yes
acc/<task>        benchmark accuracy in [0, 1]; blank = not measured                   no
supply/<domain>   unique tokens there are of a domain; blank = as many as one needs    no
================  ===================================================================  ==========
"""

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
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

import numpy as np

from camel_jax.files import replacing
from camel_jax.json_lines import from_json_lines
from camel_jax.runs import Recipe, Runs
from camel_jax.schema import Checked, Problem, Sheet, TableError, is_missing, rename

if TYPE_CHECKING:
    import pandas as pd

Source: TypeAlias = "str | os.PathLike[str] | pd.DataFrame"


def read_runs(
    source: Source,
    *,
    columns: Mapping[str, str | None] | None = None,
    name: str | None = None,
    on_ignored: Callable[[list[str]], None] | None = None,
    need_mixtures: bool = True,
) -> Runs:
    """Read a table of runs and check it.

    Args:
      source: path of a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, packed with gzip or not, "-" for standard input, or a
        DataFrame; CSV with commas, semicolons or tabs.
      columns: names of a foreign table -> names of the schema, such as ``{"n_params": "size", "val_*": "loss/*"}``;
        ``*`` stands for any text; None drops a column.
      name: what to call the table in messages, the file name by default.
      on_ignored: called with the names of columns that are no part of the schema, if there are any.
      need_mixtures: whether a table without ``mix/`` columns is refused; one that tells accuracies from losses needs none.

    Returns:
      ``Runs`` with float64 numpy arrays; losses and accuracies that were not measured are NaN, never filled in.

    Raises:
      TableError: the table breaks the schema; every bad row is in the one message.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"run": ["a", "b"], "size": ["70M", "1.2e9"], "tokens": ["2B", "30B"],
    ...                       "mix/web": [0.75, 0.5], "mix/code": [0.25, 0.5], "loss/web": [3.1, 2.4]})
    >>> runs = read_runs(frame)
    >>> runs.domains, runs.recipe.n_active.tolist()
    (('web', 'code'), [70000000.0, 1200000000.0])
    """
    return _to_runs(rename(_load(source, name), columns), on_ignored, need_mixtures)


def _to_runs(sheet: Sheet, on_ignored: Callable[[list[str]], None] | None = None, need_mixtures: bool = True) -> Runs:
    table = Checked(sheet, need_losses=True, need_mixtures=need_mixtures)
    table.finish(on_ignored)
    return Runs(
        table.recipe(table.domains),
        np.stack([table.values[f"loss/{s}"] for s in table.sets], -1),
        np.stack([table.values[f"acc/{t}"] for t in table.tasks], -1) if table.tasks else np.zeros((table.n_rows, 0)),
        table.run_index,
        table.domains,
        table.sets,
        table.tasks,
        table.run_names,
    )


def read_recipes(
    source: Source,
    *,
    domains: Sequence[str] | None = None,
    columns: Mapping[str, str | None] | None = None,
    name: str | None = None,
    on_ignored: Callable[[list[str]], None] | None = None,
) -> tuple[Recipe, list[str]]:
    """Read recipes to predict: the run table without its losses.

    Args:
      source, columns, name, on_ignored: as in ``read_runs``.
      domains: the domains of the fit, in its order; the table must have exactly these. None takes the table's own.

    Returns:
      (recipe with leading axis R, run ids).

    Raises:
      TableError: as ``read_runs``.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"run": ["next"], "size": ["590M-A12M"], "tokens": ["30B"],
    ...                       "mix/b": [0.4], "mix/a": [0.6]})
    >>> recipe, ids = read_recipes(frame, domains=("a", "b"))
    >>> recipe.weights.tolist(), recipe.n_active.tolist(), ids
    ([[0.6, 0.4]], [12000000.0], ['next'])
    """
    sheet = rename(_load(source, name), columns)
    table = Checked(sheet, need_losses=False)
    if domains is not None and table.domains:
        absent = [d for d in domains if d not in table.domains]
        unknown = [d for d in table.domains if d not in domains]
        if absent:
            table.problem(
                "", "no column " + ", ".join(f"'mix/{d}'" for d in absent) + ", a domain of the fit; write 0 shares"
            )
        if unknown:
            table.problem("", "column " + ", ".join(f"'mix/{d}'" for d in unknown) + " is no domain of the fit")
    table.finish(on_ignored)
    return table.recipe(table.domains if domains is None else tuple(domains)), table.run_ids


def read_mixtures(
    source: Source, *, columns: Mapping[str, str | None] | None = None, name: str | None = None
) -> dict[str, np.ndarray]:
    """Mixtures alone: the ``mix/<domain>`` columns of a table, whatever else it has.

    Returns:
      domain -> shares (R,), rows on the simplex.

    Raises:
      TableError: as ``read_runs``.

    >>> import pandas as pd
    >>> read_mixtures(pd.DataFrame({"mix/web": [0.75], "mix/code": [0.25]}))
    {'web': array([0.75]), 'code': array([0.25])}
    """
    sheet = rename(_load(source, name), columns)
    keep = [i for i, column in enumerate(sheet.names) if column.startswith("mix/")]
    if keep:  # without one, the message names the columns that there are
        sheet = sheet._replace(names=[sheet.names[i] for i in keep], cells=[sheet.cells[i] for i in keep])
    table = Checked(sheet, only_mixtures=True)
    table.finish()
    return {domain: table.values[f"mix/{domain}"] for domain in table.domains}


def read_header(source: Source, *, columns: Mapping[str, str | None] | None = None) -> list[str]:
    """Names of the columns of a table, mapped as in ``read_runs``.

    >>> import pandas as pd
    >>> read_header(pd.DataFrame({"run": ["a"], "share": [1.0]}), columns={"share": "mix/web"})
    ['run', 'mix/web']
    """
    return rename(_load(source, None), columns).names


def read_whole_numbers(
    source: Source, column: str, default: int, *, columns: Mapping[str, str | None] | None = None
) -> list[int]:
    """A column of whole numbers from 0 to 2^31 - 1 that is no part of the schema, such as seeds.

    Args:
      source, columns: as in ``read_runs``. column: its name. default: stands for every row if there is no such column.

    Raises:
      TableError: a cell is blank or holds anything else.

    >>> import pandas as pd
    >>> read_whole_numbers(pd.DataFrame({"seed": [3, 4]}), "seed", 0)
    [3, 4]
    """
    sheet = rename(_load(source, None), columns)
    if column not in sheet.names:
        return [default] * len(sheet.rows)
    cells = sheet.cells[sheet.names.index(column)]
    numbers, bad = [], []
    for row, cell in zip(sheet.rows, cells, strict=True):
        text = str(cell).strip().removesuffix(".0")
        if text.isdecimal() and text.isascii() and int(text) < 2**31:
            numbers.append(int(text))
        else:
            bad.append(row)
    if bad:
        raise TableError(sheet.source, [Problem(column, tuple(bad), "must be a whole number from 0 to 2147483647")])
    return numbers


def runs_to_frame(runs: Runs) -> pd.DataFrame:
    """The table of ``runs`` as a DataFrame in the schema that ``read_runs`` reads."""
    import pandas as pd

    recipe = runs.recipe
    weights = np.asarray(recipe.weights)
    names = runs.run_names or tuple(str(i) for i in range(int(np.max(runs.run)) + 1))
    data: dict[str, Any] = {"run": [names[i] for i in np.asarray(runs.run)], "size": _whole(recipe.n_active)}
    if np.any(np.asarray(recipe.n_total) != np.asarray(recipe.n_active)):
        data["size_total"] = _whole(recipe.n_total)
    data["tokens"] = _whole(recipe.tokens)
    data |= {f"mix/{d}": weights[:, k] for k, d in enumerate(runs.domains)}
    if recipe.supply is not None:
        supply = np.broadcast_to(np.asarray(recipe.supply), weights.shape)
        data |= {
            f"supply/{d}": np.where(np.isinf(supply[:, k]), np.nan, supply[:, k]) for k, d in enumerate(runs.domains)
        }
    data |= {f"loss/{s}": np.asarray(runs.losses)[:, v] for v, s in enumerate(runs.sets)}
    data |= {f"acc/{t}": np.asarray(runs.accuracies)[:, v] for v, t in enumerate(runs.tasks)}
    return pd.DataFrame(data)


def write_runs(runs: Runs, path: str | os.PathLike[str]) -> None:
    """Write a table of runs as CSV or Parquet, by suffix; what was not measured stays blank."""
    write_frame(runs_to_frame(runs), path)


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write any table as CSV or Parquet, by suffix, without leaving half a file behind.

    Raises:
      ValueError: another suffix, or a folder that is not there.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in (".csv", ".parquet", ".pq"):
        raise ValueError(f"cannot write {path}: the name must end in .csv or .parquet")
    with replacing(path) as part:
        if suffix == ".csv":
            frame.to_csv(part, index=False, lineterminator="\n")
        else:
            frame.to_parquet(part, index=False)


def write_columns(columns: Mapping[str, Any], target: str | os.PathLike[str] | TextIO) -> None:
    """Write named columns, such as predictions, to a CSV or Parquet file, or as CSV to an open stream.

    Whole numbers are written without a point; others in a CSV with eight significant digits.
    """
    import pandas as pd

    frame = pd.DataFrame({name: _written(column) for name, column in columns.items()})
    if not isinstance(target, (str, os.PathLike)):
        target.write(frame.to_csv(index=False, lineterminator="\n", float_format="%.8g"))
    elif pathlib.Path(target).suffix.lower() == ".csv":
        with replacing(target) as part:
            frame.to_csv(part, index=False, lineterminator="\n", float_format="%.8g")
    else:
        write_frame(frame, target)


def _written(column: Any) -> Any:
    values = np.asarray(column)
    return _whole(values) if values.dtype.kind in "iuf" else column


def _whole(values: Any) -> np.ndarray:
    values = np.asarray(values, float)
    return values.astype(np.int64) if np.all((values == np.round(values)) & (np.abs(values) < 2**62)) else values


# Reading: any source -> Sheet


def _load(source: Source, name: str | None) -> Sheet:
    if not isinstance(source, (str, os.PathLike)):
        if type(source).__name__ != "DataFrame":
            raise TypeError(f"a table is a path or a DataFrame, not {type(source).__name__}")
        return _from_frame(source, name or "DataFrame")
    path = pathlib.Path(source)
    name = name or ("standard input" if str(path) == "-" else str(path))

    def fail(rule: str) -> TableError:
        return TableError(name, [Problem("", (), rule)])

    if str(path) == "-":
        return _from_bytes(_standard_input(), "", name, fail)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix.lower()
    if path.is_dir():
        raise fail("is a folder, not a table")
    if not path.exists():
        raise fail("no such file")
    if suffix not in (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".pq"):
        raise fail(f"unknown kind of file {suffix or '(no suffix)'}: tables are .csv, .tsv, .jsonl or .parquet")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise fail(f"cannot be read ({error.strerror})") from None
    return _from_bytes(raw, suffix, name, fail)


@functools.cache
def _standard_input() -> bytes:
    """All of it; kept, since a command may read a table twice."""
    return sys.stdin.buffer.read()


def _from_bytes(raw: bytes, suffix: str, name: str, fail: Callable[[str], TableError]) -> Sheet:
    """A table from the bytes of a file; without a suffix its kind is told by how it begins."""
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error):
            raise fail("cannot be unpacked: the gzip file is damaged") from None
    if suffix in (".parquet", ".pq") or (not suffix and raw[:4] == b"PAR1"):
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
    return _from_text(raw, name, fail)


def _from_text(raw: bytes, name: str, fail: Callable[[str], TableError]) -> Sheet:
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
