"""Pages that are filled from results."""

from __future__ import annotations

import json

from common.provenance import RESULTS, ROOT


def read(name: str) -> dict:
    """A result by name."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def fill(name: str, text: str) -> None:
    """Put a text between the marks of that name in the README."""
    path = ROOT / "README.md"
    head, rest = path.read_text().split(f"<!-- {name} -->\n")
    _, tail = rest.split(f"<!-- /{name} -->")
    path.write_text(f"{head}<!-- {name} -->\n{text}<!-- /{name} -->{tail}")
