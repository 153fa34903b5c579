"""The command line: ``camel-jax``. It parses, calls and prints; every command is a thin function in a file of its own.

Exit codes: 0 success; 2 bad input, or a package that is not installed (one line on stderr); 130 interrupted. Anything else
is a bug, and shows its traceback (CAMEL_JAX_DEBUG=1 shows that of bad input too).
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

from camel_jax.cli import (
    budget,
    demo,
    design,
    example,
    explore,
    export,
    fit,
    front,
    import_runs,
    leaderboard,
    mix,
    path,
    predict,
    report,
    study,
    sweep,
)
from camel_jax.cli.examples import epilog
from camel_jax.cli.options import by_topic
from camel_jax.cli.output import give_back
from camel_jax.recipes.names import plain
from camel_jax.runtime import MissingExtraError
from camel_jax.storage import discard_unfinished

COMMANDS = {
    "Start here": {"demo": demo.demo, "example": example.example},
    "From runs to a mixture": {
        "fit": fit.fit,
        "predict": predict.predict,
        "mix": mix.mix,
        "report": report.report,
        "explore": explore.explore,
    },
    "Other decisions": {"front": front.front, "path": path.path, "budget": budget.budget, "design": design.design},
    "A study that is kept": {f"study {name}": command for name, command in study.COMMANDS.items()},
    "In and out": {"import": import_runs.import_runs, "export": export.export},
    "Evidence and runs": {"leaderboard": leaderboard.leaderboard, "sweep": sweep.sweep},
}
app = typer.Typer(
    name="camel-jax",
    help="Data-mixture scaling laws: from a table of small runs to the mixture for the large one, with intervals.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_groups = {"study": typer.Typer(help="Keep a study: ask for runs, tell their results, take its recommendation.")}
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        *group, last = name.split()
        if group and group[0] not in [one.name for one in app.registered_groups]:
            app.add_typer(_groups[group[0]], name=group[0], rich_help_panel=panel, no_args_is_help=True)
        where = _groups[group[0]] if group else app
        where.command(last, epilog=epilog(name), rich_help_panel=None if group else panel)(by_topic(command))


def _version(asked: bool) -> None:
    if asked:
        from camel_jax import __version__

        print(f"camel-jax {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Data-mixture scaling laws: from a table of small runs to the mixture for the large one, with intervals."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
      argv: arguments without the program's name; those of the process if None.

    Raises:
      SystemExit: always, with the exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        _watch_signals()
        for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is written out
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    try:
        code = app(arguments or ["--help"], prog_name="camel-jax", standalone_mode=False)
        if code == 130:  # some versions of typer turn Ctrl-C into a return value
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        code = 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        code = 0
    except (ValueError, OSError, MissingExtraError) as error:
        if os.environ.get("CAMEL_JAX_DEBUG"):
            raise
        _say(f"error: {error}")
        code = 2
    except Exception as error:  # wrong usage; its class comes with typer or with click, by version
        if not hasattr(error, "format_message"):
            raise
        _say(f"error: {error.format_message()}")  # type: ignore[attr-defined]
        code = 2
    finally:
        give_back()
    raise SystemExit(code if isinstance(code, int) else 0)


def _watch_signals() -> None:
    """Ctrl-C at once, even while a compilation holds the main thread; unfinished files are removed.

    The handlers do nothing: an exception raised inside a callback of the compiler would be printed and lost. A thread
    that hears of the signal through a pipe ends the process.
    """
    if os.name != "posix" or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                discard_unfinished()
                _say("interrupted")
                os._exit(128 + number[0])

    threading.Thread(target=watch, daemon=True).start()


def _say(text: str) -> None:
    print(plain(" ".join(str(text).split())), file=sys.stderr, flush=True)
