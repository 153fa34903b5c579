"""Columns of the tables that commands write: predictions, a front, a path, the curves of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def prediction_columns(fitted: Any, recipe: Any, names: Sequence[str], level: float) -> dict[str, Any]:
    """Predicted losses, and accuracies where the fit has a benchmark law, with intervals.

    Args:
      fitted: the fit.
      recipe: R recipes.
      names: what the R recipes are called.
      level: probability of the intervals.
    """
    from camel_jax.fitting.intervals import accuracy_interval, predict_interval

    point, low, high = (np.asarray(x) for x in predict_interval(fitted, recipe, level=level))
    table: dict[str, Any] = {"run": list(names), "size": recipe.n_active, "tokens": recipe.tokens}
    if np.any(recipe.n_total != recipe.n_active):
        table["size_total"] = recipe.n_total
    for v, s in enumerate(fitted.sets):
        table |= {f"point/{s}": point[:, v], f"low/{s}": low[:, v], f"high/{s}": high[:, v]}
    if (benchmarks := fitted.benchmarks) is not None:
        point, low, high = (np.asarray(x) for x in accuracy_interval(fitted, recipe, level=level))
        for t, task in enumerate(benchmarks.tasks):
            table |= {f"acc/{task}": point[:, t], f"acc_low/{task}": low[:, t], f"acc_high/{task}": high[:, t]}
    return table


def path_columns(path: Any, stops: Sequence[tuple[float, float, float]], lost: Any) -> dict[str, Any]:
    """Scales, shares, objective and gain along an ``OptimumPath``.

    Args:
      path: the path.
      stops: total and active parameters and tokens of every stop.
      lost: (P,) what the first stop's mixture loses at every stop.
    """
    total, active, tokens = (np.array([stop[i] for stop in stops]) for i in range(3))
    columns: dict[str, Any] = {"size": active, "tokens": tokens}
    if np.any(total > active):
        columns["size_total"] = total
    columns |= {f"mix/{name}": path.weights[:, k] for k, name in enumerate(path.domains)}
    columns["value"] = np.array([r.value.point for r in path.results])
    for name, part in (("gain", "point"), ("gain_low", "low"), ("gain_high", "high")):
        columns[name] = np.array([getattr(r.gain, part) for r in path.results])
    return columns | {"lost_by_staying": lost}


def curve_columns(names: Sequence[str], curves: Sequence[Sequence[tuple[int, float]]]) -> dict[str, list[Any]]:
    """Training losses of all models, one below the other.

    Args:
      names: of the models.
      curves: tokens seen and training loss along each model's training.

    >>> curve_columns(["a"], [[(10, 2.0), (20, 1.5)]])["train_loss"]
    [2.0, 1.5]
    """
    entries = [
        (name, curve[-1][0], tokens, loss) for name, curve in zip(names, curves, strict=True) for tokens, loss in curve
    ]
    titles = ("run", "final_tokens", "tokens", "train_loss")
    return {title: [entry[i] for entry in entries] for i, title in enumerate(titles)}
