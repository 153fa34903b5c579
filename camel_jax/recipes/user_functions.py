"""Errors of functions that users write, in their terms: which function failed, where it is written, and on what shapes."""

from __future__ import annotations

import contextlib
import dis
from collections.abc import Iterator
from typing import Any

import jax

FAILURES = (TypeError, IndexError, AttributeError, KeyError, NameError, ZeroDivisionError, jax.errors.JAXTypeError)
LIBRARIES = ("jax", "jaxlib", "numpy", "flax")


@contextlib.contextmanager
def naming(what: str, function: Any, took: str) -> Iterator[None]:
    """Say whose function failed, and on what, in place of what it did to a traced array.

    Args:
      what: the part that failed, in words. function: the user's, for where it is written. took: shapes of its arguments.

    Raises:
      ValueError: the block raised a TypeError, an IndexError or whatever else jax raises of a function that it cannot trace. An error
        that the function raises itself, in its own words, is left as it is.
    """
    try:
        yield
    except (*FAILURES, ValueError) as error:
        if isinstance(error, ValueError) and (type(error) is not ValueError or _said_by_hand(error)):
            raise
        code = getattr(function, "__code__", None)
        place = f" ({code.co_filename.rsplit('/', 1)[-1]}, line {code.co_firstlineno})" if code is not None else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        told = f"{type(error).__name__}: {reason:.200}"
        if isinstance(error, jax.errors.JAXTypeError):
            told = "it needs the values of its arguments: use jax.numpy, and jnp.where in place of if"
        raise ValueError(f"{what}{place} fails on {took}: {told}") from error


def _said_by_hand(error: ValueError) -> bool:
    """Whether a line of ours or of the user's says ``raise``, not one inside of a library of arrays."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return True
    library = str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in LIBRARIES
    # JAX leaves its own frames out, so that the last one may be the user's line that called it
    raised = dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]] == "RAISE_VARARGS"
    return raised and not library
