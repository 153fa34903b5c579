"""``camel-jax example``: a folder with tables, tasks and limits to play with."""

from __future__ import annotations

import pathlib
import shlex
from typing import Annotated

import typer

from camel_jax.cli.console import print_lines

NEXT = (
    "camel-jax fit runs.csv --tasks tasks.csv --out fit.npz",
    "camel-jax predict fit.npz --recipes recipes.csv --out predictions.csv",
    "camel-jax mix fit.npz --size 400K --tokens 2M --limits limits.toml --out mixture.json",
    "camel-jax report fit.npz --from mixture.json --runs runs.csv --out report.html",
)


def example(
    folder: Annotated[
        pathlib.Path, typer.Argument(metavar="DIR", help="A new or empty folder; nothing is overwritten.")
    ],
) -> None:
    """Write a run table, recipes, tasks and limits to try every command on."""
    from camel_jax.reports.example import check_empty, write_example

    check_empty(folder)
    files = write_example(folder)
    wide = max(len(name) for name in files)
    print_lines([f"{folder / name!s:<{len(str(folder)) + 1 + wide}}  {what}" for name, what in files.items()])
    print_lines(["", "Try next:", f"  cd {shlex.quote(str(folder))}", *(f"  {line}" for line in NEXT)])
