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

from camel_jax.fitting.lanes import best_solver
from camel_jax.fitting.objective import Data, log_predictions
from camel_jax.fitting.plan import Asking, Lanes, Request
from camel_jax.laws.blend import SHARE, of_part
from camel_jax.tables.runs import Runs, mixture_ids, scales

FOLDS = 5
FEWEST = 3  # mixtures at the largest size, below which all sizes are tested, and none is left out
GRID = 21  # weights tried, from nothing to all


def learn_share(lanes: Lanes, data: Data, raw: Any, runs: Runs) -> Asking[float]:
    """Weight of the second part.

    Args:
      lanes: law of two parts, robust objective; as for ``fit``.
      data: the table in its units, perhaps padded.
      raw: solution on the whole table, where refits begin; its leaf of the weight is the most that is given.
      runs: the table, in the same units.

    Returns:
      A weight in [0, the law's own], once the lanes it asks for are solved.
    """
    ids, rows, most = mixture_ids(runs), len(runs), float(raw[SHARE])
    n_folds = min(FOLDS, ids.max() + 1)
    fold = (np.random.default_rng(0).permutation(ids.max() + 1) % n_folds)[ids]
    sizes = scales(runs)
    tested = np.asarray(runs.recipe.n_active) >= sizes[-1] * (1 - 1e-9)
    seen = ~tested
    if len(sizes) < 3 or len(np.unique(ids[tested])) < FEWEST:
        seen = tested = np.ones(rows, bool)
    kept = np.array([seen & (fold != k) for k in range(n_folds)])
    if not kept.any(1).all():
        return most
    counts = np.pad(kept.astype(float), [(0, 0), (0, len(data.weights) - rows)])
    errors = []
    for name, part in lanes.law.parts:
        start = jax.tree.map(lambda x: np.broadcast_to(x, (n_folds, *np.shape(x))), of_part(raw, name))
        own = dataclasses.replace(lanes, law=part, solver=best_solver(part, data, start))
        found = (yield Request(own, data, start, counts, warm=True)).params
        each = [
            log_predictions(part, jax.tree.map(lambda x, i=i: np.asarray(x)[i], found), data.recipe)
            for i in range(n_folds)
        ]
        said = np.asarray(each)[fold, np.arange(rows)]
        errors.append((said - np.asarray(data.log_losses)[:rows])[tested])
    first, second = errors
    mass = np.where(np.asarray(data.measured), np.asarray(data.weights)[:, None], 0.0)[:rows][tested]
    known = (mass > 0) & np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return most
    shares = np.linspace(0.0, 1.0, GRID)
    costs = [np.sum((mass * np.abs(first + share * (second - first)))[known]) for share in shares]
    return min(most, float(shares[int(np.argmin(costs))]))
