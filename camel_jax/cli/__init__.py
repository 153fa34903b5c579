"""The command line: ``camel-jax``. It parses, calls and prints; every command is a thin function in a file of its own.

Exit codes: 0 success; 2 bad input, or a package that is not installed (one line on stderr); 130 interrupted. Anything else
is a bug, and shows its traceback (CAMEL_JAX_DEBUG=1 shows that of bad input too). What is imported here is little, so that Ctrl-C
is heard before the commands are loaded.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence

from camel_jax.recipes.names import plain


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
    import typer

    from camel_jax.cli.commands import app
    from camel_jax.cli.output import give_back, stopped
    from camel_jax.runtime import MissingExtraError

    if argv is None:
        for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is written out
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    try:
        code = app(arguments or ["--help"], prog_name="camel-jax", standalone_mode=False)
        if code == 130:  # some versions of typer turn Ctrl-C into a return value
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _say(stopped("interrupted"))
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
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    heard = [number for number, handler in usual.items() if signal.getsignal(number) == handler]  # & ignores Ctrl-C
    if os.name != "posix" or not heard:
        return
    for number in heard:
        signal.signal(number, lambda *_: None)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in heard:
                # a module that is still being loaded has nothing to tell, and importing it here would wait for it
                discard, stopped = (
                    getattr(sys.modules.get(f"camel_jax.{module}"), name, None)
                    for module, name in (("storage", "discard_unfinished"), ("cli.output", "stopped"))
                )
                if discard is not None:
                    discard()
                _say("interrupted" if stopped is None else stopped("interrupted"))
                os._exit(128 + number[0])

    threading.Thread(target=watch, daemon=True).start()


def _say(text: str) -> None:
    print(plain(" ".join(str(text).split())), file=sys.stderr, flush=True)
