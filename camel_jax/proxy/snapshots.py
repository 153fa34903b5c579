"""What a sweep keeps on disk so that it can be stopped at any moment: finished rows, and trainings under way."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from camel_jax.storage import replacing


def save_snapshot(path: str | os.PathLike[str], state: Any, note: dict[str, Any]) -> None:
    """Write the arrays of a training under way with a note, whole or not at all."""
    leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    with replacing(path) as part:
        np.savez(part, note=np.frombuffer(json.dumps(note).encode(), np.uint8), **leaves)  # type: ignore[arg-type]


def load_snapshot(path: str | os.PathLike[str], like: Any) -> tuple[Any, dict[str, Any]] | None:
    """Read what ``save_snapshot`` wrote, shaped as ``like``; None where there is nothing."""
    if not pathlib.Path(path).exists():
        return None
    with np.load(path, allow_pickle=False) as data:
        leaves, tree = jax.tree.flatten(like)
        state = jax.tree.unflatten(tree, [data[str(i)] for i in range(len(leaves))])
        return jax.tree.map(jax.numpy.asarray, state), json.loads(bytes(data["note"]).decode())


def save_row(path: str | os.PathLike[str], row: dict[str, Any]) -> None:
    """Write a finished row, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(row))


def load_row(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read a finished row; None where there is none."""
    path = pathlib.Path(path)
    return json.loads(path.read_text()) if path.exists() else None
