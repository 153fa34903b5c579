"""``camel-jax mix``: the mixture to train the target model on."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_evidence, print_json, print_lines, print_table, say, working
from camel_jax.cli.inputs import open_fit, read_mixture
from camel_jax.cli.limits import gather
from camel_jax.cli.options import (
    Json,
    Near,
    NearLimits,
    Objective,
    Reference,
    Risk,
    Seed,
    ShareLimits,
    Size,
    Spending,
    Starts,
    Tail,
    Tokens,
    WithinMeasured,
)
from camel_jax.cli.output import check_files, write_json
from camel_jax.recipes.sizes import format_count, format_size, parse_size, parse_tokens
from camel_jax.reports.recommend import as_dict, recommend
from camel_jax.reports.request import Request


def mix(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    size: Size,
    tokens: Tokens,
    limits: ShareLimits,
    near_by: NearLimits,
    spending: Spending,
    objective: Objective = "mean-loss",
    measured: WithinMeasured = False,
    reference: Reference = None,
    risk: Risk = "mean",
    tail: Tail = 0.1,
    near: Near = 0.1,
    starts: Starts = 16,
    seed: Seed = 0,
    out: Annotated[pathlib.Path | None, typer.Option(help="Where to write, .json.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Recommend a mixture for the target, with its predicted losses and its gain over a reference."""
    check_files(out, kinds=(".json",))
    n_tokens = (parse_size(size), parse_tokens(tokens))[1]
    fitted = open_fit(fit)
    options = gather(fitted.domains, limits, near_by, spending, fitted if measured else None)
    compared = None if reference is None else read_mixture(reference, fitted.domains)
    request = Request(size, tokens, objective, near, risk, tail, starts, seed, options, compared)
    with working("choosing a mixture"):
        result, ranges = recommend(fitted, size, tokens, **request.options())
    told = {"fit": fitted.law.name, "size": size, "tokens": n_tokens, **as_dict(result, ranges, near)}
    told["request"] = request.to_dict()
    from camel_jax.reports.card import evidence_card

    card = evidence_card(fitted, size, tokens, results=[result])
    told["evidence"] = list(card)
    from camel_jax.downstream.result import flagged

    if result.accuracies is not None:
        told["flagged_tasks"] = flagged(fitted.benchmarks)
        if named := [task for task in result.tasks if task in told["flagged_tasks"]]:
            say("note: named, but flagged: " + ", ".join(f"{task} ({told['flagged_tasks'][task]})" for task in named))
    write_json(told, out)
    if json:
        print_json(told)
    else:
        print_mixture(fitted, result, ranges, near, size, tokens, card)


def print_mixture(
    fitted: Any, result: Any, ranges: Any, near: float, size: str, tokens: str, card: tuple[str, ...]
) -> None:
    """The recommendation for people."""
    n_total, n_active = parse_size(size)
    count = parse_tokens(tokens)
    title = f"Mixture for {format_size(n_total, n_active)} on {format_count(count)} tokens ({fitted.law.name})"
    print_shares(title, result, ranges, near)
    print_outcome(result)
    print_evidence(card)


def print_shares(title: str, result: Any, ranges: Any, near: float) -> None:
    """Shares beside the reference, with the range in which they hardly matter."""
    header = ["domain", "share", "reference"]
    rows = [
        [domain, f"{100 * share:.1f} %", f"{100 * other:.1f} %"]
        for domain, share, other in zip(result.domains, result.weights, result.reference, strict=True)
    ]
    if ranges is not None:
        header.insert(2, f"within {near:g} % of the best")
        for row, low, high in zip(rows, ranges.low, ranges.high, strict=True):
            row.insert(2, f"{100 * low:.1f} to {100 * high:.1f} %")
    caption = ["reference: the mixture to compare with, the mean of the fitted table unless another is given"]
    if ranges is not None:
        moves = f"how far a share may move while {result.objective} stays that close"
        caption.insert(0, f"within {near:g} % of the best: {moves}")
    print_table(title, header, rows, caption=caption)


def print_accuracies(result: Any) -> None:
    """Predicted benchmark accuracies beside those of the reference, with 90 % intervals."""
    here, difference = result.accuracies, result.accuracy_difference
    rows = [
        [
            task,
            f"{here.point[t]:.3f}",
            f"{here.low[t]:.3f} to {here.high[t]:.3f}",
            f"{result.reference_accuracies[t]:.3f}",
            f"{difference.point[t]:+.3f}",
            f"{difference.low[t]:+.3f} to {difference.high[t]:+.3f}",
        ]
        for t, task in enumerate(result.tasks)
    ]
    header = ["task", "accuracy", "90 % interval", "reference", "difference", "90 % interval"]
    caption = "difference: recommended minus reference, above zero is better"
    print_table("Predicted benchmark accuracies, shares of 1", header, rows, caption=caption)


def print_outcome(result: Any) -> None:
    """Predicted losses, accuracies where there are any, and the gain over the reference, with 90 % intervals."""
    losses, difference = result.losses, result.loss_difference
    rows = []
    for v, name in enumerate(result.sets):
        rows.append(
            [
                name,
                f"{losses.point[v]:.3f}",
                f"{losses.low[v]:.3f} to {losses.high[v]:.3f}",
                f"{result.reference_losses[v]:.3f}",
                f"{difference.point[v]:+.3f}",
                f"{difference.low[v]:+.3f} to {difference.high[v]:+.3f}",
            ]
        )
    header = ["validation set", "loss", "90 % interval", "reference", "difference", "90 % interval"]
    caption = "difference: recommended minus reference, below zero is better"
    print_table("Predicted losses, nats per token", header, rows, caption=caption)
    gain = result.gain
    if result.accuracies is not None:
        print_accuracies(result)
    from camel_jax.reports.card import better_in_draws

    lines = [
        f"{result.objective}: {result.value.point:.4f}, {gain.point:.4f} better than the reference"
        f" (90 % interval {gain.low:.4f} to {gain.high:.4f}; {better_in_draws(result.probability_better)})"
    ]
    for limit in result.limits:
        if limit.binds:
            told = limit.relaxing(result.objective)
            lines.append(f"limit reached: {limit.name}" + (f" ({told})" if told else ""))
    if result.status != "converged":
        lines.append(f"warning: {result.status}")
    print_lines([*lines, ""])
