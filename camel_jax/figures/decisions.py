"""Pages of decisions over many mixtures: a front between two objectives, and the path of the best mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.figures import mixtures, style


def front_page(front: Any, labels: Sequence[str], reference: Sequence[float], note: str = "") -> Any:
    """The front and the mixtures along it.

    Args:
      front: a ``ParetoFront``.
      labels: names of the two objectives.
      reference: both objectives of the mixture to compare with.
      note: what it is for.

    Returns:
      A matplotlib Figure.
    """
    page = style.new_figure(11.6, 4.6)
    left, right = page.subplots(1, 2)
    mixtures.trade_off(front.first, front.second, labels, reference=reference, ax=left, title="Best trade-offs")
    mixtures.shares_along(np.asarray(front.first), front.weights, front.domains, labels[0], ax=right, note=note)
    return page


def path_page(
    path: Any, values: Any, fitted_up_to: float, *, along: str = "active parameters", title: str = "", note: str = ""
) -> Any:
    """The best mixture at every stop of a path.

    Args:
      path: an ``OptimumPath``.
      values: (P,) sizes or tokens of its stops.
      fitted_up_to: the largest of them that was fitted.
      along: what the values are.
      title: of the page.
      note: of the page.

    Returns:
      A matplotlib Figure.
    """
    page = style.new_figure()
    mixtures.optimum_path(
        values,
        path.weights,
        path.domains,
        fitted_up_to=fitted_up_to,
        along=along,
        ax=page.subplots(),
        title=title,
        note=note,
    )
    return page
