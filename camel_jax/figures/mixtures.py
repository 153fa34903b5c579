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
    fitted_up_to: float,
    along: str = "active parameters",
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """How the best mixture moves with model size, or with training tokens.

    Args:
      sizes: (n,) active parameters, or what ``along`` names.
      weights: (n, K) best shares at every size.
      domains: names.
      fitted_up_to: largest active size of the table.
      along: label of the horizontal axis.
      ax: Axes to draw on; a new figure if None.
      title, note: of the panel.

    Returns:
      The Axes.
    """
    ax = given_axes(ax)
    sizes, weights = np.asarray(sizes, float), np.asarray(weights, float)
    ax.axvspan(fitted_up_to, sizes.max() * 1.6, color="#f6f3ea", lw=0, zorder=-2)
    for k in range(len(domains)):
        ax.plot(sizes, weights[:, k], color=color_of(k), lw=2, marker="o", ms=4)
    ax.set_xscale("log")
    ax.set_xlim(sizes.min() * 0.85, sizes.max() * 1.6)
    ax.set_ylim(0, weights.max() * 1.15)
    label_ends(ax, sizes[-1], weights[-1], domains)
    ax.xaxis.set_major_formatter(lambda x, _: format_count(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    ax.set(xlabel=along, ylabel="best share")
    ax.text(
        fitted_up_to * 1.06, 0.99, "not seen", transform=ax.get_xaxis_transform(), fontsize=8, color="#8a7a45", va="top"
    )
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
