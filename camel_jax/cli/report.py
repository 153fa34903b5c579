"""``camel-jax report``: one self-contained page on a fit: what it recommends, what it predicts, how sure it is."""

from __future__ import annotations

import io
import pathlib
from typing import Annotated

import typer

from camel_jax.cli.console import print_json, say, tell_ignored, working
from camel_jax.cli.inputs import open_fit
from camel_jax.cli.options import Json, Map, Seed, parse_map
from camel_jax.cli.output import check_files
from camel_jax.recipes.sizes import parse_size, parse_tokens
from camel_jax.reports.page import write_page
from camel_jax.reports.panels import NEAR, STARTS, draw
from camel_jax.reports.recommend import as_dict, default_target, recommend
from camel_jax.storage import replacing


def report(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    out: Annotated[pathlib.Path, typer.Option(help="Where to write the page, .html.", show_default=False)],
    size: Annotated[
        str | None, typer.Option(help="Size of the target; ten times the largest fitted one if absent.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Its training tokens; the ratio to size of the largest fitted if absent.")
    ] = None,
    runs: Annotated[
        pathlib.Path | None,
        typer.Option(help="The run table, to show measured losses beside the curves.", show_default=False),
    ] = None,
    seed: Seed = 0,
    columns: Map = None,
    json: Json = False,
) -> None:
    """Write one page with figures: the recommended mixture, predicted losses, the path of the optimum, and the evidence."""
    check_files(out, kinds=(".html", ".htm"))
    if size is not None:
        parse_size(size)
    if tokens is not None:
        parse_tokens(tokens)
    fitted = open_fit(fit)
    target = n_total, n_active, n_tokens = default_target(fitted, size, tokens)
    measured = None
    if runs is not None:
        from camel_jax.reports.evidence import measured_ends
        from camel_jax.tables.read import read_runs

        table = read_runs(runs, columns=parse_map(columns), on_ignored=tell_ignored)
        measured = measured_ends(fitted, table, runs)
    size = f"{n_active:.17g}" if n_total == n_active else f"{n_total:.17g}-A{n_active:.17g}"
    with working("choosing a mixture"):
        result, ranges = recommend(fitted, size, f"{n_tokens:.17g}", near=NEAR, starts=STARTS, seed=seed)
    from camel_jax.figures.style import save_figure

    with working("drawing"):
        figure = draw(fitted, result, ranges, target, measured)
        picture = io.BytesIO()
        save_figure(figure, picture, format="png", dpi=130)
    page = write_page(fitted, result, ranges, target, picture.getvalue())
    with replacing(out) as part:
        part.write_text(page, encoding="utf-8")
    say(f"wrote {out}")
    if json:
        print_json({"report": str(out), "size": n_active, "tokens": n_tokens, **as_dict(result, ranges, NEAR)})
