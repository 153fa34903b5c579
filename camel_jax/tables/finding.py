"""One thing that looks wrong in a table, and the words for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from camel_jax.recipes.sizes import format_count
from camel_jax.tables.runs import Runs


class Finding(NamedTuple):
    """One thing that looks wrong.

    Attributes:
      kind: which rule it is: "outlier", "diverged", "early", "swapped", "units", "losses", "constant", "duplicate",
        "shuffled", "rises", "shifted" or "few".
      column: of the table, such as "loss/web"; "" for all.
      rows: indices of the rows.
      text: evidence and rule in one sentence.
    """

    kind: str
    column: str
    rows: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        return f"column {self.column!r}: {self.text}" if self.column else self.text


def named_rows(runs: Runs, rows: Any, most: int = 3) -> str:
    """Rows in words: run and tokens."""
    rows = np.atleast_1d(rows)
    names = [
        f"run {runs.run_names[run] if runs.run_names else run} at {format_count(float(tokens))} tokens"
        for run, tokens in zip(
            np.asarray(runs.run)[rows[:most]], np.asarray(runs.recipe.tokens)[rows[:most]], strict=True
        )
    ]
    return ", ".join(names) + (f" and {len(rows) - most} more" if len(rows) > most else "")
