"""Pages that are filled from results."""

from __future__ import annotations

import json

from common.provenance import RESULTS, ROOT


def read(name: str) -> dict:
    """A result by name."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def fill(name: str, text: str) -> None:
    """Put a text between the marks of that name, on the one page of README.md and docs/ that has them."""
    first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    pages = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if first in page.read_text()]
    if len(pages) != 1:
        raise ValueError(f"the marks {name} must be on one page, and are on {len(pages)}")
    head, rest = pages[0].read_text().split(first)
    _, tail = rest.split(last)
    pages[0].write_text(f"{head}{first}{text}{last}{tail}")
