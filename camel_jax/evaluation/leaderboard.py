"""The leaderboard: every law fitted below a held-out scale and judged on it, the same way for all.

Nothing is chosen by the held-out rows: starts by the objective, widths by back-tests below the held-out scale.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from camel_jax.evaluation.methods import Method, methods
from camel_jax.evaluation.scores import Row, score
from camel_jax.fitting.identifiability import FitError
from camel_jax.tables.runs import Runs, split_by_scale
from camel_jax.types import Array


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
) -> list[Row]:
    """Fit every law below the held-out scale of every table, and judge it there.

    Args:
      tables: name -> table.
      laws: names of methods, or name -> method; all methods if empty.
      holdout: how many of the largest scales to hold out.
      key: a ``jax.random`` key.
      starts: random starts of each law's fit.
      resamples: bootstrap resamples of each law's fit.
      progress: called with a line of text before each fit.
      found: called with every row as soon as it is there.

    Returns:
      One ``Row`` per table and method; a method that cannot be fitted says why in ``failure``.

    Raises:
      ValueError: a table has too few scales, or an unknown law.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> (row,) = leaderboard({"simulated": runs}, ["nearest_run"], key=jax.random.key(1))
    >>> row.method, row.fitted, row.held_out, bool(row.error > 0)
    ('nearest_run', 24, 24, True)
    """
    chosen = laws if isinstance(laws, Mapping) else methods(tuple(laws), starts=starts, resamples=resamples)
    splits = {name: split_by_scale(runs, holdout) for name, runs in tables.items()}
    rows = []
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
