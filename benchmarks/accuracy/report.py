"""Fill the tables of README.md and docs/ from the results of other scripts, and draw one figure: python benchmarks/accuracy/report.py.

Reads the leaderboards (leaderboard_holdout1, _holdout2, _proxy, _order, _mixtures), proxy_closing, ablations_holdout1,
bayes_tables, bayes_decisions and few_mixtures in benchmarks/results; writes between the marks of the pages, and
docs/figures/leaderboard.png.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import types

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.pages import fill, read
from common.provenance import ROOT

LAWS = {
    "blend": "**CAMEL blended with SODM joint (default)**",
    "camel": "**CAMEL**",
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
BASELINES = {
    "ridge": "ridge on the square roots of the shares",
    "loglinear": "log-linear (olmix)",
    "rank_at_one_scale": "order at one scale, without a law",
}
FORMER = {
    "blend": "CAMEL blended with SODM additive (the former default)"
}  # what "blend" was when the orders were measured
SHORT = ("blend", "sodm_joint", "sodm_joint_published", "dml_published", "boosted_trees", "nearest_run")
MIXTURES = {
    "camel": "**CAMEL's**",
    "sodm": "SODM's",
    "sodm_in_range": "SODM's, shares kept within those measured",
    "dml": "DML's",
    "uniform": "uniform",
    "natural": "natural (by distinct text)",
    "best_random": "best of the random ones, measured",
}


def main() -> None:
    """Read the results, write the section and the figure."""
    results = {k: read(f"leaderboard_holdout{k}") for k in (1, 2)}
    fill("short_accuracy", short(results[1]["rows"]))
    fill("accuracy", "\n".join(section(held, result) for held, result in results.items()))
    fill("order", order(read("leaderboard_order")["rows"]))
    fill("swarm", swarm(read("leaderboard_mixtures")["rows"]))
    fill("few_mixtures", few_mixtures(read("few_mixtures")))
    fill("ablations", ablations(read("ablations_holdout1")))
    fill("proxies", proxies(read("leaderboard_proxy"), read("proxy_closing")))
    fill("posterior", posterior(read("bayes_tables"), read("bayes_decisions")))
    draw(results[1]["rows"])


def few_mixtures(result: dict) -> str:
    """Mean errors over draws, a line a table and number of mixtures."""
    names = {"camel": "CAMEL", "blend": "blend", "sodm": "SODM additive", "dml": "DML"}
    lines = [f"| table | domains | mixtures | {' | '.join(names.values())} |", f"|{'---|' * (3 + len(names))}"]
    groups: dict[tuple, list[dict]] = {}
    for row in result["rows"]:
        groups.setdefault((row["table"], row["domains"], row["mixtures"]), []).append(row["errors"])
    tables = list(dict.fromkeys(place[0] for place in groups))
    for place, draws in sorted(groups.items(), key=lambda group: (tables.index(group[0][0]), group[0])):
        means = ([statistics.mean(e[law][what] for e in draws) for what in ("all", "final")] for law in names)
        lines.append(f"| {' | '.join(map(str, place))} | " + " | ".join(f"{a:.2f} / {b:.2f}" for a, b in means) + " |")
    return "\n".join([*lines, ""])


def order(rows: list[dict]) -> str:
    """Of every table the share of pairs of mixtures in the right order and the regret, with the error of those that predict losses."""
    tables = list(dict.fromkeys(row["table"] for row in rows))
    by_key = {(row["table"], row["method"]): row for row in rows}
    lines = [f"| | {' | '.join(tables)} |", f"|---|{'---|' * len(tables)}"]
    known = [law for law in (*BASELINES, *LAWS) if any(row["method"] == law for row in rows)]
    for method in sorted(known, key=lambda law: law in BASELINES):
        cells = [order_cell(by_key.get((table, method))) for table in tables]
        lines.append(f"| {(LAWS | BASELINES | FORMER).get(method, method)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def order_cell(row: dict | None) -> str:
    """Pairs, regret and error of a row; a dash where it says nothing."""
    if row is None:
        return "not run"
    if row["failure"]:
        return "-"
    asked = (
        row["pairs"] is not None and row["pairs"] == row["pairs"]
    )  # without pairs of mixtures a regret means nothing
    numbers = ((row["pairs"], ".3f"), (row["regret"] if asked else None, ".2f"), (row["error"], ".2f"))
    return " / ".join("-" if x is None or x != x else format(x, spec) for x, spec in numbers)


def swarm(rows: list[dict]) -> str:
    """Errors of each fold of mixtures, of one table."""
    folds = list(dict.fromkeys(row["holdout"] for row in rows))
    by_key = {(row["holdout"], row["method"]): row for row in rows}
    names = [fold.partition(", ")[2] for fold in folds]
    lines = [f"| | {' | '.join(names)} | mean | pairs | inside 90 % |", f"|---|{'---|' * (len(folds) + 3)}"]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [by_key.get((fold, method)) for fold in folds]
        known = [row for row in mine if row is not None and not row["failure"]]
        if len(known) < len(folds):
            continue
        errors, pairs, inside = ([row[name] for row in known] for name in ("error", "pairs", "cover90"))
        cells = [f"{error:.2f}" for error in (*errors, statistics.mean(errors))]
        covered = [x for x in inside if x is not None and x == x]
        cells += [f"{statistics.mean(pairs):.3f}", f"{statistics.mean(covered):.2f}" if covered else ""]
        lines.append(f"| {LAWS.get(method, BASELINES.get(method, method))} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def short(rows: list[dict]) -> str:
    """The README's table: a few laws, the largest size held out, all checkpoints."""
    tables = list(dict.fromkeys(row["table"] for row in rows))
    by_key = {(row["table"], row["method"]): row for row in rows}
    lines = [f"| law | {' | '.join(tables)} |", f"|---|{'---|' * len(tables)}"]
    for law in SHORT:
        cells = [f"{by_key[table, law]['error']:.2f}" for table in tables]
        lines.append(f"| {LAWS[law]} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def ablations(result: dict) -> str:
    """What one change at a time does to the default law, and to the geometric mean over tables."""
    rows = {(row["setting"], row["table"]): row for row in result["rows"]}
    settings = list(dict.fromkeys(setting for setting, _ in rows))
    tables = list(dict.fromkeys(table for _, table in rows))

    def mean(setting: str, name: str) -> float:
        return statistics.geometric_mean(rows[setting, table][name] for table in tables)

    lines = [
        f"| changed | {' | '.join(tables)} | geometric mean, against the default |",
        f"|---|{'---|' * (len(tables) + 1)}",
    ]
    for setting in settings:
        cells = [cell(rows[setting, table] | {"failure": ""}) if (setting, table) in rows else "" for table in tables]
        against = ""
        if all((setting, table) in rows for table in tables) and setting != settings[0]:
            parts = [100.0 * (mean(setting, name) / mean(settings[0], name) - 1.0) for name in ("error", "error_final")]
            against = " / ".join(f"{part:+.0f} %" for part in parts)
        lines.append(f"| {'nothing' if setting == 'default' else setting} | {' | '.join(cells)} | {against} |")
    command = f"python benchmarks/accuracy/ablations.py FOLDER --tables {','.join(tables)} --starts {result['starts']}"
    return "\n".join([*lines, "", f"`{command}`, jax {result['jax']} on CPU, {result['dtype']}.", ""])


def proxies(board: dict, closing: dict) -> str:
    """The leaderboard of the shipped table, and what the recommended mixtures gave when they were trained."""
    rows = {row["method"]: row for row in board["rows"]}
    lines = [
        "| law | error, % | inside 90 % | rank of the mean loss | regret, % |",
        "|---|---|---|---|---|",
    ]
    for law in [law for law in LAWS if law in rows]:
        row = rows[law]
        if row["failure"]:
            lines.append(f"| {LAWS[law]} | failed | | | |")
            continue
        inside = "" if row["cover90"] is None or row["cover90"] != row["cover90"] else f"{row['cover90']:.2f}"
        rank = "" if row["rank_mean"] != row["rank_mean"] else f"{row['rank_mean']:.2f}"
        lines.append(f"| {LAWS[law]} | {row['error']:.2f} | {inside} | {rank} | {row['regret']:.2f} |")
    seeds = len(closing["seeds"])
    lines += [
        "",
        "The loop closed: the mixture that each law recommends for that size, fitted below it, trained for real, as are three others,",
        f"with {seeds} seeds (90 % intervals over seeds; differences are paired by seed):",
        "",
        "| mixture | mean loss | difference to CAMEL's | mean accuracy | difference to CAMEL's |",
        "|---|---|---|---|---|",
    ]
    for name, row in sorted(closing["mixtures"].items(), key=lambda item: item[1]["mean_loss"]):
        cells = [MIXTURES[name]]
        for what, digits in (("loss", 4), ("accuracy", 3)):
            low, high = row[f"mean_{what}_interval"]
            cells.append(f"{row[f'mean_{what}']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
            gap = [f"{x:+.{digits}f}" for x in row[f"{what}_minus_camel"]]
            cells.append("" if name == "camel" else f"{gap[0]} ({gap[1]} to {gap[2]})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def posterior(tables: dict, decisions: dict) -> str:
    """Predictions at a held-out scale and decisions with few runs, of the bootstrap and of the posterior."""
    lines = [
        "| largest size of | runs below it | inside 90 % | its width, % | CRPS, thousandths | error, % | chains agree |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, table in tables["tables"].items():
        both = table["bootstrap"], table["posterior"]
        cells = [
            pair(both, key, spec)
            for key, spec in (
                ("coverage", ".3f"),
                ("width_thousandths", ".2f"),
                ("crps_thousandths", ".2f"),
                ("error_percent", ".2f"),
            )
        ]
        found = table["posterior"]
        agree = "yes" if found["converged"] else f"no: R-hat {found['r_hat']:.3f}, {found['draws']} draws"
        lines.append(f"| {name} | {table['fitted_runs']} | {' | '.join(cells)} | {agree} |")
    s = decisions["settings"]
    lines += [
        "",
        "Bootstrap / posterior, final checkpoints, CAMEL with 6 skills (`python benchmarks/posterior/tables.py`).",
        "",
        "Decisions from few runs of a planted law:",
        "",
        "| runs | studies | true gain inside its 90 % interval | width of that interval | interval score | mean regret |",
        "|---|---|---|---|---|---|",
    ]
    by_runs = sorted(decisions["runs"].items(), key=lambda item: int(item[0]))
    for n, found in by_runs:
        rows = found["summary"]
        three = rows["bootstrap"], rows["bootstrap without discrepancy"], rows["posterior"]
        inside = " / ".join(f"{row['inside']}" for row in three)
        cells = [pair(three, key, ".4f") for key in ("median_width", "interval_score")]
        regret = pair((three[0], three[2]), "mean_regret", ".4f")
        lines.append(f"| {n} | {three[0]['studies']} | {inside} | {' | '.join(cells)} | {regret} |")
    rough = ", ".join(f"{f['summary']['posterior']['r_hat_above_1.05']} at {n}" for n, f in by_runs)
    lines += [
        "",
        "Bootstrap / bootstrap without its discrepancy / posterior, which believes the law; nats. The first two choose the same",
        f"mixture. {s['chains']} chains of {s['draws']} draws; studies with R-hat above 1.05: {rough} runs",
        "(`python benchmarks/posterior/decisions.py`).",
        "",
    ]
    return "\n".join(lines)


def pair(rows, key: str, spec: str) -> str:
    """One number of several methods; widths of log loss in thousandths become percent."""
    scale = 0.1 if key == "width_thousandths" else 1.0
    return " / ".join(format(scale * row[key], spec) for row in rows)


def section(held: int, result: dict) -> str:
    """One table of errors, and one of what else the leaderboard says of the default and of CAMEL."""
    rows, settings = result["rows"], result["settings"]
    tables = list(dict.fromkeys(row["table"] for row in rows))
    by_key = {(row["table"], row["method"]): row for row in rows}
    laws = [law for law in LAWS if any((table, law) in by_key for table in tables)]
    asked = f" --laws {','.join(dict.fromkeys(row['method'] for row in rows))}" if settings["laws"] else ""
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
    lines += [
        "",
        "The default and CAMEL alone there:",
        "",
        f"| | {' | '.join(tables)} |",
        f"|---|{'---|' * len(tables)}",
    ]
    for name, label, spec in (
        ("cover90", "measured losses inside the 90 % intervals", ".2f"),
        ("cover50", "inside the 50 % intervals", ".2f"),
        ("width90", "median half-width of the 90 % interval, %", ".2f"),
        ("rank_mean", "rank correlation of the mean loss over mixtures", ".3f"),
        ("regret", "regret of the mixture it would pick, %", ".2f"),
    ):
        cells = [" / ".join(format(by_key[table, law][name], spec) for law in ("blend", "camel")) for table in tables]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    command = f"python benchmarks/accuracy/leaderboard.py FOLDER --tables {settings['tables']} --holdout {held}{asked}"
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
    """The figure of docs/accuracy.md."""
    from camel_jax.figures.leaderboard import leaderboards

    tables: dict[str, list] = {}
    for row in rows:
        tables.setdefault(row["table"], []).append(types.SimpleNamespace(**row))
    leaderboards(tables, title="Error at the largest size, fitted below it").savefig(
        ROOT / "docs/figures/leaderboard.png"
    )


if __name__ == "__main__":
    main()
