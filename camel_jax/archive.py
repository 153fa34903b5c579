"""Arrays on disk: one ``.npz`` with a JSON header. Never pickle: loading an untrusted file runs no code."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from camel_jax.files import replacing

FORMAT = 1


class ArchiveError(ValueError):
    """A file is not a saved fit, or a fit cannot be saved, and why."""


def write_archive(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write named arrays and a JSON header as one ``.npz``; whole or not at all, equal content giving equal bytes."""
    text = json.dumps({"format": FORMAT, **header}, sort_keys=True)
    buffer = io.BytesIO()
    named = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    np.savez_compressed(buffer, allow_pickle=False, header=np.frombuffer(text.encode(), np.uint8), **named)
    with replacing(path) as part:
        part.write_bytes(buffer.getvalue())


def read_archive(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file that ``write_archive`` wrote.

    Raises:
      ArchiveError: not such a file, of a newer format, or damaged.
      OSError: the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(bytes(arrays.pop("header")).decode())
        newer = header["format"] > FORMAT
    except (KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile, EOFError) as error:
        raise ArchiveError(f"{path}: not a saved fit ({type(error).__name__}: {error})") from None
    if newer:
        raise ArchiveError(f"{path}: written by a newer version (format {header['format']}; this one reads {FORMAT})")
    return header, arrays
