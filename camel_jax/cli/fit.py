"""``camel-jax fit``: a law from a table of runs, and a benchmark law where there are accuracies."""

from __future__ import annotations

import atexit
import contextlib
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_evidence, print_json, print_table, say, tell_ignored, working
from camel_jax.cli.downstream import add_benchmarks, print_benchmarks, read_benchmark_table
from camel_jax.cli.fit_many import fit_folder
from camel_jax.cli.options import Json, Map, Seed, parse_map
from camel_jax.cli.output import claim, goes_on, hold, stopped
from camel_jax.runtime import start_engine
from camel_jax.storage import check_target, discard_unfinished

BAYES_SKILLS = 6  # of camel with --bayes: the posterior of 16 takes far longer
OTHERS = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".json", ".toml", ".html", ".htm", ".png", ".svg", ".pdf")
TOLD = 60.0  # seconds from which a fit says beforehand what it will take
BAYES_ROWS = 100  # checkpoints that --bayes uses at most; the time of a step grows with them


def fit(
    runs: Annotated[
        list[pathlib.Path],
        typer.Argument(help="Run table, .csv or .parquet; with --out-dir as many as you like.", show_default=False),
    ],
    out: Annotated[pathlib.Path | None, typer.Option(help="Where to write the fit.", show_default=False)] = None,
    out_dir: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for the fits of all tables, and fits.csv with a row for each.", show_default=False),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(
            help="blend (camel, sodm_joint and, on tables of one size, concave, weighted by what each predicts), camel, camel_paper, "
            "chinchilla, concave, dml, sodm, sodm_joint, a law of your own, or several as camel+dml; by default blend, and camel with "
            "--bayes.",
            show_default=False,
        ),
    ] = None,
    resamples: Annotated[
        int | None,
        typer.Option(min=0, help="Bootstrap resamples of the runs; 32, fewer on huge tables.", show_default=False),
    ] = None,
    starts: Annotated[
        int | None, typer.Option(min=1, help="Random starts; 4, fewer on huge tables.", show_default=False)
    ] = None,
    seed: Seed = 0,
    skills: Annotated[int | None, typer.Option(min=1, help="Latent skills of camel.", show_default=False)] = None,
    benchmarks: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Run table with loss/ and acc/ columns for the benchmark law; by default the runs, if they have acc/.",
            show_default=False,
        ),
    ] = None,
    tasks: Annotated[
        pathlib.Path | None,
        typer.Option(help="Table of tasks: task, chance or n_choices, n_items.", show_default=False),
    ] = None,
    columns: Map = None,
    benchmark_columns: Annotated[
        list[str] | None,
        typer.Option("--map-benchmarks", metavar="THEIRS=OURS", help="As --map, for the table of --benchmarks."),
    ] = None,
    bayes: Annotated[
        bool,
        typer.Option(
            "--bayes",
            help=f"Sample the posterior in place of a bootstrap; {BAYES_SKILLS} skills unless --skills says otherwise.",
        ),
    ] = False,
    chains: Annotated[
        int | None, typer.Option(min=1, help="Chains of --bayes; 4 if absent.", show_default=False)
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=50, help="Draws of every chain; 1000 if absent.", show_default=False)
    ] = None,
    resume: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder in which finished lanes are kept: a fit that was stopped continues from them."),
    ] = None,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed", help="Share the fit with the other processes of a SLURM, GKE or MPI job, or by hand:"
        ),
    ] = False,
    coordinator: Annotated[str | None, typer.Option(help="host:port of process 0.", show_default=False)] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="How many there are.", show_default=False)] = None,
    process_id: Annotated[int | None, typer.Option(min=0, help="Which one this is.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Fit a law to a table of runs and save it, with a benchmark law (losses to accuracies) where accuracies are given."""
    if resume is not None:
        goes_on(f"the same command, started again, goes on from {resume}")
    if out_dir is not None:
        single = {"--out": out, "--benchmarks": benchmarks, "--tasks": tasks, "--bayes": bayes or None}
        if wrong := [name for name, value in (single | {"--distributed": distributed or None}).items() if value]:
            raise ValueError(f"{wrong[0]} belongs to the fit of one table: leave out --out-dir")
        chosen = make_law(law or "blend", skills)
        options: dict[str, Any] = {"resamples": 32 if resamples is None else resamples, "starts": starts or 4}
        options |= {"seed": seed, "resume": resume, "json": json}
        return fit_folder(runs, out_dir, chosen, columns=parse_map(columns), **options)
    if out is None or len(runs) != 1:
        raise ValueError("say where the fit goes: --out FIT for one table, --out-dir FOLDER for several")
    path = runs[0]
    check_name(out, path)
    if not distributed and (coordinator, processes, process_id) != (None, None, None):
        raise ValueError("--coordinator, --processes and --process-id belong to --distributed")
    if not bayes and (chains, draws) != (None, None):
        raise ValueError("--chains and --draws belong to --bayes")
    if bayes and distributed:
        raise ValueError("--bayes runs in one process: leave out --distributed")
    start_engine()
    from camel_jax.fitting.processes import is_first
    from camel_jax.tables.read import read_runs

    def begin(first: bool) -> Any:
        if first:
            claim(out)
            hold(resume, "fitting with")
        return read_runs(path, columns=parse_map(columns), on_ignored=tell_ignored)

    leave: Callable[[], None] = lambda: None  # noqa: E731
    if distributed:
        options = {"law": (law, skills), "options": (seed, starts, resamples), "number of processes": processes}
        table, leave = join(begin, options, coordinator, processes, process_id)
    else:
        table = begin(True)
    chosen = make_law(law or ("camel" if bayes else "blend"), skills, BAYES_SKILLS if bayes else None)
    if bayes and chosen.parts:
        raise ValueError(f"--bayes samples one law, and {chosen.name} is {len(chosen.parts)}; take one of them")
    accuracies, known = read_benchmark_table(table, benchmarks, tasks, benchmark_columns)
    some, few = choose_effort(chosen, table, 0 if bayes else resamples, starts)
    result = run_fit(chosen, table, seed=seed, resamples=some, starts=few, resume=resume)
    if bayes:
        result = run_bayes(result, table, seed=seed, chains=chains or 4, draws=draws or 1000, resume=resume)
    if not is_first():
        return leave()  # the first process of a job writes and prints
    if accuracies is not None:
        given = benchmarks is not None
        more = 32 if resamples is None else resamples
        result = add_benchmarks(result, accuracies, known, given=given, seed=seed, resamples=more)
    result.save(out)
    say(f"wrote {out}")
    try:
        print_fit(result, table, accuracies, json)
    except BrokenPipeError:  # the reader has seen enough, and the job is done
        leave()
        raise
    leave()


def print_fit(result: Any, table: Any, accuracies: Any, json: bool) -> None:
    """What a fit says of its table, and its law of benchmarks of theirs."""
    from camel_jax.reports.evidence import summarize, summarize_benchmarks

    summary = summarize(result, table)
    if (law_of_tasks := result.benchmarks) is not None:
        summary["benchmarks"] = summarize_benchmarks(law_of_tasks, accuracies)
    if json:
        print_json(summary)
    else:
        print_summary(summary)
        if "benchmarks" in summary:
            print_benchmarks(summary["benchmarks"])


def check_name(path: pathlib.Path, runs: pathlib.Path) -> None:
    """A fit may have any name but that of something else, in a folder that is there.

    Raises:
      ValueError: it has, or it cannot be written.
    """
    if path.suffix.lower() in OTHERS:
        raise ValueError(
            f"--out {path}: a fit is written as .npz, .safetensors or a suffix of its own, not {path.suffix}"
        )
    check_target(path)
    if path.exists() and runs.exists() and path.samefile(runs):
        raise ValueError(f"--out {path} is the run table")


def join(
    begin: Callable[[bool], Any],
    options: dict[str, Any],
    coordinator: str | None,
    processes: int | None,
    number: int | None,
) -> tuple[Any, Callable[[], None]]:
    """Join the processes of a job, all of which have the same table and options; the table, and what to call at the end.

    By hand, they meet before the engine starts, so that a table that is missing or unlike ends all of them in one line each.
    """
    import jax

    from camel_jax import __version__
    from camel_jax.fitting.processes import check_job, digest, is_first, join_job
    from camel_jax.fitting.rendezvous import meet

    check_job(coordinator, processes, number)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself, and end nothing
    if coordinator is None or processes is None or number is None:
        join_job()
        return begin(is_first()), lambda: None
    table: Any = None
    problem: Exception | None = None
    try:
        table = begin(number == 0)
    except (ValueError, OSError) as error:
        problem = error
    facts = {name: digest(*value) if isinstance(value, tuple) else str(value) for name, value in options.items()}
    facts |= {"version": __version__}
    facts |= {"error": str(problem)} if problem else {"table": digest(table, table.domains, table.sets)}
    try:
        group = meet(coordinator, processes, number, facts)
    except ValueError as error:
        raise problem or error from None
    group.watch(_end_with_the_group)
    if not os.environ.get("CAMEL_JAX_DEBUG"):
        only_our_lines()
    join_job(coordinator, processes, number)
    atexit.register(_end_the_group, group)
    return table, group.leave


def only_our_lines() -> None:
    """Python's stderr goes on; what compiled libraries write there, pages about a process that is gone, does not."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _end_with_the_group(reason: str) -> None:
    """End this process at once: what it waits for will not come."""
    discard_unfinished()
    say(stopped(f"error: {reason}: this process ends, too"))
    os._exit(2)


def _end_the_group(group: Any) -> None:
    """At the exit of a process: nothing waits for the others, as JAX would, for a minute where one is gone; they hear of a failure."""
    discard_unfinished()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, as by a reader that has seen enough
            stream.flush()
    os._exit(0 if group.left else 2)


def make_law(name: str, skills: int | None = None, default: int | None = None) -> Any:
    """A law by name, with the engine started; default: skills of camel where none are given."""
    start_engine()
    from camel_jax.laws.by_name import law_by_name

    return law_by_name(name, skills, default)


def choose_effort(law: Any, table: Any, resamples: int | None, starts: int | None) -> tuple[int, int]:
    """Resamples and starts, fewer than usual where those are not given and would take long; what it will take goes to stderr."""
    from camel_jax.fitting.forecast import FEWER, affordable, forecast
    from camel_jax.fitting.identifiability import check_table

    check_table(law, table)  # what cannot be fitted takes no time
    some, few = affordable(law, table, resamples, starts)
    found = forecast(law, table, resamples=some, starts=few)
    usual = FEWER[0]
    if (resamples is None and some < usual[0]) or (starts is None and few < usual[1]):
        say(
            f"note: a large table: {some} resamples and {few} starts, where others get {usual[0]} and {usual[1]}; "
            "--resamples and --starts say otherwise"
        )
    if found.seconds >= TOLD:
        say(
            f"fitting {law.name} will take {found} on {found.cores} cores, less where its programs are compiled already"
        )
    return some, few


def run_fit(law: Any, table: Any, *, seed: int, resamples: int, starts: int, resume: pathlib.Path | None = None) -> Any:
    """Fit with progress on stderr; notes of the fit go there too."""
    import jax

    from camel_jax.fitting.fit import fit as fit_law

    options: dict[str, Any] = {"key": jax.random.key(seed), "resamples": resamples, "starts": starts, "resume": resume}

    with working(f"fitting {law.name} to {len(table.run_names)} runs") as progress:
        result = fit_law(law, table, progress=progress, **options)
    for note in result.notes:
        say(f"note: {note}")
    return result


def run_bayes(
    fitted: Any, table: Any, *, seed: int, chains: int, draws: int, resume: pathlib.Path | None = None
) -> Any:
    """The posterior around a fit, as a fit, with progress on stderr; the verdict on it goes there too."""
    import jax

    from camel_jax.bayes.sampling import sample_posterior

    if len(table) > BAYES_ROWS:
        say(f"note: --bayes uses at most {BAYES_ROWS} checkpoints, spread over the runs; the table has {len(table)}")
    with working(f"sampling the posterior of {fitted.law.name}") as progress:
        posterior = sample_posterior(
            fitted,
            table,
            jax.random.fold_in(jax.random.key(seed), 2),
            chains=chains,
            draws=draws,
            max_rows=BAYES_ROWS,
            resume=resume,
            progress=progress,
        )
    if not posterior.diagnostics.converged:
        say(f"warning: do not rely on these intervals yet: {posterior.verdict()}")
    return posterior.fit


def print_summary(summary: dict[str, Any]) -> None:
    """The summary of a fit for people."""
    from camel_jax.recipes.sizes import format_count

    low, high = (format_count(x) for x in summary["active_parameters"])
    first, last = (format_count(x) for x in summary["tokens"])
    errors = summary["in_sample_error_percent"]
    shares = summary.get("weights_of_laws", {})
    share = f" Weights of the laws: {', '.join(f'{name} {x:.2f}' for name, x in shares.items())}." if shares else ""
    print_table(
        f"{summary['law']} on {summary['runs']} runs ({summary['rows']} rows): {low} to {high} parameters, {first} to {last} tokens",
        ["validation set", "error in sample"],
        [[s, f"{e:.2f} %"] for s, e in errors.items()] + [["mean", f"{sum(errors.values()) / len(errors):.2f} %"]],
        caption=(
            *(
                [] if "posterior" in summary else [f"{summary['status']}.{share}"]
            ),  # the evidence has that of a posterior
            "error in sample: mean relative error on the runs it was fitted to, which says little of others; the evidence does",
        ),
    )
    print_evidence(summary["evidence"])
