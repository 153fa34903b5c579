"""Fill the README's accuracy section and draw its figure from the leaderboard's results: python benchmarks/report.py.

Reads benchmarks/results/leaderboard_holdout1.json and leaderboard_holdout2.json; writes between the README's accuracy marks, and
notebooks/leaderboard.png.
"""

from __future__ import annotations

import json
import pathlib
import types

ROOT = pathlib.Path(__file__).parent.parent
MARKS = ("<!-- accuracy -->\n", "<!-- /accuracy -->")
LAWS = {
    "camel": "**CAMEL (default)**",
    "camel_no_field": "CAMEL without the residual field",
    "camel_exact": "CAMEL, exact split",
    "sodm_joint_field": "SODM joint, upgraded, with the residual field",
    "sodm_joint": "SODM joint, upgraded",
    "sodm_joint_published": "SODM joint, as published",
    "sodm": "SODM additive, upgraded",
    "sodm_published": "SODM additive, as published",
    "dml": "DML, upgraded",
    "dml_published": "DML, as published",
    "chinchilla": "Chinchilla (blind to the mixture), upgraded",
    "boosted_trees": "boosted trees",
    "nearest_run": "nearest run",
}


def main() -> None:
    """Read the results, write the section and the figure."""
    results = {k: json.loads((ROOT / f"benchmarks/results/leaderboard_holdout{k}.json").read_text()) for k in (1, 2)}
    text = "\n".join(section(held, result) for held, result in results.items())
    path = ROOT / "README.md"
    head, rest = path.read_text().split(MARKS[0])
    _, tail = rest.split(MARKS[1])
    path.write_text(f"{head}{MARKS[0]}{text}{MARKS[1]}{tail}")
    draw(results[1]["rows"])


def section(held: int, result: dict) -> str:
    """One table of errors, and one of what else the leaderboard says of CAMEL."""
    rows, settings = result["rows"], result["settings"]
    tables = list(dict.fromkeys(row["table"] for row in rows))
    by_key = {(row["table"], row["method"]): row for row in rows}
    laws = [law for law in LAWS if any((table, law) in by_key for table in tables)]
    asked = f" --laws {settings['laws']}" if settings["laws"] else ""
    what = "the largest size" if held == 1 else f"the {held} largest sizes"
    lines = [
        f"Held out: {what} of each table. Mean relative error in %, all checkpoints / final ones:",
        "",
        f"| law | {' | '.join(tables)} |",
        f"|---|{'---|' * len(tables)}",
    ]
    for law in laws:
        cells = [cell(by_key.get((table, law))) for table in tables]
        lines.append(f"| {LAWS[law]} | {' | '.join(cells)} |")
    lines += ["", "CAMEL there:", "", f"| | {' | '.join(tables)} |", f"|---|{'---|' * len(tables)}"]
    for name, label, spec in (
        ("cover90", "measured losses inside the 90 % intervals", ".2f"),
        ("cover50", "inside the 50 % intervals", ".2f"),
        ("width90", "median half-width of the 90 % interval, %", ".2f"),
        ("rank_mean", "rank correlation of the mean loss over mixtures", ".3f"),
        ("regret", "regret of the mixture it would pick, %", ".2f"),
    ):
        cells = [format(by_key[table, "camel"][name], spec) for table in tables]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    command = f"python benchmarks/leaderboard.py FOLDER --tables {settings['tables']} --holdout {held}{asked}"
    lines += ["", f"`{command}`, jax {result['jax']} on CPU, {result['dtype']}.", ""]
    return "\n".join(lines)


def cell(row: dict | None) -> str:
    """Both errors of a row."""
    if row is None:
        return "not run"
    if row["failure"]:
        return "failed"
    return f"{row['error']:.3f} / {row['error_final']:.3f}"


def draw(rows: list[dict]) -> None:
    """The figure of the README."""
    from camel_jax import plots

    tables: dict[str, list] = {}
    for row in rows:
        tables.setdefault(row["table"], []).append(types.SimpleNamespace(**row))
    plots.leaderboards(tables, title="Error at the largest size, fitted below it").savefig(
        ROOT / "notebooks/leaderboard.png"
    )


if __name__ == "__main__":
    main()
