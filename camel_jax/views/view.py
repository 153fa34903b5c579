"""A view: a title, facts, small tables and notes, as a line, as text and as HTML."""

from __future__ import annotations

import html
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from camel_jax.recipes.brief import brief
from camel_jax.recipes.names import plain

ROWS, WIDTH, REPR = 24, 64, 1_400  # rows and characters a cell of a table that are shown, and characters of a repr
STYLE = (
    ".camel-jax{font-size:13px;line-height:1.45;max-width:60em}"
    ".camel-jax .title{font-weight:600;font-size:14px;margin:.2em 0}"
    ".camel-jax .facts{display:grid;grid-template-columns:max-content 1fr;gap:0 1em;margin:.2em 0 .5em}"
    ".camel-jax .facts dt{opacity:.72;font-weight:400}.camel-jax .facts dd{margin:0;overflow-wrap:anywhere}"
    ".camel-jax table{border-collapse:collapse;margin:.2em 0 .7em;font-size:12.5px;background:none;color:inherit}"
    ".camel-jax caption{text-align:left;caption-side:top;opacity:.72;padding:.1em 0;color:inherit}"
    ".camel-jax th,.camel-jax td{padding:.15em .8em .15em 0;text-align:right;white-space:nowrap;background-color:transparent;"
    "border:0;border-bottom:1px solid rgba(128,128,128,.28);font-variant-numeric:tabular-nums;color:inherit}"
    ".camel-jax th{font-weight:600;border-bottom:1px solid rgba(128,128,128,.7)}"
    ".camel-jax .wide{overflow-x:auto}.camel-jax .word{text-align:left}.camel-jax ul{margin:.2em 0;padding-left:1.2em}"
)
Column = Sequence[Any] | np.ndarray


class Sheet(NamedTuple):
    """A small table of a view.

    Attributes:
      title: above the table. columns: name -> values, all of one length. bar: column whose shares are drawn as bars, or "".
    """

    title: str
    columns: Mapping[str, Column]
    bar: str = ""


class View(NamedTuple):
    """What is shown of a result.

    Attributes:
      title: a line. facts: name -> text. sheets: small tables. notes: sentences, such as warnings.
    """

    title: str
    facts: Mapping[str, str] = {}
    sheets: Sequence[Sheet] = ()
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        text = as_text(self)
        return text if len(text) <= REPR else text[: REPR - 1] + "…"

    def _repr_html_(self) -> str:
        return as_html(self)


def cell(value: Any) -> str:
    """A number or a word of a table as text.

    >>> cell(0.123456), cell(3), cell(float("nan")), cell("web")
    ('0.1235', '3', '-', 'web')
    """
    if isinstance(value, str) or value is None:
        return cut(value) if value else "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return str(int(value))
    value = float(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


def cut(text: str) -> str:
    """A name that nothing obeys, short enough for a cell."""
    shown = plain(text)
    return shown if len(shown) <= WIDTH else shown[: WIDTH - 1] + "…"


def interval_columns(interval: Any, prefix: str = "") -> dict[str, Any]:
    """Columns point, low and high of an ``Interval``, after a prefix.

    >>> from camel_jax.recipes.outcome import Interval
    >>> list(interval_columns(Interval(1.0, 0.5, 2.0), "gain "))
    ['gain point', 'gain low', 'gain high']
    """
    return {f"{prefix}{name}": np.atleast_1d(getattr(interval, name)) for name in ("point", "low", "high")}


def as_text(view: View) -> str:
    """The view as plain text for a terminal."""
    lines = [plain(view.title)]
    width = max(map(len, view.facts), default=0)
    lines += [f"  {name:<{width}}  {plain(text)}" for name, text in view.facts.items()]
    for sheet in view.sheets:
        lines += ["", plain(sheet.title)] if sheet.title else [""]
        lines += _aligned(sheet)
    return "\n".join(lines + [f"note: {plain(note)}" for note in view.notes])


def _cells(sheet: Sheet) -> tuple[list[list[str]], int]:
    count = max((len(column) for column in sheet.columns.values()), default=0)
    shown = [[cell(x) for x in list(column)[:ROWS]] for column in sheet.columns.values()]
    return shown, count


def _is_word(column: Column) -> bool:
    return bool(len(column)) and isinstance(next(iter(column)), str)


def _aligned(sheet: Sheet) -> list[str]:
    shown, count = _cells(sheet)
    heads = [cut(name) for name in sheet.columns]
    widths = [max(map(len, [head, *column])) for head, column in zip(heads, shown, strict=True)]
    words = [_is_word(column) for column in sheet.columns.values()]
    rows = [heads, *map(list, zip(*shown, strict=True))]
    lines = [
        "  " + "  ".join(x.ljust(w) if left else x.rjust(w) for x, w, left in zip(row, widths, words, strict=True))
        for row in rows
    ]
    return [line.rstrip() for line in lines] + ([f"  … {count - ROWS} more rows"] if count > ROWS else [])


def as_html(view: View) -> str:
    """The view as one HTML element that takes its colors from the page around it; every text is escaped."""

    def safe(text: object) -> str:
        return html.escape(plain(text))

    parts = [f'<div class="camel-jax"><style>{STYLE}</style><div class="title">{safe(view.title)}</div>']
    if view.facts:
        facts = "".join(f"<dt>{safe(name)}</dt><dd>{safe(text)}</dd>" for name, text in view.facts.items())
        parts.append(f'<dl class="facts">{facts}</dl>')
    for sheet in view.sheets:
        shown, count = _cells(sheet)
        kinds = [' class="word"' if _is_word(column) else "" for column in sheet.columns.values()]
        head = "".join(f"<th{kind}>{safe(cut(name))}</th>" for name, kind in zip(sheet.columns, kinds, strict=True))
        bars = [_bars(column) if name == sheet.bar else None for name, column in sheet.columns.items()]
        body = []
        for i, row in enumerate(zip(*shown, strict=True)):
            cells = zip(row, kinds, bars, strict=True)
            body.append("".join(f"<td{kind}{bar[i] if bar else ''}>{safe(x)}</td>" for x, kind, bar in cells))
        more = f"<tr><td{kinds[0]}>… {count - ROWS} more rows</td></tr>" if count > ROWS else ""
        caption = f"<caption>{safe(sheet.title)}</caption>" if sheet.title else ""
        rows = "".join(f"<tr>{row}</tr>" for row in body)
        body_of = f"<thead><tr>{head}</tr></thead><tbody>{rows}{more}</tbody>"
        parts.append(f'<div class="wide"><table>{caption}{body_of}</table></div>')
    if view.notes:
        parts.append(f"<ul>{''.join(f'<li>{safe(note)}</li>' for note in view.notes)}</ul>")
    return "".join(parts) + "</div>"


def _bars(column: Column) -> list[str]:
    values = np.asarray(list(column)[:ROWS], float)
    shares = 100 * np.clip(np.nan_to_num(values), 0, 1)
    color = "rgba(0,114,178,.45)"
    return [
        f' style="min-width:7em;background:linear-gradient(90deg,{color} {x:.1f}%,transparent {x:.1f}%)"'
        for x in shares
    ]


class Readable:
    """Methods of a result that people meet: a short ``repr``, an HTML view for notebooks, and ``summary``.

    A subclass says what there is to see in ``_view``.
    """

    def _view(self) -> View:
        """What is shown."""
        raise NotImplementedError

    def __repr__(self) -> str:
        if not _has_values(self):  # inside a transformation there is nothing to show but shapes
            return brief(self)
        text = f"<{type(self).__name__}: {plain(self._view().title)}>"
        return text if len(text) <= REPR else text[: REPR - 2] + "…>"

    def _repr_html_(self) -> str:
        return as_html(self._view()) if _has_values(self) else html.escape(brief(self))

    def summary(self) -> str:
        """The result as text of a few lines."""
        return as_text(self._view())


def _has_values(result: Any) -> bool:
    """Whether every leaf of a result is a number or an array with values."""
    leaves = jax.tree.leaves(result)
    if any(isinstance(x, Tracer | jax.ShapeDtypeStruct) for x in leaves):
        return False
    return (len(leaves) == 1 and leaves[0] is result) or (
        bool(leaves) and all(hasattr(x, "dtype") or isinstance(x, numbers.Number) for x in leaves)
    )


def to_frame(columns: Mapping[str, Any]) -> Any:
    """Named columns as a pandas DataFrame."""
    import pandas as pd

    return pd.DataFrame({name: np.asarray(x) for name, x in columns.items()})
