"""``camel-jax budget``: size, tokens and mixture for a training budget."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_evidence, print_json, print_lines, print_table, working
from camel_jax.cli.inputs import open_fit
from camel_jax.cli.limits import gather
from camel_jax.cli.options import (
    CostName,
    Json,
    Seed,
    ShareLimits,
    WithinMeasured,
)
from camel_jax.cli.output import check_files, write_figure, write_json
from camel_jax.recipes.sizes import format_count, format_size, parse_amount


def budget(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    flops: Annotated[str, typer.Option(help="Training FLOPs, as in 1e21; several as 1e20,1e21,1e22.")],
    limits: ShareLimits,
    objective: Annotated[str, typer.Option(help="mean-loss, or sets with weights as in 'code=2,web=1'.")] = "mean-loss",
    sizes: Annotated[
        str | None, typer.Option(help="Smallest and largest active size: 100M,10B.", show_default=False)
    ] = None,
    sparsity: Annotated[float, typer.Option(min=1.0, help="Total over active parameters.")] = 1.0,
    measured: WithinMeasured = False,
    cost_model: CostName = "flops",
    gpu_hour: Annotated[
        float | None, typer.Option(help="Price of an accelerator hour, to show what it costs.", show_default=False)
    ] = None,
    peak: Annotated[float, typer.Option(help="FLOPs a second of the accelerator at best.")] = 989e12,
    utilization: Annotated[float, typer.Option(help="Share of the peak that training reaches.")] = 0.4,
    figure: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Picture of the objective at equal cost and of the mixture, .png or .svg.", show_default=False
        ),
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts of each search of a mixture.")] = 8,
    seed: Seed = 0,
    out: Annotated[pathlib.Path | None, typer.Option(help="Where to write, .json.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Recommend model size, tokens and mixture for a budget, or for each of several."""
    check_files(out, figure, (".json",))
    budgets = [parse_amount("--flops", text) for text in flops.split(",")]
    ends = None
    if sizes is not None:
        ends = tuple(part.strip() for part in sizes.split(","))
        if len(ends) != 2:
            raise ValueError(f"--sizes {sizes}: give the smallest and the largest size, as 100M,10B")
    from camel_jax.recipes.costs import Price, cost_by_name

    if gpu_hour is not None and cost_model != "flops":
        raise ValueError("--gpu-hour is the price of FLOPs: leave it out with another cost model")
    price = None if gpu_hour is None else Price(gpu_hour, peak, utilization)
    fitted = open_fit(fit)
    options = gather(fitted.domains, limits, within=fitted if measured else None)
    import jax

    from camel_jax.budget.best_recipe import budget_path
    from camel_jax.budget.cost_curve import reusable
    from camel_jax.figures.compute import budget_page
    from camel_jax.mixture.objectives import parse_objective

    options |= {"objective": parse_objective(objective), "sizes": ends, "sparsity": sparsity, "starts": starts}
    options["cost"] = cost_by_name(cost_model)
    from camel_jax.budget.best_recipe import equal_costs

    with working("searching sizes and mixtures"):
        draws = reusable(fitted)
        path = budget_path(draws, budgets, key=jax.random.key(seed), **options)
        if figure is not None:
            page = budget_page(path, equal_costs(draws, path, options))
            write_figure(page, figure)
    from camel_jax.reports.card import evidence_card
    from camel_jax.reports.recommend import budget_as_dict

    card = evidence_card(fitted, path.n_active.max(), path.tokens.max(), results=[r.mixture for r in path.results])
    told = budget_as_dict(path, fitted.law.name, price) | {"evidence": list(card)}
    write_json(told, out)
    if json:
        print_json(told)
    else:
        print_path(path, price)
        print_evidence(card)


def print_path(path: Any, price: Any) -> None:
    """A row a budget: size, tokens, ranges, objective; then mixtures and warnings."""
    header = ["FLOPs", "size", "tokens", "a parameter", "sizes as good", "objective"] + (["price"] if price else [])
    rows = []
    for r in path.results:
        low, high = (format_count(x) for x in r.sizes_within)
        rows.append(
            [
                f"{r.budget:.3g}",
                format_size(r.n_total, r.n_active),
                format_count(r.tokens),
                f"{r.tokens_per_parameter:.3g}",
                f"{low} to {high}",
                f"{r.mixture.value.point:.4f}",
            ]
            + ([f"{price.of(r.cost):,.0f}"] if price else [])
        )
    first = path.results[0]
    print_table(
        f"Best recipe, {first.mixture.objective}",
        header,
        rows,
        caption=f"sizes as good: within {100 * first.within:g} % of the best objective",
    )
    shares = [[domain, *(f"{100 * r.weights[k]:.1f} %" for r in path.results)] for k, domain in enumerate(path.domains)]
    print_table("Mixture", ["domain", *(f"{r.budget:.3g}" for r in path.results)], shares)
    lines = [f"warning: {r.budget:.3g}: {text}" for r in path.results for text in r.warnings]
    if lines:
        print_lines([*lines, ""])
