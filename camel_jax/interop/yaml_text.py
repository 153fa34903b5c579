"""Plain YAML text of nested names, lists, numbers and text, which every YAML parser reads the same way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "none", "y", "n", "nan", "inf"})


def to_yaml(tree: Mapping[str, Any], depth: int = 0) -> str:
    """Names with values as YAML.

    Args:
      tree: text, numbers, None, lists of them or of mappings, and mappings, nested at will.
      depth: how deep the text stands.

    >>> print(to_yaml({"data": {"web": 0.5, "paths": ["a"], "on": 1e-6}}), end="")
    data:
      web: 0.5
      paths:
        - "a"
      "on": 0.000001
    """
    pad, out = "  " * depth, []
    for key, value in tree.items():
        name = _key(str(key))
        if isinstance(value, Mapping) and value:
            out.append(f"{pad}{name}:\n{to_yaml(value, depth + 1)}")
        elif isinstance(value, (list, tuple)) and value:
            out.append(f"{pad}{name}:\n{_items(value, depth + 1)}")
        else:
            out.append(f"{pad}{name}: {_scalar(value)}\n")
    return "".join(out)


def _items(values: Any, depth: int) -> str:
    pad, out = "  " * depth, []
    for value in values:
        if isinstance(value, Mapping):
            text = to_yaml(value, depth + 1)
            out.append(f"{pad}- {text[2 * depth + 2 :]}")
        else:
            out.append(f"{pad}- {_scalar(value)}\n")
    return "".join(out)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) and name.lower() not in _WORDS else json.dumps(name, ensure_ascii=False)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return decimal(value)
    if isinstance(value, (list, tuple, Mapping)):
        return "[]" if not isinstance(value, Mapping) else "{}"
    return json.dumps(str(value), ensure_ascii=False)


def decimal(value: float) -> str:
    """A number with a point and without an exponent, which some parsers take for text; it reads back as the same number.

    >>> decimal(1e-7), decimal(0.5), decimal(3.0)
    ('0.0000001', '0.5', '3.0')
    """
    text = repr(float(value))
    if "e" in text:
        from decimal import Decimal

        text = f"{Decimal(text):f}"
        text = text if "." in text else f"{text}.0"
    return text
