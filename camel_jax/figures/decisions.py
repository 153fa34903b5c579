"""Pages of decisions over many mixtures: a front between two objectives, and the path of the best mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.figures import mixtures, spaces, style


def front_page(front: Any, labels: Sequence[str], note: str = "") -> Any:
    """Gains along the front and the mixtures that bring them.

    Args:
      front: a ``ParetoFront``.
      labels: names of the two objectives.
      note: what it is for.

    Returns:
      A matplotlib Figure.
    """
    page = style.new_figure(11.6, 4.6)
    left, right = page.subplots(1, 2)
    spaces.gains_traded(front.gains, None, labels, measured=front.measured, ax=left, title="Best trade-offs")
    mixtures.shares_along(np.asarray(front.first), front.weights, front.domains, labels[0], ax=right, note=note)
    return page


def path_page(
    path: Any,
    values: Any,
    fitted: Sequence[float],
    *,
    along: str = "active parameters",
    title: str = "",
    note: str = "",
) -> Any:
    """The best mixture at every stop of a path, with bands where it has them.

    Args:
      path: an ``OptimumPath``.
      values: (P,) sizes or tokens of its stops.
      fitted: the smallest and the largest of them in the table.
      along: what the values are.
      title: of the page.
      note: of the page.

    Returns:
      A matplotlib Figure.
    """
    page = style.new_figure()
    options = {"fitted": fitted, "along": along, "ax": page.subplots(), "title": title, "note": note}
    mixtures.optimum_path(values, path.weights, path.domains, low=path.low, high=path.high, **options)
    return page
