"""``camel-jax front``: the best trade-offs between two objectives, as a table and a figure."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import Json, Seed, print_json, print_table, say, working
from camel_jax.cli.limits import Caps, Fixed, Floors, LimitsFile, MaxEpochs, Supply, gather
from camel_jax.cli.mix import Size, Tokens, outcomes_of, parse_objective
from camel_jax.cli.predict import open_fit
from camel_jax.files import check_target, replacing
from camel_jax.sizes import format_count, format_size, parse_size, parse_tokens

TABLE, FIGURE = (".csv", ".parquet", ".pq"), (".png", ".svg", ".pdf")
Table = Annotated[
    pathlib.Path | None, typer.Option("--out", help="Table to write, .csv or .parquet.", show_default=False)
]
Figure = Annotated[pathlib.Path | None, typer.Option(help="Figure to write, .png, .svg or .pdf.", show_default=False)]


def front(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    size: Size,
    tokens: Tokens,
    first: Annotated[str, typer.Option(help="An objective, as in mix --objective.", show_default=False)],
    second: Annotated[str, typer.Option(help="The objective to trade it against.", show_default=False)],
    points: Annotated[int, typer.Option(min=2, help="Mixtures on the front, both ends included.")] = 9,
    limits: LimitsFile = None,
    floors: Floors = None,
    caps: Caps = None,
    fixed: Fixed = None,
    supply: Supply = None,
    max_epochs: MaxEpochs = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts of the search of each end.")] = 16,
    seed: Seed = 0,
    out: Table = None,
    figure: Figure = None,
    json: Json = False,
) -> None:
    """Trade two objectives against each other: the mixtures of which none is better in both."""
    check_files(out, figure)
    (n_total, n_active), n_tokens = parse_size(size), parse_tokens(tokens)
    fitted = open_fit(fit)
    options = gather(
        fitted.domains, file=limits, floors=floors, caps=caps, fixed=fixed, supply=supply, max_epochs=max_epochs
    )
    import jax
    import numpy as np

    from camel_jax.decisions import pareto_front
    from camel_jax.goals import as_outcome

    goals = parse_objective(first), parse_objective(second)
    at = outcomes_of(fitted, size, tokens, goals, options.get("supply"))
    if "supply" in options:
        options["tokens"] = tokens
    with working("searching the front"):
        found = pareto_front(at, *goals, points, key=jax.random.key(seed), starts=starts, **options)
    labels = tuple(text if goal.weights else goal.label for text, goal in zip((first, second), goals, strict=True))
    outcome = as_outcome(at(at.reference))
    tasks = getattr(at, "tasks", ())
    reference = [float(goal.bind(fitted.sets, tasks).value(outcome)) for goal in goals]
    columns: dict[str, Any] = {"first": found.first, "second": found.second}
    columns |= {f"mix/{name}": found.weights[:, k] for k, name in enumerate(found.domains)}
    told = {
        "size": size,
        "tokens": n_tokens,
        "objectives": {name: label for name, label in zip(("first", "second"), labels, strict=True)},
        "maximize": [goal.maximize for goal in goals],
        "front": rows_of(columns),
        "reference": dict(zip(("first", "second"), reference, strict=True)),
    }
    title = f"{format_size(n_total, n_active)} on {format_count(n_tokens)} tokens ({fitted.law.name})"
    write_table(columns, out)
    if figure is not None:
        from camel_jax import plots

        page = plots.new_figure(11.6, 4.6)
        left, right = page.subplots(1, 2)
        plots.trade_off(found.first, found.second, labels, reference=reference, ax=left, title="Best trade-offs")
        plots.shares_along(np.asarray(found.first), found.weights, found.domains, labels[0], ax=right, note=title)
        write_figure(page, figure)
    if json:
        print_json(told)
        return
    header = [*labels, *found.domains]
    rows = [
        [f"{a:.4f}", f"{b:.4f}", *(f"{100 * share:.1f} %" for share in w)]
        for a, b, w in zip(found.first, found.second, found.weights, strict=True)
    ]
    caption = f"the reference, the mean mixture of the fitted table, has {reference[0]:.4f} and {reference[1]:.4f}"
    print_table(f"Best trade-offs for {title}", header, rows, caption=caption, words=0)


def check_files(out: pathlib.Path | None, figure: pathlib.Path | None) -> None:
    """Names that can be written, before any work.

    Raises:
      ValueError: another suffix, or no such folder.
    """
    for option, path, suffixes in (("--out", out, TABLE), ("--figure", figure, FIGURE)):
        if path is not None:
            if path.suffix.lower() not in suffixes:
                raise ValueError(f"{option} {path}: the name must end in {', '.join(suffixes)}")
            check_target(path)


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns as a list of rows."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write_table(columns: dict[str, Any], out: pathlib.Path | None) -> None:
    """Write a table where one was asked for."""
    if out is not None:
        from camel_jax.tables import write_columns

        write_columns(columns, out)
        say(f"wrote {out}")


def write_figure(page: Any, path: pathlib.Path) -> None:
    """Write a figure whole or not at all."""
    with replacing(path) as part:
        page.savefig(part, format=path.suffix[1:].lower())
    say(f"wrote {path}")
