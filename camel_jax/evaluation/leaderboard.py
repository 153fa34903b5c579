"""The leaderboard: every law fitted without some rows of a table and judged on them, the same way for all.

Nothing is chosen by the held-out rows: starts by the objective, widths by back-tests among the fitted ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.evaluation.methods import methods
from camel_jax.evaluation.prediction import Method
from camel_jax.evaluation.scores import Row, score
from camel_jax.evaluation.splits import Split, split
from camel_jax.tables.runs import Runs
from camel_jax.types import Array
from camel_jax.views.view import Readable, View


class Leaderboard(Readable, list[Row]):
    """Rows of a leaderboard: a list of ``Row`` that shows itself.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> rows = cj.leaderboard({"simulated": runs}, ["nearest_run", "loglinear"], key=jax.random.key(1))
    >>> isinstance(rows, cj.Leaderboard), [row.method for row in rows], len(rows.to_frame())
    (True, ['nearest_run', 'loglinear'], 2)
    """

    def _view(self) -> View:
        from camel_jax.views.plans import leaderboard_view

        return leaderboard_view(self)

    def to_frame(self) -> Any:
        """One row a table and method, every score, as a pandas DataFrame."""
        from camel_jax.views.plans import leaderboard_columns
        from camel_jax.views.view import to_frame

        return to_frame(leaderboard_columns(self))

    def plot(self, ax: Any = None) -> Any:
        """Error of every method on the first table; returns the Axes."""
        from camel_jax.views.plans import plot_leaderboard

        return plot_leaderboard(self, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all scores as CSV or Parquet, by suffix; ``load`` reads them."""
        from camel_jax.tables.write import write_frame

        write_frame(self.to_frame(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Leaderboard:
        """Read scores that ``save`` wrote.

        Raises:
          ValueError: the file has other columns.
        """
        from camel_jax.tables.sheet import is_missing, load_sheet

        sheet = load_sheet(path, None)
        if tuple(sheet.names) != Row._fields:
            raise ValueError(f"{path}: not a leaderboard; its columns are {', '.join(Row._fields)}")
        whole = ("fitted", "held_out", "parameters")
        words = ("table", "method", "failure", "holdout")

        def read(name: str, x: Any) -> Any:
            if name in words:
                return "" if is_missing(x) else str(x)
            value = float("nan") if is_missing(x) else float(x)
            return int(value) if name in whole else value

        return cls(Row(*map(read, Row._fields, row)) for row in zip(*sheet.cells, strict=True))


def leaderboard(
    tables: Mapping[str, Runs],
    laws: Sequence[str] | Mapping[str, Method] = (),
    *,
    holdout: int | str = 1,
    key: Array,
    starts: int = 4,
    resamples: int = 0,
    progress: Callable[[str], None] | None = None,
    found: Callable[[Row], None] | None = None,
) -> Leaderboard:
    """Fit every law without the held-out rows of every table, and judge it there.

    Args:
      tables: name -> table.
      laws: names of methods, or name -> method; all methods if empty.
      holdout: "sizes=K" or K, the largest sizes; "mixtures=0.25", that share of the mixtures, in turn; "tokens", the longest training
        at every size. See ``evaluation.splits.split``.
      key: a ``jax.random`` key.
      starts: random starts of each law's fit.
      resamples: bootstrap resamples of each law's fit.
      progress: called with a line of text before each fit.
      found: called with every row as soon as it is there.

    Returns:
      One ``Row`` per table, fold and method, as a list with views; a method that fails says why in ``failure``.

    Raises:
      ValueError: a table has nothing to hold out (the message names it), or an unknown law.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> (row,) = leaderboard({"simulated": runs}, ["nearest_run"], key=jax.random.key(1))
    >>> row.method, row.fitted, row.held_out, bool(row.error > 0)
    ('nearest_run', 24, 24, True)
    """
    chosen = laws if isinstance(laws, Mapping) else methods(tuple(laws), starts=starts, resamples=resamples)
    splits: list[tuple[str, Split]] = []
    for name, runs in tables.items():
        try:
            splits += [(name, one) for one in split(runs, holdout)]
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    rows = Leaderboard()
    for name, one in splits:
        for label, method in chosen.items():
            if progress is not None:
                progress(f"{name}, {one.name}: {label}")
            rows.append(judge(name, label, method, one.below, one.above, key, one.name))
            if found is not None:
                found(rows[-1])
    return rows


def judge(table: str, label: str, method: Method, below: Runs, above: Runs, key: Array, holdout: str = "") -> Row:
    """Fit one method on ``below`` and score it on ``above``; whatever it raises becomes the row's ``failure``."""
    row = Row(table, label, len(below), len(above), holdout=holdout)
    began = time.perf_counter()
    try:
        said = method(below, above.recipe, key)
        seconds = time.perf_counter() - began
        return score(row._replace(parameters=said.parameters, seconds=seconds), said, above, below)
    except Exception as error:  # a method may be anyone's: one that breaks must not take the others' rows along
        words = " ".join(str(error).split())[:200]
        known = isinstance(error, ValueError | ImportError)
        return row._replace(failure=words if known and words else f"{type(error).__name__}: {words}")


def mean_over_folds(rows: Sequence[Row]) -> Leaderboard:
    """One row per table and method: the mean over folds; NaN, with the failure, where a fold has no number.

    Args:
      rows: of one or more tables.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.table, row.method), []).append(row)
    out = Leaderboard()
    for same in groups.values():
        first = same[0]
        if len(same) > 1:
            failure = next((f"{row.holdout}: {row.failure}" for row in same if row.failure), "")
            means = {
                name: float(np.mean([getattr(row, name) for row in same]))
                for name, value in zip(Row._fields, first, strict=True)
                if isinstance(value, float)
            }
            first = first._replace(
                **means,
                fitted=round(np.mean([row.fitted for row in same])),
                held_out=sum(row.held_out for row in same),
                parameters=max(row.parameters for row in same),
                holdout=f"{first.holdout.partition(',')[0]}, mean of {len(same)} folds",
                failure=failure,
            )
        out.append(first)
    return out
