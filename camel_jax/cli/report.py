"""``camel-jax report``: one page that can be handed around on a decision: what it is, what it is worth, how sure that is."""

from __future__ import annotations

import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_json, say, tell_ignored, working
from camel_jax.cli.inputs import open_fit, read_mixture
from camel_jax.cli.limits import gather
from camel_jax.cli.options import (
    Caps,
    CostBudget,
    Costs,
    Distance,
    Fixed,
    Floors,
    Json,
    Kl,
    LimitsFile,
    Map,
    MaxDomains,
    MaxEpochs,
    Near,
    Objective,
    PriorMixture,
    Reference,
    Risk,
    Seed,
    Starts,
    Supply,
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


def report(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    out: Annotated[pathlib.Path, typer.Option(help="Where to write the page, .html.", show_default=False)],
    decision: Decided = None,
    size: TargetSize = None,
    tokens: TargetTokens = None,
    objective: Objective = "mean-loss",
    limits: LimitsFile = None,
    floors: Floors = None,
    caps: Caps = None,
    fixed: Fixed = None,
    supply: Supply = None,
    max_epochs: MaxEpochs = None,
    measured: WithinMeasured = False,
    costs: Costs = None,
    cost_budget: CostBudget = None,
    prior: PriorMixture = None,
    kl: Kl = None,
    distance: Distance = None,
    max_domains: MaxDomains = None,
    reference: Reference = None,
    risk: Risk = "mean",
    tail: Tail = 0.1,
    near: Near = 0.1,
    starts: Starts = 16,
    runs: Table = None,
    baselines: Baselines = USUAL,
    next_budget: NextBudget = None,
    seed: Seed = 0,
    columns: Map = None,
    json: Json = False,
) -> None:
    """Write one page on a decision: the mixture, its worth, the evidence, and sliders to try others; it needs no network."""
    check_files(out, kinds=(".html", ".htm"))
    given = {name: value for name, value in locals().items() if name in ASKED}
    fitted, request, result = asked(fit, decision, given)
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


# options of ``mix``, with what they are where they were not given
ASKED: dict[str, Any] = {
    **dict.fromkeys(("size", "tokens", "limits", "floors", "caps", "fixed", "supply", "max_epochs", "costs")),
    **dict.fromkeys(("cost_budget", "prior", "kl", "distance", "max_domains", "reference")),
    **{"objective": "mean-loss", "measured": False, "risk": "mean", "tail": 0.1, "near": 0.1, "starts": 16, "seed": 0},
}
LIMITS_OF_MIX = (
    "floors",
    "caps",
    "fixed",
    "supply",
    "max_epochs",
    "costs",
    "cost_budget",
    "prior",
    "kl",
    "distance",
    "max_domains",
)
NAMES = {"floors": "--min", "caps": "--max", "fixed": "--fix", "measured": "--within-measured", "costs": "--cost"}


def asked(path: pathlib.Path, decision: pathlib.Path | None, given: Mapping[str, Any]) -> tuple[Any, Request, Any]:
    """The fit, what is asked of it, and the decision that a file holds (None where it is still to be made).

    Args:
      path: of the fit. decision: a file of ``mix``. given: options of ``mix``.

    Raises:
      ValueError: options beside a file that has its own, or anything that makes no sense.
    """
    for parse, name in ((parse_size, "size"), (parse_tokens, "tokens")):
        if given[name] is not None:
            parse(given[name])
    known = None if decision is None else read_request(decision)
    more = [NAMES.get(name, f"--{name.replace('_', '-')}") for name, value in given.items() if value != ASKED[name]]
    if known is not None and more:
        raise ValueError(
            f"{more[0]} belongs to the decision, which --from {decision} brings with it; give one of the two"
        )
    fitted = open_fit(path)
    result = None
    if decision is not None:
        from camel_jax.mixture.result import MixtureResult

        result = MixtureResult.load(decision)
    return fitted, known or request_of(fitted, given), result


def request_of(fitted: Any, given: Mapping[str, Any]) -> Request:
    """What options of ``mix`` ask of a fit."""
    within = fitted if given["measured"] else None
    limits = gather(
        fitted.domains, file=given["limits"], within=within, **{name: given[name] for name in LIMITS_OF_MIX}
    )
    compared = None if given["reference"] is None else read_mixture(given["reference"], fitted.domains)
    own = {name: given[name] for name in ("objective", "near", "risk", "tail", "starts", "seed")}
    return make_request(fitted, given["size"], given["tokens"], limits=limits, reference=compared, **own)


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
