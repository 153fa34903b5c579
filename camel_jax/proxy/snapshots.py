"""What a sweep keeps on disk so that it can be stopped at any moment: finished rows, and trainings under way."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import jax
import numpy as np

from camel_jax.storage import ArchiveError, Declared, check_arrays, read_archive, write_archive

ROW, TRAINING = "row of a sweep", "training under way"
SUFFIX = ".row"  # of finished rows
_ROW = {
    "losses": Declared("float64", ("V",), False),
    "accuracies": Declared("float64", ("T",)),
    "answers": Declared("float64", ("T",), False),
    "curve": Declared("float64", ("N", 2), False),
    "seconds": Declared("float64"),
    "evaluation_seconds": Declared("float64"),
}  # V sets, T tasks; a training that ran away has losses that are not finite


def save_snapshot(path: str | os.PathLike[str], state: Any, note: dict[str, Any]) -> None:
    """Write the arrays of a training under way with a note, whole or not at all."""
    write_archive(path, TRAINING, note, {str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(state))})


def load_snapshot(path: str | os.PathLike[str], like: Any) -> tuple[Any, dict[str, Any]] | None:
    """Read what ``save_snapshot`` wrote, of the structure, shapes and dtypes of ``like``; None where there is nothing.

    Raises:
      ArchiveError: the file is damaged, or another training's.
    """
    if not pathlib.Path(path).exists():
        return None
    leaves, tree = jax.tree.flatten(like)
    try:
        note, arrays = read_archive(path, TRAINING)
        schema = {str(i): Declared(str(x.dtype), np.shape(x), False) for i, x in enumerate(leaves)}
        check_arrays(path, schema, arrays)
    except ArchiveError as error:
        raise ArchiveError(f"{error}; delete it, and the training starts again") from None
    return jax.tree.unflatten(tree, [jax.numpy.asarray(arrays[str(i)]) for i in range(len(leaves))]), note


def save_row(path: str | os.PathLike[str], row: dict[str, Any], key: str) -> None:
    """Write a finished row, whole or not at all; ``key`` names all that went into it."""
    shapes = {"curve": (-1, 2)}
    arrays = {name: np.asarray(row[name], float).reshape(shapes.get(name, np.shape(row[name]))) for name in _ROW}
    write_archive(path, ROW, {"key": key}, arrays)


def load_row(path: str | os.PathLike[str], key: str, sets: int, tasks: int) -> dict[str, Any] | None:
    """Read a finished row; None where there is none.

    Args:
      path: the file.
      key: what went into the row.
      sets, tasks: how many losses and accuracies it has.

    Raises:
      ArchiveError: the file is damaged, or another row's.
    """
    if not pathlib.Path(path).exists():
        return None
    try:
        header, arrays = read_archive(path, ROW)
        if header != {"key": key}:
            raise ArchiveError(f"{path}: the row of another recipe, text or setting")
        check_arrays(path, _ROW, arrays, {"V": sets, "T": tasks})
    except ArchiveError as error:
        raise ArchiveError(f"{error}; delete it, and the row is trained again") from None
    return {name: x.tolist() for name, x in arrays.items()}
