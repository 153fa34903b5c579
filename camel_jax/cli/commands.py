"""The commands and their groups, as ``camel-jax --help`` lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from camel_jax.cli import (
    budget,
    demo,
    design,
    example,
    explore,
    export,
    fit,
    front,
    import_runs,
    leaderboard,
    mix,
    path,
    predict,
    report,
    study,
    sweep,
)
from camel_jax.cli.examples import epilog
from camel_jax.cli.options import by_topic

COMMANDS = {
    "Start here": {"demo": demo.demo, "example": example.example},
    "From runs to a mixture": {
        "fit": fit.fit,
        "predict": predict.predict,
        "mix": mix.mix,
        "report": report.report,
        "explore": explore.explore,
    },
    "Other decisions": {"front": front.front, "path": path.path, "budget": budget.budget, "design": design.design},
    "A study that is kept": {f"study {name}": command for name, command in study.COMMANDS.items()},
    "In and out": {"import": import_runs.import_runs, "export": export.export},
    "Evidence and runs": {"leaderboard": leaderboard.leaderboard, "sweep": sweep.sweep},
}
app = typer.Typer(
    name="camel-jax",
    help="Data-mixture scaling laws: from a table of small runs to the mixture for the large one, with intervals.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_groups = {"study": typer.Typer(help="Keep a study: ask for runs, tell their results, take its recommendation.")}
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        *group, last = name.split()
        if group and group[0] not in [one.name for one in app.registered_groups]:
            app.add_typer(_groups[group[0]], name=group[0], rich_help_panel=panel, no_args_is_help=True)
        where = _groups[group[0]] if group else app
        where.command(last, epilog=epilog(name), rich_help_panel=None if group else panel)(by_topic(command))


def _version(asked: bool) -> None:
    if asked:
        from camel_jax import __version__

        print(f"camel-jax {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Data-mixture scaling laws: from a table of small runs to the mixture for the large one, with intervals."""
