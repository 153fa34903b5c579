"""Run tables: CSV, Parquet and DataFrame <-> ``Runs``. Outside data is checked here, once, and nowhere else.

================  ===================================================================  ==========
column            meaning                                                              required
================  ===================================================================  ==========
run               run id; one row is one checkpoint of a run                           yes
size              active parameters: a count, or "122M", or "7B-A150M" (both)          yes
size_total        total parameters, when ``size`` gives the active ones alone          no
tokens            training tokens seen at this checkpoint: a count, or "30B"           yes
mix/<domain>      share of a training domain; the shares of a row sum to 1             yes
loss/<set>        validation loss, nats per token; blank = not measured                yes
acc/<task>        benchmark accuracy in [0, 1]; blank = not measured                   no
supply/<domain>   unique tokens there are of a domain; blank = as many as one needs    no
================  ===================================================================  ==========
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.tables.schema import Checked
from camel_jax.tables.sheet import Problem, Sheet, Source, TableError, load_sheet, rename

if TYPE_CHECKING:
    pass


def read_runs(
    source: Source,
    *,
    columns: Mapping[str, str | None] | None = None,
    name: str | None = None,
    on_ignored: Callable[[list[str]], None] | None = None,
    need_mixtures: bool = True,
) -> Runs:
    """Read a table of runs and check it.

    Args:
      source: path of a ``.csv``, ``.tsv`` or ``.parquet`` file, or a DataFrame; CSV with commas, semicolons or tabs.
      columns: names of a foreign table -> names of the schema, such as ``{"n_params": "size", "val_*": "loss/*"}``;
        ``*`` stands for any text; None drops a column.
      name: what to call the table in messages, the file name by default.
      on_ignored: called with the names of columns that are no part of the schema, if there are any.
      need_mixtures: whether a table without ``mix/`` columns is refused; one that tells accuracies from losses needs none.

    Returns:
      ``Runs`` with float64 numpy arrays; losses and accuracies that were not measured are NaN, never filled in.

    Raises:
      TableError: the table breaks the schema; every bad row is in the one message.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"run": ["a", "b"], "size": ["70M", "1.2e9"], "tokens": ["2B", "30B"],
    ...                       "mix/web": [0.75, 0.5], "mix/code": [0.25, 0.5], "loss/web": [3.1, 2.4]})
    >>> runs = read_runs(frame)
    >>> runs.domains, runs.recipe.n_active.tolist()
    (('web', 'code'), [70000000.0, 1200000000.0])
    """
    return _to_runs(rename(load_sheet(source, name), columns), on_ignored, need_mixtures)


def _to_runs(sheet: Sheet, on_ignored: Callable[[list[str]], None] | None = None, need_mixtures: bool = True) -> Runs:
    table = Checked(sheet, need_losses=True, need_mixtures=need_mixtures)
    table.finish(on_ignored)
    return Runs(
        table.recipe(table.domains),
        np.stack([table.values[f"loss/{s}"] for s in table.sets], -1),
        np.stack([table.values[f"acc/{t}"] for t in table.tasks], -1) if table.tasks else np.zeros((table.n_rows, 0)),
        table.run_index,
        table.domains,
        table.sets,
        table.tasks,
        table.run_names,
    )


def read_recipes(
    source: Source,
    *,
    domains: Sequence[str] | None = None,
    columns: Mapping[str, str | None] | None = None,
    name: str | None = None,
    on_ignored: Callable[[list[str]], None] | None = None,
) -> tuple[Recipe, list[str]]:
    """Read recipes to predict: the run table without its losses.

    Args:
      source: path of a file, or a DataFrame, as in ``read_runs``.
      domains: the domains of the fit, in its order; the table must have exactly these. None takes the table's own.
      columns: names of a foreign table -> names of the schema, as in ``read_runs``.
      name: what to call the table in messages, the file name by default.
      on_ignored: called with the names of columns that are no part of the schema, if there are any.

    Returns:
      (recipe with leading axis R, run ids).

    Raises:
      TableError: as ``read_runs``.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"run": ["next"], "size": ["590M-A12M"], "tokens": ["30B"],
    ...                       "mix/b": [0.4], "mix/a": [0.6]})
    >>> recipe, ids = read_recipes(frame, domains=("a", "b"))
    >>> recipe.weights.tolist(), recipe.n_active.tolist(), ids
    ([[0.6, 0.4]], [12000000.0], ['next'])
    """
    sheet = rename(load_sheet(source, name), columns)
    table = Checked(sheet, need_losses=False)
    if domains is not None and table.domains:
        absent = [d for d in domains if d not in table.domains]
        unknown = [d for d in table.domains if d not in domains]
        if absent:
            table.problem(
                "", "no column " + ", ".join(f"'mix/{d}'" for d in absent) + ", a domain of the fit; write 0 shares"
            )
        if unknown:
            table.problem("", "column " + ", ".join(f"'mix/{d}'" for d in unknown) + " is no domain of the fit")
    table.finish(on_ignored)
    return table.recipe(table.domains if domains is None else tuple(domains)), table.run_ids


def read_mixtures(
    source: Source, *, columns: Mapping[str, str | None] | None = None, name: str | None = None
) -> dict[str, np.ndarray]:
    """Mixtures alone: the ``mix/<domain>`` columns of a table, whatever else it has.

    Returns:
      domain -> shares (R,), rows on the simplex.

    Raises:
      TableError: as ``read_runs``.

    >>> import pandas as pd
    >>> read_mixtures(pd.DataFrame({"mix/web": [0.75], "mix/code": [0.25]}))
    {'web': array([0.75]), 'code': array([0.25])}
    """
    sheet = rename(load_sheet(source, name), columns)
    keep = [i for i, column in enumerate(sheet.names) if column.startswith("mix/")]
    if keep:  # without one, the message names the columns that there are
        sheet = sheet._replace(names=[sheet.names[i] for i in keep], cells=[sheet.cells[i] for i in keep])
    table = Checked(sheet, only_mixtures=True)
    table.finish()
    return {domain: table.values[f"mix/{domain}"] for domain in table.domains}


def read_header(source: Source, *, columns: Mapping[str, str | None] | None = None) -> list[str]:
    """Names of the columns of a table, mapped as in ``read_runs``.

    >>> import pandas as pd
    >>> read_header(pd.DataFrame({"run": ["a"], "share": [1.0]}), columns={"share": "mix/web"})
    ['run', 'mix/web']
    """
    return rename(load_sheet(source, None), columns).names


def read_whole_numbers(
    source: Source, column: str, default: int, *, columns: Mapping[str, str | None] | None = None
) -> list[int]:
    """A column of whole numbers from 0 to 2^31 - 1 that is no part of the schema, such as seeds.

    Args:
      source, columns: as in ``read_runs``. column: its name. default: stands for every row if there is no such column.

    Raises:
      TableError: a cell is blank or holds anything else.

    >>> import pandas as pd
    >>> read_whole_numbers(pd.DataFrame({"seed": [3, 4]}), "seed", 0)
    [3, 4]
    """
    sheet = rename(load_sheet(source, None), columns)
    if column not in sheet.names:
        return [default] * len(sheet.rows)
    cells = sheet.cells[sheet.names.index(column)]
    numbers, bad = [], []
    for row, cell in zip(sheet.rows, cells, strict=True):
        text = str(cell).strip().removesuffix(".0")
        if text.isdecimal() and text.isascii() and int(text) < 2**31:
            numbers.append(int(text))
        else:
            bad.append(row)
    if bad:
        raise TableError(sheet.source, [Problem(column, tuple(bad), "must be a whole number from 0 to 2147483647")])
    return numbers
