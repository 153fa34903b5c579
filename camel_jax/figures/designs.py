"""Figures of a design of runs: a table of counts by size, a map of the mixtures, and the error that is expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.figures.compute import design_curves
from camel_jax.figures.style import INK, as_label, color_of, finish, given_axes, literal, new_figure
from camel_jax.types import Array

ARROWS = 8  # domains that a map names, those along which its mixtures differ most


def design_page(designs: Sequence[Any], best: Any) -> Any:
    """Counts by size, mixtures and expected error of designs for one budget.

    Args:
      designs: results of ``design.compare_shapes``. best: the one among them whose mixtures are drawn.

    Returns:
      A matplotlib Figure.
    """
    figure = new_figure(13.2, 4.6)
    counts, mixtures, curves = figure.subplots(1, 3, width_ratios=(1.0, 1.15, 1.0))
    figure.get_layout_engine().set(w_pad=0.14, h_pad=0.1)
    counts_table(designs, ax=counts)
    design_map(best, ax=mixtures)
    design_curves(designs, ax=curves, title="Expected error, run by run")
    return figure


def counts_table(designs: Sequence[Any], *, ax: Any = None, title: str = "", note: str = "") -> Any:
    """Runs of every size as a table, one column a design, with the share of the cost that a size takes.

    Args:
      designs: results of ``design.compare_shapes``. ax: Axes to draw on; a new figure if None. title, note: of the panel.

    Returns:
      The Axes.
    """
    ax = given_axes(ax)
    ax.set_axis_off()
    rows = list(designs[0].runs_per_size())
    names = [as_label(one.shape).strip() for one in designs]
    cells = []
    for k, size in enumerate(rows):
        row = [size]
        for one in designs:
            here = of_size(one, k)
            count, cost = int(one.counts[here].sum()), float(one.cost[here] @ one.counts[here])
            row.append(f"{count}  ({100 * cost / max(one.total_cost, 1e-300):.0f} %)" if count else "\u2013")
        cells.append(row)
    cells.append(["all", *(str(int(one.counts.sum())) for one in designs)])
    lines = [["size", *names], *cells]
    step, first = 1.0 / (len(lines) + 1), 0.24 if len(designs) > 1 else 0.4
    places = [0.0, *np.linspace(first + (1 - first) / len(designs), 1.0, len(designs))]
    for i, line in enumerate(lines):
        y = 1 - step * (i + 0.7)
        bold = "bold" if i in (0, len(lines) - 1) else "normal"
        for j, (x, text) in enumerate(zip(places, line, strict=True)):
            side = "right" if j else "left"
            ax.text(x, y, literal(text, 24), ha=side, va="center", fontsize=8.5, fontweight=bold, color=INK)
        if i in (0, len(lines) - 2):
            ax.plot([0, 1], [y - step / 2] * 2, color="#cccccc", lw=0.8)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    return finish(ax, title or "Runs of every size", note or "runs, and in brackets the share of the cost")


def design_map(design: Any, *, ax: Any = None, title: str = "", note: str = "") -> Any:
    """The mixtures of a design as a map: one dot a mixture and size, as large as its runs are many.

    Args:
      design: a ``Design``. ax: Axes to draw on; a new figure if None. title, note: of the panel.

    Returns:
      The Axes.
    """
    names = list(design.runs_per_size())
    rungs = np.full(len(design.counts), -1)
    for k in range(len(names)):
        rungs[of_size(design, k)] = k
    bought = design.counts > 0
    return mixture_map(
        design.domains,
        np.asarray(design.recipe.weights)[bought],
        design.counts[bought],
        [names[k] for k in rungs[bought]],
        aim=np.asarray(design.target.recipe.weights),
        ax=ax,
        title=title or f"Mixtures of {design.shape}",
        note=note,
    )


def mixture_map(
    domains: Sequence[str],
    mixtures: Array,
    counts: Array,
    kinds: Sequence[str],
    *,
    aim: Array | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """Mixtures on a plane, so that those alike lie close: a triangle for three domains, elsewhere the two directions of largest spread.

    Args:
      domains: K names. mixtures: (n, K). counts: (n,) runs of each, the area of its dot. kinds: n names, one color each.
      aim: (m, K) mixtures to mark, for which predictions must be good; None for none.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> ax = mixture_map(["web", "code"], [[0.5, 0.5], [0.2, 0.8]], [3, 1], ["10M", "100M"])
    >>> len(ax.collections), [text.get_text() for text in ax.get_legend().get_texts()]
    (2, ['10M', '100M'])
    """
    ax = given_axes(ax)
    mixtures, counts = np.asarray(mixtures, float), np.asarray(counts, float)
    every = mixtures if aim is None else np.vstack([mixtures, np.asarray(aim, float)])
    if len(domains) == 3:
        from camel_jax.figures.spaces import CORNERS, triangle_frame

        triangle_frame(ax, domains)
        place = lambda w: np.asarray(w) @ CORNERS  # noqa: E731
    else:
        place, told = _plane(ax, domains, every)
        note = "; ".join(filter(None, [note, told]))
    order = list(dict.fromkeys(kinds))
    areas = 18 * counts / max(counts.min(), 1.0)
    areas *= min(1.0, 420 / areas.max())
    for i, kind in enumerate(order):
        own = np.array([one == kind for one in kinds])
        ax.scatter(*place(mixtures[own]).T, s=areas[own], color=color_of(i), alpha=0.65, lw=0, label=literal(kind, 48))
    if aim is not None:
        ax.scatter(*place(np.asarray(aim)).T, s=16, marker="x", color=INK, lw=0.9, alpha=0.6, label="predicted for")
    legend = ax.legend(frameon=False, fontsize=8, labelspacing=0.35, handletextpad=0.3)
    for handle in legend.legend_handles:
        handle.set_sizes([22])
    return finish(ax, title or "Mixtures", note or "area: runs")


def _plane(ax: Any, domains: Sequence[str], mixtures: np.ndarray) -> tuple[Any, str]:
    """A plane of the two directions in which mixtures differ most, with arrows toward domains; where mixtures lie, and a note."""
    center = mixtures.mean(0)
    _, sizes, axes = np.linalg.svd(mixtures - center, full_matrices=False)
    axes = np.vstack([axes, np.zeros((2, len(domains)))])[:2].T  # (K, 2)
    axes = axes * np.where(axes.sum(0) < 0, -1.0, 1.0)
    spread = sizes**2 / max(float(np.sum(sizes**2)), 1e-300)

    def place(w: Any) -> np.ndarray:
        return (np.asarray(w) - center) @ axes

    reach = max(float(np.abs(place(mixtures)).max()), 1e-3)
    lengths = np.linalg.norm(axes, axis=1)
    shown = np.argsort(-lengths)[:ARROWS]
    for k in shown[lengths[shown] > 0.1]:
        x, y = 1.15 * reach * axes[k] / lengths.max()
        ax.plot([0, x], [0, y], color="#cccccc", lw=1.0, zorder=0)
        side = "left" if x >= 0 else "right"
        ax.text(1.04 * x, 1.04 * y, as_label(domains[int(k)]), fontsize=8, color="#555555", ha=side, va="center")
    ax.set(xlim=(-1.5 * reach, 1.5 * reach), ylim=(-1.3 * reach, 1.3 * reach), xticks=[], yticks=[])
    ax.set_aspect("equal")
    for side in ax.spines.values():
        side.set_visible(False)
    named = f", the {ARROWS} of {len(domains)} that matter most" if len(domains) > ARROWS else ""
    return (
        place,
        f"area: runs; lines: toward more of a domain{named}; {100 * spread[:2].sum():.0f} % of the spread is seen",
    )


def of_size(design: Any, rung: int) -> np.ndarray:
    """Which distinct runs of a design have a size of the ladder."""
    first = int(np.flatnonzero(design.ladder.rung == rung)[0])
    r = design.recipe
    return (r.n_total == design.ladder.n_total[first]) & (r.n_active == design.ladder.n_active[first])
