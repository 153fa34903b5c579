"""Figures of leaderboards: the error of every law at a held-out scale. They draw on the given Axes, and write no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.figures.style import COLORS, INK, given_axes, literal, new_figure, put_title

DOTS = "filled: all checkpoints, with a 90 % interval over runs; open: final ones; orange: as published"


def leaderboard(
    rows: Sequence[Any],
    *,
    highlight: Sequence[str] = ("camel", "blend"),
    ax: Any = None,
    title: str = "",
    note: str = DOTS,
) -> Any:
    """Error at the held-out scale of every law on one table, best on top.

    Args:
      rows: ``evaluate.Row`` of one table; those that failed are left out.
      highlight: names of the laws whose rows, and those of their variants, are colored.
      ax: Axes to draw on; a new figure if None.
      title: of the panel; the table's name if empty. note: below the title.

    Returns:
      The Axes.

    Raises:
      ValueError: no row has an error.
    """
    rows = sorted((row for row in rows if np.isfinite(row.error)), key=lambda row: -row.error)
    if not rows:
        raise ValueError("no row of the leaderboard has an error to draw")
    ax = given_axes(ax)
    for y, row in enumerate(rows):
        ours = any(f"{row.method}_".startswith(f"{name}_") for name in highlight)
        color = COLORS[0] if ours else COLORS[3] if row.method.endswith("_published") else "#777777"
        ax.plot([row.error_low, row.error_high], [y, y], color=color, lw=1.6, alpha=0.7)
        ax.plot(row.error, y, "o", ms=6, color=color)
        ax.plot(row.error_final, y, "o", ms=5, mfc="white", mec=color, mew=1.2)
    ax.set_yticks(range(len(rows)), [literal(row.method.replace("_", " ")) for row in rows])
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.method in highlight else "normal")
    ax.set_xscale("log")
    values = np.array([[row.error, row.error_final, row.error_low, row.error_high] for row in rows])
    ticks = [
        t for t in (0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50) if values.min() / 1.3 <= t <= values.max() * 1.3
    ]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("mean relative error at the held-out scale, %")
    ax.grid(axis="x", color="#f0f0f0", lw=0.8)
    put_title(ax, title or rows[0].table, note)
    return ax


def leaderboards(tables: Mapping[str, Sequence[Any]], *, title: str = "Error at a scale not seen") -> Any:
    """One panel of ``leaderboard`` per table, on one page.

    Args:
      tables: name -> rows of that table.
      title: of the page.

    Returns:
      A matplotlib Figure.
    """
    across = min(2, len(tables))
    down = -(-len(tables) // across)
    longest = max(len(rows) for rows in tables.values())
    said = DOTS if across > 1 else DOTS.replace("; open", ";\nopen")  # one panel is too narrow for a single line
    head = 0.7 + 0.17 * said.count("\n")
    figure = new_figure(5.9 * across, down * (1.4 + 0.24 * longest) + head)
    axes = np.atleast_1d(figure.subplots(down, across)).reshape(-1)
    for (name, rows), ax in zip(tables.items(), axes, strict=False):
        leaderboard(rows, ax=ax, title=name, note="")
    for ax in axes[len(tables) :]:
        ax.set_visible(False)
    height = figure.get_size_inches()[1]
    figure.get_layout_engine().set(w_pad=0.16, h_pad=0.14, rect=(0.0, 0.0, 1.0, 1.0 - head / height))
    figure.text(0.012, 1.0 - 0.12 / height, literal(title), fontsize=15, fontweight="bold", color=INK, va="top")
    figure.text(0.012, 1.0 - 0.44 / height, said, fontsize=9.5, color="#555555", va="top")
    return figure
