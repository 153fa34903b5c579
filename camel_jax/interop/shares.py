"""Mixtures from what was logged: one corpus a run, counts or weights, and domains that a run does not name."""

from __future__ import annotations

from typing import Any

from camel_jax.interop.tracked import as_number, is_measured

Row = dict[str, Any]
TOLERANCE = 1e-3


def one_hot(rows: list[Row], places: list[str], names: list[Any]) -> None:
    """Give every row the mixture of the one corpus that its run was trained on; in place.

    Args:
      rows: rows of a run table without a mixture.
      places: how to call each.
      names: the corpus of each.

    Raises:
      ValueError: a row without a corpus, or one that has a mixture already.
    """
    for place, row, name in zip(places, rows, names, strict=True):
        if not is_measured(name):
            raise ValueError(f"{place}: names no corpus in the domain column")
        if any(key.startswith("mix/") for key in row):
            raise ValueError(
                f"{place}: has a mixture beside its corpus: which counts? Leave out --domain-column or map no mix/"
            )
    domains = list(dict.fromkeys(str(name).strip() for name in names))
    for row, name in zip(rows, names, strict=True):
        row |= {f"mix/{domain}": float(domain == str(name).strip()) for domain in domains}


def complete_shares(rows: list[Row], places: list[str], normalize: bool) -> list[str]:
    """Make the shares of every row numbers that sum to one, where that is sure or was asked for; in place.

    A domain that a row does not name has share 0 if the row's other shares sum to one. With ``normalize`` shares are divided by their
    sum, whatever it is.

    Args:
      rows: rows of a run table.
      places: how to call each.
      normalize: whether shares may be divided by their sum.

    Returns:
      Notes about what was changed.

    Raises:
      ValueError: a row without shares, a share that is no number or negative, or a sum that is not one without ``normalize``.

    >>> rows = [{"mix/web": 30, "mix/code": 10}]
    >>> complete_shares(rows, ["run a"], True), rows
    (['shares of 1 rows summed to 40, not to 1: each was divided by its sum'], [{'mix/web': 0.75, 'mix/code': 0.25}])
    """
    domains = list(dict.fromkeys(key for row in rows for key in row if key.startswith("mix/")))
    if not domains:
        return []
    notes, absent, divided = [], {}, []
    for place, row in zip(places, rows, strict=True):
        values = {}
        for domain in domains:
            value = row.get(domain)
            if not is_measured(value):
                if value is not None and as_number(value) is not None:
                    raise ValueError(f"{place}: {domain} is {value}: a share must be finite")
                continue
            values[domain] = _share(place, domain, value, normalize)
        if not values:
            raise ValueError(f"{place}: has no mixture: its {len(domains)} shares are blank")
        total = sum(values.values())
        near = abs(total - 1) <= TOLERANCE
        if len(values) < len(domains):
            lacking = [domain for domain in domains if domain not in values]
            if not near and not (abs(total - 100) <= 100 * TOLERANCE and normalize):
                raise ValueError(
                    f"{place}: has no share of {lacking[0]!r}, and its others sum to {total:.6g}: 0 is not sure to be meant"
                )
            absent.setdefault(", ".join(lacking[:3]) + (" and more" if len(lacking) > 3 else ""), []).append(place)
        if not near:
            if not normalize:
                hint = "fractions of 1 are read, not percent" if abs(total - 100) <= 1 else "are they counts or weights"
                raise ValueError(
                    f"{place}: shares sum to {total:.6g}, not to 1: {hint}; --normalize divides them by their sum"
                )
            if total <= 0:
                raise ValueError(f"{place}: all shares are zero")
            divided.append(total)
            values = {domain: value / total for domain, value in values.items()}
        row |= {domain: values.get(domain, 0.0) for domain in domains}
    for names, where in absent.items():
        notes.append(f"{len(where)} rows do not name {names}, and their other shares sum to one: share 0 ({where[0]})")
    if divided:
        low, high = min(divided), max(divided)
        sums = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
        notes.append(f"shares of {len(divided)} rows summed to {sums}, not to 1: each was divided by its sum")
    return notes


def _share(place: str, domain: str, value: Any, normalize: bool) -> float:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.endswith("%"):
        if not normalize:
            raise ValueError(f"{place}: {domain} is {value!r}: fractions of 1 are read; --normalize takes percent too")
        text = text[:-1]
    number = as_number(text)
    if number is None:
        raise ValueError(f"{place}: {domain} is {value!r}, which is not a number")
    if number < 0:
        raise ValueError(f"{place}: {domain} is {number:g}: a share is not negative")
    return number
