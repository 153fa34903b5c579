"""Files that appear whole or not at all; archives of arrays that are checked before they are believed; chunks named by their content.

An archive is one safetensors file with a JSON header in its metadata. The digest in front of that header covers every byte of the
file, so that no flipped bit passes; the header and the declared sizes are bounded and compared with the size of the file before
anything else is read; nothing is unpacked, and nothing in a file is code. The fit of
``benchmarks/archive_formats.py`` takes 113 kB and is read in 0.3 ms; 115 kB and 1.8 ms as a stored ``.npz``, whose CRC covers less, and
110 kB and 2.5 ms as a compressed one. What an archive holds is declared as ``Declared`` arrays
and compared by ``check_arrays``: a file that does not agree is an ``ArchiveError`` of one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

FORMAT = 2  # 1 was a compressed .npz without a checksum
MOST_HEADER = 4 << 20  # bytes of a header
MOST_BYTES = 4 << 30  # bytes of a file
MOST_NESTING = 32  # brackets in brackets of a header
_MARK, _BLANK = "camel_jax", "0" * 64


class ArchiveError(ValueError):
    """A file is not what it should be, or a fit cannot be saved, and why."""


class Declared(NamedTuple):
    """One array of an archive.

    Attributes:
      dtype: its name, such as "float64".
      shape: a number or a letter for every axis; one letter stands for one length in all arrays of a file.
      finite: whether NaN and infinities are refused.
    """

    dtype: str
    shape: tuple[int | str, ...] = ()
    finite: bool = True


def check_arrays(
    where: object, schema: Mapping[str, Declared], arrays: Mapping[str, Any], sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Compare arrays with what is declared of them; none may be missing, and none may be left over.

    Args:
      where: the file, for the message.
      schema: name -> declaration.
      arrays: name -> array.
      sizes: letter -> length, as far as known.

    Returns:
      The length of every letter.

    Raises:
      ArchiveError: naming the file, the array and the rule.

    >>> check_arrays("fit", {"x": Declared("float64", ("S", 2))}, {"x": np.zeros((3, 2))})
    {'S': 3}
    """
    known = dict(sizes or {})
    for name in sorted(schema.keys() ^ arrays.keys()):
        raise ArchiveError(f"{where}: array {name!r} is {'missing' if name in schema else 'none that belongs here'}")
    for name, (dtype, shape, finite) in schema.items():
        array = np.asarray(arrays[name])
        if array.dtype != np.dtype(dtype):
            raise ArchiveError(f"{where}: array {name!r} is of {array.dtype}, not of {dtype}")
        if array.ndim == len(shape):
            known |= {a: n for a, n in zip(shape, array.shape, strict=True) if isinstance(a, str) and a not in known}
        wanted = tuple(known.get(a, a) if isinstance(a, str) else a for a in shape)
        if array.shape != wanted:
            shown = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
            told = "" if wanted == shape else f", which is {wanted}" if array.ndim == len(shape) else ""
            raise ArchiveError(f"{where}: array {name!r} has shape {array.shape} in place of {shown}{told}")
        if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArchiveError(f"{where}: array {name!r} holds a value that is not finite")
    return known


def write_archive(
    path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Write named arrays and a JSON header as one archive; whole or not at all, equal content giving equal bytes.

    Args:
      path: the file.
      kind: what it holds, in words such as "saved fit".
      header: JSON-able facts.
      arrays: name -> array.
    """
    from safetensors.numpy import save

    text = json.dumps({"format": FORMAT, "kind": kind, "header": header}, sort_keys=True)
    named = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    raw = bytearray(save(named, {_MARK: _BLANK + text}))
    at = raw.index(_BLANK.encode())
    raw[at : at + 64] = hashlib.sha256(raw).hexdigest().encode()
    if int.from_bytes(raw[:8], "little") > MOST_HEADER or len(raw) > MOST_BYTES:
        raise ArchiveError(f"{path}: too large to be a {kind}")
    with replacing(path) as part:
        part.write_bytes(raw)


def read_archive(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file that ``write_archive`` wrote as this kind.

    Raises:
      ArchiveError: not such a file, of a newer or an older format, of another kind, or damaged.
      OSError: the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    def no(why: str) -> ArchiveError:
        return ArchiveError(f"{path}: not a {kind} ({why})")

    check_source(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        if start[:4] == b"PK\x03\x04":
            raise no("a .npz, as versions before this one wrote: fit again to save it in the format of this version")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 0 < length <= min(MOST_HEADER, size - 8):
            raise no("no header")
        if size > MOST_BYTES:
            raise no(f"larger than {MOST_BYTES >> 30} GiB")
        head = file.read(length)
        try:
            declared = _bounded_json(head)
            text = declared.pop("__metadata__")[_MARK]
            digest, told = text[:64].encode(), _bounded_json(text[64:])
            wrote, found, header = told["format"], told["kind"], told["header"]
            ends = [array["data_offsets"][1] for array in declared.values()]
            whole = max(ends, default=0) == size - 8 - length
            newer = wrote > FORMAT
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
            raise no("its header cannot be read") from None
        if newer:
            raise ArchiveError(f"{path}: written by a newer version (format {wrote!r:.20}; this one reads {FORMAT})")
        if not whole:
            raise no("cut off, or longer than its header says")
        raw = bytearray(start + head + file.read(size - 8 - length))
    at = max(raw.find(digest), 0)
    raw[at : at + 64] = _BLANK.encode()
    if hashlib.sha256(raw).hexdigest().encode() != digest:
        raise no("damaged or altered: its checksum does not agree")
    if found != kind or not isinstance(header, dict):
        raise no(f"it is a {found!s:.40}")
    try:
        return header, load(bytes(raw))
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise no(f"its arrays cannot be read: {' '.join(str(error).split())[:120]}") from None


def _bounded_json(raw: bytes | str) -> Any:
    """JSON of bounded nesting."""
    text = raw if isinstance(raw, str) else raw.decode()
    brackets = re.sub(r"[^\[\]{}]+", "", re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL))
    if max(itertools.accumulate(1 if c in "[{" else -1 for c in brackets), default=0) > MOST_NESTING:
        raise ValueError("nested too deeply")
    return json.loads(text)


_unfinished: set[pathlib.Path] = set()


def check_source(path: str | os.PathLike[str]) -> None:
    """Fail where a path is a folder, a pipe or a device, which would be read forever.

    Raises:
      ValueError: it is.
      OSError: there is nothing, or it cannot be looked at.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is {_what(mode)}, not a file to read")


def _what(mode: int) -> str:
    names = (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")
    return next((name for test, name in names if test(mode)), "a device")


def check_target(path: str | os.PathLike[str]) -> pathlib.Path:
    """Fail before the work begins if ``path`` cannot be written.

    Returns:
      The path.

    Raises:
      ValueError: its folder is missing or not writable, its name is too long, or it is itself a folder, a pipe or a device.
    """
    target = pathlib.Path(path)
    try:
        folder = target.parent
        if os.path.exists(target) and not stat.S_ISREG(mode := os.stat(target).st_mode):
            raise ValueError(f"{target} is {_what(mode)}, not a file to write")
        if not folder.is_dir():
            raise ValueError(f"cannot write {target}: there is no folder {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(f"cannot write {target}: no permission in {folder}")
        with contextlib.suppress(FileNotFoundError):
            os.lstat(target)  # tells a name that is too long
        _beside(target).unlink()  # tells a file system that takes no files
    except OSError as error:
        raise ValueError(f"cannot write {str(target)[:80]}: {error.strerror}") from None
    return target


def _beside(target: pathlib.Path) -> pathlib.Path:
    # the suffix tells what to write; the name is cut, since it may be as long as names can be
    handle, name = tempfile.mkstemp(prefix=f".{target.stem[:20]}-", suffix=target.suffix[:20], dir=target.parent)
    os.close(handle)
    return pathlib.Path(name)


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
    part = _beside(target)
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


@contextlib.contextmanager
def locked(path: str | os.PathLike[str] | None, what: str = "writing") -> Iterator[None]:
    """Hold a file or a folder against other processes while a block runs; one that holds it already is named.

    The system gives the lock back when a process ends, however it ends; the file that stays then bars nobody.

    Args:
      path: what the block writes; None for nothing.
      what: what the block does with it, for the message.

    Raises:
      ValueError: another process holds it.
    """
    if path is None or importlib.util.find_spec("fcntl") is None:  # not on this system: nothing is held
        yield
        return
    import fcntl

    target = pathlib.Path(path)
    lock = target.parent / f".{target.name.encode()[:200].decode(errors='ignore')}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 20).decode(errors="replace") or "unknown"
            os.close(handle)
            raise ValueError(f"{target}: process {holder} is {what} it; wait for it, or name another") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                break
        os.close(handle)  # its holder has just removed the file
    try:
        _unfinished.add(lock)
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        lock.unlink(missing_ok=True)
        _unfinished.discard(lock)
        os.close(handle)


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
      kind: what a chunk is, in words.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None, settings: Any = (), data: Any = (), kind: str = "chunk of a fit"
    ):
        self.folder, self.kind = None if folder is None else pathlib.Path(folder), kind
        if self.folder is None:
            return
        import jax

        self.folder.mkdir(parents=True, exist_ok=True)
        self.digest = hashlib.sha256(repr((settings, jax.__version__)).encode())
        digest_tree(self.digest, data)

    def get(self, inputs: Any, solve: Callable[[], Any], like: Any, sound: Callable[[Any], bool] | None = None) -> Any:
        """The chunk of these inputs, from its file or solved and filed; on the host.

        Args:
          inputs: pytree of arrays that this chunk alone reads.
          solve: the work, called where no file has the chunk.
          like: a pytree of the structure, shapes and dtypes that ``solve`` returns.
          sound: whether a chunk of the right shapes can be what ``solve`` returned; None for always.

        Raises:
          ArchiveError: the file of the chunk is damaged, or another's.
        """
        import jax

        if (found := self.find(inputs, lambda note: like, sound)) is not None:
            return found[1]
        solution = jax.tree.map(np.asarray, solve())
        self.put(inputs, {}, solution)
        return solution

    def find(
        self, inputs: Any, like: Callable[[dict[str, Any]], Any], sound: Callable[[Any], bool] | None = None
    ) -> tuple[dict[str, Any], Any] | None:
        """Note and pytree of a chunk that was ``put`` for these inputs, or None; as ``get``, but ``like`` is told the note."""
        import jax

        if self.folder is None or not (path := self._path(inputs)).exists():
            return None
        try:
            note, arrays = read_archive(path, self.kind)
            if note.pop("inputs", None) != self._name(inputs):
                raise ArchiveError(f"{path}: the {self.kind} of other work")
            leaves, structure = jax.tree.flatten(like(note))
            schema = {f"{i:03d}": Declared(str(x.dtype), np.shape(x), False) for i, x in enumerate(leaves)}
            check_arrays(path, schema, arrays)
            tree = jax.tree.unflatten(structure, [arrays[name] for name in sorted(schema)])
            if sound is not None and not sound(tree):
                raise ArchiveError(f"{path}: its numbers are no result")
        except ArchiveError as error:
            raise ArchiveError(f"{error}; delete it, and it is computed again") from None
        return note, tree

    def put(self, inputs: Any, note: Mapping[str, Any], tree: Any) -> None:
        """File a pytree with a note under these inputs."""
        if self.folder is not None:
            import jax

            arrays = {f"{i:03d}": x for i, x in enumerate(jax.tree.leaves(tree))}
            write_archive(self._path(inputs), self.kind, {**note, "inputs": self._name(inputs)}, arrays)

    def _name(self, inputs: Any) -> str:
        digest = self.digest.copy()
        digest_tree(digest, inputs)
        return digest.hexdigest()

    def _path(self, inputs: Any) -> pathlib.Path:
        assert self.folder is not None
        return self.folder / f"{self._name(inputs)[:40]}.safetensors"


def digest_tree(digest: Any, tree: Any) -> None:
    """Feed the structure and every array of a pytree to a hash."""
    import jax

    leaves, structure = jax.tree.flatten(tree)
    digest.update(str(structure).encode())
    for x in map(np.asarray, leaves):
        digest.update(repr((x.shape, x.dtype.str)).encode() + np.ascontiguousarray(x).tobytes())
