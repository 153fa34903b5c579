"""``camel-jax leaderboard``: every law fitted without some rows of each table, and judged on them."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_json, print_table, say, tell_ignored
from camel_jax.cli.options import Json, Map, Seed, parse_map
from camel_jax.cli.output import claim, write_figure
from camel_jax.runtime import start_engine

COLUMNS = (
    ("error", "error %", ".3f"),
    ("interval", "over runs", ""),
    ("error_final", "final %", ".3f"),
    ("rank_sets", "rank/set", ".3f"),
    ("rank_mean", "rank", ".3f"),
    ("pairs", "pairs", ".3f"),
    ("regret", "regret", ".3f"),
    ("cover90", "in 90", ".2f"),
    ("cover50", "in 50", ".2f"),
    ("width90", "width", ".2f"),
    ("parameters", "size", "d"),
    ("seconds", "s", ".0f"),
)
LEGEND = """\
error %: mean relative error over held-out rows and sets; over runs: its 90 % interval over resampled runs
final %: the same over last checkpoints only
rank/set, rank: rank correlation of predicted and measured losses over mixtures, by set and of the mean loss; 1 is the same order
pairs: share of pairs of mixtures, on as many tokens and in one size, that are put in the measured order; a coin gets 0.5
regret: measured mean loss of the mixture the law would pick, over the best measured one, in percent
in 90, in 50: share of measured losses inside those intervals; width: median half-width of the 90 % ones, in percent
size: parameters of the fit; s: seconds to fit and predict"""


def leaderboard(
    runs: Annotated[list[pathlib.Path], typer.Argument(help="Run tables, .csv or .parquet.", show_default=False)],
    out: Annotated[pathlib.Path, typer.Option(help="Where to write the leaderboard, .csv.", show_default=False)],
    laws: Annotated[str, typer.Option(help="Laws and baselines by name, with commas; all if empty.")] = "",
    holdout: Annotated[
        str,
        typer.Option(
            help="What is held out: sizes=K, the K largest (K alone will do); mixtures=0.25, a quarter of the mixtures in turn; "
            "or tokens, the rows with more than half of the most tokens of their size."
        ),
    ] = "sizes=1",
    figure: Annotated[pathlib.Path | None, typer.Option(help="Where to write a figure, .png, .pdf or .svg.")] = None,
    starts: Annotated[int, typer.Option(min=1, help="Random starts.")] = 4,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals.")] = 0,
    seed: Seed = 0,
    columns: Map = None,
    json: Json = False,
) -> None:
    """Hold out part of each table, fit every law to the rest, and compare the predictions with what was measured.

    Every row is in the file as soon as it is found: neither a law that fails nor an interrupt loses one. Baselines that know
    no law: ridge, loglinear, nearest_run, boosted_trees, regression_forest, and rank_at_one_scale, which only orders mixtures.
    """
    claim(out)
    if figure is not None:
        claim(figure)
        if figure.suffix not in (".png", ".pdf", ".svg"):
            raise ValueError(f"--figure {figure}: write a .png, .pdf or .svg")
    names = [path.stem for path in runs]
    if len(set(names)) < len(names):
        raise ValueError("two tables have the same file name; the leaderboard names tables by it")
    start_engine()
    import jax

    from camel_jax.evaluation.leaderboard import leaderboard as compare
    from camel_jax.evaluation.leaderboard import mean_over_folds
    from camel_jax.evaluation.methods import methods
    from camel_jax.evaluation.splits import parse_holdout
    from camel_jax.tables.read import read_runs
    from camel_jax.tables.write import write_columns

    parse_holdout(holdout)  # before tables are read
    chosen = methods([name.strip() for name in laws.split(",") if name.strip()], starts=starts, resamples=resamples)
    tables = {path.stem: read_runs(path, columns=parse_map(columns), on_ignored=tell_ignored) for path in runs}
    finished: list[Any] = []

    def keep(row: Any) -> None:
        """Write what there is: a law that ends the command loses no row that was found before it."""
        finished.append(row)
        write_columns({name: [getattr(row, name) for row in finished] for name in row._fields}, out)
        if row.failure:
            say(f"{row.table}, {row.method}: {row.failure}")

    rows = compare(tables, chosen, holdout=holdout, key=jax.random.key(seed), progress=say, found=keep)
    say(f"wrote {out}")
    by_table = {table: [row for row in mean_over_folds(rows) if row.table == table] for table in tables}
    drawn = {table: mine for table, mine in by_table.items() if any(row.error == row.error for row in mine)}
    if figure is not None and drawn:
        from camel_jax.figures.leaderboard import leaderboards

        write_figure(leaderboards(drawn), figure)
    if json:
        print_json([row._asdict() for row in rows])
        return
    for table, mine in by_table.items():
        print_rows(table, mine)


def print_rows(table: str, rows: list[Any]) -> None:
    """The rows of one table for people, best first."""
    ordered = sorted(rows, key=lambda row: (row.error != row.error, row.error))
    body = [
        [row.method, *((row.failure and "") or cell(row, name, spec) for name, _, spec in COLUMNS)] for row in ordered
    ]
    failed = [f"{row.method}: {row.failure}" for row in ordered if row.failure]
    print_table(
        f"{table}: fitted on {rows[0].fitted} rows, judged on {rows[0].held_out} held out ({rows[0].holdout or 'largest sizes'})",
        ["law", *(title for _, title, _ in COLUMNS)],
        body,
        caption=[*failed, *LEGEND.splitlines()],
        width=130,
    )


def cell(row: Any, name: str, spec: str) -> str:
    """A number of a row, or a dash where there is none; the interval of the error over resampled runs as low-high."""
    if name == "interval":
        return "-" if row.error_low != row.error_low else f"{row.error_low:.2f}-{row.error_high:.2f}"
    value = getattr(row, name)
    return "-" if value != value else format(value, spec)
