"""The array type of every signature."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
