"""Tables joined by the names of their columns and runs, tables with something left out, and what a table leaves open."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.expression import matching_rows
from camel_jax.tables.runs import Runs, count_mixtures, select
from camel_jax.tables.sheet import broken, listed_names


def concat(tables: Mapping[str, Runs] | Sequence[Runs]) -> Runs:
    """One table of several, joined by name: a domain that a table does not have has share 0 there, a set or task is not measured.

    Args:
      tables: the tables; with names, runs are called ``<table>/<run>``.

    Raises:
      TableError: no table, or two runs of one name with rows of the same tokens; the message names them.

    >>> import dataclasses
    >>> import numpy as np
    >>> from camel_jax.recipes.recipe import dense
    >>> a = Runs(dense([1e7], [1e9], [[1.0]]), np.ones((1, 1)), np.ones((1, 0)), np.zeros(1, int), ("web",), ("web",), (), ("r",))
    >>> b = dataclasses.replace(a, domains=("code",), sets=("code",))
    >>> both = concat({"a": a, "b": b})
    >>> both.domains, both.run_names, np.asarray(both.losses).tolist()
    (('web', 'code'), ('a/r', 'b/r'), [[1.0, nan], [nan, 1.0]])
    """
    named = list(tables.items()) if isinstance(tables, Mapping) else [("", table) for table in tables]
    if not named:
        raise broken("concat", "there is no table to join")
    domains, sets, tasks = (
        tuple(dict.fromkeys(name for _, table in named for name in getattr(table, kind)))
        for kind in ("domains", "sets", "tasks")
    )
    limited = any(table.recipe.supply is not None for _, table in named)
    names: dict[str, int] = {}
    parts: list[tuple[Any, ...]] = []
    for label, table in named:
        own = table.run_names or tuple(str(i) for i in range(int(np.max(table.run, initial=-1)) + 1))
        ids = np.array([names.setdefault(f"{label}/{name}" if label else name, len(names)) for name in own], int)
        r = table.recipe
        supply = None
        if limited:
            given = np.full(np.shape(r.weights), np.inf) if r.supply is None else r.supply
            given = np.broadcast_to(np.asarray(given, float), np.shape(r.weights))
            supply = _spread(given, table.domains, domains, np.inf)
        parts.append(
            (
                *(np.asarray(x, float) for x in (r.n_total, r.n_active, r.tokens)),
                _spread(r.weights, table.domains, domains, 0.0),
                supply,
                _spread(table.losses, table.sets, sets, np.nan),
                _spread(table.accuracies, table.tasks, tasks, np.nan),
                ids[np.asarray(table.run)],
            )
        )
    total, active, tokens, weights, supply, losses, accuracies, run = (
        None if columns[0] is None else np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    out = Runs(
        Recipe(total, active, tokens, weights, supply), losses, accuracies, run, domains, sets, tasks, tuple(names)
    )
    _check_runs(out)
    return out


def _spread(values: Any, own: Sequence[str], names: Sequence[str], default: float) -> np.ndarray:
    """Columns put where their names stand in a longer list."""
    values = np.asarray(values, float)
    out = np.full((len(values), len(names)), default)
    out[:, [list(names).index(name) for name in own]] = values
    return out


def _check_runs(runs: Runs) -> None:
    """Refuse two rows of one run at the same tokens, and one run with two sizes or mixtures."""
    rows = np.stack([np.asarray(runs.run, float), np.asarray(runs.recipe.tokens, float)], 1)
    _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    twice = sorted({runs.run_names[int(np.asarray(runs.run)[i])] for i in first[counts > 1]})
    fixed = np.column_stack([np.log(np.asarray(runs.recipe.n_active, float)), np.asarray(runs.recipe.weights, float)])
    at = np.unique(np.asarray(runs.run), return_index=True)[1][np.asarray(runs.run)]
    changed = np.abs(fixed - fixed[at]).max(1) > 1e-6
    twice += sorted({runs.run_names[i] for i in np.asarray(runs.run)[changed]} - set(twice))
    if twice:
        raise broken(
            "concat",
            f"{listed_names(twice)}: runs of one name in several tables; give the tables names, as in concat({{'a': a, 'b': b}})",
        )


def without(runs: Runs, rows: Any = (), names: Any = (), sets: Any = (), tasks: Any = ()) -> Runs:
    """The table without some rows, runs, sets or tasks; see ``Runs.drop``."""
    names, sets, tasks = ((x,) if isinstance(x, str) else tuple(x) for x in (names, sets, tasks))
    for what, wanted, there in (("run", names, runs.run_names), ("set", sets, runs.sets), ("task", tasks, runs.tasks)):
        missing = [name for name in wanted if name not in there]
        if missing:
            raise broken("drop", f"no {what} {listed_names(missing)}; there are {listed_names(there[:30])}")
    keep = np.ones(len(runs), bool)
    if isinstance(rows, str):
        keep &= ~matching_rows(rows, runs)
    elif np.size(rows):
        rows = np.asarray(rows)
        keep[np.flatnonzero(rows) if rows.dtype == bool else rows] = False
    gone = {runs.run_names.index(name) for name in names}
    keep &= ~np.isin(np.asarray(runs.run), list(gone))
    kept_sets, kept_tasks = (
        [i for i, n in enumerate(own) if n not in x] for own, x in ((runs.sets, sets), (runs.tasks, tasks))
    )
    narrow = dataclasses.replace(
        runs,
        losses=np.asarray(runs.losses)[:, kept_sets],
        accuracies=np.asarray(runs.accuracies)[:, kept_tasks],
        sets=tuple(runs.sets[i] for i in kept_sets),
        tasks=tuple(runs.tasks[i] for i in kept_tasks),
    )
    return select(narrow, keep)


def open_questions(runs: Runs) -> tuple[str, ...]:
    """What a table cannot tell, whatever the law, in sentences."""
    if not len(runs):
        return ("the table has no rows",)
    notes = []
    size, tokens = np.asarray(runs.recipe.n_active, float), np.asarray(runs.recipe.tokens, float)
    sizes = len(np.unique(size))
    if sizes == 1:
        notes.append("one model size: what size is worth cannot be told")
    elif sizes == 2:
        notes.append("two model sizes: no size can be held out to test a prediction of larger ones")
    if len(np.unique(tokens)) == 1:
        notes.append("one token count: what tokens are worth cannot be told")
    elif sizes > 1 and follows_size(runs, tokens):
        notes.append("tokens change only with model size: what each is worth cannot be told apart")
    notes += spanned(runs)
    mixtures, domains = count_mixtures(runs), len(runs.domains)
    if mixtures <= domains:
        notes.append(f"{mixtures} distinct mixtures of {domains} domains: fewer than a linear law needs")
    same = {}
    for i, row in enumerate(np.asarray(runs.recipe.weights, float).round(3)):
        same.setdefault((size[i], tokens[i], *row), set()).add(int(np.asarray(runs.run)[i]))
    if not any(len(found) > 1 for found in same.values()):
        notes.append("no recipe was run twice: the noise between runs is known only from what a law leaves")
    unmeasured = [
        s for s, x in zip(runs.sets, np.isfinite(np.asarray(runs.losses, float)).T, strict=True) if not x.any()
    ]
    if unmeasured:
        notes.append(f"never measured: {listed_names(unmeasured)}")
    return tuple(notes)


def spanned(runs: Runs) -> list[str]:
    """A note where the mixtures leave directions of the simplex unexplored, or no note."""
    mixtures = np.asarray(runs.recipe.weights, float)
    rank = np.linalg.matrix_rank(mixtures - mixtures.mean(0), tol=1e-6 * max(len(mixtures), 1) ** 0.5)
    if rank >= len(runs.domains) - 1:
        return []
    never = [d for d, s in zip(runs.domains, mixtures.std(0), strict=True) if s < 1e-9]
    what = f"; {', '.join(never)} never vary" if never else ""
    return [f"the mixtures span {rank} of {len(runs.domains) - 1} directions of the simplex{what}"]


def follows_size(runs: Runs, values: Any, slack: float = 0.02) -> bool:
    """Whether a column is, but for ``slack`` in log, a power of active size, over at least two sizes."""
    size, values = (np.log(np.asarray(x, float)) for x in (runs.recipe.n_active, values))
    if len(np.unique(size)) < 2:
        return False
    design = np.column_stack([np.ones_like(size), size])
    residuals = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return bool(np.abs(residuals).max() < slack)
