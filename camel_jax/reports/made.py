"""A page made from a fit, what is asked of it, and the table, in the order of the page."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from camel_jax.reports.decision import Working, tell
from camel_jax.reports.recommend import as_dict
from camel_jax.reports.request import Request


def make_page(
    fitted: Any,
    request: Request,
    result: Any = None,
    *,
    files: Mapping[str, pathlib.Path | None],
    table: Any = None,
    hold_out: Callable[[], Any] | None = None,
    design: Callable[[Any], Any] | None = None,
    command: str = "",
    working: Working = lambda _: contextlib.nullcontext(),
) -> tuple[str, dict[str, Any]]:
    """The page, and what it tells as data.

    Args:
      fitted: the fit.
      request: what is asked.
      result: the decision, None where it is still to be made.
      files: what was read, by what it is.
      table: the runs, None for none.
      hold_out: makes a ``HeldOut`` of the largest size of the table, None for no such test.
      design: makes a ``Design`` of the next runs from the decision, None for no design.
      command: that made the page.
      working: called with the name of each step, for a progress bar around it.
    """
    from camel_jax.reports.moved import curve_and_runs
    from camel_jax.reports.page import write_page

    held = moved = designs = None
    if table is not None:
        from camel_jax.reports.evidence import measured_rows

        measured_rows(fitted, table, files["table"] or "the runs")
    found = tell(fitted, request, result, working)
    if table is not None:
        with working("bringing the runs to the curve"):
            moved = curve_and_runs(fitted, found, table, files["table"])
    if hold_out is not None:
        with working("predicting the largest size from the others"):
            held = hold_out()
    if design is not None:
        with working("designing the next runs"):
            designs = design(found)
    facts = provenance(request, files, command)
    page = write_page(fitted, found, held=held, moved=moved, designs=designs, facts=facts)
    told = {
        "size": found.target[1],
        "tokens": found.target[2],
        **as_dict(found.result, found.ranges, request.near),
        "equivalent_compute": found.equivalent.ratio._asdict(),
        "evidence": list(found.evidence),
        "notes": list(found.notes),
    }
    return page, told


def provenance(request: Request, files: Mapping[str, pathlib.Path | None], command: str) -> dict[str, str]:
    """Where a page comes from: files with their hashes, seed, command, version."""
    version = importlib.metadata.version("camel-jax")
    told = {}
    for what, path in files.items():
        if path is not None:
            with path.open("rb") as file:
                told[f"{what} file"] = f"{path.name}, SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return told | {"seed": str(request.seed), "command": command, "version": f"camel_jax {version}"}
