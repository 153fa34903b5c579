"""Recipes and runs: what was chosen before training, and what came out of it.

Both are frozen pytrees of arrays. They never check themselves: outside data is checked once, where it enters (``tables``).

====================  ==========================================================  =============
field                 meaning                                                     unit
====================  ==========================================================  =============
``n_total``           total parameters N_total                                    parameters
``n_active``          active parameters N (equal to ``n_total`` for dense models)  parameters
``tokens``            training tokens D                                           tokens
``weights``           mixture r over K training domains, on the simplex           share
``supply``            unique tokens available per domain, or None                 tokens
``losses``            validation losses L over V sets                             nats per token
``accuracies``        benchmark accuracies A over T tasks                         [0, 1]
====================  ==========================================================  =============
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.recipes.recipe import Recipe, select_recipe
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

if TYPE_CHECKING:
    import pandas as pd


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Runs(Readable):
    """A table of measured runs as arrays; one row is one checkpoint of one run.

    Attributes:
      recipe: ``Recipe`` with leading axis R.
      losses: (R, V) in nats per token, NaN where not measured.
      accuracies: (R, T) in [0, 1], NaN where not measured; T may be 0.
      run: (R,) integer index of the run a row belongs to; checkpoints of one run share it.
      domains: names of the K domains (static).
      sets: names of the V validation sets (static).
      tasks: names of the T tasks (static).
      run_names: names of the runs, indexed by ``run`` (static).

    >>> import numpy as np
    >>> recipe = Recipe(*np.full((3, 2), 1e9), np.array([[0.5, 0.5], [0.9, 0.1]]))
    >>> runs = Runs(recipe, np.array([[2.5], [2.4]]), np.zeros((2, 0)), np.arange(2), ("web", "code"), ("wiki",))
    >>> len(runs), runs.sets
    (2, ('wiki',))
    """

    recipe: Recipe
    losses: Array
    accuracies: Array
    run: Array
    domains: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    sets: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    tasks: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    run_names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    def __len__(self) -> int:
        return int(np.shape(self.losses)[0])

    def _view(self) -> View:
        from camel_jax.views.tables import runs_view

        return runs_view(self)

    def select(self, rows: str | Array) -> Runs:
        """Some rows of the table.

        Args:
          rows: an expression over columns such as ``"size < 1e9 and mix/code >= 0.1"`` (see ``tables.expression``), a boolean mask
            (R,), or positions.

        Raises:
          TableError: an expression that cannot be read, or a column that the table does not have.
        """
        from camel_jax.tables.expression import matching_rows

        return select(self, matching_rows(rows, self) if isinstance(rows, str) else rows)

    def drop(self, rows: str | Array = (), *, runs: Any = (), sets: Any = (), tasks: Any = ()) -> Runs:
        """The table without some rows, runs, validation sets or tasks.

        Args:
          rows: an expression, mask or positions, as for ``select``. runs, sets, tasks: names to leave out.

        Raises:
          TableError: a name that is not there.
        """
        from camel_jax.tables.combine import without

        return without(self, rows, runs, sets, tasks)

    def describe(self) -> View:
        """Sizes, tokens, mixtures, what is missing and what the table cannot tell, to be printed or shown in a notebook."""
        from camel_jax.tables.combine import open_questions
        from camel_jax.views.tables import described

        return described(self, open_questions(self))

    def to_frame(self) -> pd.DataFrame:
        """The table in the schema that ``read_runs`` reads."""
        from camel_jax.tables.write import runs_to_frame

        return runs_to_frame(self)

    def plot(self, ax: Any = None) -> Any:
        """Measured losses against size; returns the Axes."""
        from camel_jax.views.tables import plot_runs

        return plot_runs(self, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as CSV or Parquet, by suffix; see ``write_runs``."""
        from camel_jax.tables.write import write_runs

        write_runs(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Runs:
        """Read a table of runs; see ``read_runs``."""
        from camel_jax.tables.read import read_runs

        return read_runs(path)


def select(runs: Runs, rows: Array) -> Runs:
    """Rows of a table; host side. Run indices are renumbered so that they stay dense.

    Args:
      runs: the table.
      rows: (R,) boolean mask, or index array.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> large = select(runs, runs.recipe.n_active > 5e7)
    >>> len(large), int(large.run.max()), large.run_names[0]
    (24, 7, '100000000-0')
    """
    rows = np.asarray(rows)
    take = jax.tree.map(lambda a: np.asarray(a)[rows], (runs.losses, runs.accuracies, runs.run))
    old, new = np.unique(take[2], return_inverse=True)
    names = tuple(runs.run_names[i] for i in old) if runs.run_names else ()
    return dataclasses.replace(
        runs,
        recipe=select_recipe(runs.recipe, rows),
        losses=take[0],
        accuracies=take[1],
        run=new.reshape(-1),
        run_names=names,
    )


def scales(runs: Runs) -> np.ndarray:
    """Distinct model scales of a table, ascending: active parameters, shape (n_scales,)."""
    return np.unique(np.asarray(runs.recipe.n_active))


def split_by_scale(runs: Runs, largest: int = 1) -> tuple[Runs, Runs]:
    """Split a table into the rows below the ``largest`` biggest scales and the rows at them.

    Args:
      runs: the table.
      largest: how many of the largest scales to hold out; between 1 and the number of scales minus one.

    Returns:
      (below, held_out).

    Raises:
      ValueError: the table has too few scales.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> below, held_out = split_by_scale(runs)
    >>> set(below.recipe.n_active.tolist()), set(held_out.recipe.n_active.tolist())
    ({10000000.0}, {100000000.0})
    """
    sizes = scales(runs)
    if not 1 <= largest < len(sizes):
        raise ValueError(f"cannot hold out {largest} scale(s) of a table with {len(sizes)} size(s)")
    held = np.asarray(runs.recipe.n_active) >= sizes[-largest]
    return select(runs, ~held), select(runs, held)


def final_rows(runs: Runs) -> np.ndarray:
    """Boolean mask (R,) of the last checkpoint of every run."""
    tokens, run = np.asarray(runs.recipe.tokens), np.asarray(runs.run)
    last = np.full(run.max() + 1 if len(run) else 0, -np.inf)
    np.maximum.at(last, run, tokens)
    return tokens >= last[run]


def progress(runs: Runs) -> np.ndarray:
    """Tokens of each checkpoint over the final tokens of its run, shape (R,), in (0, 1]."""
    tokens, run = np.asarray(runs.recipe.tokens, float), np.asarray(runs.run)
    last = np.zeros(run.max() + 1 if len(run) else 0)
    np.maximum.at(last, run, tokens)
    return tokens / last[run]


def resample_counts(key: Array, runs: Runs, resamples: int) -> Array:
    """Bootstrap multiplicities of rows, resampled by run so that the checkpoints of one run stay together.

    Runs are drawn with replacement within each model size, so every size keeps its number of runs.

    Args:
      key: a ``jax.random`` key.
      runs: the table.
      resamples: number of bootstrap resamples B.

    Returns:
      (B, R) float array of how often each row occurs.
    """
    run = np.asarray(runs.run)
    first = np.unique(run, return_index=True)[1]
    size_of_run = np.asarray(runs.recipe.n_active)[first]
    n_runs = len(first)
    counts = np.zeros((resamples, n_runs))
    strata = [np.flatnonzero(size_of_run == size) for size in np.unique(size_of_run)]
    sizes = np.array([len(members) for members in strata], int)
    draws = np.asarray(_draw_strata(key, resamples * sizes.max(initial=1), jnp.asarray(sizes)))
    for members, drawn in zip(strata, draws, strict=True):
        drawn = drawn[: resamples * len(members)].reshape(resamples, len(members))
        np.add.at(counts, (np.arange(resamples)[:, None], members[drawn]), 1.0)
    return counts[:, run]


@functools.partial(jax.jit, static_argnums=1)
def _draw_strata(key: Array, n: int, sizes: Array) -> Array:
    """``n`` draws with replacement from each stratum, (strata, n) indices below its size."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(sizes)))
    return jax.vmap(lambda k, size: jax.random.randint(k, (n,), 0, size))(keys, sizes)


def count_mixtures(runs: Runs) -> int:
    """Distinct mixtures of a table, to three digits."""
    return int(mixture_ids(runs).max(initial=-1)) + 1


def mixture_ids(runs: Runs) -> np.ndarray:
    """Which mixture each row has, (R,) from 0; shares that agree to three digits are one."""
    return np.unique(np.asarray(runs.recipe.weights, float).round(3), axis=0, return_inverse=True)[1].ravel()
