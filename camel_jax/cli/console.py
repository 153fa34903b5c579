"""What all commands share: the engine's settings, progress on stderr, results on stdout, options that several have."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None]]:
    """Progress on stderr while a block runs: a bar on a terminal, lines every few seconds elsewhere.

    Yields:
      ``progress(done, total)``.
    """
    start = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        ]
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        last = [start]

        def progress(done: int, total: int) -> None:
            now = time.monotonic()
            if now - last[0] >= 5:
                last[0] = now
                say(f"{what}: {done} of {total}, {now - start:.0f} s")

        announce = threading.Timer(1.0, say, [f"{what} ..."])
        announce.daemon = True
        announce.start()
        try:
            yield progress
        finally:
            announce.cancel()
    if (seconds := time.monotonic() - start) >= 1:
        say(f"{what}: done in {seconds:.1f} s")


def tell_ignored(names: list[str]) -> None:
    """Note on stderr which columns are no part of the schema."""
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    say(f"note: columns not used: {shown}")


def print_json(result: Any) -> None:
    """A result as JSON on stdout."""
    print(as_json(result))


def as_json(result: Any) -> str:
    """JSON text with stable order; NaN becomes null."""
    from camel_jax.storage import plain

    return json.dumps(plain(result, digits=15), indent=2, ensure_ascii=False, allow_nan=False)


def print_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str | None = None,
    words: int = 1,
    width: int = 110,
) -> None:
    """A table on stdout; the first ``words`` columns are text, the others are numbers. ``width`` where there is no terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i < words else "right", no_wrap=i >= words)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else width, highlight=False, soft_wrap=True)
    console.print(title, style="bold", markup=False)
    console.print(table, soft_wrap=False)
    if caption:
        console.print(f"{caption}\n", style="dim", markup=False)


def print_lines(lines: Sequence[str]) -> None:
    """Plain lines on stdout."""
    print("\n".join(lines))
