"""How much each part of a law of two parts may say on a table: the weight that predicts left-out mixtures best.

Stacking (Wolpert 1992): both parts are refitted without some mixtures, and the weight is the one whose mean is nearest to what was
measured there. Where the table has three sizes or more, the largest is left out too, so that a part that extrapolates badly in size
is found out. Where no run mixes domains, leaving out a mixture would leave out a domain, which says nothing of what the table can
tell: there the largest sizes are left out, one after the other, and the weight is shrunk towards nothing by how few they are. The
weight is never more than the law's own, which falls with the number of mixtures.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from camel_jax.fitting.backtest import is_unmixed
from camel_jax.fitting.lanes import best_solver
from camel_jax.fitting.objective import Data, log_predictions
from camel_jax.fitting.plan import Asking, Lanes, Request
from camel_jax.fitting.separable import is_crowded
from camel_jax.laws.blend import SHARE, of_part
from camel_jax.tables.runs import Runs, mixture_ids, scales

FOLDS = 5
FEWEST = 3  # mixtures at the largest size, below which all sizes are tested, and none is left out
LARGEST = 3  # sizes left out one after the other where no run mixes domains
SETS = 10  # on whose losses the weight is learnt where fits of a separable part are many and long
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
    rows, most = len(runs), float(raw[SHARE])
    kept, fold = _sizes_left_out(runs) if is_unmixed(runs) else _mixtures_left_out(runs)
    tested, n_folds = fold >= 0, len(kept)
    if n_folds == 0:
        return 0.0
    if not kept.any(1).all():
        return most
    counts = np.pad(kept.astype(float), [(0, 0), (0, len(data.weights) - rows)])
    whole, data = data, _some_sets(lanes, data, raw)
    errors = []
    for name, part in lanes.law.parts:
        start = jax.tree.map(lambda x: np.broadcast_to(x, (n_folds, *np.shape(x))), of_part(raw, name))
        own = dataclasses.replace(lanes, law=part, solver=best_solver(part, data, start))
        found = (yield Request(own, data if part.separable else whole, start, counts, warm=True)).params
        each = [
            log_predictions(part, jax.tree.map(lambda x, i=i: np.asarray(x)[i], found), data.recipe)
            for i in range(n_folds)
        ]
        said = np.asarray(each)[np.maximum(fold, 0), np.arange(rows)]
        errors.append((said - np.asarray(data.log_losses)[:rows])[tested])
    first, second = errors
    mass = np.where(np.asarray(data.measured), np.asarray(data.weights)[:, None], 0.0)[:rows][tested]
    known = (mass > 0) & np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return most
    shares = np.linspace(0.0, 1.0, GRID)
    costs = [np.sum((mass * np.abs(first + share * (second - first)))[known]) for share in shares]
    found = min(most, float(shares[int(np.argmin(costs))]))
    return found * n_folds / (n_folds + 1.0) if is_unmixed(runs) else found


def _some_sets(lanes: Lanes, data: Data, raw: Any) -> Data:
    """The table with some sets alone to be read by separable parts of very many parameters: their sets take a long fit each."""
    rows, n_sets = data.log_losses.shape
    sizes = [sum(np.size(x) for x in of_part(raw, name).values()) for name, part in lanes.law.parts if part.separable]
    if n_sets <= SETS or not any(is_crowded(size // n_sets, rows) for size in sizes):
        return data
    seen = np.isin(np.arange(n_sets), np.linspace(0, n_sets - 1, SETS).astype(int))
    return data._replace(measured=data.measured & seen)


def _mixtures_left_out(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Rows kept in each fold, (F, R), and the fold in which each row is judged, (R,), -1 for none."""
    ids, sizes = mixture_ids(runs), scales(runs)
    n_folds = min(FOLDS, ids.max() + 1)
    fold = (np.random.default_rng(0).permutation(ids.max() + 1) % n_folds)[ids]
    tested = np.asarray(runs.recipe.n_active) >= sizes[-1] * (1 - 1e-9)
    seen = ~tested
    if len(sizes) < 3 or len(np.unique(ids[tested])) < FEWEST:
        seen = tested = np.ones(len(runs), bool)
    return np.array([seen & (fold != k) for k in range(n_folds)]), np.where(tested, fold, -1)


def _sizes_left_out(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """As ``_mixtures_left_out``: each of the largest sizes that has two below it is judged by what lies below it."""
    active = np.asarray(runs.recipe.n_active)
    held = scales(runs)[2:][-LARGEST:]
    kept = np.array([active < size * (1 - 1e-9) for size in held]).reshape(len(held), len(runs))
    fold = np.full(len(runs), -1)
    for k, size in enumerate(held):
        fold[np.isclose(active, size, rtol=1e-9)] = k
    return kept, fold
