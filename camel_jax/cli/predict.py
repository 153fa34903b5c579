"""``camel-jax predict``: losses and benchmark accuracies with intervals for a table of recipes."""

from __future__ import annotations

import io
import pathlib
import sys
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_json, print_lines, say, tell_ignored, working
from camel_jax.cli.inputs import open_fit
from camel_jax.cli.options import Json, Map, parse_map
from camel_jax.cli.output import claim


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
    """Predict losses: pred/<set> with lo/<set> and hi/<set> around it, and accuracies where the fit has a benchmark law.

    Accuracies are acc/<task> with acc_lo/<task> and acc_hi/<task>; intervals are for measured values.
    """
    if out is not None:
        if out.suffix.lower() not in (".csv", ".parquet", ".pq"):
            raise ValueError(f"--out {out}: the name must end in .csv or .parquet")
        claim(out)
    fitted = open_fit(fit)
    from camel_jax.tables import read, write

    recipe, ids = read.read_recipes(
        recipes, domains=fitted.domains, columns=parse_map(columns), on_ignored=tell_ignored
    )
    with working(f"predicting {len(ids)} recipes"):
        columns_out = predictions(fitted, recipe, ids, level)
    from camel_jax.downstream.result import flagged

    flags = flagged(fitted.benchmarks)
    if flags:
        shown = ", ".join(list(flags)[:8]) + (f" and {len(flags) - 8} more" if len(flags) > 8 else "")
        say(f"note: flagged tasks, whose accuracies are not to be relied on: {shown}")
    if json:
        rows = [dict(zip(columns_out, row, strict=True)) for row in zip(*columns_out.values(), strict=True)]
        told = {"law": fitted.law.name, "level": level, "predictions": rows}
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


def predictions(fitted: Any, recipe: Any, ids: list[str], level: float) -> dict[str, Any]:
    """Columns of the table of predictions."""
    import numpy as np

    from camel_jax.fitting.intervals import accuracy_interval, predict_interval

    point, low, high = (np.asarray(x) for x in predict_interval(fitted, recipe, level=level))
    table: dict[str, Any] = {"run": ids, "size": recipe.n_active, "tokens": recipe.tokens}
    if np.any(recipe.n_total != recipe.n_active):
        table["size_total"] = recipe.n_total
    for v, s in enumerate(fitted.sets):
        table |= {f"pred/{s}": point[:, v], f"lo/{s}": low[:, v], f"hi/{s}": high[:, v]}
    if (benchmarks := fitted.benchmarks) is not None:
        point, low, high = (np.asarray(x) for x in accuracy_interval(fitted, recipe, level=level))
        for t, task in enumerate(benchmarks.tasks):
            table |= {f"acc/{task}": point[:, t], f"acc_lo/{task}": low[:, t], f"acc_hi/{task}": high[:, t]}
    return table
