"""What the leaderboard compares: laws, and baselines that know no law, as functions from runs to predictions of held-out recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from camel_jax.fitting.fit import fit
from camel_jax.fitting.intervals import predict_interval
from camel_jax.laws import CONSTRUCTORS
from camel_jax.laws.by_name import LAWS, law_by_name
from camel_jax.laws.law import Law
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.registry import Registry
from camel_jax.runtime import require
from camel_jax.tables.runs import Runs
from camel_jax.types import Array


class Prediction(NamedTuple):
    """What a method says about held-out recipes: point (R, V), 50 % and 90 % bounds (R, V) or None, parameter count."""

    point: np.ndarray
    bounds: Mapping[float, tuple[np.ndarray, np.ndarray]]
    parameters: int


Method = Callable[[Runs, Recipe, Array], Prediction]


def law_method(law: Law, *, single: bool = False, **options: Any) -> Method:
    """A law as a leaderboard method.

    Args:
      law: the law.
      single: predict from the best start only, as published tools do, in place of the mean over starts.
      options: passed to ``fit``.
    """

    def run(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
        fitted = fit(law, runs, key=key, **options)
        if single:
            fitted = fitted.only_best()
        intervals = {level: predict_interval(fitted, recipe, level) for level in (0.5, 0.9)}
        bounds = {level: (np.asarray(i.low), np.asarray(i.high)) for level, i in intervals.items()}
        size = sum(int(np.size(x[0])) for x in jax.tree.leaves(fitted.raw))
        return Prediction(np.asarray(intervals[0.9].point), bounds, size)

    return run


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


def check_method(name: str, method: Any) -> None:
    """Refuse what cannot be called.

    Raises:
      ValueError: naming it.
    """
    if not callable(method):
        raise ValueError(f"method {name!r} must be a function of (runs, recipe, key), not {type(method).__name__}")


METHODS = Registry("method", "camel_jax.methods", check_method)
OWN = ("camel", "camel_paper", "blend", "sodm_joint", "sodm", "dml", "chinchilla")  # laws whose rows are made below


def register_method(name: str, method: Method, package: str | None = None) -> None:
    """Make a baseline known by name to the leaderboard.

    Args:
      name: lower-case letters, digits and underscores.
      method: ``method(runs, recipe, key) -> Prediction``: from a table and R recipes to losses (R, V) in nats per token.
      package: where it comes from; its module if None.

    Raises:
      ValueError: a name that is taken, or something that cannot be called.

    >>> register_method("mean_of_sets", lambda runs, recipe, key: Prediction(
    ...     np.tile(np.nanmean(runs.losses, 0), (len(recipe), 1)), {}, 0))
    >>> "mean_of_sets" in methods()
    True
    """
    METHODS.register(name, method, package)


def methods(names: Sequence[str] = (), *, starts: int = 4, resamples: int = 0) -> dict[str, Method]:
    """The leaderboard's methods by name; all of them if ``names`` is empty.

    Baselines appear as published (additive, no priors to speak of, uniform rows, best start), upgraded (the same coupling, priors, row
    weights and mean over starts as CAMEL) and with its residual field on top (``_field``), so that the table says where a
    gain comes from.

    Raises:
      ValueError: an unknown name.
    """
    common: dict[str, Any] = {"starts": starts, "resamples": resamples}
    table: dict[str, Method] = {
        "camel": law_method(CONSTRUCTORS["camel"](), **common),
        "camel_no_field": law_method(CONSTRUCTORS["camel"](), field=False, **common),
        "camel_exact": law_method(CONSTRUCTORS["camel"](exact=True), **common),
        "camel_paper": law_method(CONSTRUCTORS["camel_paper"](), field=False, **common),
        "blend": law_method(CONSTRUCTORS["blend"](), **common),
    }
    for name in ("sodm_joint", "sodm", "dml", "chinchilla"):
        build = CONSTRUCTORS[name]
        # as many starts as CAMEL, and more where fits are cheap
        common["starts"] = starts if name == "sodm_joint" else max(starts, 8)
        table[name] = law_method(build(upgraded=True), field=False, **common)
        table[f"{name}_field"] = law_method(build(upgraded=True), **common)
        table[f"{name}_published"] = law_method(
            build(upgraded=False), field=False, weighting="uniform", single=True, **common
        )
    table |= {"nearest_run": nearest_run, "boosted_trees": boosted_trees, "regression_forest": regression_forest}
    common["starts"] = starts
    METHODS.builtin = dict.fromkeys(table)
    table |= {name: METHODS.find(name) for name in METHODS.names() if name not in table}
    for name in [*(n for n in LAWS.names() if n not in OWN), *(n for n in names if "+" in n)]:
        if name not in table and (not names or name in names):
            table[name] = law_method(law_by_name(name), **common)
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ValueError(f"unknown law {', '.join(unknown)}; known: {', '.join(table)}")
    return {name: table[name] for name in (names or table)}
