"""The whole pipeline on the table that comes with the package: fit, check at the largest size, decide, draw."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from camel_jax.recipes.sizes import format_count, parse_size, parse_tokens
from camel_jax.reports.panels import mixture_panel, scale_panels
from camel_jax.reports.recommend import as_dict, recommend
from camel_jax.reports.request import Request

TABLE = "proxy_runs.csv"
SIZE, TOKENS = "400K", "2M"
NEAR = 0.1  # percent of the best objective
SKILLS, STARTS, RESAMPLES = 8, 2, 8  # small, so that the demo takes well under a minute on two cores

Working = Callable[[str], Any]  # a context around a step, which gives ``progress(done, total)``


class Demo(NamedTuple):
    """What the demo made.

    Attributes:
      table: the dense runs of the package's table.
      held_out: its largest size.
      seen: what a fit to the smaller sizes says of it.
      fitted: the fit to all.
      result: the recommended mixture.
      ranges: how far its shares may move.
    """

    table: Any
    held_out: Any
    seen: Any
    fitted: Any
    result: Any
    ranges: Any


def package_table() -> Any:
    """The runs that come with the package."""
    from camel_jax.tables.read import read_runs

    with importlib.resources.as_file(importlib.resources.files("camel_jax") / "data" / TABLE) as path:
        return read_runs(path, name=TABLE, on_ignored=lambda _: None)


def run_demo(seed: int = 0, working: Working = lambda _: contextlib.nullcontext()) -> Demo:
    """Fit the package's table without its largest size and with it, and choose a mixture for a larger one.

    Args:
      seed: of every random choice.
      working: called with the name of each step, for a progress bar around it.
    """
    import jax

    from camel_jax.fitting.fit import fit as fit_law
    from camel_jax.fitting.intervals import predict_interval
    from camel_jax.laws import camel
    from camel_jax.tables.runs import scales, select, split_by_scale

    table = package_table()
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
    return Demo(table, held_out, seen, fitted, result, ranges)


def demo_facts(demo: Demo) -> dict[str, Any]:
    """What the demo found, as data."""
    measured, point = np.asarray(demo.held_out.losses), np.asarray(demo.seen.point)
    inside = (measured >= np.asarray(demo.seen.low)) & (measured <= np.asarray(demo.seen.high))
    asked = Request(SIZE, TOKENS, near=NEAR, starts=8).to_dict()
    return {
        "table": TABLE,
        "runs": count_runs(demo.table),
        "backtest": {
            "held_out_size": float(demo.held_out.recipe.n_active[0]),
            "rows": len(demo.held_out),
            "mean_relative_error_percent": float(100 * np.abs(point / measured - 1).mean()),
            "inside_90_percent_interval": float(inside.mean()),
        },
        "recommendation": {
            "size": SIZE,
            "tokens": parse_tokens(TOKENS),
            **as_dict(demo.result, demo.ranges, NEAR),
            "request": asked,
        },
    }


def demo_lines(demo: Demo, facts: dict[str, Any]) -> list[str]:
    """What the demo did, in sentences.

    Args:
      demo: the demo.
      facts: its ``demo_facts``.
    """
    from camel_jax.tables.runs import scales

    sizes, back = scales(demo.table), facts["backtest"]
    return [
        f"table: {facts['runs']} training runs of tiny language models on mixtures of {len(demo.table.domains)} domains, "
        f"{format_count(sizes[0])} to {format_count(sizes[-1])} parameters",
        f"check: fitted without the {format_count(back['held_out_size'])} runs, their losses are predicted to "
        f"{back['mean_relative_error_percent']:.2f} % (mean relative error), "
        f"{back['inside_90_percent_interval']:.0%} inside the 90 % intervals",
    ]


def draw_demo(demo: Demo) -> Any:
    """The figure of the demo."""
    from camel_jax.figures import overview
    from camel_jax.tables.runs import final_rows, scales, select

    table, held_out, target = demo.table, demo.held_out, (*parse_size(SIZE), parse_tokens(TOKENS))
    sizes, ends = scales(table), select(table, final_rows(table))
    stops = np.concatenate([sizes, [np.sqrt(sizes[-1] * target[1]), target[1]]])
    return overview.overview(
        {
            "backtest": {
                "measured": held_out.losses,
                "predicted": demo.seen.point,
                "names": table.sets,
                "title": f"{format_count(held_out.recipe.n_active[0])} runs predicted from smaller ones",
            },
            "mixture": mixture_panel(demo.result, demo.ranges, target),
            **scale_panels(
                demo.fitted, demo.result, target, (ends.recipe.n_active, ends.losses), stops, same_tokens=True
            ),
        },
        title="From small runs to the mixture of a larger one",
        note=f"{count_runs(table)} training runs of tiny language models whose tokens are bytes",
    )


def count_runs(table: Any) -> int:
    """How many runs have rows in a table."""
    return len(set(table.run.tolist()))
