"""``camel-jax design``: which runs to buy next."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_json, print_lines, print_table, say, tell_ignored, working
from camel_jax.cli.fit import make_law, run_fit
from camel_jax.cli.inputs import open_fit
from camel_jax.cli.options import CostName, Json, Map, Seed, parse_map, split_names
from camel_jax.cli.output import check_files, write_figure
from camel_jax.recipes.sizes import parse_amount, parse_count


def design(
    budget: Annotated[str, typer.Option(help="What the runs may cost together, FLOPs: 1e21.", show_default=False)],
    target_size: Annotated[str, typer.Option(help="Size to predict: 7B, or 55B-A1.2B.", show_default=False)],
    runs: Annotated[
        pathlib.Path | None,
        typer.Argument(help="Table of the runs there are; none to start from nothing.", show_default=False),
    ] = None,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Where to write the runs, .csv or .parquet.", show_default=False)
    ] = None,
    fit: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="A fit to that table, by camel-jax fit; without it the law is fitted here.", show_default=False
        ),
    ] = None,
    target_tokens: Annotated[
        str | None, typer.Option(help="Its tokens, as in 1T; 20 a parameter if absent.", show_default=False)
    ] = None,
    shapes: Annotated[
        str, typer.Option(help="Designs to compare: uniform, small, large, hourglass, optimal. The best is written.")
    ] = "optimal,hourglass,uniform",
    ladder: Annotated[
        str | None, typer.Option(help="Sizes that may be run; those of the table if absent.", show_default=False)
    ] = None,
    tokens_per_parameter: Annotated[
        str, typer.Option(help="Tokens of a run over its parameters; 20, or 20,40.")
    ] = "20",
    mixtures: Annotated[int, typer.Option(min=1, help="Candidate mixtures; at most so many on a lattice.")] = 200,
    candidates: Annotated[
        str, typer.Option(help="Where candidates come from: dirichlet (random) or lattice (regular).")
    ] = "dirichlet",
    criterion: Annotated[
        str,
        typer.Option(
            help="Of the optimal design: mean or worst variance at the target, or choice: that of differences between mixtures."
        ),
    ] = "mean",
    min_runs: Annotated[int, typer.Option(min=0, help="Fewest runs of every size.")] = 0,
    max_runs: Annotated[int, typer.Option(min=1, help="Most runs.")] = 100,
    domains: Annotated[
        str | None, typer.Option(help="Domains, to start from nothing: web,code,books.", show_default=False)
    ] = None,
    law: Annotated[
        str,
        typer.Option(
            help="camel, blend (several laws, the default of fit), camel_paper, chinchilla, dml, sodm, sodm_joint or your own."
        ),
    ] = "camel",
    noise: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the log loss of a run; measured if absent.", show_default=False),
    ] = None,
    cost_model: CostName = "flops",
    figure: Annotated[
        pathlib.Path | None,
        typer.Option(help="Picture of the allocation and the expected error, .png or .svg.", show_default=False),
    ] = None,
    template: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Configuration of a run with placeholders such as ${run}, ${size}, ${tokens}, ${mix/web} and ${mixture}.",
            show_default=False,
        ),
    ] = None,
    launch: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="New folder for a configuration a run, made of --template, and the table of their recipes.",
            show_default=False,
        ),
    ] = None,
    batch_tokens: Annotated[
        str | None, typer.Option(help="Tokens of a training step, for ${steps}: 4M.", show_default=False)
    ] = None,
    columns: Map = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Propose the next runs: what each way to spend the budget does to the error at the target."""
    check_files(out, figure)
    if (template is None) != (launch is None):
        raise ValueError("--template and --launch belong together: a configuration with placeholders, and a new folder")
    from camel_jax.interop.launch import check_folder, check_template, in_parts, write_launch

    if launch is not None:
        check_folder(launch)
    step = None if batch_tokens is None else parse_count(batch_tokens, "batch tokens")
    if (runs is None) == (domains is None):
        raise ValueError("give a table of runs, or --domains to start from nothing")
    if runs is None and fit is not None:
        raise ValueError("--fit belongs to a table of runs; give the table it was fitted to")
    if runs is None and ladder is None:
        raise ValueError("--ladder is needed without a table of runs: the sizes that may be run, as 100M,300M,1B")
    amount = parse_amount("--budget", budget)
    ratios = [parse_amount("--tokens-per-parameter", text) for text in tokens_per_parameter.split(",")]
    if noise is not None and not noise > 0:
        raise ValueError("--noise must be above zero")
    names = split_names(shapes)
    taken: tuple[str, ...] = ()
    if candidates not in ("dirichlet", "lattice"):
        raise ValueError(f"--candidates {candidates}: dirichlet or lattice")
    if runs is None:
        asked: dict[str, Any] = {"law": make_law(law), "domains": split_names(domains or "")}
        if template is not None:
            check_template(template, asked["domains"], step)
    else:
        chosen = make_law(law)
        from camel_jax.tables.read import read_runs

        table = read_runs(runs, columns=parse_map(columns), on_ignored=tell_ignored)
        if template is not None:
            check_template(template, table.domains, step)
        fitted = run_fit(chosen, table, seed=seed, resamples=0, starts=2) if fit is None else open_fit(fit)
        asked, taken = {"table": table, "fitted": fitted}, table.run_names
    from camel_jax.design.request import compare_designs

    with working("designing runs"):
        found = compare_designs(
            amount,
            (target_size, target_tokens),
            ladder=None if ladder is None else split_names(ladder),
            tokens_per_parameter=ratios,
            candidates=candidates,
            mixtures=mixtures,
            noise=noise,
            cost=cost_model,
            seed=seed,
            shapes=names,
            criterion=criterion,
            min_runs=min_runs,
            max_runs=max_runs,
            **asked,
        )
    key = {"worst": "worst_after", "choice": "regret_after"}.get(criterion, "error_after")
    best = min(found, key=lambda one: getattr(one, key))
    from camel_jax.design.value_of_runs import worth

    told = worth(best)
    proposed = best.to_columns(taken)
    if template is not None and launch is not None:
        proposed = in_parts(proposed)
        files = write_launch(launch, proposed, template, step)
        say(f"wrote {launch}: {len(files) - 1} configurations and {files[-1]}")
    if out is not None:
        from camel_jax.tables.write import write_columns

        write_columns(proposed, out)
        say(f"wrote {out}")
    if figure is not None:
        from camel_jax.figures.designs import design_page

        write_figure(design_page(found, best), figure)
    if json:
        data = told._asdict()
        print_json({"designs": [one.to_dict() for one in found], "written": best.shape, "worth": data})
    else:
        print_designs(found, best, told)


def print_designs(found: Any, best: Any, told: Any) -> None:
    """A row a design, the stopping answer, and what to know about it."""
    sizes = list(best.runs_per_size())
    header = ["design", "runs", *sizes, "FLOPs", "error", "worst", "regret"]
    before = [_percent(best.error_before), _percent(best.worst_before)]
    regret = f"{best.regret_before:.2g}" if best.error_before < 1 else "unknown"
    rows = [["no new runs", "0", *("" for _ in sizes), "0", *before, regret]]
    for one in found:
        counts = [str(n) for n in one.runs_per_size().values()]
        errors = [_percent(one.error_after), _percent(one.worst_after)]
        cost, regret = f"{one.total_cost:.3g}", f"{one.regret_after:.2g}"
        rows.append([one.shape, str(int(one.counts.sum())), *counts, cost, *errors, regret])
    print_table(
        f"Expected standard error of the loss at {best.target.text()}",
        header,
        rows,
        caption="error: root of the mean variance over mixtures and sets of the target, from the law's parameters, if the law is right;"
        " regret: expected, in nats, of choosing the mixture then",
    )
    print_lines([told.sentence, *(f"note: {note}" for note in best.notes)])


def _percent(error: float) -> str:
    return f"{100 * error:.3g} %" if error < 1 else "> 100 %"
