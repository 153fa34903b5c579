"""``camel-jax front``: the best trade-offs between two objectives, as a table and a figure."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from camel_jax.cli.console import print_evidence, print_json, print_table, working
from camel_jax.cli.inputs import open_fit
from camel_jax.cli.limits import gather
from camel_jax.cli.options import (
    Figure,
    Json,
    Seed,
    ShareLimits,
    Size,
    Table,
    Tokens,
    WithinMeasured,
)
from camel_jax.cli.output import check_files, rows_of, write_figure, write_table
from camel_jax.recipes.sizes import format_count, format_size, parse_size, parse_tokens


def front(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    size: Size,
    tokens: Tokens,
    first: Annotated[str, typer.Option(help="An objective, as in mix --objective.", show_default=False)],
    second: Annotated[str, typer.Option(help="The objective to trade it against.", show_default=False)],
    limits: ShareLimits,
    points: Annotated[int, typer.Option(min=2, help="Mixtures on the front, both ends included.")] = 9,
    measured: WithinMeasured = False,
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
    options = gather(fitted.domains, limits, within=fitted if measured else None)
    import jax

    from camel_jax.mixture.objectives import parse_objective
    from camel_jax.reports.card import evidence_card
    from camel_jax.reports.recommend import trade
    from camel_jax.views.decisions import front_columns

    goals = parse_objective(first), parse_objective(second)
    options |= {"key": jax.random.key(seed), "starts": starts}
    with working("searching the front"):
        found, reference = trade(fitted, size, tokens, goals, points, **options)
    labels = tuple(text if goal.weights else goal.label for text, goal in zip((first, second), goals, strict=True))
    columns = front_columns(found)
    card = evidence_card(fitted, size, tokens, found.weights)
    told = {
        "size": size,
        "tokens": n_tokens,
        "objectives": {name: label for name, label in zip(("first", "second"), labels, strict=True)},
        "maximize": [goal.maximize for goal in goals],
        "front": rows_of(columns),
        "reference": dict(zip(("first", "second"), reference, strict=True)),
        "evidence": list(card),
    }
    title = f"{format_size(n_total, n_active)} on {format_count(n_tokens)} tokens ({fitted.law.name})"
    write_table(columns, out)
    if figure is not None:
        from camel_jax.figures.decisions import front_page

        write_figure(front_page(found, labels, note=title), figure)
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
    print_evidence(card)
