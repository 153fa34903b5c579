"""What is seen of a design of runs, of what is known before it, and of a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.recipes.sizes import format_count, format_size
from camel_jax.views.tables import names_text
from camel_jax.views.view import Sheet, View


def design_view(design: Any) -> View:
    """Runs to buy and what they are expected to do."""
    facts = {
        "cost": f"{design.total_cost:.3g}",
        "target": design.target.text(),
        "runs per size": ", ".join(f"{name}: {count}" for name, count in design.runs_per_size().items()),
        "standard error of log loss": f"{design.error_before:.3g} before, {design.error_after:.3g} after",
        "expected regret, nats": f"{design.regret_before:.3g} before, {design.regret_after:.3g} after",
    }
    columns = {name: column for name, column in design.to_columns().items() if name != "size_total"}
    columns["size"] = [format_count(x) for x in columns["size"]]
    columns["tokens"] = [format_count(x) for x in columns["tokens"]]
    title = f"{int(design.counts.sum())} runs, {design.shape}"
    return View(title, facts, (Sheet("in the order of buying", columns),), design.notes)


def design_columns(design: Any) -> dict[str, Any]:
    """A run table without losses, one row a run in the order of buying."""
    return design.to_columns()


def plot_design(design: Any, ax: Any = None, kind: str = "error") -> Any:
    """Expected standard error against the cost so far, a map of the mixtures, or counts by size."""
    from camel_jax.figures.designs import counts_table, design_curves, design_map

    if kind not in ("error", "mixtures", "counts"):
        raise ValueError(f"kind must be error, mixtures or counts, got {kind!r}")
    if kind == "mixtures":
        return design_map(design, ax=ax)
    return (design_curves if kind == "error" else counts_table)([design], ax=ax)


def knowledge_view(known: Any) -> View:
    """What a design starts from."""
    size, tokens = known.largest
    facts = {"domains": names_text(known.domains), "validation sets": names_text(known.sets)}
    if known.runs:
        facts["largest run"] = f"{format_count(size)} active parameters, {format_count(tokens)} tokens"
    runs = f"{known.runs} runs" if known.runs else "no runs"
    return View(f"what {runs} tell of {known.law.name}", facts)


def ladder_view(ladder: Any) -> View:
    """Sizes at which runs may be bought."""
    columns = {
        "size": [format_size(t, a) for t, a in zip(ladder.n_total, ladder.n_active, strict=True)],
        "tokens": [format_count(x) for x in ladder.tokens],
        "cost": ladder.cost,
    }
    return View(f"ladder of {ladder.rungs} sizes", {}, (Sheet("", columns),))


LEGEND = (
    "error: mean relative error of what was held out in %, low to high over runs",
    "rank: Spearman correlation over mixtures; pairs: share of pairs of mixtures in the measured order",
    "cover90: share of losses inside the 90 % intervals",
)


def leaderboard_view(rows: Sequence[Any]) -> View:
    """Errors of every method on every table, best first."""
    names = list(dict.fromkeys(row.table for row in rows))
    title = f"{len({row.method for row in rows})} methods on {names_text(names) or 'no table'}"
    judged = dict.fromkeys((row.table, row.holdout) for row in rows)
    return View(title, {}, [_one_table([r for r in rows if (r.table, r.holdout) == one]) for one in judged], LEGEND)


def _one_table(rows: Sequence[Any]) -> Sheet:
    rows = sorted(rows, key=lambda row: (row.error != row.error, row.error))
    columns: dict[str, Any] = {"method": [row.method for row in rows]}
    columns |= {"error": [row.error for row in rows]}
    columns |= {part: [getattr(row, f"error_{part}") for row in rows] for part in ("low", "high", "final")}
    columns |= {"rank": [row.rank_mean for row in rows], "pairs": [row.pairs for row in rows]}
    columns |= {"cover90": [row.cover90 for row in rows]}
    columns |= {"failure": [row.failure for row in rows]} if any(row.failure for row in rows) else {}
    first = rows[0]
    title = f"{first.table}: fitted on {first.fitted} rows, judged on {first.held_out} held out"
    title += f" ({first.holdout})" if first.holdout else ""
    return Sheet(title, columns)


def leaderboard_columns(rows: Sequence[Any]) -> dict[str, Any]:
    """One row a table and method, every score."""
    fields = type(rows[0])._fields if rows else ("table", "method")
    return {name: np.array([getattr(row, name) for row in rows]) for name in fields}


def plot_leaderboard(rows: Sequence[Any], ax: Any = None) -> Any:
    """Error of every method on one table; with several, or several folds, of the first."""
    from camel_jax.figures.leaderboard import leaderboard

    return leaderboard([row for row in rows if (row.table, row.holdout) == (rows[0].table, rows[0].holdout)], ax=ax)
