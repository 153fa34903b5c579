"""Figures of where compute goes: the expected error of a design, and recipes along budgets (iso-FLOP curves)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.figures.style import INK, as_label, color_of, finish, given_axes, literal, new_figure


def budget_page(path: Any, curves: Sequence[Any]) -> Any:
    """Objective along curves of equal cost, with the best size of each, and the best mixture along budgets.

    Args:
      path: result of ``budget.budget_path``. curves: an ``IsoCost`` of one budget for each of its results.

    Returns:
      A matplotlib Figure.
    """
    figure = new_figure(11.2, 4.3)
    left, right = figure.subplots(1, 2)
    figure.get_layout_engine().set(w_pad=0.14, h_pad=0.1)
    for i, (one, found) in enumerate(zip(curves, path.results, strict=True)):
        left.plot(one.n_active[0], one.objective[0], color=color_of(i), lw=2, label=f"{one.budgets[0]:.3g}")
        left.plot(found.n_active, found.mixture.value.point, "o", ms=6, color=color_of(i))
        level = [found.mixture.value.point] * 2
        left.plot(found.sizes_within, level, color=color_of(i), lw=6, alpha=0.35, solid_capstyle="round")
    best = [r.mixture.value.point for r in path.results]
    span = max(max(best) - min(best), 0.02 * max(best))
    left.set(
        xscale="log",
        xlabel="active parameters",
        ylabel=literal(curves[0].label),
        ylim=(min(best) - 0.15 * span, max(best) + 1.2 * span),
    )
    left.set_xlim(min(path.n_active) / 30, max(path.n_active) * 30)
    left.legend(frameon=False, fontsize=8.5, title="FLOPs", title_fontsize=8.5)
    left.set_title(
        "Equal cost, best mixture of each budget", loc="left", fontsize=11, fontweight="bold", color=INK, pad=20
    )
    within = f"dot: best size; bar: sizes within {100 * path.results[0].within:g} % of it"
    note = left.text(0, 1.025, within, transform=left.transAxes, fontsize=8.5, color="#555555", va="bottom")
    note.set_in_layout(False)
    for k, domain in enumerate(path.domains):
        right.plot(path.budgets, path.weights[:, k], "o-", ms=4, lw=2, color=color_of(k), label=as_label(domain))
    right.set(xscale="log", xlabel="budget, FLOPs", ylabel="share", ylim=(0, None))
    right.legend(frameon=False, fontsize=8.5, ncols=2)
    right.set_title("Best mixture along budgets", loc="left", fontsize=11, fontweight="bold", color=INK, pad=20)
    for ax in (left, right):
        given_axes(ax)
        ax.grid(color="#f0f0f0", lw=0.8)
    return figure


def draw_costs(curves: Any, *, ax: Any = None, title: str = "") -> Any:
    """The objective against active size at equal cost, one curve a budget; returns the Axes.

    Args:
      curves: an ``IsoCost``. ax: Axes to draw on; a new figure if None. title: of the panel.
    """
    ax = given_axes(ax)
    for i, budget in enumerate(curves.budgets):
        ax.plot(curves.n_active[i], curves.objective[i], color=color_of(i), lw=2, label=f"{budget:.3g}")
    ax.set(xscale="log", xlabel="active parameters", ylabel=literal(curves.label))
    ax.legend(frameon=False, fontsize=8.5, title="budget", title_fontsize=8.5)
    return finish(ax, title or "Equal cost")


def design_curves(designs: Sequence[Any], *, ax: Any = None, title: str = "", note: str = "") -> Any:
    """Expected standard error at the target against the cost of the runs bought so far, one line a design.

    Args:
      designs: results of ``design.compare_shapes``: ``shape``, ``curve_cost`` and ``curve_error`` are read.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    Returns:
      The Axes.
    """
    ax = given_axes(ax)
    for i, one in enumerate(designs):
        cost, error = np.asarray(one.curve_cost, float), 100 * np.asarray(one.curve_error, float)
        ax.step(cost, error, where="post", color=color_of(i), lw=2, label=one.shape)
        ax.plot(cost[-1:], error[-1:], "o", ms=5, color=color_of(i))
    ax.set(
        xscale="log", yscale="log", xlabel="cost of the runs so far, FLOPs", ylabel="standard error at the target, %"
    )
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    ax.yaxis.set_minor_formatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "25" else "")
    ax.legend(frameon=False, fontsize=8.5)
    return finish(ax, title or "What the runs are expected to buy", note)
