"""Moved."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.types import Array

# Okabe and Ito's palette: told apart by everyone, in print too
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D1F", "#444444")
INK, FAINT = "#222222", "#9a9a9a"


def new_figure(width: float = 6.4, height: float = 4.4) -> Any:
    """An empty figure in the style of this package, without touching the global state of matplotlib."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white", dpi=120)


def given_axes(ax: Any) -> Any:
    """The Axes given, or new ones, without a frame at the top and right."""
    ax = new_figure().subplots() if ax is None else ax
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.tick_params(colors=INK, labelsize=8.5, color=FAINT)
    ax.set_axisbelow(True)
    return ax


def put_title(ax: Any, title: str, note: str = "") -> None:
    """A bold title at the left, and a note below it."""
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=20 if note else 8)
    if note:
        text = ax.text(0, 1.025, note, transform=ax.transAxes, fontsize=8.5, color="#555555", va="bottom")
        text.set_in_layout(False)


def color_of(i: int) -> str:
    """Color of the i-th set or domain."""
    return COLORS[i % len(COLORS)]


def _label_ends(ax: Any, x: float, ends: Array, names: Sequence[str]) -> None:
    """Names at the right ends of curves, pushed apart so that they do not overlap."""
    low, high = ax.get_ylim()
    gap = 0.052 * (high - low)
    order = np.argsort(ends)
    at = np.array(ends, float)
    for before, now in itertools.pairwise(order):
        at[now] = max(at[now], at[before] + gap)
    at -= (at - ends).mean()
    for v, name in enumerate(names):
        ax.annotate(
            name, (x, ends[v]), (x * 1.07, at[v]), fontsize=8.5, color=color_of(v), va="center", annotation_clip=False
        )
