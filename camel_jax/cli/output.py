"""Files that a command writes: claimed before the work, and written whole or not at all."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

from camel_jax.cli.console import as_json, say
from camel_jax.storage import check_target, locked, replacing

TABLE, FIGURE = (".csv", ".parquet", ".pq"), (".png", ".svg", ".pdf")


_held = contextlib.ExitStack()
_how: list[str] = []


def claim(path: pathlib.Path, what: str = "writing") -> None:
    """A file or folder that this command alone writes until it ends.

    Raises:
      ValueError: it cannot be written, or another process is writing it.
    """
    hold(check_target(path), what)


def hold(path: pathlib.Path | None, what: str) -> None:
    """A file or folder that no other command uses until this one ends; None for nothing.

    Raises:
      ValueError: another process does.
    """
    _held.enter_context(locked(path, what))


def give_back() -> None:
    """Let go of all that was claimed."""
    _held.close()
    _how.clear()


def goes_on(how: str) -> None:
    """Remember how this command goes on after it was stopped, for the line it ends with then."""
    _how[:] = [how]


def stopped(what: str) -> str:
    """The line with which a command ends that is stopped: what happened, and how it goes on.

    >>> stopped("interrupted")
    'interrupted'
    >>> goes_on("the same command, started again, goes on from kept")
    >>> stopped("interrupted")
    'interrupted: the same command, started again, goes on from kept'
    >>> give_back()
    """
    return ": ".join([what, *_how])


def check_files(out: pathlib.Path | None, figure: pathlib.Path | None = None, kinds: tuple[str, ...] = TABLE) -> None:
    """Claim what a command will write, before any work; ``kinds`` are the suffixes that ``out`` may have.

    Raises:
      ValueError: another suffix, or no such folder.
    """
    for option, path, suffixes in (("--out", out, kinds), ("--figure", figure, FIGURE)):
        if path is not None:
            if path.suffix.lower() not in suffixes:
                raise ValueError(f"{option} {path}: the name must end in {', '.join(suffixes)}")
            claim(path)


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns as a list of rows."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write_table(columns: dict[str, Any], out: pathlib.Path | None) -> None:
    """Write a table where one was asked for."""
    if out is not None:
        from camel_jax.tables.write import write_columns

        write_columns(columns, out)
        say(f"wrote {out}")


def write_json(result: Any, out: pathlib.Path | None) -> None:
    """Write a result as JSON where a file was asked for."""
    if out is not None:
        with replacing(out) as part:
            part.write_text(as_json(result) + "\n")
        say(f"wrote {out}")


def write_figure(page: Any, path: pathlib.Path) -> None:
    """Write a figure whole or not at all."""
    from camel_jax.figures.style import save_figure

    fixed = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}  # the same bytes on another day
    with replacing(path) as part:
        save_figure(page, part, format=path.suffix[1:].lower(), metadata=fixed.get(path.suffix.lower(), {}))
    say(f"wrote {path}")
