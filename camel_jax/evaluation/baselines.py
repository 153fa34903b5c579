"""Baselines that know no law: the nearest run, trees as in RegMix, and the order of mixtures at one smaller size."""

from __future__ import annotations

import jax
import numpy as np

from camel_jax.evaluation.prediction import Prediction
from camel_jax.evaluation.splits import token_levels
from camel_jax.recipes.recipe import Recipe
from camel_jax.runtime import require
from camel_jax.tables.runs import Runs, scales
from camel_jax.types import Array


def nearest_run(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
    """The observed losses of the closest run: nearest in mixture (L1), then in log size and log tokens."""
    del key
    weights, losses = np.asarray(runs.recipe.weights), np.asarray(runs.losses, float)
    mix = np.abs(np.asarray(recipe.weights)[:, None] - weights[None]).sum(-1)
    size = np.abs(np.log(np.asarray(recipe.n_active))[:, None] - np.log(np.asarray(runs.recipe.n_active))[None])
    seen = np.abs(np.log(np.asarray(recipe.tokens))[:, None] - np.log(np.asarray(runs.recipe.tokens))[None])
    distance = mix + 0.1 * size + 0.1 * seen
    out = np.empty((len(distance), losses.shape[1]))
    for v in range(losses.shape[1]):
        known = np.where(np.isfinite(losses[:, v])[None], distance, np.inf)
        out[:, v] = losses[known.argmin(1), v]
    return Prediction(out, {}, 0)


def boosted_trees(runs: Runs, recipe: Recipe, key: Array, forest: bool = False) -> Prediction:
    """Gradient boosting (or a random forest) on shares, log size and log tokens, as RegMix does (arXiv 2407.01492).

    Raises:
      MissingExtraError: scikit-learn, which the extra ``baselines`` brings, is not installed.
    """
    require("baselines", "sklearn", "the baselines trees and forest")
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

    def features(r: Recipe) -> np.ndarray:
        return np.column_stack([np.asarray(r.weights), np.log(np.asarray(r.n_active)), np.log(np.asarray(r.tokens))])

    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    x, x_new, losses = features(runs.recipe), features(recipe), np.asarray(runs.losses, float)
    out = np.empty((len(x_new), losses.shape[1]))
    for v in range(losses.shape[1]):
        known = np.isfinite(losses[:, v])
        if forest:
            model = RandomForestRegressor(200, min_samples_leaf=2, random_state=seed, n_jobs=1)
        else:
            model = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.05, random_state=seed)
        out[:, v] = np.exp(model.fit(x[known], np.log(losses[known, v])).predict(x_new))
    return Prediction(out, {}, 0)


def regression_forest(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
    """A random forest on shares, log size and log tokens; see ``boosted_trees``."""
    return boosted_trees(runs, recipe, key, forest=True)


def rank_at_one_scale(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
    """The order of mixtures at the largest size that was fitted, all at the same training compute; no losses.

    What a team does that trains every candidate once at the largest size it can afford, on the same tokens, and takes the best. A
    held-out mixture that was not measured there has no rank. Source: Magnusson et al. 2025, DataDecide (arXiv 2504.11393).

    Raises:
      ValueError: fewer than two of the mixtures were measured at that size on the same number of tokens.
    """
    del key
    size, tokens = np.asarray(runs.recipe.n_active), token_levels(runs)
    weights, losses = np.asarray(runs.recipe.weights).round(3), np.asarray(runs.losses, float)
    asked = np.asarray(recipe.weights).round(3)
    at = size == scales(runs)[-1]
    best: dict[bytes, np.ndarray] = {}
    wanted = {row.tobytes() for row in asked}
    for count in np.unique(tokens[at]):  # ascending: of token counts with as many mixtures, the largest
        rows = np.flatnonzero(at & (tokens == count))
        # replicates of a mixture are averaged, each set over those that were measured
        grouped: dict[bytes, list[int]] = {}
        for row in rows:
            grouped.setdefault(weights[row].tobytes(), []).append(int(row))
        there = {name: _known_mean(losses[members]) for name, members in grouped.items() if name in wanted}
        if len(there) >= len(best):
            best = there
    if len(best) < 2:
        raise ValueError("fewer than two held-out mixtures were measured at the largest fitted size on the same tokens")
    nothing = np.full(losses.shape[1], np.nan)
    return Prediction(np.stack([best.get(row.tobytes(), nothing) for row in asked]), {}, 0, order_only=True)


def _known_mean(losses: np.ndarray) -> np.ndarray:
    """Mean of each column over its finite entries, NaN where there are none."""
    seen = np.isfinite(losses)
    total = np.where(seen, losses, 0.0).sum(0)
    return np.where(seen.any(0), total / np.maximum(seen.sum(0), 1), np.nan)
