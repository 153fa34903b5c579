"""The leaderboard: every law fitted below a held-out scale and judged on it, the same way for all.

Nothing is chosen by the held-out rows: starts by the objective, widths by back-tests below the held-out scale.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from camel_jax.evaluation.methods import Method, methods
from camel_jax.evaluation.scores import Row, score
from camel_jax.fitting.identifiability import FitError
from camel_jax.tables.runs import Runs, split_by_scale
from camel_jax.types import Array
from camel_jax.views.view import Readable, View


class Leaderboard(Readable, list[Row]):
    """Rows of a leaderboard: a list of ``Row`` that shows itself."""

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
        words = ("table", "method", "failure")

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
    holdout: int = 1,
    key: Array,
    starts: int = 4,
    resamples: int = 0,
    progress: Callable[[str], None] | None = None,
    found: Callable[[Row], None] | None = None,
) -> Leaderboard:
    """Fit every law below the held-out scale of every table, and judge it there.

    Args:
      tables: name -> table.
      laws: names of methods, or name -> method; all methods if empty.
      holdout: how many of the largest scales to hold out.
      key: a ``jax.random`` key.
      starts, resamples: passed to the laws' fits.
      progress: called with a line of text before each fit.
      found: called with every row as soon as it is there.

    Returns:
      One ``Row`` per table and method, as a list with views; a method that cannot be fitted says why in ``failure``.

    Raises:
      ValueError: a table has too few scales, or an unknown law.
    """
    chosen = laws if isinstance(laws, Mapping) else methods(tuple(laws), starts=starts, resamples=resamples)
    splits = {name: split_by_scale(runs, holdout) for name, runs in tables.items()}
    rows = Leaderboard()
    for name, (below, above) in splits.items():
        for label, method in chosen.items():
            if progress is not None:
                progress(f"{name}: {label}")
            rows.append(judge(name, label, method, below, above, key))
            if found is not None:
                found(rows[-1])
    return rows


def judge(table: str, label: str, method: Method, below: Runs, above: Runs, key: Array) -> Row:
    """Fit one method on ``below`` and score it on ``above``."""
    began = time.perf_counter()
    try:
        said = method(below, above.recipe, key)
    except (FitError, ImportError, ValueError, ArithmeticError, RuntimeError) as error:
        return Row(table, label, len(below), len(above), failure=" ".join(str(error).split())[:200])
    seconds = time.perf_counter() - began
    return score(Row(table, label, len(below), len(above), parameters=said.parameters, seconds=seconds), said, above)
