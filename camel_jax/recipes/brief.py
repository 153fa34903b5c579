"""A short ``repr`` of a result: names and numbers as they are, arrays by type and shape, nothing computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

MOST, FEW = 1_200, 6  # characters of a repr, and the entries of a list or array that are written out


def brief(value: Any, depth: int = 2) -> str:
    """A result in a line: fields by name, long ones by type and shape.

    Args:
      value: a dataclass, a named tuple, or anything in one.
      depth: levels of results in results that are written out.

    >>> from camel_jax.recipes.outcome import Interval
    >>> brief(Interval(np.zeros((40, 3)), 0.5, None))
    'Interval(point=float64[40,3], low=0.5, high=None)'
    """
    text = _of(value, depth)
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


def brief_repr(self: object) -> str:
    """``brief`` as a method."""
    return brief(self)


def _of(value: Any, depth: int) -> str:
    fields: list[tuple[str, Any]] | None = None
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif hasattr(value, "_asdict"):
        fields = list(value._asdict().items())
    if fields is not None:
        name = type(value).__name__
        return f"{name}({', '.join(f'{key}={_of(x, depth - 1)}' for key, x in fields)})" if depth else f"{name}(…)"
    if isinstance(value, np.ndarray) and value.size <= FEW:
        return f"{np.array2string(value, precision=6, separator=', ', max_line_width=10_000)}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, Mapping):
        shown = [f"{key!r:.40}: {_of(x, depth - 1)}" for key, x in list(value.items())[:FEW]]
        return f"{{{', '.join(shown)}{_more(len(value))}}}" if depth > 0 else f"{{{len(value)} entries}}"
    if isinstance(value, list | tuple):
        ends = "()" if isinstance(value, tuple) else "[]"
        shown = [_of(x, max(depth - 1, 0)) for x in value[:FEW]]
        return f"{ends[0]}{', '.join(shown)}{_more(len(value))}{ends[1]}"
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _more(count: int) -> str:
    return f", … {count} in all" if count > FEW else ""
