"""Figures of many mixtures at once: a triangle for three domains, parallel axes for more or fewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.figures.style import COLORS, FAINT, INK, as_label, finish, given_axes, put_title, unit_of
from camel_jax.types import Array

MOST_AXES = 16  # domains of which parallel axes are drawn
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def many_mixtures(
    domains: Sequence[str],
    samples: Array,
    *,
    best: Array | None = None,
    reference: Array | None = None,
    measured: Array | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """Mixtures that serve as well as each other, on a triangle where there are three domains and on parallel axes elsewhere.

    Args:
      domains: K names.
      samples: (n, K) mixtures.
      best, reference: (K,) mixtures that stand out, or None.
      measured: (G, K) mixtures of the table, or None; parallel axes show the range of their shares.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> ax = many_mixtures(["web", "code"], np.array([[0.5, 0.5], [0.6, 0.4]]), best=np.array([0.5, 0.5]))
    >>> [tick.get_text() for tick in ax.get_xticklabels()]
    ['web', 'code']
    """
    draw = triangle if len(domains) == 3 else parallel
    return draw(domains, samples, best=best, reference=reference, measured=measured, ax=ax, title=title, note=note)


def triangle(
    domains: Sequence[str],
    samples: Array,
    *,
    best: Array | None = None,
    reference: Array | None = None,
    measured: Array | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """Mixtures of three domains as points of a triangle, whose corners are the single domains; arguments as for ``many_mixtures``."""
    ax = given_axes(ax)
    triangle_frame(ax, domains)
    if measured is not None:
        points = np.asarray(measured) @ CORNERS
        ax.scatter(*points.T, s=12, facecolor="none", edgecolor="#777777", lw=0.8, label="measured")
    ax.scatter(*(np.asarray(samples) @ CORNERS).T, s=14, color=COLORS[0], alpha=0.55, lw=0, label="nearly as good")
    for point, marker, label in ((best, "o", "recommended"), (reference, "D", "reference")):
        if point is not None:
            face = COLORS[3] if marker == "o" else "white"
            ax.scatter(
                *(np.asarray(point) @ CORNERS),
                s=52,
                marker=marker,
                facecolor=face,
                edgecolor=INK,
                zorder=5,
                label=label,
            )
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    put_title(ax, title or "What else would do", note)
    return ax


def triangle_frame(ax: Any, domains: Sequence[str]) -> None:
    """The triangle of three domains: sides, lines of equal shares and the names of its corners."""
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set(xticks=[], yticks=[], aspect="equal", xlim=(-0.2, 1.2), ylim=(-0.14, 1.0))
    outline = np.vstack([CORNERS, CORNERS[:1]])
    for level in (0.25, 0.5, 0.75):
        for k in range(3):
            ends = np.full((2, 3), 0.0)
            ends[:, k] = level
            ends[0, (k + 1) % 3] = ends[1, (k + 2) % 3] = 1 - level
            ax.plot(*(ends @ CORNERS).T, color="#e9e9e9", lw=0.8, zorder=0)
            ax.text(*(ends[0] @ CORNERS), f"{100 * level:.0f} %", fontsize=7, color="#777777", va="bottom", ha="left")
    ax.plot(*outline.T, color=FAINT, lw=1.0)
    places = (("top", "center"), ("top", "center"), ("bottom", "center"))
    for k, name in enumerate(domains):
        up, side = places[k]
        shift = -0.03 if up == "top" else 0.03
        ax.text(
            *(CORNERS[k] + [0, shift]),
            f"all {as_label(name).strip()}",
            va=up,
            ha=side,
            fontsize=9,
            color=INK,
            weight="bold",
        )


def parallel(
    domains: Sequence[str],
    samples: Array,
    *,
    best: Array | None = None,
    reference: Array | None = None,
    measured: Array | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """Mixtures as lines over one axis a domain; arguments as for ``many_mixtures``.

    Of more than 16 domains, those whose shares differ most over the sample are drawn, and the note says so.
    """
    ax = given_axes(ax)
    samples = np.atleast_2d(np.asarray(samples, float))
    shown = np.arange(len(domains))
    if len(domains) > MOST_AXES:
        shown = np.sort(np.argsort(-np.ptp(samples, axis=0))[:MOST_AXES])
        note = "; ".join(filter(None, [note, f"{MOST_AXES} of {len(domains)} domains, those that can move most"]))
    where = np.arange(len(shown))
    if measured is not None:
        known = np.asarray(measured, float)[:, shown]
        ax.bar(where, np.ptp(known, axis=0), 0.34, bottom=known.min(0), color="#e9e9e9", lw=0, label="measured range")
    for i, row in enumerate(samples[:, shown]):
        ax.plot(where, row, color=COLORS[0], lw=0.8, alpha=0.35, label="nearly as good" if not i else None)
    for row, style, label in ((best, "-", "recommended"), (reference, "--", "reference")):
        if row is not None:
            color = COLORS[3] if style == "-" else INK
            ax.plot(
                where,
                np.asarray(row)[shown],
                style,
                marker="o" if style == "-" else "D",
                color=color,
                lw=1.8,
                ms=4,
                label=label,
            )
    tilted = len(shown) > 6 or max(len(domains[int(k)]) for k in shown) > 9
    ax.set_xticks(where, [as_label(domains[int(k)]) for k in shown], fontsize=8.5)
    if tilted:
        for tick in ax.get_xticklabels():
            tick.set(rotation=35, ha="right", rotation_mode="anchor")
    drawn = [samples[:, shown], *(np.asarray(x)[shown] for x in (best, reference) if x is not None)]
    ax.set_ylim(0, 1.1 * max(x.max() for x in drawn))  # what was measured may reach beyond
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    ax.set_ylabel("share of training tokens")
    ax.legend(frameon=False, fontsize=8)
    return finish(ax, title or "What else would do", note)


def gains_traded(
    gains: Array,
    chosen: Array | None,
    labels: Sequence[str],
    *,
    measured: Array | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """A front between two objectives as gains over the reference, with intervals, and the mixture that is recommended.

    Args:
      gains: (P, 2, 3) gain of both objectives and the ends of its interval. chosen: (2, 3) of the recommended mixture, or None.
      labels: of the objectives. measured: (P,) whether each mixture lies within the measured shares; hollow dots do not.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> gains = np.array([[[0.1, 0.0, 0.2]] * 2, [[0.2, 0.1, 0.3]] * 2])
    >>> gains_traded(gains, gains[0], ["mean loss", "loss on code"]).get_xlabel()
    'gain in mean loss over the reference (nats)'
    """
    ax = given_axes(ax)
    gains = np.asarray(gains, float)
    inside = np.ones(len(gains), bool) if measured is None else np.asarray(measured, bool)
    for x, y in gains:
        ax.plot(x[1:], [y[0]] * 2, color=COLORS[0], lw=1.0, alpha=0.35)
        ax.plot([x[0]] * 2, y[1:], color=COLORS[0], lw=1.0, alpha=0.35)
    ax.plot(gains[:, 0, 0], gains[:, 1, 0], color=COLORS[0], lw=1.8)
    sure = "best trade-offs" + (", 90 % intervals" if np.isfinite(gains[..., 1:]).any() else "")
    for some, face, label in ((inside, COLORS[0], sure), (~inside, "white", "beyond the measured shares")):
        if some.any():
            ax.plot(*gains[some, :, 0].T, "o", ms=5.5, mfc=face, mec=COLORS[0], mew=1.4, label=label)
    if chosen is not None:
        x, y = np.asarray(chosen, float)[:, 0]
        ax.plot(x, y, "o", ms=11, mfc="none", mec=COLORS[3], mew=2.0, label="recommended")
    ax.plot(0, 0, "D", ms=6, mfc="white", mec=INK, label="reference")
    units = [unit_of(label) for label in labels]
    ax.set(
        xlabel=f"gain in {as_label(labels[0]).strip()} over the reference{units[0]}",
        ylabel=f"gain in {as_label(labels[1]).strip()}{units[1]}",
    )
    ax.axhline(0, color=FAINT, lw=0.8, zorder=0)
    ax.axvline(0, color=FAINT, lw=0.8, zorder=0)
    ax.legend(frameon=False, fontsize=8)
    return finish(ax, title or "What sparing the set that loses most would cost", note)
