"""``camel-jax path``: how the best mixture moves with model size and tokens, as a table and a figure."""

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
    Near,
    Objective,
    Seed,
    ShareLimits,
    Size,
    Table,
    Tokens,
    WithinMeasured,
)
from camel_jax.cli.output import check_files, rows_of, write_figure, write_table
from camel_jax.recipes.sizes import format_count, format_size, parse_size, parse_tokens


def path(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    size: Size,
    tokens: Tokens,
    limits: ShareLimits,
    steps: Annotated[int, typer.Option(min=2, help="Stops, from the smallest fitted size to the target.")] = 6,
    same_tokens: Annotated[
        bool, typer.Option("--same-tokens", help="All stops on the target's tokens, not on as many a parameter.")
    ] = False,
    same_size: Annotated[
        bool,
        typer.Option("--same-size", help="All stops of the target's size: from the fewest fitted tokens to its own."),
    ] = False,
    objective: Objective = "mean-loss",
    measured: WithinMeasured = False,
    starts: Annotated[int, typer.Option(min=1, help="Starts of each search.")] = 16,
    near: Near = 0.1,
    seed: Seed = 0,
    out: Table = None,
    figure: Figure = None,
    json: Json = False,
) -> None:
    """Follow the best mixture from the fitted sizes to the target: it moves."""
    check_files(out, figure)
    if same_tokens and same_size:
        raise ValueError("--same-tokens and --same-size together leave nothing to move")
    n_total, n_active = parse_size(size)
    n_tokens = parse_tokens(tokens)
    fitted = open_fit(fit)
    options = gather(fitted.domains, limits, within=fitted if measured else None)
    import jax

    from camel_jax.mixture.objectives import parse_objective
    from camel_jax.reports.card import evidence_card
    from camel_jax.reports.columns import path_columns
    from camel_jax.reports.recommend import follow, stops_of

    goal = parse_objective(objective)
    stops = stops_of(fitted, (n_total, n_active, n_tokens), steps, same_tokens, same_size)
    options |= {"starts": starts, "key": jax.random.key(seed), "near": 0.0 if figure is None else near / 100}
    with working(f"searching {steps} mixtures"):
        found, lost_at = follow(fitted, stops, goal, **options)
    columns, results = path_columns(found, stops, lost_at), found.results
    card = evidence_card(fitted, n_active, n_tokens, results=results)
    write_table(columns, out)
    if figure is not None:
        from camel_jax.figures.decisions import path_page

        same = f"{format_size(n_total, n_active)}" if same_size else f"{format_count(n_tokens)} tokens"
        page = path_page(
            found,
            columns["tokens" if same_size else "size"],
            fitted.tokens_range if same_size else fitted.size_range,
            along="training tokens" if same_size else "active parameters",
            title=f"Best mixture, {results[0].objective}",
            note=f"at {same}" if same_size or same_tokens else f"at {n_tokens / n_active:.3g} tokens per parameter",
        )
        write_figure(page, figure)
    if json:
        told = {"fit": fitted.law.name, "objective": results[0].objective, "maximize": results[0].maximize}
        print_json({**told, "path": rows_of(columns), "status": [r.status for r in results], "evidence": list(card)})
        return
    shares = [
        [
            format_size(total, n),
            format_count(d),
            *(f"{100 * share:.1f} %" for share in w),
            f"{r.value.point:.4f}",
            f"{r.gain.point:.4f}",
            f"{lost:.4f}",
        ]
        for (total, n, d), w, r, lost in zip(stops, found.weights, results, lost_at, strict=True)
    ]
    header = ["size", "tokens", *found.domains, results[0].objective, "gain", "staying"]
    caption = (
        "gain: over the reference, the mean mixture of the fitted table; staying: what the first row's mixture loses"
    )
    print_table(f"How the best mixture moves ({fitted.law.name})", header, shares, caption=caption, words=0)
    print_evidence(card)
