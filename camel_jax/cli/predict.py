"""``camel-jax predict``: losses and benchmark accuracies with intervals for a table of recipes."""

from __future__ import annotations

import io
import pathlib
import sys
from typing import Annotated

import typer

from camel_jax.cli.console import print_json, print_lines, say, tell_ignored, working
from camel_jax.cli.inputs import open_fit
from camel_jax.cli.options import Json, Map, parse_map
from camel_jax.cli.output import check_files, rows_of


def predict(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    recipes: Annotated[
        pathlib.Path, typer.Option(help="Run table of the recipes; losses are not needed.", show_default=False)
    ],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where to write, .csv or .parquet; stdout if absent.", show_default=False),
    ] = None,
    level: Annotated[float, typer.Option(min=0.01, max=0.999, help="Probability of the intervals.")] = 0.9,
    columns: Map = None,
    json: Json = False,
) -> None:
    """Predict losses: point/<set> with low/<set> and high/<set> around it, and accuracies where the fit has a benchmark law.

    Accuracies are acc/<task> with acc_low/<task> and acc_high/<task>; intervals are for measured values.
    """
    check_files(out)
    fitted = open_fit(fit)
    from camel_jax.reports.columns import prediction_columns
    from camel_jax.tables import read, write

    recipe, ids = read.read_recipes(
        recipes, domains=fitted.domains, columns=parse_map(columns), on_ignored=tell_ignored
    )
    with working(f"predicting {len(ids)} recipes"):
        columns_out = prediction_columns(fitted, recipe, ids, level)
    from camel_jax.downstream.result import flagged

    flags = flagged(fitted.benchmarks)
    if flags:
        shown = ", ".join(list(flags)[:8]) + (f" and {len(flags) - 8} more" if len(flags) > 8 else "")
        say(f"note: flagged tasks (camel-jax fit says why), whose accuracies are not to be relied on: {shown}")
    if json:
        told = {"law": fitted.law.name, "level": level, "predictions": rows_of(columns_out)}
        print_json(told if fitted.benchmarks is None else {**told, "flagged_tasks": flags})
    if out is not None:
        write.write_columns(columns_out, out)
        say(f"wrote {out}")
    elif not json:
        text = io.StringIO()
        write.write_columns(columns_out, text)
        if sys.stdout.isatty():  # a terminal would obey some of the names
            print_lines(text.getvalue().splitlines())
        else:
            sys.stdout.write(text.getvalue())
