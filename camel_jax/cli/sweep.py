"""``camel-jax sweep``: train the proxies of a table of recipes, and write the table of their runs."""

from __future__ import annotations

import json as json_module
import pathlib
import shutil
from typing import Annotated, Any

import typer

from camel_jax.cli.console import as_json, print_json, print_table, say, tell_ignored, working
from camel_jax.cli.options import Json, Map, parse_map
from camel_jax.cli.output import claim, goes_on
from camel_jax.runtime import start_engine
from camel_jax.storage import check_source, replacing


def sweep(
    recipes: Annotated[pathlib.Path, typer.Argument(help="Recipes: a run table without losses.", show_default=False)],
    out: Annotated[
        pathlib.Path, typer.Option(help="Where to write the run table, .csv or .parquet.", show_default=False)
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a sweep that was stopped.")] = False,
    folders: Annotated[
        list[str] | None,
        typer.Option(
            "--folder",
            metavar="DOMAIN=PATH",
            help="Text of a domain from a folder of text files. Repeatable. Built in: prose, code, math, knowledge, language.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on a CPU; one a core if absent.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sequences a step.")] = 8,
    context: Annotated[int, typer.Option(min=8, help="Bytes a sequence.")] = 64,
    rate: Annotated[float, typer.Option(min=1e-6, help="Base learning rate.")] = 0.0125,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the runs where the table has no column 'seed'.")] = 0,
    corpus_seed: Annotated[int, typer.Option(min=0, help="Seed of the corpus.")] = 0,
    domain_bytes: Annotated[int, typer.Option(min=20_000, help="Most training bytes of a domain.")] = 6_000_000,
    curves: Annotated[
        pathlib.Path | None, typer.Option(help="Where to write the training losses, .csv.", show_default=False)
    ] = None,
    columns: Map = None,
    json: Json = False,
) -> None:
    """Train a tiny language model for every recipe, and write the losses and accuracies it reaches.

    Beside the table, OUT.json records versions, device, settings, text and seconds. A folder OUT.parts holds what is finished
    while the sweep runs; --resume continues from it.
    """
    if out.suffix.lower() not in (".csv", ".parquet", ".pq"):
        raise ValueError(f"--out {out}: a run table is .csv or .parquet")
    record = out.with_suffix(".json")
    for path in filter(None, (out, curves, record)):
        claim(path)
    if record.exists() and not _is_record(record):
        raise ValueError(
            f"{record} is there and no record of a sweep, which would be written there: choose another --out"
        )
    if out.exists() and recipes.exists() and out.samefile(recipes):
        raise ValueError(f"--out {out} is the table of recipes")
    if curves is not None and curves.suffix.lower() != ".csv":
        raise ValueError(f"--curves {curves}: write a .csv")
    start_engine(quick=False, repeatable=True)  # training computes for long
    from camel_jax.tables.read import read_header, read_recipes, read_whole_numbers
    from camel_jax.tables.write import runs_to_frame, write_columns, write_frame

    renamed = parse_map(columns)
    recipe, names = read_recipes(recipes, columns=renamed, on_ignored=_tell_ignored)
    domains = [name.removeprefix("mix/") for name in read_header(recipes, columns=renamed) if name.startswith("mix/")]
    seeds = read_whole_numbers(recipes, "seed", seed, columns=renamed)
    text = _parse_folders(folders)
    parts = out.with_name(out.name + ".parts")
    if resume and not parts.is_dir():
        raise ValueError(f"--resume: there is no {parts} to go on with")
    if not resume and parts.is_dir() and any(parts.glob("*.row")):
        raise ValueError(f"{parts} holds rows of a sweep that was stopped: go on with --resume, or remove the folder")
    from camel_jax.proxy.corpus import build_corpus
    from camel_jax.proxy.jobs import find_shapes, other_sizes
    from camel_jax.proxy.sweep import sweep as train_all
    from camel_jax.proxy.train import Settings

    settings = Settings(batch=batch, context=context, rate=rate)
    if others := other_sizes(recipe, find_shapes(recipe, names, settings)):
        say(f"note: the nearest model is trained: {', '.join(others)}")
    with working("reading text"):
        corpus = build_corpus(domains, text, seed=corpus_seed, domain_bytes=domain_bytes)
    goes_on(f"the same command with --resume goes on from {parts}")
    with working(f"training {len(names)} models, tokens") as progress:
        result = train_all(
            recipe,
            names,
            corpus,
            parts,
            seeds=seeds,
            settings=settings,
            resume=resume,
            workers=workers,
            progress=progress,
            tell=say,
        )
    frame = runs_to_frame(result.runs)
    frame["seed"] = result.seeds
    if curves is not None:
        from camel_jax.reports.columns import curve_columns

        write_columns(curve_columns(names, result.curves), curves)
        say(f"wrote {curves}")
    with replacing(record) as part:
        part.write_text(as_json(result.record) + "\n")
    write_frame(frame, out)
    shutil.rmtree(parts)
    say(f"wrote {out} and {record}")
    if json:
        print_json(result.record)
    else:
        _print_runs(result)


def _is_record(path: pathlib.Path) -> bool:
    """Whether a file is what an earlier sweep wrote beside its table."""
    check_source(path)
    try:
        told = json_module.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and {"versions", "settings", "corpus", "runs"} <= told.keys()


def _tell_ignored(names: list[str]) -> None:
    if rest := [name for name in names if name != "seed"]:
        tell_ignored(rest)


def _parse_folders(pairs: list[str] | None) -> dict[str, str]:
    folders: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise ValueError(f"--folder {pair!r} is not DOMAIN=PATH")
        if name in folders:
            raise ValueError(f"--folder {name} is given twice")
        folders[name] = path
    return folders


def _print_runs(result: Any) -> None:
    """The measured table for people."""
    from camel_jax.recipes.sizes import format_count, format_size

    runs = result.runs
    rows = []
    for i in range(len(runs)):
        size = format_size(runs.recipe.n_total[i], runs.recipe.n_active[i])
        numbers = [f"{value:.3f}" for value in (*runs.losses[i], runs.losses[i].mean(), *runs.accuracies[i])]
        rows.append([runs.run_names[runs.run[i]], size, format_count(runs.recipe.tokens[i]), *numbers])
    header = ["run", "size", "tokens", *runs.sets, "mean", *runs.tasks]
    print_table("Losses, nats per byte, and accuracies", header, rows)
