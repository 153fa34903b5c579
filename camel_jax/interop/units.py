"""Units of losses and accuracies: how they are called, and what turns them into those of a run table.

====================  ==============================  ===========
unit                  what a loss of it is            family
====================  ==============================  ===========
``nats per token``    L                               token
``bits per token``    L / ln 2                        token
``perplexity``        exp(L)                          token
``nats per byte``     L over bytes per token          byte
``bits per byte``     the same, over ln 2             byte
``byte perplexity``   exp of nats per byte            byte
====================  ==============================  ===========

Families are never mixed in a table: a loss per byte becomes one per token only through the bytes per token of its set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

TOKEN, BYTE, SHARE = "token", "byte", "share"
LARGEST_NATS = 20.0  # a model that knows nothing has the log of its vocabulary, below 13 nats


class Unit(NamedTuple):
    """A unit: its name, its family, and the function that gives nats (or shares of one)."""

    name: str
    family: str
    convert: Callable[[float], float]


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _same(value: float) -> float:
    return value


UNITS = {
    unit.name: unit
    for unit in (
        Unit("nats per token", TOKEN, _same),
        Unit("bits per token", TOKEN, lambda value: value * math.log(2)),
        Unit("perplexity", TOKEN, _log),
        Unit("nats per byte", BYTE, _same),
        Unit("bits per byte", BYTE, lambda value: value * math.log(2)),
        Unit("byte perplexity", BYTE, _log),
        Unit("fraction", SHARE, _same),
        Unit("percent", SHARE, lambda value: value / 100),
    )
}
_ALIASES = {
    "nats": "nats per token",
    "nat": "nats per token",
    "bits": "bits per token",
    "ppl": "perplexity",
    "token perplexity": "perplexity",
    "bpb": "bits per byte",
    "per cent": "percent",
    "%": "percent",
    "share": "fraction",
}


def parse_unit(text: str) -> Unit:
    """The unit that a text names.

    Args:
      text: a name of the table above, "fraction" or "percent"; with spaces, hyphens or underscores, or short as in "bpb".

    Raises:
      ValueError: no such unit.

    >>> parse_unit("bits-per-byte").name, parse_unit("PPL").name
    ('bits per byte', 'perplexity')
    """
    name = re.sub(r"[\s_/-]+", " ", text.strip().lower())
    name = _ALIASES.get(name, name)
    if name not in UNITS:
        raise ValueError(f"unit {text!r} is unknown; there are {', '.join(UNITS)}")
    return UNITS[name]


def check_range(unit: Unit, values: list[float], column: str, place: str) -> None:
    """Refuse values that a stated unit cannot have: most often the unit is another, or a column holds two.

    Args:
      unit: the unit that was stated for the column.
      values: its measured values, at least one.
      column: name of the column in the source.
      place: the source, for the message.

    Raises:
      ValueError: a value outside what the unit allows.

    >>> check_range(UNITS["perplexity"], [0.5], "ppl", "t.csv")
    Traceback (most recent call last):
    ValueError: t.csv: column 'ppl': 0.5 is no perplexity, which is at least 1: is it in another unit?
    """
    low, high = min(values), max(values)
    head = f"{place}: column {column!r}:"
    if unit.name.endswith("perplexity") and low < 1:
        raise ValueError(f"{head} {low:g} is no {unit.name}, which is at least 1: is it in another unit?")
    if unit.family != SHARE and not unit.name.endswith("perplexity"):
        if low <= 0:
            raise ValueError(f"{head} {low:g} is no loss, which is above zero")
        if unit.convert(high) > LARGEST_NATS:
            raise ValueError(f"{head} {high:g} {unit.name} is more than knowing nothing costs: is it a perplexity?")
    if unit.name == "percent":
        if not 0 <= low <= high <= 100:
            raise ValueError(f"{head} {low if low < 0 else high:g} is no percentage")
        if 0 < high <= 1 and len(values) > 2:
            raise ValueError(f"{head} holds nothing above 1 and was stated as percent: is it a fraction?")
    if unit.name == "fraction" and not 0 <= low <= high <= 1:
        hint = ": is it in percent?" if low >= 0 and high <= 100 else ""
        mixed = "; other rows lie within 0 and 1, so that two units may be mixed" if low <= 1 < high else ""
        raise ValueError(f"{head} {low if low < 0 else high:g} is no fraction of 1{hint}{mixed}")
