"""Figures of mixtures: a recommended one, how the best one moves with scale, and what is traded between two objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.figures.style import INK, as_label, color_of, finish, given_axes, label_ends, literal, put_title
from camel_jax.recipes.sizes import format_count
from camel_jax.types import Array


def mixture(
    domains: Sequence[str],
    weights: Array,
    *,
    reference: Array | None = None,
    low: Array | None = None,
    high: Array | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """A recommended mixture as bars, with the range of near-optimal shares and a reference mixture.

    Args:
      domains: names of the K domains.
      weights: (K,) recommended shares.
      reference: (K,) shares to compare with, or None.
      low, high: (K,) near-optimal range of every share, or None.
      ax: Axes to draw on; a new figure if None.
      title, note: of the panel.

    Returns:
      The Axes.

    >>> len(mixture(["web", "code"], [0.7, 0.3], reference=[0.5, 0.5]).patches)
    2
    """
    ax = given_axes(ax)
    weights = np.asarray(weights, float)
    where = np.arange(len(domains))[::-1]
    ax.barh(where, weights, height=0.56, color=[color_of(k) for k in range(len(domains))], alpha=0.9)
    ends = weights.copy()
    if low is not None and high is not None:
        low, high = np.asarray(low, float), np.asarray(high, float)
        ax.hlines(where, low, high, color=INK, lw=1.6, label="near-optimal range")
        ax.plot(np.stack([low, high]), np.stack([where, where]), "|", color=INK, ms=8, mew=1.6)
        ends = np.maximum(ends, high)
    if reference is not None:
        reference = np.asarray(reference, float)
        ax.scatter(reference, where, marker="D", s=34, facecolor="white", edgecolor=INK, zorder=4, label="reference")
        ends = np.maximum(ends, reference)
    top = ends.max()
    for i, (y, share) in enumerate(
        zip(where, weights, strict=True)
    ):  # a column of their own, so that no value is read as another's
        ax.text(1.3 * top, y, f"{100 * share:.1f} %", ha="right", va="center", fontsize=9, color=INK, fontweight="bold")
        if reference is not None:
            told = f"reference {100 * reference[i]:.1f} %"
            ax.text(1.3 * top, y - 0.3, told, ha="right", va="center", fontsize=7, color="#777777")
    ax.set_yticks(where, [as_label(name) for name in domains], fontsize=9.5)
    ax.set_xlim(0, top * 1.31)
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("share of training tokens", loc="left")
    ax.grid(axis="x", color="#f0f0f0", lw=0.8)
    if low is not None or reference is not None:
        place = {"loc": "upper right", "bbox_to_anchor": (1.0, -0.085), "borderaxespad": 0.2, "ncols": 2}
        ax.legend(frameon=False, fontsize=8, columnspacing=1.0, handletextpad=0.4, **place)
    put_title(ax, title or "Recommended mixture", note)
    return ax


def optimum_path(
    sizes: Array,
    weights: Array,
    domains: Sequence[str],
    *,
    low: Array | None = None,
    high: Array | None = None,
    fitted: Sequence[float] = (),
    along: str = "active parameters",
    most: int = 8,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """How the best mixture moves with size, with the range of nearly optimal shares around every line.

    Args:
      sizes: (P,) active parameters, or what ``along`` names. weights: (P, K) best shares. domains: K names.
      low, high: (P, K) range of nearly optimal shares; None for no bands.
      fitted: sizes of the table, marked on the axis. along: what the sizes are.
      most: domains that are drawn, those of the largest shares first; the note says so where there are more.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> low, high = [[0.4, 0.4]] * 2, [[0.6, 0.6]] * 2
    >>> ax = optimum_path([1e7, 1e8], [[0.5, 0.5]] * 2, ["web", "code"], low=low, high=high)
    >>> len(ax.lines), len(ax.collections)
    (2, 2)
    """
    ax = given_axes(ax)
    sizes, weights = np.asarray(sizes, float), np.asarray(weights, float)
    lower, upper = (weights if band is None else np.asarray(band, float) for band in (low, high))
    banded = bool(np.any(upper > lower))
    shown = np.sort(np.argsort(-weights.max(0))[:most])
    if len(domains) > most:
        note = "; ".join(filter(None, [note, f"{most} of {len(domains)} domains, those of the largest shares"]))
    for i, k in enumerate(shown):
        if banded:
            ax.fill_between(sizes, lower[:, k], upper[:, k], color=color_of(i), alpha=0.13, lw=0)
        ax.plot(sizes, weights[:, k], color=color_of(i), lw=1.8, marker="o", ms=4)
    ax.set(xscale="log", xlim=(sizes.min() * 0.85, sizes.max() * 1.2), ylim=(0, min(1.0, upper[:, shown].max() * 1.08)))
    if len(fitted):
        edge = max(fitted)
        if edge < sizes.max():
            ax.axvspan(edge, sizes.max() * 1.2, color="#f6f3ea", lw=0, zorder=-2)
            ax.text(
                edge * 1.04,
                0.99,
                "beyond the table",
                transform=ax.get_xaxis_transform(),
                fontsize=8,
                color="#8a7a45",
                va="top",
            )
        ax.plot(
            list(fitted),
            np.zeros(len(fitted)),
            "|",
            ms=9,
            mew=1.6,
            color=INK,
            clip_on=False,
            transform=ax.get_xaxis_transform(),
        )
    label_ends(ax, sizes[-1], weights[-1, shown], [domains[int(k)] for k in shown])
    ax.xaxis.set_major_formatter(lambda x, _: format_count(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    ax.set(
        xlabel=along + (" (marks: in the table)" if len(fitted) else ""),
        ylabel="best share of tokens",
    )
    note = "; ".join(filter(None, [note, "bands: nearly optimal shares" if banded else ""]))
    return finish(ax, title or "How the best mixture moves with size", note)


def shares_along(
    values: Array,
    weights: Array,
    domains: Sequence[str],
    label: str,
    *,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """Shares of mixtures along a value, such as the first objective of a Pareto front.

    Args:
      values: (P,). weights: (P, K). domains: K names. label: what the values are.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> len(shares_along([1.0, 2.0], [[0.5, 0.5], [0.2, 0.8]], ["web", "code"], "loss").lines)
    2
    """
    ax = given_axes(ax)
    values, weights = np.asarray(values, float), np.asarray(weights, float)
    for k, name in enumerate(domains):
        ax.plot(values, weights[:, k], color=color_of(k), lw=2, marker="o", ms=4, label=as_label(name))
    ax.set(xlabel=literal(label), ylabel="share", ylim=(0, weights.max() * 1.08))
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    ax.legend(frameon=False, fontsize=8, ncols=2)
    return finish(ax, title or "Mixtures along the front", note)
