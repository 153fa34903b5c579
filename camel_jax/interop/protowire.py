"""Just enough of protocol buffers' wire format to read event files without the program that wrote them.

Field numbers of a published format never change their meaning, so a reader needs no generated classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any


class WireError(ValueError):
    """Bytes that are no message."""


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: int for varints, bytes for the others.

    Args:
      data: the message.

    Raises:
      WireError: the bytes end too early or hold an unknown wire type.

    >>> list(fields(bytes([0x08, 0x96, 0x01, 0x12, 0x02, 0x68, 0x69])))
    [(1, 150), (2, b'hi')]
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise WireError(f"wire type {kind} of field {number} is unknown")
        if at > len(data):
            raise WireError("a message ends too early")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError("a number ends too early")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def signed(value: int) -> int:
    """A varint as the signed 64-bit number it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def float32(value: bytes) -> float:
    """Four bytes as a number."""
    return struct.unpack("<f", value)[0]


def float64(value: bytes) -> float:
    """Eight bytes as a number."""
    return struct.unpack("<d", value)[0]


def first(data: bytes, number: int, default: Any = None) -> Any:
    """The last value of a field, which is the one that counts, or ``default``."""
    for found, value in fields(data):
        if found == number:
            default = value
    return default
