"""Writing files so that an interrupt leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

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
