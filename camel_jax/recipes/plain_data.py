"""Results as data that JSON can write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def as_plain_data(value: Any, digits: int = 17) -> Any:
    """Data as JSON knows it: arrays as lists, named tuples and mappings as dictionaries, numbers that are not finite as None.

    Args:
      value: any nesting of these. digits: of numbers, all of them by default.

    >>> import numpy as np
    >>> as_plain_data({"a": (np.ones(2), float("nan"))})
    {'a': [[1.0, 1.0], None]}
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): as_plain_data(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain_data(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value
