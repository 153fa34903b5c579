"""One page of a whole study: its panels side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from camel_jax.figures.losses import backtest, loss_curves
from camel_jax.figures.mixtures import mixture, optimum_path
from camel_jax.figures.style import INK, literal, new_figure


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
    figure.text(0.012, 0.985, literal(title), fontsize=15, fontweight="bold", color=INK, va="top")
    if note:
        figure.text(0.012, 0.952, literal(note), fontsize=9.5, color="#555555", va="top")
    return figure
