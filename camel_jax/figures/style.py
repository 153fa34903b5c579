"""What all figures share: size, frame, titles, colors and labels at the ends of curves."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.recipes.names import plain
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


def literal(text: str, most: int = 200) -> str:
    r"""Text that matplotlib draws as it is: no mathematics between dollar signs, no character that would act on the page.

    Args:
      text: as it was given.
      most: characters shown; longer text is cut.

    >>> literal("$x^$"), literal("longer", 4)
    ('\\$x^\\$', 'lon…')
    """
    shown = plain(text)
    return (shown if len(shown) <= most else shown[: most - 1] + "…").replace("$", r"\$")


def as_label(name: str) -> str:
    """A name on an axis, beside a curve or in a legend, which leaves out what begins with an underscore."""
    return " " + literal(name, 48) if name.startswith("_") else literal(name, 48)


def save_figure(figure: Any, target: Any, **options: Any) -> None:
    """Draw and write a figure; characters that its font does not have are boxes, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing|.*constrained_layout not applied")
        figure.savefig(target, **options)


def put_title(ax: Any, title: str, note: str = "") -> None:
    """A bold title at the left, and a note below it; the note alone where the title is blank."""
    if not title.strip():
        ax.set_title(literal(note), loc="left", fontsize=8.5, color="#555555", pad=8)
        return
    ax.set_title(literal(title), loc="left", fontsize=11, fontweight="bold", color=INK, pad=20 if note else 8)
    if note:
        text = ax.text(0, 1.025, literal(note), transform=ax.transAxes, fontsize=8.5, color="#555555", va="bottom")
        text.set_in_layout(False)


def finish(ax: Any, title: str, note: str = "") -> Any:
    """The Axes, with a faint grid, a title and a note."""
    ax.grid(color="#f0f0f0", lw=0.8)
    put_title(ax, title, note)
    return ax


def color_of(i: int) -> str:
    """Color of the i-th set or domain."""
    return COLORS[i % len(COLORS)]


def unit_of(label: str) -> str:
    """Unit of an objective in brackets, by its name; none for an objective of one's own.

    >>> unit_of("mean loss"), unit_of("accuracy on qa"), unit_of("mine")
    (' (nats)', ' (share of 1)', '')
    """
    return " (nats)" if "loss" in label else " (share of 1)" if "accuracy" in label else ""


def label_ends(ax: Any, x: float, ends: Array, names: Sequence[str]) -> None:
    """Names at the right ends of curves, pushed apart so that they do not overlap."""
    scaled = ax.get_yscale() == "log"
    low, high = np.log(ax.get_ylim()) if scaled else ax.get_ylim()
    gap = 0.052 * (high - low)
    order, start = np.argsort(ends), np.log(np.array(ends, float)) if scaled else np.array(ends, float)
    at = start.copy()
    for before, now in itertools.pairwise(order):
        at[now] = max(at[now], at[before] + gap)
    at -= (at - start).mean()
    at = np.exp(at) if scaled else at
    for v, name in enumerate(names):
        ax.annotate(
            as_label(name),
            (x, ends[v]),
            (x * 1.07, at[v]),
            fontsize=8.5,
            color=color_of(v),
            va="center",
            annotation_clip=False,
        )
