"""``camel-jax demo``: the whole pipeline on the table that comes with the package."""

from __future__ import annotations

import importlib.resources
import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import as_json, print_json, print_lines, working
from camel_jax.cli.mix import print_outcome, print_shares
from camel_jax.cli.options import Json, Seed
from camel_jax.recipes.sizes import format_count, parse_tokens
from camel_jax.reports.panels import mixture_panel, scale_panels
from camel_jax.reports.recommend import as_dict, recommend
from camel_jax.runtime import start_engine
from camel_jax.storage import check_target, replacing

TABLE = "proxy_runs.csv"
SIZE, TOKENS = "400K", "2M"
NEAR = 0.1  # percent of the best objective
SKILLS, STARTS, RESAMPLES = 8, 2, 8  # small, so that the demo takes well under a minute on two cores


def demo(
    out: Annotated[
        pathlib.Path, typer.Option(help="Folder to write the figure, the fit and the mixture to.")
    ] = pathlib.Path("demo_out"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Fit the embedded table of tiny models, check it on its largest size, and recommend a mixture for a larger one."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file, not a folder")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}")
    out.mkdir(exist_ok=True)
    check_target(out / "demo.png")
    start_engine()
    import jax

    from camel_jax.figures.style import save_figure
    from camel_jax.fitting.fit import fit as fit_law
    from camel_jax.fitting.intervals import predict_interval
    from camel_jax.laws import camel
    from camel_jax.tables import read
    from camel_jax.tables.runs import scales, select, split_by_scale

    with importlib.resources.as_file(importlib.resources.files("camel_jax") / "data" / TABLE) as path:
        table = read.read_runs(path, name=TABLE, on_ignored=lambda _: None)
    table = select(table, table.recipe.n_total == table.recipe.n_active)  # the dense models
    law, key = camel(skills=SKILLS), jax.random.key(seed)
    below, held_out = split_by_scale(table)
    with working(f"fitting sizes up to {format_count(scales(below)[-1])}") as progress:
        # as many rows as the whole table, so that both fits share one compiled program
        early = fit_law(law, below, key=key, starts=STARTS, pad_rows=len(table), progress=progress)
        seen = predict_interval(early, held_out.recipe)
    with working("fitting the whole table") as progress:
        fitted = fit_law(law, table, key=key, starts=STARTS, resamples=RESAMPLES, progress=progress)
    with working(f"choosing a mixture for {SIZE} on {TOKENS} tokens"):
        result, ranges = recommend(fitted, SIZE, TOKENS, near=NEAR, starts=8, seed=seed)
    with working("drawing"):
        told = results(table, held_out, seen, result, ranges)
        figure = draw(table, held_out, seen, fitted, result, ranges)
        with replacing(out / "demo.png") as part:
            save_figure(figure, part)
    fitted.save(out / "fit.npz")
    with replacing(out / "mixture.json") as part:
        part.write_text(as_json(told["recommendation"]) + "\n")
    if json:
        print_json(told)
        return
    print_demo(table, told, result, ranges)
    print_lines(
        [
            "",
            f"figure   {out / 'demo.png'}",
            f"fit      {out / 'fit.npz'}: try  camel-jax mix {out / 'fit.npz'} --size 1M --tokens 4M --max code=0.2",
            f"mixture  {out / 'mixture.json'}",
        ]
    )


def results(table: Any, held_out: Any, seen: Any, result: Any, ranges: Any) -> dict[str, Any]:
    """What the demo found, as data."""
    import numpy as np

    measured, point = np.asarray(held_out.losses), np.asarray(seen.point)
    inside = (measured >= np.asarray(seen.low)) & (measured <= np.asarray(seen.high))
    return {
        "table": TABLE,
        "runs": count_runs(table),
        "backtest": {
            "held_out_size": float(held_out.recipe.n_active[0]),
            "rows": len(held_out),
            "mean_relative_error_percent": float(100 * np.abs(point / measured - 1).mean()),
            "inside_90_percent_interval": float(inside.mean()),
        },
        "recommendation": {"size": SIZE, "tokens": parse_tokens(TOKENS), **as_dict(result, ranges, NEAR)},
    }


def print_demo(table: Any, told: dict[str, Any], result: Any, ranges: Any) -> None:
    """The recommendation and its evidence for people."""
    from camel_jax.tables.runs import scales

    sizes = scales(table)
    back = told["backtest"]
    print_lines(
        [
            f"table: {told['runs']} training runs of tiny language models on mixtures of {len(table.domains)} domains, "
            f"{format_count(sizes[0])} to {format_count(sizes[-1])} parameters",
            f"check: fitted without the {format_count(back['held_out_size'])} runs, their losses are predicted to "
            f"{back['mean_relative_error_percent']:.2f} % (mean relative error), "
            f"{back['inside_90_percent_interval']:.0%} inside the 90 % intervals",
            "",
        ]
    )
    print_shares(
        f"Recommended mixture for {SIZE} on {TOKENS} tokens (reference: mean of the table)", result, ranges, NEAR
    )
    print_outcome(result)


def draw(table: Any, held_out: Any, seen: Any, fitted: Any, result: Any, ranges: Any) -> Any:
    """The figure of the demo."""
    import numpy as np

    from camel_jax.figures import overview
    from camel_jax.recipes.sizes import parse_size
    from camel_jax.tables.runs import final_rows, scales, select

    sizes, target = scales(table), (*parse_size(SIZE), parse_tokens(TOKENS))
    ends = select(table, final_rows(table))
    stops = np.concatenate([sizes, [np.sqrt(sizes[-1] * target[1]), target[1]]])
    return overview.overview(
        {
            "backtest": {
                "measured": held_out.losses,
                "predicted": seen.point,
                "names": table.sets,
                "title": f"{format_count(held_out.recipe.n_active[0])} runs predicted from smaller ones",
            },
            "mixture": mixture_panel(result, ranges, target),
            **scale_panels(fitted, result, target, (ends.recipe.n_active, ends.losses), stops, same_tokens=True),
        },
        title="From small runs to the mixture of a larger one",
        note=f"{count_runs(table)} training runs of tiny language models, losses in nats per byte",
    )


def count_runs(table: Any) -> int:
    """How many runs have rows in a table."""
    return len(set(table.run.tolist()))
