"""Figures from results. Every function draws on the given Axes and returns it; none fits, and none writes a file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from camel_jax.sizes import format_count

Array = Any

# Okabe and Ito's palette: told apart by everyone, in print too
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D1F", "#444444")
INK, FAINT = "#222222", "#9a9a9a"


class Curves(NamedTuple):
    """Losses along model sizes: sizes (n,), point, low and high (n, V)."""

    sizes: Array
    point: Array
    low: Array
    high: Array


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


def backtest(measured: Array, predicted: Array, names: Sequence[str], *, ax: Any = None, title: str = "") -> Any:
    """Predicted against measured losses of runs that the fit has not seen.

    Args:
      measured: (R, V) nats per token, NaN where not measured.
      predicted: (R, V).
      names: of the V validation sets.
      ax: Axes to draw on; a new figure if None.
      title: of the panel.

    Returns:
      The Axes.

    >>> backtest(np.array([[2.0, 3.0]]), np.array([[2.1, 3.0]]), ["web", "code"]).get_xlabel()
    'measured loss (nats per token)'
    """
    ax = given_axes(ax)
    measured, predicted = np.asarray(measured, float), np.asarray(predicted, float)
    error = 100 * (predicted / measured - 1)
    seen = np.isfinite(measured)
    low, high = measured[seen].min() * 0.97, measured[seen].max() * 1.03
    line = np.array([low, high])
    ax.fill_between(line, line * 0.99, line * 1.01, color="#e9e9e9", lw=0, label="within 1 %")
    ax.plot(line, line, color=FAINT, lw=0.8)
    for v, name in enumerate(names):
        mean = np.abs(error[seen[:, v], v]).mean() if seen[:, v].any() else np.nan
        ax.scatter(
            measured[:, v], predicted[:, v], s=14, color=color_of(v), alpha=0.75, lw=0, label=f"{name}  {mean:.2f} %"
        )
    ax.set(xlim=(low, high), ylim=(low, high), xlabel="measured loss (nats per token)", ylabel="predicted loss")
    handles, labels = ax.get_legend_handles_labels()
    order = [*range(1, len(handles)), 0]
    shown = [i for i in order if i == 0 or i <= 8]
    ax.legend(
        [handles[i] for i in shown],
        [labels[i] for i in shown],
        frameon=False,
        fontsize=8,
        title="mean error",
        title_fontsize=8,
        loc="upper left",
        handletextpad=0.3,
        labelspacing=0.3,
    )
    ax.grid(color="#f0f0f0", lw=0.8)
    _error_inset(ax, error[seen])
    put_title(ax, title or "Sizes it has not seen", f"mean relative error {np.abs(error[seen]).mean():.2f} %")
    return ax


def _error_inset(ax: Any, error: Array) -> None:
    """Distribution of relative errors, where the diagonal leaves room."""
    inset = ax.inset_axes((0.66, 0.1, 0.31, 0.26))
    reach = max(1.0, float(np.ceil(np.abs(error).max())))
    inset.hist(error, bins=np.linspace(-reach, reach, 41), color="#6f8fa8", lw=0)
    inset.axvline(0, color=INK, lw=0.8)
    inset.set(xlim=(-reach, reach), yticks=[], facecolor="none")
    inset.xaxis.set_major_formatter(lambda x, _: f"{x:+.0f} %" if x else "0")
    inset.set_xticks([-reach, 0, reach])
    inset.tick_params(labelsize=7.5, color=FAINT)
    for side in ("top", "right", "left"):
        inset.spines[side].set_visible(False)
    inset.set_title("predicted against measured", fontsize=7.5, color="#555555", pad=2)


def prior_predictive(drawn: Array, measured: Array, *, ax: Any = None, title: str = "") -> Any:
    """Losses that the priors of a law allow before any run, and those that were measured.

    Args:
      drawn: (M, ...) log losses from the priors, in units of the table. measured: (...) log losses in the same units, NaN
        where not measured.
      ax: Axes to draw on; a new figure if None. title: of the panel.

    >>> prior_predictive(np.zeros((3, 2, 2)), np.zeros((2, 2))).get_xlabel()
    'loss over the mean loss of its set'
    """
    ax = given_axes(ax)
    drawn, measured = np.asarray(drawn, float).ravel(), np.asarray(measured, float)
    low, high = np.quantile(drawn, [0.005, 0.995]) + np.array([-0.02, 0.02])
    bins = np.exp(np.linspace(low, high, 61))
    for values, color, label in ((drawn, COLORS[5], "allowed by the priors"), (measured, COLORS[3], "measured")):
        ratio = np.exp(values[np.isfinite(values)])
        ax.hist(
            ratio, bins=bins, weights=np.full(ratio.size, 100 / ratio.size), color=color, alpha=0.7, lw=0, label=label
        )
    ax.set(xlabel="loss over the mean loss of its set", ylabel="share (%)")
    ax.legend(frameon=False, fontsize=8)
    put_title(ax, title or "Before the first run")
    return ax


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
    for y, share, end in zip(where, weights, ends, strict=True):
        ax.text(end + 0.025 * top, y, f"{100 * share:.1f} %", va="center", fontsize=9, color=INK, fontweight="bold")
    ax.set_yticks(where, list(domains), fontsize=9.5)
    ax.set_xlim(0, top * 1.2)
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("share of training tokens", loc="left")
    ax.grid(axis="x", color="#f0f0f0", lw=0.8)
    if low is not None or reference is not None:
        place = {"loc": "upper right", "bbox_to_anchor": (1.0, -0.085), "borderaxespad": 0.2, "ncols": 2}
        ax.legend(frameon=False, fontsize=8, columnspacing=1.0, handletextpad=0.4, **place)
    put_title(ax, title or "Recommended mixture", note)
    return ax


def loss_curves(
    recommended: Curves,
    reference: Curves | None,
    names: Sequence[str],
    *,
    fitted_up_to: float,
    measured: tuple[Array, Array] | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """Losses against model size under the recommended mixture (with intervals) and under a reference (dashed).

    Args:
      recommended, reference: predictions along sizes; at most six sets are drawn.
      names: of the V sets.
      fitted_up_to: largest active size of the table; beyond it the panel is marked as extrapolation.
      measured: (sizes (R,), losses (R, V)) of real runs to show as dots, or None.
      ax: Axes to draw on; a new figure if None.
      title, note: of the panel.

    Returns:
      The Axes.
    """
    ax = given_axes(ax)
    sizes = np.asarray(recommended.sizes, float)
    ax.axvspan(fitted_up_to, sizes.max() * 1.6, color="#f6f3ea", lw=0, zorder=-2)
    for v in range(min(6, len(names))):
        color = color_of(v)
        if measured is not None:
            ax.scatter(measured[0], np.asarray(measured[1])[:, v], s=5, color=color, alpha=0.22, lw=0, zorder=0)
        ax.fill_between(sizes, recommended.low[:, v], recommended.high[:, v], color=color, alpha=0.18, lw=0)
        ax.plot(sizes, recommended.point[:, v], color=color, lw=1.7, zorder=3)
        if reference is not None:
            ax.plot(sizes, reference.point[:, v], color=color, lw=1.0, ls=(0, (4, 2)), zorder=2)
    _label_ends(ax, sizes[-1], np.asarray(recommended.point)[-1, :6], names[:6])
    ax.set_xscale("log")
    ax.set_xlim(sizes.min() * 0.85, sizes.max() * 1.6)
    ax.xaxis.set_major_formatter(lambda x, _: format_count(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    ax.set(xlabel="active parameters", ylabel="loss (nats per token)")
    ax.text(
        fitted_up_to * 1.06, 0.99, "not seen", transform=ax.get_xaxis_transform(), fontsize=8, color="#8a7a45", va="top"
    )
    ax.grid(color="#f0f0f0", lw=0.8)
    put_title(ax, title or "Loss against size", note)
    return ax


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
    _label_ends(ax, sizes[-1], weights[-1], domains)
    ax.xaxis.set_major_formatter(lambda x, _: format_count(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    ax.set(xlabel=along, ylabel="best share")
    ax.text(
        fitted_up_to * 1.06, 0.99, "not seen", transform=ax.get_xaxis_transform(), fontsize=8, color="#8a7a45", va="top"
    )
    ax.grid(color="#f0f0f0", lw=0.8)
    put_title(ax, title or "How the best mixture moves with size", note)
    return ax


def trade_off(
    first: Array,
    second: Array,
    labels: Sequence[str],
    *,
    reference: Sequence[float] | None = None,
    ax: Any = None,
    title: str = "",
    note: str = "",
) -> Any:
    """A Pareto front between two objectives.

    Args:
      first, second: (P,) objectives along the front. labels: their two names.
      reference: both objectives of a mixture to compare with, or None.
      ax: Axes to draw on; a new figure if None. title, note: of the panel.

    >>> trade_off([1.0, 2.0], [3.0, 2.5], ["web", "code"]).get_ylabel()
    'code'
    """
    ax = given_axes(ax)
    ax.plot(first, second, color=COLORS[0], lw=2, marker="o", ms=5, label="no mixture is better in both")
    if reference is not None:
        style = {"marker": "D", "s": 34, "facecolor": "white", "edgecolor": INK, "zorder": 4}
        ax.scatter(*reference, label="reference", **style)
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.legend(frameon=False, fontsize=8)
    ax.grid(color="#f0f0f0", lw=0.8)
    put_title(ax, title or "Best trade-offs", note)
    return ax


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
        ax.plot(values, weights[:, k], color=color_of(k), lw=2, marker="o", ms=4, label=name)
    ax.set(xlabel=label, ylabel="share", ylim=(0, weights.max() * 1.08))
    ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    ax.legend(frameon=False, fontsize=8, ncols=2)
    ax.grid(color="#f0f0f0", lw=0.8)
    put_title(ax, title or "Mixtures along the front", note)
    return ax


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
    ax.grid(color="#f0f0f0", lw=0.8)
    ax.legend(frameon=False, fontsize=8.5)
    put_title(ax, title or "What the runs are expected to buy", note)
    return ax


def overview(panels: Mapping[str, Mapping[str, Any]], *, title: str, note: str = "") -> Any:
    """One page of a study: back-test, recommended mixture, losses against size, path of the optimum.

    Args:
      panels: keyword arguments of ``backtest``, ``mixture``, ``loss_curves`` and ``optimum_path`` under these names;
        a panel that is absent is left out.
      title, note: of the page.

    Returns:
      A matplotlib Figure.
    """
    draw = {"backtest": backtest, "mixture": mixture, "loss_curves": loss_curves, "optimum_path": optimum_path}
    names = [name for name in draw if name in panels]
    rows = -(-len(names) // 2)
    figure = new_figure(11.6 if len(names) > 1 else 6.4, 4.7 * rows + 0.6)
    axes = np.atleast_1d(figure.subplots(rows, min(2, len(names)))).reshape(-1)
    for name, ax in zip(names, axes, strict=False):
        draw[name](**{**panels[name], "ax": ax})
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    figure.get_layout_engine().set(w_pad=0.16, h_pad=0.14, rect=(0.0, 0.0, 1.0, 0.93))
    figure.text(0.012, 0.985, title, fontsize=15, fontweight="bold", color=INK, va="top")
    if note:
        figure.text(0.012, 0.952, note, fontsize=9.5, color="#555555", va="top")
    return figure
