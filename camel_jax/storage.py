"""Files that appear whole or not at all; arrays with a JSON header; finished chunks named by their content."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

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


_unfinished: set[pathlib.Path] = set()


def check_target(path: str | os.PathLike[str]) -> pathlib.Path:
    """Fail before the work begins if ``path`` cannot be written.

    Returns:
      The path.

    Raises:
      ValueError: its folder is missing or not writable, or it is itself a folder.
    """
    target = pathlib.Path(path)
    if target.is_dir():
        raise ValueError(f"{target} is a folder, not a file to write")
    folder = target.parent
    if not folder.is_dir():
        raise ValueError(f"cannot write {target}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {target}: no permission in {folder}")
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A temporary path beside ``path`` with the same suffix; moved over it when the block ends without an error.

    >>> folder = tempfile.mkdtemp()
    >>> with replacing(os.path.join(folder, "a.txt")) as part:
    ...     _ = part.write_text("done")
    >>> os.listdir(folder)
    ['a.txt']
    """
    target = check_target(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    part = pathlib.Path(name)
    _unfinished.add(part)
    try:
        yield part
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
        _unfinished.discard(part)


def discard_unfinished() -> None:
    """Remove the temporary files of this process, for an exit that runs no ``finally``."""
    for part in list(_unfinished):
        part.unlink(missing_ok=True)


class Kept:
    """Chunks of work that are finished, one file each, named by everything that went into them: a restarted job reads them.

    Args:
      folder: where chunks are kept, and looked for before they are solved; None for nowhere.
      settings: what the work depends on besides arrays, with a ``repr`` that tells settings apart.
      data: pytree of arrays that all chunks read.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, settings: tuple[Any, ...] = (), data: Any = ()):
        self.folder = None if folder is None else pathlib.Path(folder)
        if self.folder is None:
            return
        import jax

        self.folder.mkdir(parents=True, exist_ok=True)
        self.digest = hashlib.sha256(repr((settings, jax.__version__)).encode())
        _digest_tree(self.digest, data)

    def get(self, inputs: Any, solve: Callable[[], Any], like: Any) -> Any:
        """The chunk of these inputs, from its file or solved and filed; on the host.

        Args:
          inputs: pytree of arrays that this chunk alone reads.
          solve: the work, called where no file has the chunk.
          like: a pytree of the structure that ``solve`` returns.

        Raises:
          ArchiveError: the file of the chunk is damaged.
        """
        import jax

        if self.folder is None:
            return jax.tree.map(np.asarray, solve())
        digest = self.digest.copy()
        _digest_tree(digest, inputs)
        path = self.folder / f"{digest.hexdigest()[:40]}.npz"
        if path.exists():
            arrays = read_archive(path)[1]
            return jax.tree.unflatten(jax.tree.structure(like), [arrays[f"{i:03d}"] for i in range(len(arrays))])
        solution = jax.tree.map(np.asarray, solve())
        write_archive(path, {}, {f"{i:03d}": x for i, x in enumerate(jax.tree.leaves(solution))})
        return solution


def _digest_tree(digest: Any, tree: Any) -> None:
    import jax

    leaves, structure = jax.tree.flatten(tree)
    digest.update(str(structure).encode())
    for x in map(np.asarray, leaves):
        digest.update(repr((x.shape, x.dtype.str)).encode() + np.ascontiguousarray(x).tobytes())
