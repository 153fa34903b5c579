"""What the design studies say: python benchmarks/design/report.py. Prints tables, fills docs/design_study.md, draws
docs/figures/design.png.

Reads design_study.json, design_tables.json, study_campaign.json and leaderboard_holdout1.json in benchmarks/results. Intervals are
90 % bootstrap intervals over planted laws; ratios are paired by planted law.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.pages import fill, read
from common.provenance import ROOT

FAMILIES = {"dml": "DML", "sodm": "SODM additive", "sodm_joint": "SODM joint", "camel": "CAMEL"}
LAWS = {"chinchilla": "Chinchilla"} | FAMILIES  # of the real runs
SHAPES = {
    "optimal": "optimal, mean",
    "optimal_worst": "optimal, worst case",
    "optimal_repeats": "optimal, mean, repeats allowed",
    "small": "small-weighted",
    "hourglass": "hourglass",
    "uniform": "uniform",
    "large": "large-weighted",
}
FIXED = ("small", "hourglass", "uniform", "large")
TABLES = ("slimpajama", "pile5", "redpajama7")


def main() -> None:
    """Read, print, write and draw."""
    study, tables = read("design_study"), read("design_tables")
    bars = {row["table"]: row["error"] for row in read("leaderboard_holdout1")["rows"] if row["method"] == "sodm_joint"}
    text = "\n".join([*simulated(study["rows"]), "", *real(tables["rows"], bars), ""])
    print(text)
    fill("design", text)
    fill("campaign", campaign(read("study_campaign")))
    draw(study["rows"], tables["rows"], bars).savefig(ROOT / "docs/figures/design.png")


def campaign(result: dict) -> str:
    """What a study that asks and is told needs beside one batch, as a table."""

    def text(values: list[float], spec: str) -> str:
        return "{:{spec}} ({:{spec}} to {:{spec}})".format(*values, spec=spec)

    lines = [
        "| planted law | runs of the batch | FLOPs of the study over the batch's | within half, of all | regret of the batch |"
    ]
    lines += ["|---|---|---|---|---|"]
    small = ["| planted law | regret of the small runs | of the study | the study's less theirs |", "|---|---|---|---|"]
    for family, told in result["summary"].items():
        for runs in map(str, result["settings"]["batches"]):
            one = told[runs]
            cells = [FAMILIES[family], runs, text(one["share"], ".2f"), f"{100 * one['within_half']:.0f} %"]
            lines.append("| " + " | ".join([*cells, text([1000 * x for x in one["batch_regret"]], ".2f")]) + " |")
        one = {name: text([1000 * x for x in values], ".2f") for name, values in told["small"].items()}
        small.append(f"| {FAMILIES[family]} | {one['regret']} | {one['study_regret']} | {one['less']} |")
    counts = " and ".join(str(told["repetitions"]) for told in result["summary"].values())
    head = f"{counts} planted laws; medians with 90 % intervals, regrets in thousandths of a nat."
    return "\n".join(
        [head, "", *lines, "", "Beside one batch of small runs, at 0.42 of the FLOPs of 8 runs:", "", *small, ""]
    )


def errors(rows: list[dict], family: str, multiple: int, shape: str, what: str = "error") -> np.ndarray:
    """Of every planted law of a family, tables one after the other; NaN where a law could not be fitted."""
    here = [r for r in rows if (r["family"], r["multiple"]) == (family, multiple)]
    whole = [t for t in TABLES if {r["shape"] for r in here if r["table"] == t} >= {"optimal", *FIXED}]
    own = {r["table"]: r for r in here if r["shape"] == shape and r["table"] in whole}
    laws = {r["table"]: len(r["error"]) for r in rows if r["family"] == family and "error" in r}
    parts = [np.asarray(own[t].get(what, [np.inf] * laws[t])) for t in TABLES if t in own and t in laws]
    return np.concatenate(parts) if parts else np.zeros(0)


def budgets(rows: list[dict], family: str) -> list[int]:
    """Budgets at which every design of a family is there on a table at least."""
    found = {(r["multiple"], r["table"]) for r in rows if r["family"] == family}
    have = {(r["multiple"], r["table"], r["shape"]) for r in rows if r["family"] == family}
    return sorted({m for m, t in found if all((m, t, s) in have for s in ("optimal", *FIXED))})


def median(values: np.ndarray) -> tuple[float, float, float]:
    """Median with its 90 % bootstrap interval."""
    drawn = np.median(values[np.random.default_rng(0).integers(0, len(values), (2000, len(values)))], 1)
    low, high = np.quantile(drawn, [0.05, 0.95])
    return float(np.median(values)), float(low), float(high)


def simulated(rows: list[dict]) -> list[str]:
    """The table of the simulation."""
    families = [f for f in FAMILIES if budgets(rows, f)]
    multiples = sorted({m for f in families for m in budgets(rows, f)})
    shapes, lines = [s for s in SHAPES if any(r["shape"] == s for r in rows)], []
    for what, unit in (("error", "median error at the target, %"), ("regret", "mean regret, 0.001 nats")):
        lines += [f"Simulation, {unit}, budgets of {', '.join(map(str, multiples))} runs a size:", ""]
        lines += [f"| design | {' | '.join(f'{FAMILIES[f]}' for f in families)} |", f"|---|{'---|' * len(families)}"]
        for shape in shapes:
            cells = []
            for family in families:
                found = [errors(rows, family, m, shape, what) for m in budgets(rows, family)]
                middle = np.median if what == "error" else lambda x: 1e3 * np.mean(x)
                laws = [len(errors(rows, family, m, "optimal")) for m in budgets(rows, family)]
                whole = zip(found, laws, strict=True)
                cells.append(" / ".join(f"{middle(x):.2f}" if len(x) == n else "not run" for x, n in whole))
            lines.append(f"| {SHAPES[shape]} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "Error of the optimal design over that of a fixed shape, paired by planted law, median and 90 % interval:",
        "",
    ]
    lines += [f"| over | {' | '.join(FAMILIES[f] for f in families)} | all |", f"|---|{'---|' * (len(families) + 1)}"]
    for shape in FIXED:
        cells, everything = [], []
        for family in families:
            ratios = np.concatenate(
                [errors(rows, family, m, "optimal") / errors(rows, family, m, shape) for m in budgets(rows, family)]
            )
            everything.append(ratios)
            cells.append("{:.2f} ({:.2f} to {:.2f})".format(*median(ratios)))
        cells.append("{:.2f} ({:.2f} to {:.2f})".format(*median(np.concatenate(everything))))
        lines.append(f"| {SHAPES[shape]} | {' | '.join(cells)} |")
    counts = {f: [len(errors(rows, f, m, "optimal")) for m in budgets(rows, f)] for f in families}
    told = ", ".join(f"{' and '.join(map(str, n))} of {FAMILIES[f]}" for f, n in counts.items())
    cells = [worst_of(rows, family, m) for family in families for m in budgets(rows, family)]
    some = [
        (*worst_of([r for r in rows if r["table"] == t], family, m)[:3], f"{FAMILIES[family]} on {t}", m)
        for family in families
        for m in budgets(rows, family)
        for t in TABLES
        if len(errors([r for r in rows if r["table"] == t], family, m, "optimal"))
    ]
    lines += ["", f"Planted laws by budget: {told}."]
    for found, what in ((cells, "families and budgets"), (some, f"{len(some)} cells of family, table and budget")):
        ratio, paired, best, name, m = max(found, key=lambda w: w[0])
        pairs = "{:.2f} ({:.2f} to {:.2f})".format(*median(paired))
        lines += [
            f"Of all {what} the optimal design does worst with {name} and {m} runs a size: {ratio:.2f} of the median error",
            f"of the best fixed shape ({best}), paired {pairs}.",
        ]
    lines += [
        "",
        *honesty(rows),
    ]
    return lines


def worst_of(rows: list[dict], family: str, m: int) -> tuple[float, np.ndarray, str, str, int]:
    """The optimal design against the best fixed shape: ratio of medians, paired ratios, the shape, the family, the budget."""
    best = min(FIXED, key=lambda s: np.median(errors(rows, family, m, s)))
    own, other = (errors(rows, family, m, s) for s in ("optimal", best))
    return np.median(own) / np.median(other), own / other, SHAPES[best], FAMILIES[family], m


def honesty(rows: list[dict]) -> list[str]:
    """How large realised errors are beside those that a design expects, over the cells of family, table and budget."""
    told = []
    for shapes, name in ((("optimal",), "optimal designs"), (FIXED, "fixed shapes")):
        found = [np.median(r["error"]) / r["expected"] for r in rows if r["shape"] in shapes and "error" in r]
        low, mid, high = np.quantile(found, [0.0, 0.5, 1.0])
        told.append(f"{mid:.1f} times ({low:.1f} to {high:.1f}) for the {len(found)} {name}")
    return [f"Median realised error over the error that the design expects, median (range): {', '.join(told)}."]


def curve(rows: list[dict], table: str, law: str, shape: str, key: str) -> dict[float, float]:
    """Error by fraction, mean over seeds; NaN where the law refuses so few runs."""
    found: dict[float, list[float]] = {}
    for r in rows:
        if r["table"] == table and r["law"] == law and r["shape"] in (shape, "all"):
            found.setdefault(r["fraction"], []).append(r.get(key, np.nan))
    return {f: float(np.mean(v)) for f, v in sorted(found.items())}


def real(rows: list[dict], bars: dict[str, float]) -> list[str]:
    """The table of the real runs: every law and shape, by fraction."""
    fractions = sorted({r["fraction"] for r in rows})
    head = " / ".join(f"{100 * f:g}" for f in fractions)
    lines = [f"Real runs, mean relative error in % at the largest size, with {head} % of the FLOPs", ""]
    lines[0] += " (few: fewer runs than the law asks for; -: not run):"
    lines += [f"| law | runs chosen by | {' | '.join(TABLES)} |", f"|---|---|{'---|' * len(TABLES)}"]
    names = {"camel": ("CAMEL", "error_field")} | {
        law: (f"{name}, upgraded", "error") for law, name in LAWS.items() if law != "camel"
    }
    for law, (name, key) in names.items():
        for shape in SHAPES:
            if not any(r["law"] == law and r["shape"] == shape for r in rows):
                continue
            cells = []
            for table in TABLES:
                found = curve(rows, table, law, shape, key)
                texts = [
                    "-" if f not in found else "few" if np.isnan(found[f]) else f"{found[f]:.2f}" for f in fractions
                ]
                own = any((r["table"], r["law"], r["shape"]) == (table, law, shape) for r in rows)
                cells.append(" / ".join(texts) if own else "-")
            lines.append(f"| {name} | {SHAPES[shape].split(',')[0]} | {' | '.join(cells)} |")
    told = ", ".join(f"{bars[t]:.3f} on {t}" for t in TABLES)
    lines += [
        "",
        f"SODM joint, upgraded, with every run and checkpoint: {told} (`benchmarks/accuracy/leaderboard.py`).",
    ]
    return [*lines, *reached(rows, bars)]


def reached(rows: list[dict], bars: dict[str, float]) -> list[str]:
    """The least share of the FLOPs with which every law reaches that error, by shape."""
    lines = []
    for law in LAWS:
        parts, key = [], "error_field" if law == "camel" else "error"
        for shape in ("optimal", *FIXED):
            least = []
            for table in TABLES:
                found = curve(rows, table, law, shape, key)
                otherwise = "never" if 1.0 in found else "not run in full"
                least.append(next((f"{100 * f:g}" for f, e in found.items() if e <= bars[table]), otherwise))
            if any(r["law"] == law and r["shape"] == shape for r in rows) and set(least) != {"never"}:
                told = least[:1] if len(set(least)) == 1 else least
                parts.append(f"{SHAPES[shape].split(',')[0]} {' / '.join(told)}")
        lines.append(f"{LAWS[law]} {', '.join(parts) if parts else 'never'}")
    return [f"Least % of the FLOPs that reach it, by table: {'; '.join(lines)}."]


def draw(study: list[dict], tables: list[dict], bars: dict[str, float]):
    """Error against budget: families of the simulation above, public tables below."""
    from camel_jax.figures import style

    figure = style.new_figure(13.2, 7.6)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.14)
    grid = figure.add_gridspec(2, 12)
    families = [f for f in FAMILIES if budgets(study, f)]
    wide = 12 // max(len(families), 1)
    above = [figure.add_subplot(grid[0, i * wide : (i + 1) * wide]) for i in range(len(families))]
    below = [figure.add_subplot(grid[1, 4 * i : 4 * i + 4]) for i in range(len(TABLES))]
    for ax, family in zip(above, families, strict=True):
        at = budgets(study, family)
        for i, shape in enumerate(("optimal", *FIXED)):
            mid, low, high = np.asarray([median(errors(study, family, m, shape)) for m in at]).T
            ax.fill_between(at, low, high, color=style.color_of(i), alpha=0.15, lw=0)
            label, width = SHAPES[shape].split(",")[0], 2.4 if shape == "optimal" else 1.3
            ax.plot(at, mid, "o-", ms=3.5, lw=width, color=style.color_of(i), label=label)
        ax.set(xscale="log", xlabel="budget, runs a size of the uniform shape", title=f"{FAMILIES[family]}, simulated")
        ax.set_xticks(at, map(str, at))
    above[0].set_ylabel("median error at the target, %")
    above[0].legend(frameon=False, fontsize=8)
    styles = [
        ("camel", "optimal", "error_field", "CAMEL, optimal"),
        ("camel", "hourglass", "error_field", "CAMEL, hourglass"),
        ("camel", "uniform", "error_field", "CAMEL, uniform"),
        ("sodm_joint", "optimal", "error", "SODM joint, optimal"),
        ("sodm", "optimal", "error", "SODM additive, optimal"),
        ("dml", "optimal", "error", "DML, optimal"),
        ("chinchilla", "optimal", "error", "Chinchilla, optimal"),
    ]
    for ax, table in zip(below, TABLES, strict=True):
        for i, (law, shape, key, label) in enumerate(styles):
            found = curve(tables, table, law, shape, key)
            found = {f: e for f, e in found.items() if np.isfinite(e)}
            if len(found) < 2:
                continue
            x, y = [100 * f for f in found], list(found.values())
            ax.plot(x, y, "o-", ms=3.5, lw=1.3 if i else 2.4, color=style.color_of(i), label=label)
        ax.axhline(bars[table], color="#555555", ls="--", lw=1)
        ax.text(100, bars[table], "SODM joint, all runs", fontsize=8, color="#555555", ha="right", va="top")
        ax.set(xlabel="share of the FLOPs of all runs, %", title=f"{table}, real runs")
    below[0].set_ylabel("error at the largest size, %")
    below[0].legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.72))
    for ax in (*above, *below):
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(_ticks())
        ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8.5)
        ax.title.set(fontsize=10.5, fontweight="bold")
        ax.grid(color="#f0f0f0", lw=0.8)
        ax.set_axisbelow(True)
    return figure


def _ticks():
    from matplotlib.ticker import LogLocator

    return LogLocator(base=10, subs=(1, 2, 3, 5, 7))


if __name__ == "__main__":
    main()
