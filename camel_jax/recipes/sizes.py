"""Sizes and token counts as people write them: 7B, 590M-A12M, 30B, 1T, 1.2e9. Text only, no dependencies."""

from __future__ import annotations

import math
import numbers
import re
from decimal import Decimal


def parse_amount(option: str, text: str) -> float:
    """A positive number such as 1e21."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{option} {text!r} is not a number; write it as 1e21") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"{option} {text}: must be above zero and finite")
    return value


def number(option: str, name: str, text: str) -> float:
    """The number of a NAME=VALUE option."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} {name}={text}: {text!r} is not a number") from None


_POWERS = {"": 0, "k": 3, "m": 6, "b": 9, "t": 12}
_COUNT = re.compile(r"\+?(\d+\.?\d*|\.\d+)(?:e([+-]?\d{1,3}))?\s*([kmbt]?)", re.IGNORECASE | re.ASCII)
SMALLEST = 1e3  # below this a count was written in millions or billions, or is another column
LARGEST = 1e19


def parse_count(text: str | float, what: str = "count") -> float:
    """A positive count from a number or from text such as "30B".

    Args:
      text: a number, or digits with an optional exponent and an optional suffix K, M, B or T (thousand to trillion).
      what: what is counted, for the message.

    Returns:
      The count as a float.

    Raises:
      ValueError: not such text, or outside [1e3, 1e19].

    >>> parse_count("1.2B"), parse_count("3e8"), parse_count(2_000_000)
    (1200000000.0, 300000000.0, 2000000.0)
    """
    if isinstance(text, numbers.Real) and not isinstance(text, bool):
        value = float(text)
    elif isinstance(text, str):
        clean = text.strip()
        if "," in clean:
            raise ValueError(f"{what} {text!r} has a comma: write it without separators, as 1200000000, 1.2e9 or 1.2B")
        match = _COUNT.fullmatch(clean)
        if match is None and re.fullmatch(r"[+-]?(nan|inf|infinity)", clean, re.IGNORECASE):
            value = float(clean)
        elif match is None and re.fullmatch(r"-\s*(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*[kmbt]?", clean, re.IGNORECASE):
            raise ValueError(f"{what} {text!r} is not positive")
        elif match is None:
            raise ValueError(f"{what} {text!r} is not a count: write 1200000000, 1.2e9 or 1.2B")
        else:
            digits, exponent, suffix = match.groups()
            value = float(Decimal(digits).scaleb(int(exponent or 0) + _POWERS[suffix.lower()]))
    else:
        raise ValueError(f"{what} {text!r} is not a count: write 1200000000, 1.2e9 or 1.2B")
    if not math.isfinite(value):
        raise ValueError(f"{what} {text!r} is not finite")
    if value <= 0:
        raise ValueError(f"{what} {text!r} is not positive")
    if value < SMALLEST:
        raise ValueError(f"{what} {text!r} is below 1000: write raw counts, or a suffix as in 122M")
    if value > LARGEST:
        raise ValueError(f"{what} {text!r} is above 1e19")
    return value


def parse_size(text: str | float) -> tuple[float, float]:
    """Total and active parameters of a model.

    Args:
      text: "7B" or a number for a dense model, "7B-A150M" for 7B parameters of which 150M are active.

    Returns:
      (n_total, n_active), in parameters.

    Raises:
      ValueError: text that is no size, or more active than total parameters.

    >>> parse_size("590M-A12M"), parse_size("7B")
    ((590000000.0, 12000000.0), (7000000000.0, 7000000000.0))
    """
    if isinstance(text, str):
        parts = re.split(r"\s*-\s*a\s*(?=[\d.])", text.strip(), flags=re.IGNORECASE)
        if len(parts) == 2:
            total, active = parse_count(parts[0], "total size"), parse_count(parts[1], "active size")
            if active > total:
                raise ValueError(f"size {text!r} has more active than total parameters")
            return total, active
    size = parse_count(text, "size")
    return size, size


def parse_tokens(text: str | float) -> float:
    """Training tokens from "30B", "1T" or a number.

    >>> parse_tokens("1T")
    1000000000000.0
    """
    return parse_count(text, "tokens")


def format_count(value: float) -> str:
    """Short text of a count, to three significant digits.

    >>> format_count(1.2e9), format_count(5.9e8), format_count(1234)
    ('1.2B', '590M', '1.23K')
    """
    for power, suffix in ((12, "T"), (9, "B"), (6, "M"), (3, "K")):
        if value >= 0.9995 * 10.0**power:
            return f"{float(f'{value / 10.0**power:.3g}'):g}{suffix}"
    return f"{value:.3g}"


def format_size(n_total: float, n_active: float) -> str:
    """Short text of a model size.

    >>> format_size(5.9e8, 1.2e7), format_size(7e9, 7e9)
    ('590M-A12M', '7B')
    """
    total, active = format_count(n_total), format_count(n_active)
    return total if n_total == n_active else f"{total}-A{active}"
