"""What all commands share: the engine's settings, progress on stderr, results on stdout, options that several have."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from camel_jax.recipes.names import is_obeyed, plain


def say(text: str) -> None:
    """A line on stderr; nothing in it acts on a terminal."""
    print(plain(text), file=sys.stderr, flush=True)


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
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        ]
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(plain(what), total=None)
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
    """JSON text with stable order; NaN becomes null, and what a terminal would obey is written as ``\\u`` and its number."""
    from camel_jax.recipes.plain_data import as_plain_data

    text = json.dumps(as_plain_data(result, digits=15), indent=2, ensure_ascii=False, allow_nan=False)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(json.dumps(c)[1:-1] if is_obeyed(c) and c != "\n" else c for c in text).replace("\x7f", "\\u007f")


def print_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str | Sequence[str] = (),
    words: int = 1,
    width: int = 110,
) -> None:
    """A table on stdout; the first ``words`` columns are text, the others are numbers.

    ``caption``: a line or lines below. ``width``: where there is no terminal.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for i, name in enumerate(header):
        table.add_column(Text(plain(name)), justify="left" if i < words else "right", no_wrap=i >= words)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else width, highlight=False, soft_wrap=True)
    console.print(Text(plain(title), style="bold"))
    console.print(table, soft_wrap=False)
    if caption:
        lines = [caption] if isinstance(caption, str) else caption
        console.print(Text("\n".join(map(plain, lines)) + "\n", style="dim"))


def print_evidence(lines: Sequence[str]) -> None:
    """The evidence card of a fit on stdout, below the numbers it speaks of."""
    print_lines(["Evidence", *(f"- {line}" for line in lines)])


def print_lines(lines: Sequence[str]) -> None:
    """Plain lines on stdout; nothing in them acts on a terminal."""
    print("\n".join(map(plain, lines)))
