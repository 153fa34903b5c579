"""How much each part of a blend may say on a table: the weights under which the parts together predict best what they have not seen.

Stacking (Wolpert 1992) with a prior. The parts are refitted without some of the largest sizes, one after the other, and without some
mixtures; there, and on the whole table, their mean is compared with what was measured. The weights w minimise

    sum_f log(mean |error of the mean under w in fold f|) - STRENGTH sum_k usual_k log w_k

over the simplex, one term a fold; parts that get next to nothing are left out. Where no run mixes domains, leaving out a mixture would
leave out a domain, which says nothing of what the table can tell: there only sizes are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from camel_jax.fitting.backtest import is_unmixed
from camel_jax.fitting.lanes import best_solver
from camel_jax.fitting.objective import Data, log_predictions
from camel_jax.fitting.plan import Asking, Lanes, Request
from camel_jax.laws.blend import of_part, weights_of_parts
from camel_jax.prediction.residual_field import is_far_out
from camel_jax.tables.runs import Runs, mixture_ids, scales

FOLDS = 5
FEWEST = 3  # mixtures at the largest size, below which all sizes are tested, and none is left out
LARGEST = 3  # sizes left out one after the other
STRENGTH = 0.25  # of the usual weights, in folds
LEAST = 0.03  # weight below which a part is left out


def learn_weights(lanes: Lanes, data: Data, raw: Any, runs: Runs) -> Asking[np.ndarray]:
    """Weights of the parts.

    Args:
      lanes: law of several parts, robust objective; as for ``fit``.
      data: the table in its units, perhaps padded.
      raw: solution on the whole table, where refits begin.
      runs: the table, in the same units.

    Returns:
      (P,) weights that add up to 1, once the lanes it asks for are solved.
    """
    rows, usual = len(runs), weights_of_parts(raw)
    if (usual > 0).sum() == 1:
        return usual
    kept, fold = (np.concatenate(x) for x in zip(_sizes_left_out(runs), _mixtures_left_out(runs), strict=True))
    kept, fold = kept[kept.any(1)], fold[kept.any(1)]
    judged = np.concatenate([np.ones((1, rows), bool), fold])
    said = []
    counts = np.pad(kept.astype(float), [(0, 0), (0, len(data.weights) - rows)])
    for (name, part), weight in zip(lanes.law.parts, usual, strict=True):
        if weight <= 0:
            said.append(np.zeros((len(judged), rows, data.log_losses.shape[1])))
            continue
        one = of_part(raw, name)
        logs = [np.asarray(log_predictions(part, one, data.recipe))]
        if len(kept):
            start = jax.tree.map(lambda x: np.broadcast_to(x, (len(kept), *np.shape(x))), one)
            own = dataclasses.replace(lanes, law=part, solver=best_solver(part, data, start))
            found = (yield Request(own, data, start, counts, warm=True)).params
            for i in range(len(kept)):
                logs.append(
                    np.asarray(log_predictions(part, jax.tree.map(lambda x, i=i: np.asarray(x)[i], found), data.recipe))
                )
        said.append(np.asarray(logs)[:, :rows])
    errors = np.asarray(said) - np.asarray(data.log_losses)[:rows]  # (P, folds, R, V)
    mass = np.where(np.asarray(data.measured), np.asarray(data.weights)[:, None], 0.0)[:rows]
    mass = np.where(is_far_out(np.where(mass > 0, errors[0, 0], np.nan)), 0.0, mass)
    fine = ~((mass > 0) & ~np.isfinite(errors)).any((1, 2, 3))
    errors = np.where(mass > 0, errors, 0.0)
    folds = [(errors[:, f], mass * judged[f][:, None]) for f in range(len(judged))]
    return (
        best_weights([(e, m) for e, m in folds if m.any()], np.where(fine, usual, 0.0))
        if (fine & (usual > 0)).any()
        else usual
    )


def best_weights(
    folds: Sequence[tuple[np.ndarray, np.ndarray]], usual: np.ndarray, strength: float = STRENGTH
) -> np.ndarray:
    """Weights that make the mean of the parts predict best, and are near the usual ones where that is open.

    Args:
      folds: errors (P, R, V) of log loss and their masses (R, V), of each fold.
      usual: (P,) weights; a part of none gets none.
      strength: what these count for, in folds.

    >>> good, bad = 0.01 * np.ones((1, 4, 1)), 0.2 * np.ones((1, 4, 1))
    >>> best_weights([(np.concatenate([bad, good]), np.ones((4, 1)))] * 3, np.array([0.75, 0.25])).tolist()
    [0.0, 1.0]
    """
    from scipy.optimize import minimize

    there = np.flatnonzero(usual > 0)
    usual = usual / usual.sum()
    flat = [(e[there].reshape(len(there), -1), m.ravel() / m.sum()) for e, m in folds]
    flat = [(e[:, m > 0], m[m > 0]) for e, m in flat]

    def cost(z: np.ndarray) -> tuple[float, np.ndarray]:
        w = np.exp(z - z.max())
        w /= w.sum()
        value = -strength * np.sum(usual[there] * np.log(w + 1e-12))
        slope = -strength * usual[there] / (w + 1e-12)
        for e, m in flat:
            error = w @ e
            mean = max(float(m @ np.abs(error)), 1e-9)
            value += np.log(mean)
            slope += e @ (m * np.sign(error)) / mean
        return value, w * (slope - w @ slope)

    found = minimize(cost, np.log(usual[there]), jac=True, method="L-BFGS-B").x
    w = np.exp(found - found.max())
    w = np.where(w < LEAST * w.sum(), 0.0, w)
    weights = np.zeros(len(usual))
    weights[there] = w / w.sum()
    return weights


def _mixtures_left_out(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Rows kept in each fold and those that are judged there, (F, R) each; no fold where no run mixes domains."""
    ids, sizes = mixture_ids(runs), scales(runs)
    n_folds = 0 if is_unmixed(runs) else min(FOLDS, ids.max() + 1)
    fold = (np.random.default_rng(0).permutation(ids.max() + 1) % max(n_folds, 1))[ids]
    tested = np.asarray(runs.recipe.n_active) >= sizes[-1] * (1 - 1e-9)
    seen = ~tested
    if len(sizes) < 3 or len(np.unique(ids[tested])) < FEWEST:
        seen = tested = np.ones(len(runs), bool)
    of = np.array([fold == k for k in range(n_folds)], bool).reshape(n_folds, len(runs))
    return seen & ~of, tested & of


def _sizes_left_out(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """As ``_mixtures_left_out``: each of the largest sizes that has two below it is judged by what lies below it."""
    active = np.asarray(runs.recipe.n_active)
    held = scales(runs)[2:][-LARGEST:]
    shape = len(held), len(runs)
    kept = np.array([active < size * (1 - 1e-9) for size in held], bool).reshape(shape)
    return kept, np.array([np.isclose(active, size, rtol=1e-9) for size in held], bool).reshape(shape)
