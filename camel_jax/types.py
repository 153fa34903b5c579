"""Array types."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
