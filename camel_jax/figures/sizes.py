"""Figures along model sizes: losses with the runs brought to the same tokens, and what a mixture gains over the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from camel_jax.figures.style import COLORS, INK, as_label, color_of, finish, given_axes, label_ends, unit_of
from camel_jax.recipes.sizes import format_count
from camel_jax.types import Array

MOST = 8  # sets that one panel shows
SHOWN = 4.0  # times the largest end of the last size's interval: how far an axis of gains reaches


class Moved(NamedTuple):
    """Runs brought to the recipe of a curve: sizes (R,), and losses (R, V) times what the law says of the way there."""

    sizes: Array
    losses: Array


def chosen_sets(names: Sequence[str], values: Array, most: int = MOST) -> tuple[np.ndarray, str]:
    """Which sets to draw where there are many, spread from the least to the largest of a value, and a note on the choice.

    >>> chosen_sets(["a", "b", "c"], [3.0, 1.0, 2.0], most=2)
    (array([0, 1]), '2 of 3 sets, from the lowest loss to the highest')
    """
    if len(names) <= most:
        return np.arange(len(names)), ""
    order = np.argsort(values, kind="stable")
    picked = order[np.linspace(0, len(names) - 1, most).round().astype(int)]
    return np.sort(picked), f"{most} of {len(names)} sets, from the lowest loss to the highest"


def losses_along(
    sizes: Array,
    point: Array,
    low: Array,
    high: Array,
    names: Sequence[str],
    *,
    moved: Moved | None = None,
    fitted_up_to: float,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """Losses along model sizes with intervals; runs are brought to the curve's mixture and tokens by the law, so that dots lie where
    their residuals are.

    Args:
      sizes: (n,) active parameters. point, low, high: (n, V) nats per token. names: V sets.
      moved: runs, see ``Moved``; None for none. fitted_up_to: largest fitted size.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> sizes, point = np.array([1e7, 1e8]), np.array([[3.0], [2.5]])
    >>> losses_along(sizes, point, point, point, ["web"], fitted_up_to=1e8).get_ylabel()
    'loss (nats per token)'
    """
    ax = given_axes(ax)
    sizes, point, low, high = (np.asarray(x, float) for x in (sizes, point, low, high))
    shown, chosen = chosen_sets(names, point[-1])
    _beyond(ax, sizes, fitted_up_to)
    for i, v in enumerate(shown):
        if moved is not None:
            ax.scatter(moved.sizes, np.asarray(moved.losses)[:, v], s=7, color=color_of(i), alpha=0.35, lw=0, zorder=1)
        ax.fill_between(sizes, low[:, v], high[:, v], color=color_of(i), alpha=0.18, lw=0)
        ax.plot(sizes, point[:, v], color=color_of(i), lw=1.7, zorder=3)
    if point[:, shown].max() > 3 * point[:, shown].min():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        ax.yaxis.set_minor_formatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "25" else "")
        ax.tick_params(axis="y", which="minor", labelsize=8.5)
    label_ends(ax, sizes[-1], point[-1, shown], [names[int(v)] for v in shown])
    ax.set(ylabel="loss (nats per token)")
    told = "bands: 90 % intervals" + (
        "" if moved is None else "; dots: runs, brought to this mixture and these tokens by the law"
    )
    return finish(ax, title or "Loss against size", "; ".join(filter(None, [note, told, chosen])))


def gain_along(
    sizes: Array, gains: Array, label: str, *, fitted_up_to: float, ax: Any = None, title: str = "", note: str = ""
) -> Any:
    """What a mixture gains over the reference along sizes, with its interval: the effect that levels of the loss hide.

    The axis is as long as the largest size needs, so that what a mixture would lose far from the sizes it was made for hides nothing.

    Args:
      sizes: (n,) active parameters. gains: (n, 3) gain and the ends of its interval. label: of the objective.
      fitted_up_to: largest fitted size. ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> gain_along([1e7, 1e8], [[0.1, 0.0, 0.2]] * 2, "mean loss", fitted_up_to=1e8).get_ylabel()
    'gain in mean loss over the reference (nats)'
    """
    ax = given_axes(ax)
    sizes, gains = np.asarray(sizes, float), np.asarray(gains, float)
    _beyond(ax, sizes, fitted_up_to)
    ax.fill_between(sizes, gains[:, 1], gains[:, 2], color=COLORS[0], alpha=0.18, lw=0)
    ax.plot(sizes, gains[:, 0], color=COLORS[0], lw=1.8, marker="o", ms=4)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set_ylabel(f"gain in {as_label(label).strip()} over the reference{unit_of(label)}")
    note = note or "band: 90 % interval; above zero is better"
    known = gains[np.isfinite(gains)]
    reach = SHOWN * max(float(np.nanmax(np.abs(gains[-1]))), 1e-12)
    if np.abs(known).max() > reach:
        ax.set_ylim(max(known.min(), -reach) - 0.05 * reach, min(known.max(), reach) + 0.05 * reach)
        note += f"; cut at {reach:.2g}, smaller sizes lie beyond"
    return finish(ax, title or "What the mixture gains, size by size", note)


def _beyond(ax: Any, sizes: Array, fitted_up_to: float) -> None:
    """A logarithmic axis of sizes, and a shade over those that were not fitted."""
    first, last = float(np.min(sizes)), float(np.max(sizes))
    ax.set(xscale="log", xlim=(first * 0.85, last * 1.25), xlabel="active parameters")
    ax.xaxis.set_major_formatter(lambda x, _: format_count(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    if last > fitted_up_to:
        ax.axvspan(fitted_up_to, last * 1.25, color="#f6f3ea", lw=0, zorder=-2)
        ax.text(
            fitted_up_to * 1.04,
            0.99,
            "beyond the table",
            transform=ax.get_xaxis_transform(),
            fontsize=8,
            color="#8a7a45",
            va="top",
        )
