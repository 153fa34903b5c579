"""Results as JSON: written whole, and continued where the same code made them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

# what rows made apart must share to stand in one result; starts and seed where they are not among the settings
SAME = ("code", "jax", "numpyro", "settings", "starts", "seed")


def write(path: pathlib.Path, result: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write a result whole or not at all, so that a run that is stopped loses nothing."""
    from camel_jax.storage import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(result, indent=indent, default=float) + "\n")


def stored(path: pathlib.Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run left in a file, or something else where there is none."""
    return json.loads(path.read_text()) if path.exists() else otherwise


def same_code(known: Mapping[str, Any], head: Mapping[str, Any]) -> bool:
    """Whether a stored result was made by the code, with the settings and by the versions that would go on with it."""
    return all(known.get(name) == head.get(name) for name in SAME)


def continued(path: pathlib.Path, head: Mapping[str, Any], empty: Mapping[str, Any]) -> dict[str, Any]:
    """The result to go on with: the stored one if the same code made it, else one that holds nothing yet.

    Args:
      path: of the stored result, if there is one.
      head: provenance and settings of the program that goes on.
      empty: what a new result holds besides.
    """
    known = stored(path, {})
    return known if same_code(known, head) else {**head, **empty}
