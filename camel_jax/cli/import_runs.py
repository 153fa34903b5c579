"""``camel-jax import``: a run table out of the trackers and evaluators that a team uses."""

from __future__ import annotations

import pathlib
import sys
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_json, print_lines, print_table, say, working
from camel_jax.cli.options import Json, Pairs, parse_map, split_pairs
from camel_jax.storage import check_target


def import_runs(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders or files of wandb, MLflow, TensorBoard, Hugging Face's Trainer, lm-eval or OLMES; tables (.csv, .tsv, .jsonl,"
            " .parquet, also .gz); - for a table on standard input; wandb:ENTITY/PROJECT; http://HOST:PORT of an MLflow server.",
            show_default=False,
        ),
    ],
    out: Annotated[
        pathlib.Path, typer.Option(help="Where to write the run table, .csv or .parquet.", show_default=False)
    ],
    mapping: Annotated[
        pathlib.Path | None,
        typer.Option(help="What the columns mean: a mapping.toml of an earlier import.", show_default=False),
    ] = None,
    save_mapping: Annotated[
        pathlib.Path | None,
        typer.Option(help="Where to write the mapping; mapping.toml beside --out if absent.", show_default=False),
    ] = None,
    columns: Annotated[
        Pairs,
        typer.Option(
            "--map",
            metavar="THEIRS=OURS",
            help="What a column means, as in 'eval/*/loss=loss/*'; 'THEIRS=' leaves it out. Comes before the guess. Repeatable.",
        ),
    ] = None,
    units: Annotated[
        Pairs,
        typer.Option(
            "--unit",
            metavar="COLUMN=UNIT",
            help="Unit of a column, or of all under loss or acc: nats per token, bits per byte, perplexity, percent, ... Repeatable.",
        ),
    ] = None,
    constants: Annotated[
        Pairs,
        typer.Option("--set", metavar="NAME=VALUE", help="What holds for every run: size=30M, tokens=3B. Repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the guessed mapping without asking.")] = False,
    kind: Annotated[
        str | None,
        typer.Option(
            help="wandb, mlflow, tensorboard, trainer_state, evaluation or table; told by what lies there if absent."
        ),
    ] = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="Which of a history: last, all, or how many, evenly spaced.  [default: last]")
    ] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Take runs that crashed or still run, too.")] = False,
    name_by: Annotated[
        str, typer.Option(help="What runs of a tracker are called by: name, id or project/name.")
    ] = "name",
    domain_column: Annotated[
        str | None, typer.Option(help="Column that names the one corpus a run was trained on.", show_default=False)
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Divide shares, counts or weights by their sum.")
    ] = False,
    tokens_per_step: Annotated[
        str | None, typer.Option(help="Tokens of a step, where steps alone were logged: 4M.", show_default=False)
    ] = None,
    bytes_per_token: Annotated[
        Pairs,
        typer.Option(
            help="Turns losses per byte into losses per token: 4.3, or SET=4.3. Repeatable.", show_default=False
        ),
    ] = None,
    drop_incomplete: Annotated[
        bool, typer.Option("--drop-incomplete", help="Leave out runs without a mixture, where sources are merged.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a run table of what trackers and evaluators hold; what the columns mean is guessed, shown and confirmed."""
    if out.suffix.lower() not in (".csv", ".parquet", ".pq"):
        raise ValueError(f"--out {out}: a run table is .csv or .parquet")
    keep = save_mapping or out.parent / "mapping.toml"
    for path in (out, keep):
        check_target(path)
    from camel_jax.interop.assemble import import_runs as assemble
    from camel_jax.interop.guess import guess
    from camel_jax.interop.mapping import read_mapping, table_of, write_mapping
    from camel_jax.interop.sources import open_sources
    from camel_jax.tables.write import write_frame

    given = read_mapping(mapping) if mapping is not None else None
    with working("reading sources"):
        found = open_sources(sources, kind)
    notes: list[str] = []
    if given is None:
        given, notes = guess(found)
    override(given, columns, units, constants, tokens_per_step, bytes_per_token)
    given.checkpoints = checkpoints or given.checkpoints
    given.domain_column = domain_column or given.domain_column
    if domain_column is not None:
        given.columns = {theirs: ours for theirs, ours in given.columns.items() if theirs != domain_column}
    given.normalize |= normalize
    rows = table_of(given, found)
    if not json:
        print_table(
            f"What the columns of {', '.join(sources)} mean",
            ["column", "meaning", "unit", "for example", "cells"],
            rows,
            words=4,
        )
    for note in notes:
        say(f"note: {note}")
    if mapping is None and not yes:
        if "-" in sources or not sys.stdin.isatty():
            raise ValueError(
                "the mapping is a guess: confirm it with --yes, correct it with --map, or give one with --mapping"
            )
        typer.confirm("Is that right?", abort=True, err=True)
    result = assemble(found, given, unfinished=unfinished, name_by=name_by, drop_incomplete=drop_incomplete)
    for note in result.notes:
        say(f"note: {note}")
    write_frame(result.frame, out)
    say(f"wrote {out}")
    if mapping is None or save_mapping is not None:
        write_mapping(given, keep)
        say(f"wrote {keep}")
    if json:
        told = {"rows": len(result.frame), "runs": len(result.runs.run_names), "unit": result.unit}
        print_json(
            told
            | {
                "domains": result.runs.domains,
                "sets": result.runs.sets,
                "tasks": result.runs.tasks,
                "notes": result.notes,
            }
        )
    else:
        shape = [
            f"{len(result.runs.domains)} domains",
            f"{len(result.runs.sets)} sets",
            f"{len(result.runs.tasks)} tasks",
        ]
        print_lines(
            [
                f"{len(result.frame)} rows of {len(result.runs.run_names)} runs: {', '.join(shape)}; losses in {result.unit}"
            ]
        )


def override(
    given: Any, columns: Pairs, units: Pairs, constants: Pairs, tokens_per_step: str | None, bytes_per_token: Pairs
) -> None:
    """Put what was said on the command line before what was guessed or read; in place.

    Args:
      given: the mapping.
      columns, units, constants, tokens_per_step, bytes_per_token: options.

    Raises:
      ValueError: an option that is no NAME=VALUE, or a value that makes no sense.
    """
    from camel_jax.interop.mapping import PLAIN, expand
    from camel_jax.interop.units import parse_unit
    from camel_jax.recipes.sizes import parse_count

    said = {theirs: ours or "" for theirs, ours in parse_map(columns).items()}
    if said:
        exact = {ours for ours in said.values() if ours and "*" not in ours}
        names = list(given.columns)
        covered = {**expand(said, names), **{name: "" for name in said}}
        given.columns = {
            theirs: ours for theirs, ours in given.columns.items() if theirs not in covered and ours not in exact
        } | said
    for name, text in split_pairs("--unit", units):
        unit = parse_unit(text)
        for theirs, ours in given.columns.items():
            if name in (theirs, ours, ours.partition("/")[0]):
                given.units[theirs] = unit.name
        given.units[name] = unit.name
    for name, text in split_pairs("--set", constants):
        if name not in PLAIN[1:] and not name.startswith(("mix/", "supply/")):
            raise ValueError(f"--set {name}={text}: give size, size_total, tokens, mix/<domain> or supply/<domain>")
        given.constants[name] = text
        given.columns = {theirs: ours for theirs, ours in given.columns.items() if ours != name}
    if tokens_per_step is not None:
        try:
            given.tokens_per_step = float(tokens_per_step)
        except ValueError:
            given.tokens_per_step = parse_count(tokens_per_step, "tokens per step")
        if not 0 < given.tokens_per_step < float("inf"):
            raise ValueError(f"--tokens-per-step {tokens_per_step}: give a number above zero")
    for item in bytes_per_token or ():
        name, _, text = item.rpartition("=")
        try:
            given.bytes_per_token[name or "*"] = float(text)
        except ValueError:
            raise ValueError(f"--bytes-per-token {item}: {text!r} is not a number") from None
        if not 0 < given.bytes_per_token[name or "*"] < 1000:
            raise ValueError(f"--bytes-per-token {item}: give a number above zero")
