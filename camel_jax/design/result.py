"""What a design says: the runs to buy, in order, and the error that is expected after them."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection
from typing import Any

import numpy as np

from camel_jax.design.candidates import Target
from camel_jax.design.ladder import Ladder
from camel_jax.recipes.recipe import Recipe, select_recipe
from camel_jax.recipes.sizes import format_size
from camel_jax.views.view import Readable, View


@dataclasses.dataclass(frozen=True, repr=False)
class Design(Readable):
    """Runs to buy, in the order to buy them, and what they are expected to do; plain data.

    Attributes:
      shape: "optimal" or a fixed shape.
      criterion: "mean" or "worst".
      recipe: (n, ...) distinct runs.
      counts: (n,) how often each is bought.
      cost: (n,) of one run.
      error_before: standard error of log loss at the target, root of its mean variance over mixtures and sets.
      error_after: the same with the runs.
      worst_before: the largest standard error of any mixture and set of the target.
      worst_after: the same with the runs.
      curve_cost: cost so far after every single run, in the order of buying.
      curve_error: standard error after every single run, in the same order.
      law_error_before: the law's own error of log loss at the target; NaN where no fit has measured it.
      law_error_after: the same with the runs.
      regret_before: expected regret of choosing among the target's mixtures, mean loss over sets in nats.
      regret_after: the same with the runs.
      tokens_saved: nats of mean loss that the cost of all runs would save as more tokens for the target.
      ladder: the sizes that were offered.
      target: where the prediction is asked for.
      domains: K names.
      notes: what to know about it, in plain words.
    """

    shape: str
    criterion: str
    recipe: Recipe
    counts: np.ndarray
    cost: np.ndarray
    error_before: float
    error_after: float
    worst_before: float
    worst_after: float
    curve_cost: np.ndarray
    curve_error: np.ndarray
    law_error_before: float
    law_error_after: float
    regret_before: float
    regret_after: float
    tokens_saved: float
    ladder: Ladder
    target: Target
    domains: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def _view(self) -> View:
        from camel_jax.views.plans import design_view

        return design_view(self)

    def to_frame(self) -> Any:
        """The runs to buy, one row a run in order, as a run table without losses, as a pandas DataFrame."""
        from camel_jax.views.plans import design_columns
        from camel_jax.views.view import to_frame

        return to_frame(design_columns(self))

    def plot(self, ax: Any = None, kind: str = "error") -> Any:
        """Expected standard error against the cost so far; with kind "mixtures" their map, "counts" runs by size. Returns the Axes."""
        from camel_jax.views.plans import plot_design

        return plot_design(self, ax, kind)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the runs to buy as a run table, CSV or Parquet by suffix."""
        from camel_jax.tables.write import write_columns

        write_columns(self.to_columns(), path)

    @property
    def total_cost(self) -> float:
        """Cost of all runs."""
        return float(self.counts @ self.cost)

    def runs_per_size(self) -> dict[str, int]:
        """Number of runs of every size of the ladder."""
        size = np.stack([self.recipe.n_total, self.recipe.n_active], 1)
        names = [self.ladder.name(r) for r in range(self.ladder.rungs)]
        firsts = [int(np.flatnonzero(self.ladder.rung == r)[0]) for r in range(self.ladder.rungs)]
        return {
            name: int(self.counts[(size == (self.ladder.n_total[i], self.ladder.n_active[i])).all(1)].sum())
            for name, i in zip(names, firsts, strict=True)
        }

    def to_columns(self, taken: Collection[str] = ()) -> dict[str, Any]:
        """A run table without losses, one row a run in the order of buying, as ``tables.write_columns`` takes it.

        Args:
          taken: names of the runs there are; numbers go on after those of earlier designs, so that no name is given twice.
        """
        numbers = [int(match[1]) for name in taken if (match := re.match(r"next-(\d{1,9})(?!\d)", name))]
        first = max(numbers, default=0) + 1
        row = np.repeat(np.arange(len(self.counts)), self.counts)
        r = select_recipe(self.recipe, row)
        width = max(3, len(str(first + len(row) - 1)))
        names = [format_size(t, a) for t, a in zip(r.n_total, r.n_active, strict=True)]
        table: dict[str, Any] = {"run": [f"next-{first + i:0{width}d}-{name}" for i, name in enumerate(names)]}
        table["size"] = r.n_active
        if np.any(r.n_total != r.n_active):
            table["size_total"] = r.n_total
        return table | {"tokens": r.tokens} | {f"mix/{d}": r.weights[:, k] for k, d in enumerate(self.domains)}

    def to_dict(self) -> dict[str, Any]:
        """The design as lists, numbers and text, ready for JSON."""
        numbers = ("error_before", "error_after", "worst_before", "worst_after", "law_error_before", "law_error_after")
        numbers += ("regret_before", "regret_after", "tokens_saved")
        return {
            "shape": self.shape,
            "criterion": self.criterion,
            "runs": int(self.counts.sum()),
            "runs_per_size": self.runs_per_size(),
            "cost": self.total_cost,
            **{name: float(getattr(self, name)) for name in numbers},
            "curve": {"cost": self.curve_cost.tolist(), "error": self.curve_error.tolist()},
            "notes": list(self.notes),
        }
