"""Figures of losses: predicted against measured, and against size. They draw on the given Axes; none fits, and none writes a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from camel_jax.figures.sizes import chosen_sets
from camel_jax.figures.style import COLORS, FAINT, INK, as_label, color_of, finish, given_axes, label_ends, put_title
from camel_jax.recipes.sizes import format_count
from camel_jax.types import Array


class Curves(NamedTuple):
    """Losses along model sizes: sizes (n,), point, low and high (n, V)."""

    sizes: Array
    point: Array
    low: Array
    high: Array


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
            measured[:, v],
            predicted[:, v],
            s=14,
            color=color_of(v),
            alpha=0.75,
            lw=0,
            label=as_label(f"{name}  {mean:.2f} %"),
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
    _error_inset(ax, error[seen])
    note = f"mean relative error {np.abs(error[seen]).mean():.2f} %"
    return finish(ax, title or "Sizes it has not seen", note)


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
      recommended, reference: predictions along sizes; at most eight sets are drawn, from the lowest loss to the highest.
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
    shown, chosen = chosen_sets(names, np.asarray(recommended.point)[-1])
    for i, v in enumerate(shown):
        color = color_of(i)
        if measured is not None:
            ax.scatter(measured[0], np.asarray(measured[1])[:, v], s=5, color=color, alpha=0.22, lw=0, zorder=0)
        ax.fill_between(sizes, recommended.low[:, v], recommended.high[:, v], color=color, alpha=0.18, lw=0)
        ax.plot(sizes, recommended.point[:, v], color=color, lw=1.7, zorder=3)
        if reference is not None:
            ax.plot(sizes, reference.point[:, v], color=color, lw=1.0, ls=(0, (4, 2)), zorder=2)
    label_ends(ax, sizes[-1], np.asarray(recommended.point)[-1, shown], [names[int(v)] for v in shown])
    ax.set_xscale("log")
    ax.set_xlim(sizes.min() * 0.85, sizes.max() * 1.6)
    ax.xaxis.set_major_formatter(lambda x, _: format_count(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    ax.set(xlabel="active parameters", ylabel="loss (nats per token)")
    ax.text(
        fitted_up_to * 1.06, 0.99, "not seen", transform=ax.get_xaxis_transform(), fontsize=8, color="#8a7a45", va="top"
    )
    return finish(ax, title or "Loss against size", "; ".join(filter(None, [note, chosen])))


def measured_losses(sizes: Array, losses: Array, names: Sequence[str], *, ax: Any = None, title: str = "") -> Any:
    """Measured losses against active size, one dot a row and set.

    Args:
      sizes: (R,) active parameters. losses: (R, V) nats per token, NaN where not measured; at most eight sets are drawn.
      names: of the V sets. ax: Axes to draw on; a new figure if None. title: of the panel.

    >>> len(measured_losses([1e7, 1e8], np.array([[3.0, 2.0], [2.5, 1.8]]), ["web", "code"]).collections)
    2
    """
    ax = given_axes(ax)
    losses = np.asarray(losses, float)
    shown, chosen = chosen_sets(names, np.where(np.isfinite(losses), losses, np.inf).min(0))
    for i, v in enumerate(shown):
        label = as_label(names[int(v)])
        ax.scatter(sizes, losses[:, v], s=14, color=color_of(i), alpha=0.6, lw=0, label=label)
    ax.set(xscale="log", xlabel="active parameters", ylabel="measured loss (nats per token)")
    ax.xaxis.set_major_formatter(lambda x, _: format_count(x))
    ax.xaxis.set_minor_formatter(lambda x, _: "")
    ax.legend(frameon=False, fontsize=8)
    ax.grid(color="#f0f0f0", lw=0.8)
    return finish(ax, title or "Measured runs", chosen)


def intervals(names: Sequence[str], interval: Any, label: str, *, ax: Any = None, title: str = "") -> Any:
    """Numbers with their intervals, one below the other.

    Args:
      names: n names. interval: point, low and high, each (n,). label: of the horizontal axis.
      ax: Axes to draw on; a new figure if None. title: of the panel.

    >>> from camel_jax.recipes.outcome import Interval
    >>> one = Interval(np.ones(2), np.zeros(2), 2 * np.ones(2))
    >>> [tick.get_text().strip() for tick in intervals(["web", "code"], one, "loss").get_yticklabels()]
    ['web', 'code']
    """
    ax = given_axes(ax)
    where = np.arange(len(names))[::-1]
    for v, y in enumerate(where):
        ax.plot([interval.low[v], interval.high[v]], [y, y], color=color_of(v), lw=2, alpha=0.6)
        ax.plot(interval.point[v], y, "o", ms=6, color=color_of(v))
    ax.set_yticks(where, [as_label(name) for name in names], fontsize=9)
    ax.set_xlabel(label)
    ax.grid(axis="x", color="#f0f0f0", lw=0.8)
    return finish(ax, title or "Predicted, with 90 % intervals")
