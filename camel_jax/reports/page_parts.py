"""Parts of a page as HTML: text, tables, bars, tiles. Text is escaped here and nowhere else; widths are attributes, never styles."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.recipes.names import plain
from camel_jax.recipes.sizes import format_count

ROWS = 24  # of a table before the rest is folded away


def text(value: object) -> str:
    """Text of a page: no markup, and no character that acts on what shows it.

    >>> text("<b>")
    '&lt;b&gt;'
    """
    return html.escape(plain(value))


def name(value: object) -> str:
    """A name that someone gave, whose direction of writing is its own affair."""
    return f"<bdi>{text(value)}</bdi>"


def lines(items: Sequence[str], how: str = "lines") -> str:
    """A list of sentences."""
    return f'<ul class="{how}">{"".join(f"<li>{text(item)}</li>" for item in items)}</ul>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, kind: str = "table") -> str:
    """A table whose first column names the rows; cells are HTML. Rows beyond the first 24 are folded away.

    Args:
      header: of the columns, text. rows: of cells, HTML that this module made. caption: text above. kind: class of what holds it.
    """
    head = "".join(f'<th scope="col">{text(x)}</th>' for x in header)

    def body(some: Sequence[Sequence[str]]) -> str:
        return "".join(
            f'<tr><th scope="row">{row[0]}</th>' + "".join(_cell(x) for x in row[1:]) + "</tr>" for row in some
        )

    def whole(some: Sequence[Sequence[str]], words: str) -> str:
        return (
            f'<div class="{kind}" tabindex="0" role="region" aria-label="{text(words)}">'
            f"<table><caption><span>{text(words)}</span></caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body(some)}</tbody></table></div>"
        )

    if len(rows) <= ROWS:
        return whole(rows, caption)
    rest = whole(rows[ROWS:], f"{caption} (the rest)")
    return f"{whole(rows[:ROWS], caption)}<details><summary>{len(rows) - ROWS} more rows</summary>{rest}</details>"


def _cell(cell: str) -> str:
    if ends := re.fullmatch(
        r"([^\s<>]+(?: %)?) to ([^\s<>]+(?: %)?)", cell
    ):  # two lines where the page is narrow, never three
        return f'<td class="ends"><span>{ends[1]} to</span> <span>{ends[2]}</span></td>'
    return f'<td class="bar">{cell}</td>' if cell.startswith("<svg") else f"<td>{cell}</td>"


def percent(share: float, digits: int = 1) -> str:
    """A share as text.

    >>> percent(0.3), percent(0.00002)
    ('30.0 %', '&lt; 0.1 %')
    """
    return "&lt; 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.{digits}f} %"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, as text with a real minus."""
    return f"{value:+.{digits}f}".replace("-", "\u2212") if math.isfinite(value) else ""


def span(low: float, high: float, digits: int = 3) -> str:
    """An interval of signed numbers as text; empty where nothing is known."""
    return f"{signed(low, digits)} to {signed(high, digits)}" if math.isfinite(low) else ""


def share_bar(share: float, reference: float, low: float, high: float, top: float) -> str:
    """A share as a bar, the range of nearly optimal ones as a line on it, and the reference as a diamond; widths in percent."""

    def at(x: float) -> str:
        return f"{96 * max(x, 0.0) / top + 1:.2f}%"

    parts = [f'<rect class="share" x="1%" y="5" height="10" width="{96 * share / top:.2f}%"/>']
    if math.isfinite(low):
        parts.append(f'<line class="range" x1="{at(low)}" x2="{at(high)}" y1="10" y2="10"/>')
        parts += [f'<line class="range" x1="{at(x)}" x2="{at(x)}" y1="6" y2="14"/>' for x in (low, high)]
    diamond = '<path class="mark" d="M0 -5 L5 0 L0 5 L-5 0 Z"/>'
    parts.append(f'<svg x="{at(reference)}" y="10" overflow="visible">{diamond}</svg>')
    return f'<svg aria-hidden="true">{"".join(parts)}</svg>'


def difference_bar(point: float, low: float, high: float, reach: float, good: int) -> str:
    """A difference as a bar from zero in the middle, with its interval; ``good`` is the sign of what is better."""

    def at(x: float) -> float:
        return 50 + 48 * min(max(x / reach, -1.0), 1.0)

    kind = "better" if point * good > 0 else "worse"
    left, right = sorted((50.0, at(point)))
    parts = [
        '<line class="zero" x1="50%" x2="50%" y1="1" y2="19"/>',
        f'<rect class="{kind}" x="{left:.2f}%" width="{right - left:.2f}%" y="6" height="8"/>',
    ]
    if math.isfinite(low):
        parts.append(f'<line class="whisker" x1="{at(low):.2f}%" x2="{at(high):.2f}%" y1="10" y2="10"/>')
    return f'<svg aria-hidden="true">{"".join(parts)}</svg>'


def outcome_table(names: Sequence[str], here: Any, there: Any, difference: Any, what: str, good: int) -> str:
    """Predicted outcomes at the mixture and at the reference, and the difference with its interval."""
    ends = np.concatenate([np.abs(np.asarray(x, float)) for x in difference])
    reach = float(np.nanmax(ends)) or 1.0
    rows = []
    for i, one in enumerate(names):
        gap, low, high = (float(x[i]) for x in difference)
        inside = f"{here.low[i]:.3f} to {here.high[i]:.3f}" if math.isfinite(here.low[i]) else ""
        rows.append(
            [
                name(one),
                difference_bar(gap, low, high, reach, good),
                f"<strong>{signed(gap)}</strong>",
                span(low, high),
                f"{here.point[i]:.3f}",
                inside,
                f"{there[i]:.3f}",
            ]
        )
    header = ["", "", "difference", "90 % interval", "recommended", "90 % interval", "reference"]
    better = "below zero is better" if good < 0 else "above zero is better"
    return table(header, rows, f"{what}: recommended minus reference, {better}", "table difference")


def tile(title: str, big: str, *small: str) -> str:
    """A number that stands out; all parts are HTML."""
    told = "".join(f"<p>{part}</p>" for part in small if part)
    return f'<div class="tile"><h3>{title}</h3><p class="big">{big}</p>{told}</div>'


def reach_row(label: str, value: float, fitted: tuple[float, float]) -> list[str]:
    """Where a target lies on a logarithmic scale beside what was fitted, as a row of a table."""
    low, high = min(value, fitted[0]) / 1.3, max(value, fitted[1]) * 1.3

    def at(x: float) -> float:
        return 100 * math.log(x / low) / math.log(high / low)

    first, last = (at(x) for x in fitted)
    drawn = (
        f'<svg aria-hidden="true"><rect class="span" x="{first:.2f}%" width="{max(last - first, 0.8):.2f}%" y="4" height="12"/>'
        f'<svg x="{at(value):.2f}%" y="10" overflow="visible"><circle class="target" r="5.5"/></svg></svg>'
    )
    told = f"{value / fitted[1]:.3g} times the largest"
    if fitted[0] <= value <= fitted[1]:
        told = "within what was fitted"
    return [text(label), drawn, format_count(value), f"{format_count(fitted[0])} to {format_count(fitted[1])}", told]
