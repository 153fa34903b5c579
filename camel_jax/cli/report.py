"""``camel-jax report``: one page that can be handed around on a decision: what it is, what it is worth, how sure that is."""

from __future__ import annotations

import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import typer

from camel_jax.cli.console import print_json, say, tell_ignored, working
from camel_jax.cli.inputs import open_fit, read_mixture
from camel_jax.cli.limits import gather
from camel_jax.cli.options import (
    Json,
    Map,
    Near,
    NearLimits,
    Objective,
    Reference,
    Risk,
    Seed,
    ShareLimits,
    Spending,
    Starts,
    Tail,
    TargetSize,
    TargetTokens,
    WithinMeasured,
    parse_map,
    split_names,
)
from camel_jax.cli.output import check_files
from camel_jax.recipes.sizes import parse_amount, parse_size, parse_tokens
from camel_jax.reports.request import Request, make_request, read_request
from camel_jax.storage import replacing

Decided = Annotated[
    pathlib.Path | None,
    typer.Option("--from", help="A decision that mix wrote, in place of the options of mix.", show_default=False),
]
Table = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--runs",
        help="The run table: shows its runs, and predicts its largest size from the others.",
        show_default=False,
    ),
]
Baselines = Annotated[
    str,
    typer.Option(
        help="With --runs: methods of the leaderboard to hold the law against at the largest size; 'none' for no such test."
    ),
]
NextBudget = Annotated[
    str | None,
    typer.Option(help="With --runs: design the next runs for that many FLOPs, as in 1e18.", show_default=False),
]
USUAL = "chinchilla,nearest_run,loglinear"


class Asked(NamedTuple):
    """What is asked of the fit: options of ``mix``, with a usual target."""

    size: TargetSize = None
    tokens: TargetTokens = None
    objective: Objective = "mean-loss"
    limits: ShareLimits = ShareLimits()
    measured: WithinMeasured = False
    spending: Spending = Spending()
    near_by: NearLimits = NearLimits()
    reference: Reference = None
    risk: Risk = "mean"
    tail: Tail = 0.1
    near: Near = 0.1
    starts: Starts = 16
    seed: Seed = 0


def report(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    out: Annotated[pathlib.Path, typer.Option(help="Where to write the page, .html.", show_default=False)],
    asks: Asked,
    decision: Decided = None,
    runs: Table = None,
    baselines: Baselines = USUAL,
    next_budget: NextBudget = None,
    columns: Map = None,
    json: Json = False,
) -> None:
    """Write one page on a decision: the mixture, its worth, the evidence, and sliders to try others; it needs no network."""
    check_files(out, kinds=(".html", ".htm"))
    fitted, request, result = asked(fit, decision, asks)
    table = read_table(runs, columns)
    page, told = page_and_facts(
        fitted, request, result, files={"fit": fit, "decision": decision, "table": runs}, table=table, baselines=baselines,
        next_budget=next_budget,
    )  # fmt: skip
    with replacing(out) as part:
        part.write_text(page, encoding="utf-8")
    say(f"wrote {out}")
    if json:
        print_json({"report": str(out), **told})


NAMES = {"floors": "--min", "caps": "--max", "fixed": "--fix", "measured": "--within-measured", "costs": "--cost"}


def asked(path: pathlib.Path, decision: pathlib.Path | None, asks: Asked) -> tuple[Any, Request, Any]:
    """The fit, what is asked of it, and the decision that a file holds (None where it is still to be made).

    Args:
      path: of the fit. decision: a file of ``mix``. asks: options of ``mix``.

    Raises:
      ValueError: options beside a file that has its own, or anything that makes no sense.
    """
    if asks.size is not None:
        parse_size(asks.size)
    if asks.tokens is not None:
        parse_tokens(asks.tokens)
    known = None if decision is None else read_request(decision)
    more = [NAMES.get(name, f"--{name.replace('_', '-')}") for name in _given(asks)]
    if known is not None and more:
        raise ValueError(
            f"{more[0]} belongs to the decision, which --from {decision} brings with it; give one of the two"
        )
    fitted = open_fit(path)
    result = None
    if decision is not None:
        from camel_jax.mixture.result import MixtureResult

        result = MixtureResult.load(decision)
    return fitted, known or request_of(fitted, asks), result


def _given(options: Any) -> list[str]:
    """Names of the options of a group that differ from what they are where they were not given."""
    names: list[str] = []
    for name, value in options._asdict().items():
        if hasattr(value, "_asdict"):
            names += _given(value)
        elif value != options._field_defaults[name]:
            names.append(name)
    return names


def request_of(fitted: Any, asks: Asked) -> Request:
    """What options of ``mix`` ask of a fit."""
    limits = gather(fitted.domains, asks.limits, asks.near_by, asks.spending, fitted if asks.measured else None)
    compared = None if asks.reference is None else read_mixture(asks.reference, fitted.domains)
    own = {name: getattr(asks, name) for name in ("objective", "near", "risk", "tail", "starts", "seed")}
    return make_request(fitted, asks.size, asks.tokens, limits=limits, reference=compared, **own)


def read_table(runs: pathlib.Path | None, columns: Any) -> Any:
    """The run table, where one is given."""
    if runs is None:
        return None
    from camel_jax.tables.read import read_runs

    return read_runs(runs, columns=parse_map(columns), on_ignored=tell_ignored)


def page_and_facts(
    fitted: Any,
    request: Request,
    result: Any,
    *,
    files: Mapping[str, pathlib.Path | None],
    table: Any = None,
    baselines: str = USUAL,
    next_budget: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """The page, and what it tells as data; arguments as of ``make_page``, and options as they are given."""
    from camel_jax.reports.made import make_page

    if next_budget is not None and table is None:
        raise ValueError("--next-budget needs the table: give --runs")
    names = split_names(baselines) if baselines != "none" else []
    held = names and table is not None and len(set(table.recipe.n_active.tolist())) > 1

    def hold_out() -> Any:
        import jax

        from camel_jax.evaluation.held_out import hold_out_largest

        assert table is not None
        return hold_out_largest(table, fitted.inner_law, key=jax.random.key(request.seed), baselines=names)

    budget = None if next_budget is None else parse_amount("--next-budget", next_budget)

    def design(found: Any) -> Any:
        from camel_jax.design.request import compare_designs

        assert budget is not None
        aim, ratio = (request.size, request.tokens), found.target[2] / found.target[1]
        each = compare_designs(budget, aim, table=table, fitted=fitted, tokens_per_parameter=(ratio,))
        return min(each, key=lambda one: one.error_after)

    command = shlex.join(["camel-jax", *(pathlib.Path(x).name if "/" in x else x for x in sys.argv[1:])])
    return make_page(
        fitted, request, result, files=files, table=table, hold_out=hold_out if held else None,
        design=None if budget is None else design, command=command,
        working=working,
    )  # fmt: skip
