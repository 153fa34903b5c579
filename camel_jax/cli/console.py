"""What all commands share: the engine's settings, progress on stderr, results on stdout, options that several have."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import mmap
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="THEIRS=OURS",
        help="Read column THEIRS of the table as OURS, as in 'val_*=loss/*'; 'THEIRS=' leaves it out. Repeatable.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice; the same seed gives the same bytes.")]


# programs of the command line compile more than they compute
QUICK = ("--xla_cpu_use_fusion_emitters=false", "--xla_backend_optimization_level=1")
# without it the gradients of a GPU are added up in the order in which they come
REPEATABLE = ("--xla_gpu_deterministic_ops=true",)


def start_engine(quick: bool = True, repeatable: bool = False) -> None:
    """Float64, one virtual device a core and a compilation cache that lasts: for programs, never on import.

    Args:
      quick: on a machine without an accelerator, compile in half the time; for programs that do not compute for long.
      repeatable: on a GPU, leave out operations whose rounding changes from run to run.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        flags = f"{flags} --xla_force_host_platform_device_count={min(cores, 8)}"
    if "jax" not in sys.modules:
        wanted = (REPEATABLE if repeatable else ()) if has_accelerator() else (QUICK if quick else ())
        new = [flag for flag in wanted if flag.partition("=")[0] not in flags]
        flags = " ".join([flags, *(flag for flag in new if jaxlib_knows(flag[2:].partition("=")[0]))])
    os.environ["XLA_FLAGS"] = flags.strip()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small factorisations: threads of its own only get in the way
    import jax

    jax.config.update("jax_enable_x64", True)
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_dir("camel-jax")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return  # no home to write to: compile every time
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def has_accelerator() -> bool:
    """Whether jax may find a GPU or TPU: a plugin of one is installed, and jax is not kept from it."""
    plugins = any(importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu"))
    return plugins and os.environ.get("JAX_PLATFORMS", "") != "cpu"


def jaxlib_knows(flag: str) -> bool:
    """Whether jaxlib takes a flag of XLA; a process ends at a flag that its jaxlib does not know.

    A flag's name stands in the library as a string of its own, between two zeros; a name that was retired may stand there otherwise.

    >>> jaxlib_knows("xla_backend_optimization_level")
    True
    """
    spec = importlib.util.find_spec("jaxlib")
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in pathlib.Path(folder).glob("*jax_common*"):
            with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                if text.find(b"\0" + flag.encode() + b"\0") >= 0:
                    return True
    return False


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


def parse_map(pairs: Sequence[str] | None) -> dict[str, str | None]:
    """``--map`` options as a mapping for ``read_runs``."""
    columns: dict[str, str | None] = {}
    for pair in pairs or ():
        theirs, equals, ours = pair.rpartition("=")
        if not equals or not theirs:
            raise ValueError(f"--map {pair!r} is not THEIRS=OURS")
        columns[theirs] = ours or None
    return columns


def tell_ignored(names: list[str]) -> None:
    """Note on stderr which columns are no part of the schema."""
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    say(f"note: columns not used: {shown}")


def print_json(result: Any) -> None:
    """A result as JSON on stdout."""
    print(as_json(result))


def as_json(result: Any) -> str:
    """JSON text with stable order; NaN becomes null."""
    return json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.15g}") if abs(value) < float("inf") else None
    return value


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
        console.print(caption, style="dim", markup=False)


def print_lines(lines: Sequence[str]) -> None:
    """Plain lines on stdout."""
    print("\n".join(lines))
