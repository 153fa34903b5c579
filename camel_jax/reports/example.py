"""A folder of small tables to play with, cut from the table that comes with the package."""

from __future__ import annotations

import csv
import pathlib
from typing import Any

import numpy as np

from camel_jax.storage import replacing

N_RECIPES = 6
N_ITEMS = 240  # questions of every task of the package's table
CHOICES = {"brackets": 3}  # answers to choose from; four elsewhere
LIMITS = """\
# Limits on a mixture, for camel-jax mix, front, path and budget: --limits limits.toml
# A share is a fraction of the training tokens; all shares sum to 1.

[min]                        # at least
math = 0.05
"prose+language" = 0.25      # a limit on a sum of shares

[max]                        # at most
code = 0.3

# [supply]                   # unique tokens there are of a domain; max_epochs says how often they may be repeated
# knowledge = "200K"
"""


def write_example(folder: pathlib.Path) -> dict[str, str]:
    """Write a run table without its largest size, recipes to predict, tasks and limits.

    Args:
      folder: new or empty.

    Returns:
      What each file is, by its name.

    Raises:
      ValueError: the folder has something in it, or is a file.
    """
    from camel_jax.reports.demo import package_table
    from camel_jax.tables.runs import scales, select
    from camel_jax.tables.write import write_columns, write_runs

    check_empty(folder)
    table = package_table()
    table = select(table, table.recipe.n_total == table.recipe.n_active)  # the dense models
    largest = np.asarray(table.recipe.n_active) == scales(table)[-1]
    folder.mkdir(exist_ok=True)
    write_runs(select(table, ~largest), folder / "runs.csv")
    held = select(table, np.flatnonzero(largest)[:N_RECIPES])
    write_columns(recipe_columns(held), folder / "recipes.csv")
    with replacing(folder / "tasks.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "n_choices", "n_items"])
        writer.writerows([task, CHOICES.get(task, 4), N_ITEMS] for task in table.tasks)
    with replacing(folder / "limits.toml") as part:
        part.write_text(LIMITS, encoding="utf-8")
    return {
        "runs.csv": f"{int((~largest).sum())} runs of tiny language models, one a row, without the largest size",
        "recipes.csv": f"{len(held)} recipes of the largest size, to predict",
        "tasks.csv": "answers to choose from and questions of each task",
        "limits.toml": "limits on a mixture",
    }


def check_empty(folder: pathlib.Path) -> None:
    """A folder that can be filled without overwriting anything.

    Raises:
      ValueError: it is a file, has something in it, or lies in a folder that is not there.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty, and nothing is overwritten: name a new folder")
    if not folder.parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.parent}")


def recipe_columns(table: Any) -> dict[str, Any]:
    """Recipes of runs as columns: name, size, tokens, shares."""
    names = [table.run_names[i] for i in np.asarray(table.run)]
    shares = np.asarray(table.recipe.weights)
    columns = {"run": names, "size": table.recipe.n_active, "tokens": table.recipe.tokens}
    return columns | {f"mix/{name}": shares[:, k] for k, name in enumerate(table.domains)}
