"""How much each part of a law of two parts may say on a table: the weight that predicts left-out mixtures best.

Stacking (Wolpert 1992): both parts are refitted without some mixtures, and the weight is the one whose mean is nearest to what was
measured there. Where the table has three sizes or more, the largest is left out too, so that a part that extrapolates badly in size
is found out. The weight is never more than the law's own, which falls with the number of mixtures.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from camel_jax.lanes import Lanes, best_solver, solve_lanes
from camel_jax.laws.blend import SHARE, mixture_ids, of_part
from camel_jax.objective import Data, log_predictions
from camel_jax.runs import Runs

FOLDS = 5
FEWEST = 3  # mixtures at the largest size, below which all sizes are tested, and none is left out
GRID = 21  # weights tried, from nothing to all


def learn_share(lanes: Lanes, data: Data, raw: Any, runs: Runs) -> float:
    """Weight of the second part.

    Args:
      lanes: law of two parts, robust objective; as for ``fit``.
      data: the table in its units, perhaps padded.
      raw: solution on the whole table, where refits begin; its leaf of the weight is the most that is given.
      runs: the table, in the same units.

    Returns:
      A weight in [0, the law's own].
    """
    ids = mixture_ids(runs)
    folds = np.random.default_rng(0).permutation(ids.max() + 1) % min(FOLDS, ids.max() + 1)
    fold, active = folds[ids], np.asarray(runs.recipe.n_active)
    tested, most = active >= active.max() * (1 - 1e-9), float(raw[SHARE])
    if len(np.unique(active)) < 3 or len(np.unique(ids[tested])) < FEWEST:
        seen, tested = np.ones(len(runs), bool), np.ones(len(runs), bool)
    else:
        seen = ~tested
    kept = np.array([seen & (fold != k) for k in np.unique(fold)])
    if kept.shape[0] < 2 or not kept.any(1).all():
        return most
    counts = np.pad(kept.astype(float), [(0, 0), (0, len(data.weights) - len(runs))])
    errors = []
    for name, part in lanes.law.parts:
        start = jax.tree.map(lambda x: np.broadcast_to(x, (len(counts), *np.shape(x))), of_part(raw, name))
        own = dataclasses.replace(lanes, law=part, solver=best_solver(part, data, start))
        found = solve_lanes(own, data, start, counts, warm=True).params
        each = [
            log_predictions(part, jax.tree.map(lambda x, i=i: np.asarray(x)[i], found), data.recipe)
            for i in range(len(counts))
        ]
        said = np.asarray(each)[:, : len(runs)][np.searchsorted(np.unique(fold), fold), np.arange(len(runs))]
        errors.append((said - np.asarray(data.log_losses)[: len(runs)])[tested])
    first, second = errors
    mass = np.where(np.asarray(data.measured)[: len(runs)], np.asarray(data.weights)[: len(runs), None], 0.0)[tested]
    known = (mass > 0) & np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return most
    shares = np.linspace(0.0, 1.0, GRID)
    costs = [np.sum((mass * np.abs(first + share * (second - first)))[known]) for share in shares]
    return min(most, float(shares[int(np.argmin(costs))]))
