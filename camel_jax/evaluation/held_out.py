"""The largest size of a table, predicted by several methods that have not seen it: predictions and scores side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from camel_jax.evaluation.leaderboard import judge
from camel_jax.evaluation.methods import law_method, methods
from camel_jax.evaluation.prediction import Method, Prediction
from camel_jax.evaluation.scores import Row
from camel_jax.evaluation.splits import split
from camel_jax.laws.law import Law
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

BASELINES = ("chinchilla", "nearest_run", "loglinear")


class HeldOut(NamedTuple):
    """What was held out, what the first method said of it, and the scores of all.

    Attributes:
      size: the active size that was held out.
      measured: (R, V) losses there, nats per token.
      predicted: (R, V) of the first method.
      rows: a score for each method, the first one's first.
    """

    size: float
    measured: np.ndarray
    predicted: np.ndarray
    rows: tuple[Row, ...]


def hold_out_largest(
    runs: Runs,
    law: Law,
    *,
    key: Array,
    baselines: Sequence[str] = BASELINES,
    starts: int = 2,
    progress: Callable[[str], None] | None = None,
) -> HeldOut:
    """Fit a law and baselines without the largest size of a table, and judge them there.

    Args:
      runs: the table. law: the law that is on trial.
      key: a ``jax.random`` key.
      baselines: names of methods of the leaderboard.
      starts: random starts of every fit.
      progress: called with the name of each method before it is fitted.

    Raises:
      ValueError: the table has one size, or the law cannot be fitted to the smaller ones.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> found = hold_out_largest(runs, cj.laws.dml(), key=jax.random.key(1), baselines=["nearest_run"], starts=1)
    >>> found.size, found.predicted.shape, [row.method for row in found.rows]
    (100000000.0, (24, 2), ['dml', 'nearest_run'])
    """
    (one,) = split(runs, 1)
    kept: list[Prediction] = []

    def remembered(below: Runs, recipe: Recipe, key: Array) -> Prediction:
        kept.append(law_method(law, starts=starts)(below, recipe, key))
        return kept[-1]

    chosen: dict[str, Method] = {law.name: remembered}
    chosen |= {name: method for name, method in methods(tuple(baselines), starts=starts).items() if name != law.name}
    rows = []
    for name, method in chosen.items():
        if progress is not None:
            progress(name)
        rows.append(judge("", name, method, one.below, one.above, key, one.name))
    if not kept:
        raise ValueError(f"{law.name} cannot be fitted without the largest size: {rows[0].failure}")
    size = float(np.max(one.above.recipe.n_active))
    return HeldOut(size, np.asarray(one.above.losses), np.asarray(kept[0].point), tuple(rows))
