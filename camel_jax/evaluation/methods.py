"""What the leaderboard compares, by name: laws and baselines, as functions from runs to predictions of held-out recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from camel_jax.evaluation.baselines import boosted_trees, nearest_run, rank_at_one_scale, regression_forest
from camel_jax.evaluation.prediction import Method, Prediction
from camel_jax.evaluation.regressions import loglinear, ridge
from camel_jax.fitting.fit import fit
from camel_jax.fitting.intervals import predict_interval
from camel_jax.laws import CONSTRUCTORS
from camel_jax.laws.by_name import LAWS, law_by_name
from camel_jax.laws.law import Law
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.registry import Registry
from camel_jax.tables.runs import Runs
from camel_jax.types import Array


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


def check_method(name: str, method: Any) -> None:
    """Refuse what cannot be called.

    Raises:
      ValueError: naming it.
    """
    if not callable(method):
        raise ValueError(f"method {name!r} must be a function of (runs, recipe, key), not {type(method).__name__}")


METHODS = Registry("method", "camel_jax.methods", check_method)


def register_method(name: str, method: Method, package: str | None = None) -> None:
    """Make a baseline known by name to the leaderboard.

    Args:
      name: lower-case letters, digits and underscores.
      method: ``method(runs, recipe, key) -> Prediction``: from a table and R recipes to losses (R, V) in nats per token.
      package: where it comes from; its module if None.

    Raises:
      ValueError: a name that is taken, or something that cannot be called.

    >>> import numpy as np
    >>> from camel_jax.evaluation.methods import methods
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
    table |= {"ridge": ridge, "loglinear": loglinear, "nearest_run": nearest_run}
    table |= {"boosted_trees": boosted_trees, "regression_forest": regression_forest}
    table |= {"rank_at_one_scale": rank_at_one_scale}
    common["starts"] = starts
    METHODS.builtin = dict.fromkeys(table)
    table |= {name: METHODS.find(name) for name in METHODS.names() if name not in table}
    for name in [*LAWS.names(), *(n for n in names if "+" in n)]:
        # a law of the package without a row of its own, such as a floor for swarms, is there for those who name it
        if name not in table and (name in names or not (names or name in CONSTRUCTORS)):
            table[name] = law_method(law_by_name(name), **common)
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ValueError(f"unknown law {', '.join(unknown)}; known: {', '.join(table)}")
    return {name: table[name] for name in (names or table)}
