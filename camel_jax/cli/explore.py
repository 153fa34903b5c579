"""``camel-jax explore``: the page of a fit, opened in the browser."""

from __future__ import annotations

import pathlib
import tempfile
import webbrowser
from typing import Annotated

import typer

from camel_jax.cli.console import say
from camel_jax.cli.options import Map
from camel_jax.cli.output import check_files
from camel_jax.cli.report import Asked, Decided, Table, asked, page_and_facts, read_table
from camel_jax.storage import replacing


def explore(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    asks: Asked,
    decision: Decided = None,
    runs: Table = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where to keep the page, .html; a temporary folder if absent.", show_default=False),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open it; --no-browser only writes it.")] = True,
    columns: Map = None,
) -> None:
    """Open the page of a fit in the browser, as a file: no server runs, and nothing leaves the machine."""
    check_files(out, kinds=(".html", ".htm"))
    fitted, request, result = asked(fit, decision, asks)
    files = {"fit": fit, "decision": decision, "table": runs}
    page, _ = page_and_facts(fitted, request, result, files=files, table=read_table(runs, columns), baselines="none")
    where = pathlib.Path(tempfile.mkdtemp(prefix="camel_jax-")) / f"{fit.stem}.html" if out is None else out
    with replacing(where) as part:
        part.write_text(page, encoding="utf-8")
    say(f"wrote {where}")
    if browser and not webbrowser.open(where.resolve().as_uri()):
        say("no browser could be opened: open that file in one")
