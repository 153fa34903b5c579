"""What is known of a benchmark task before any model runs it: its chance level and its number of items."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from camel_jax.recipes.brief import brief_repr


class Task(NamedTuple):
    """What is known of a task before any model runs it.

    Attributes:
      chance: accuracy of guessing, in [0, 1); NaN if not known.
      n_items: number of items; NaN if not known.
    """

    chance: float = math.nan
    n_items: float = math.nan

    __repr__ = brief_repr


def read_tasks(path: str | Path) -> dict[str, Task]:
    """Read a table of tasks: columns ``task`` and any of ``chance``, ``n_choices``, ``n_items``.

    ``random_baseline`` and ``n_items_listed`` are accepted too. Without a chance level, it is one over the choices.

    Args:
      path: a CSV file.

    Returns:
      Task by name.

    Raises:
      ValueError: no ``task`` column, a repeated task, text where a number belongs, or a number out of range.

    >>> from pathlib import Path
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "tasks.csv"
    ...     _ = path.write_text("task,n_choices,n_items\\nqa,4,1000\\n")
    ...     read_tasks(path)
    {'qa': Task(chance=0.25, n_items=1000.0)}
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if "task" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: a table of tasks needs a column 'task', found {reader.fieldnames}")
        tasks: dict[str, Task] = {}
        for line, row in enumerate(reader, 2):

            def number(*columns: str, row: dict = row, line: int = line) -> float:
                for column in columns:
                    text = (row.get(column) or "").strip()
                    if text:
                        try:
                            return float(text)
                        except ValueError:
                            raise ValueError(
                                f"{path}, line {line}, column {column}: {text!r} is not a number"
                            ) from None
                return math.nan

            name = (row["task"] or "").strip()
            if name in tasks:
                raise ValueError(f"{path}, line {line}: task {name!r} is listed twice")
            chance, choices = number("chance", "random_baseline"), number("n_choices")
            if math.isnan(chance) and choices >= 1:
                chance = 1 / choices
            items = number("n_items", "n_items_listed")
            if not (math.isnan(chance) or 0 <= chance < 1) or items < 1:
                raise ValueError(f"{path}, line {line}: chance must lie in [0, 1) and n_items be at least 1")
            tasks[name] = Task(chance, items)
    return tasks
