"""``camel-jax study``: a study that is kept, with a command for every step of it."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_evidence, print_json, print_lines, say, tell_ignored, working
from camel_jax.cli.limits import gather
from camel_jax.cli.mix import print_outcome, print_shares
from camel_jax.cli.options import (
    CostName,
    Json,
    Map,
    NearLimits,
    Objective,
    Pairs,
    Seed,
    ShareLimits,
    parse_map,
    split_names,
    split_pairs,
)
from camel_jax.cli.output import check_files, write_table
from camel_jax.recipes.sizes import number, parse_amount
from camel_jax.runtime import start_engine

Where = Annotated[
    str, typer.Argument(help="The study: a file, or a URL as in postgresql://user@host/database.", show_default=False)
]
Name = Annotated[str, typer.Option("--name", help="Name of the study, where a database holds several.")]
Out = Annotated[pathlib.Path | None, typer.Option(help="Table to write, .csv or .parquet.", show_default=False)]


def new(
    study: Where,
    domains: Annotated[str, typer.Option(help="Domains of the mixture: web,code,books.", show_default=False)],
    target_size: Annotated[
        str, typer.Option(help="Size of the target: 7B, or 55B-A1.2B (active).", show_default=False)
    ],
    ladder: Annotated[str, typer.Option(help="Sizes that may be run: 10M,30M,100M.", show_default=False)],
    limits: ShareLimits,
    near_by: NearLimits,
    target_tokens: Annotated[
        str | None, typer.Option(help="Its tokens, as in 1T; 20 a parameter if absent.", show_default=False)
    ] = None,
    tokens_per_parameter: Annotated[
        str, typer.Option(help="Tokens of a run over its parameters; 20, or 20,40.")
    ] = "20",
    law: Annotated[
        str, typer.Option(help="blend, camel, camel_paper, chinchilla, dml, sodm, sodm_joint or your own.")
    ] = "blend",
    skills: Annotated[int | None, typer.Option(min=1, help="Latent skills of camel.", show_default=False)] = None,
    objective: Objective = "mean-loss",
    noise: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the log loss of a run; measured if absent.", show_default=False),
    ] = None,
    cost_model: CostName = "flops",
    seed: Seed = 0,
    name: Name = "study",
    json: Json = False,
) -> None:
    """Begin a study: what it is for, which sizes may be run, and within which limits."""
    names = split_names(domains)
    options = gather(names, limits, near_by)
    ratios = [parse_amount("--tokens-per-parameter", text) for text in tokens_per_parameter.split(",")]
    from camel_jax.study.study import Study

    made = Study.new(
        study,
        domains=names,
        target=target_size if target_tokens is None else (target_size, target_tokens),
        ladder=split_names(ladder),
        name=name,
        tokens_per_parameter=ratios,
        law=law,
        skills=skills,
        objective=objective,
        noise=noise,
        cost_model=cost_model,
        seed=seed,
        **options,
    )
    _print_study(made, json)


def ask(
    study: Where,
    budget: Annotated[str, typer.Option(help="What the runs may cost together, in FLOPs: 1e18.", show_default=False)],
    out: Annotated[pathlib.Path, typer.Option(help="Where to write the runs, .csv or .parquet.", show_default=False)],
    max_runs: Annotated[int, typer.Option(min=0, help="Most new runs.")] = 32,
    replicates: Annotated[int, typer.Option(min=0, help="Finished runs to repeat, which measures their noise.")] = 0,
    name: Name = "study",
    json: Json = False,
) -> None:
    """Ask for the next runs: a run table without losses, as sweep and launchers read it; they count as under way from then on."""
    check_files(out)
    amount = parse_amount("--budget", budget)
    opened = _open(study, name)
    with working("designing runs"):
        proposal = opened.ask(amount, max_runs=max_runs, replicates=replicates)
    write_table(proposal.to_columns(), out)
    if json:
        print_json({"runs": [run._asdict() for run in proposal.runs], "cost": proposal.total_cost})
    else:
        print_lines(proposal.summary().splitlines())


def tell(
    study: Where,
    results: Annotated[
        list[pathlib.Path] | None, typer.Argument(help="Run tables with losses, such as sweep writes.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="One run by name, with --loss.", show_default=False)] = None,
    losses: Annotated[
        Pairs, typer.Option("--loss", metavar="SET=NATS", help="A validation loss of that run: web=3.12. Repeatable.")
    ] = None,
    accuracies: Annotated[
        Pairs, typer.Option("--acc", metavar="TASK=SHARE", help="An accuracy of that run: qa=0.41. Repeatable.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens of that checkpoint; those asked if absent.", show_default=False)
    ] = None,
    failed: Annotated[
        list[str] | None, typer.Option(help="A run that will have no result: it is under way no more. Repeatable.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Let these results change those that are there.")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="These are checkpoints of runs that go on, however long they are.")
    ] = False,
    columns: Map = None,
    name: Name = "study",
    json: Json = False,
) -> None:
    """Tell results: tables, or one run by hand. Telling the same twice changes nothing; each table is taken whole or not at all."""
    if run is None and (losses or accuracies or tokens):
        raise ValueError("--loss, --acc and --tokens belong to --run")
    if not results and run is None and not failed:
        raise ValueError("say what is told: tables of results, --run with --loss, or --failed")
    opened, finished, count = _open(study, name), False if unfinished else None, 0
    for path in results or ():
        from camel_jax.tables.read import read_runs

        table = read_runs(path, columns=parse_map(columns), on_ignored=tell_ignored)
        count += opened.tell_runs(table, finished=finished, replace=replace)
    if run is not None:
        count += opened.tell(
            run,
            {key: number("--loss", key, text) for key, text in split_pairs("--loss", losses)},
            accuracies={key: number("--acc", key, text) for key, text in split_pairs("--acc", accuracies)},
            tokens=tokens,
            finished=finished,
            replace=replace,
        )
    if failed:
        opened.drop(*failed)
    states = opened.states()
    if json:
        print_json({"new": count, "states": states})
    else:
        print_lines([f"{count} new results; runs: " + ", ".join(f"{n} {state}" for state, n in states.items())])


def recommend(
    study: Where,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Where to write the mixture, .json.", show_default=False)
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="What a next batch would cost; as much as the last if absent.", show_default=False),
    ] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples of the runs, for intervals.")] = 32,
    name: Name = "study",
    json: Json = False,
) -> None:
    """Recommend the mixture for the target, with its evidence, and whether more runs are worth their cost."""
    check_files(out, kinds=(".json",))
    amount = None if budget is None else parse_amount("--budget", budget)
    opened = _open(study, name)
    with working("fitting, choosing a mixture and designing what could come next"):
        made = opened.recommend(budget=amount, resamples=resamples)
    if out is not None:
        made.save(out)
        say(f"wrote {out}")
    if json:
        print_json(made.to_dict())
        return
    from camel_jax.study.recommend import NEAR

    print_shares(f"Mixture for {made.target} ({made.fit.law.name})", made.mixture, made.ranges, NEAR)
    print_outcome(made.mixture)
    print_evidence(made.evidence)
    spent = f"{made.runs} finished runs, {made.under_way} under way, {made.spent:.3g} spent"
    print_lines(["", f"{made.verdict.capitalize()} ({spent})", *(f"- {reason}" for reason in made.reasons)])


def show(
    study: Where,
    out: Out = None,
    under_way: Annotated[
        bool, typer.Option("--under-way", help="Write the runs that are not finished, as they were asked.")
    ] = False,
    name: Name = "study",
    json: Json = False,
) -> None:
    """Show a study, and write its history or the runs under way as a table."""
    check_files(out)
    if under_way and out is None:
        raise ValueError("--under-way writes a table: say where with --out")
    opened = _open(study, name)
    write_table(opened.under_way().to_columns() if under_way else opened.history_columns(), out)
    _print_study(opened, json)


COMMANDS = {"new": new, "ask": ask, "tell": tell, "recommend": recommend, "show": show}


def _open(where: str, name: str) -> Any:
    start_engine()
    from camel_jax.study.study import Study

    return Study(where, name=name)


def _print_study(study: Any, json: bool) -> None:
    if json:
        print_json(study.to_dict())
    else:
        print_lines(study.summary().splitlines())
