"""Errors of functions that users write, in their terms: which function failed, where it is written, and on what shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

FAILURES = (TypeError, IndexError, AttributeError, KeyError, NameError, ZeroDivisionError, jax.errors.JAXTypeError)


@contextlib.contextmanager
def naming(what: str, function: Any, took: str) -> Iterator[None]:
    """Say whose function failed, and on what, in place of what it did to a traced array.

    Args:
      what: the part that failed, in words. function: the user's, for where it is written. took: shapes of its arguments.

    Raises:
      ValueError: the block raised a TypeError, an IndexError or whatever else jax raises of a function that it cannot trace.
    """
    try:
        yield
    except (
        TypeError,
        IndexError,
        AttributeError,
        KeyError,
        NameError,
        jax.errors.JAXTypeError,
        ZeroDivisionError,
    ) as error:
        code = getattr(function, "__code__", None)
        place = f" ({code.co_filename.rsplit('/', 1)[-1]}, line {code.co_firstlineno})" if code is not None else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        told = f"{type(error).__name__}: {reason:.200}"
        if isinstance(error, jax.errors.JAXTypeError):
            told = "it needs the values of its arguments: use jax.numpy, and jnp.where in place of if"
        raise ValueError(f"{what}{place} fails on {took}: {told}") from error
