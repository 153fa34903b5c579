"""What mixtures gain over a reference mixture, with intervals over draws, and which of them lie within what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import numpy as np

from camel_jax.mixture.objectives import Objective, as_objective
from camel_jax.recipes.outcome import Outcomes, as_outcome, draws_of
from camel_jax.types import Array

MARGIN = 5e-4  # of a share that still counts as measured: mixtures are told to a tenth of a percent


def gains_over(
    outcomes: Outcomes,
    objective: Objective | Callable[..., Array] | str,
    mixtures: Array,
    reference: Array,
    level: float = 0.9,
) -> np.ndarray:
    """How much better an objective is than at a reference.

    Args:
      outcomes: function from a mixture to outcomes; intervals need its draws.
      objective: what is compared. mixtures: (n, K). reference: (K,).
      level: probability of the intervals.

    Returns:
      (n, 3) gain of the point, and the ends of its interval over draws (NaN without draws).

    >>> losses = lambda w: 2.0 + (1.0 - w) ** 2
    >>> gains_over(losses, "mean-loss", np.array([[0.5, 0.5]]), np.array([1.0, 0.0]))[:, 0].tolist()
    [0.25]
    """
    goal = as_objective(objective)
    named = tuple(getattr(outcomes, "sets", None) or ())
    goal = goal.bind(named, getattr(outcomes, "tasks", ())) if named else goal
    drawn = hasattr(outcomes, "draws")

    def costs(weights: np.ndarray) -> tuple[float, np.ndarray]:
        point = float(goal.cost(as_outcome(outcomes(weights))))
        return point, np.asarray(jax.vmap(goal.cost)(draws_of(outcomes, weights))) if drawn else np.zeros(0)

    there, spread = costs(np.asarray(reference, float))
    out = np.full((len(mixtures), 3), math.nan)
    for i, weights in enumerate(np.asarray(mixtures, float)):
        here, each = costs(weights)
        out[i, 0] = there - here
        if drawn:
            out[i, 1:] = np.quantile(spread - each, [0.5 - level / 2, 0.5 + level / 2])
    return out


def within_shares(mixtures: Array, measured: Array) -> np.ndarray:
    """Which mixtures (n, K) have every share between the smallest and the largest of measured ones (G, K).

    >>> within_shares(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.4, 0.6], [0.6, 0.4]])).tolist()
    [True, False]
    """
    mixtures, known = np.asarray(mixtures, float), np.asarray(measured, float)
    return np.all((mixtures >= known.min(0) - MARGIN) & (mixtures <= known.max(0) + MARGIN), axis=-1)
