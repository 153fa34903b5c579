"""Many tables fitted in one process: tables of one shape share their programs, and their lanes are solved together."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.fitting.fit import asking_fit
from camel_jax.fitting.lanes import one_blas_thread
from camel_jax.fitting.plan import Progress
from camel_jax.fitting.result import Fit, load_fit
from camel_jax.fitting.together import solve_together
from camel_jax.laws.law import Law
from camel_jax.recipes.brief import brief_repr
from camel_jax.runtime import forget_programs, require_float64
from camel_jax.storage import ArchiveError
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import Runs
from camel_jax.tables.write import rows_to_frame
from camel_jax.types import Array

TOGETHER = 64  # tables whose lanes are solved together, at most
GROWTH, LEAST = 1.25, 16  # of the numbers of rows that tables are padded to
FEW_ROWS = 796  # most rows of a padded table that begins on all of its rows: see ``joint_newton.Schedule.large``

Table = Runs | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class ManyFits:
    """Fits of many tables.

    Attributes:
      fits: by name, of the tables that could be fitted.
      errors: by name, why one could not.
      rows: by name, what ``frame`` tells of each table.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> tables = {f"t{i}": simulate.study(jax.random.key(i), n_domains=2, n_mixtures=6, sizes=(1e7, 1e8)) for i in range(2)}
    >>> many = cj.fit_many(cj.laws.chinchilla(), tables, key=jax.random.key(9), starts=1, backtests=0)
    >>> sorted(many.fits), many.frame().shape[0]
    (['t0', 't1'], 2)
    """

    fits: dict[str, Fit]
    errors: dict[str, str]
    rows: dict[str, dict[str, Any]]

    __repr__ = brief_repr

    def frame(self) -> Any:
        """One row a table, as a pandas DataFrame: sizes of the table, objective, how the starts ended, errors, and what went wrong."""
        return rows_to_frame(self.rows, "table")


def fit_many(
    law: Law,
    tables: Mapping[str, Table] | Sequence[Table],
    *,
    key: Array,
    together: int = TOGETHER,
    columns: Mapping[str, str | None] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> ManyFits:
    """Fit a law to many tables: as ``fit`` one by one, with shared programs and their lanes solved together.

    Tables are padded to one of few numbers of rows. A table that cannot be read or fitted stops no other: its error is a row.

    Args:
      law: a law, such as ``laws.camel()``.
      tables: tables, or paths of run tables, by name or in a sequence (whose names are "0", "1", ...).
      key: a ``jax.random`` key, the same for every table.
      together: tables whose lanes are solved together, at most; bounds the memory.
      columns: names of columns of tables that are read, as for ``read_runs``.
      resume: folder in which finished fits are kept and looked for; None for none.
      progress: called as ``progress(tables done, tables in all)``.
      options: as for ``fit``, such as ``resamples``, ``starts`` or ``backtests``.

    Returns:
      ``ManyFits``.

    Raises:
      TypeError: an option that ``fit`` does not have.
      ValueError: float64 is off.

    >>> import jax
    >>> from camel_jax import laws
    >>> from camel_jax.evaluation import simulate
    >>> good = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(1e7, 1e8))
    >>> many = fit_many(laws.chinchilla(), {"good": good, "bad": "no-such-table.csv"}, key=jax.random.key(1), starts=2)
    >>> list(many.fits), list(many.errors), many.frame().shape[0]
    (['good'], ['bad'], 2)
    """
    require_float64("fitting")
    named = dict(tables) if isinstance(tables, Mapping) else {str(i): table for i, table in enumerate(tables)}
    fits: dict[str, Fit] = {}
    errors: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {name: {} for name in named}
    read: dict[str, Runs] = {}
    for name, table in named.items():
        try:
            read[name] = table if isinstance(table, Runs) else read_runs(table, columns=columns)
        except (ValueError, OSError) as error:
            errors[name] = _first_line(error)
    folder = None if resume is None else pathlib.Path(resume)
    settings = (law.name, law.settings, sorted(options.items(), key=str), np.asarray(_key_data(key)).tolist())
    where = {name: None if folder is None else folder / f"{_digest(settings, runs)}.npz" for name, runs in read.items()}

    def finish(name: str, fit: Fit, seconds: float | None) -> None:
        fits[name] = fit
        rows[name] = _row(fit, read[name]) | ({} if seconds is None else {"seconds": seconds})
        if progress is not None:
            progress(len(fits) + len(errors), len(named))

    def fail(name: str, error: BaseException) -> None:
        errors[name] = _first_line(error)
        if progress is not None:
            progress(len(fits) + len(errors), len(named))

    waiting = []
    for name, path in where.items():
        found = _kept(path)
        if found is None:
            waiting.append(name)
        else:
            finish(name, found, None)
    waiting.sort(key=lambda name: _shape(read[name]))
    for low in range(0, len(waiting), together):
        forget_programs()
        begin = time.perf_counter()
        asking: dict[str, Any] = {}
        answers: dict[str, Any] = {}
        done: dict[str, Fit] = {}
        for name in waiting[low : low + together]:
            runs = read[name]
            asking[name] = asking_fit(law, runs, key=key, **{"pad_rows": padded_rows(len(runs)), **options})
            answers[name] = None
        while asking:
            requests = {}
            with one_blas_thread():  # on matrices of some tens of rows, threads only wait for each other
                for name, work in list(asking.items()):
                    try:
                        requests[name] = work.send(answers[name])
                    except StopIteration as end:
                        done[name] = end.value
                        del asking[name]
                    except Exception as error:  # whatever is wrong with one table is a row of its own
                        fail(name, error)
                        del asking[name]
            answers = dict(zip(requests, solve_together(list(requests.values())), strict=True))
        seconds = (time.perf_counter() - begin) / max(len(done), 1)
        for name, fit in done.items():
            if (path := where[name]) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                fit.save(path)
            finish(name, fit, seconds)
    for name, error in errors.items():
        rows[name] = {"law": law.name, "error": error}
    return ManyFits({name: fits[name] for name in named if name in fits}, errors, rows)


def padded_rows(rows: int) -> int:
    """The number of rows that a table is padded to: one of a ladder whose rungs are a quarter apart.

    >>> padded_rows(60), padded_rows(64), padded_rows(5)
    (64, 76, 16)
    """
    size = float(LEAST)
    while round(size) < rows:
        size *= GROWTH
    rungs = -(-round(size) // 4) * 4
    return max(rows, min(rungs, FEW_ROWS)) if rows <= FEW_ROWS else max(rows, rungs)


def _shape(runs: Runs) -> tuple[int, ...]:
    return len(runs.domains), len(runs.sets), padded_rows(len(runs))


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _key_data(key: Array) -> Any:
    import jax

    return jax.random.key_data(key) if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def _digest(settings: Any, runs: Runs) -> str:
    """Name of a kept fit: all that it depends on."""
    import jax

    out = hashlib.sha256(repr((settings, jax.__version__, runs.domains, runs.sets)).encode())
    for leaf in jax.tree.leaves(runs):
        out.update(np.ascontiguousarray(leaf).tobytes())
    return out.hexdigest()[:32]


def _kept(path: pathlib.Path | None) -> Fit | None:
    """A fit that was kept; None where there is none, or none that can be read."""
    if path is None or not path.exists():
        return None
    try:
        return load_fit(path)
    except (ArchiveError, OSError):
        return None


def _row(fit: Fit, runs: Runs) -> dict[str, Any]:
    """What is told of one fit."""
    tests = fit.backtests
    return {
        "law": fit.law.name,
        "runs": len(np.unique(runs.run)),
        "rows": len(runs),
        "domains": len(runs.domains),
        "sets": len(runs.sets),
        "objective": float(np.nanmin(fit.objective)),
        "status": fit.check(),
        "residual": float(np.mean(np.asarray(fit.discrepancy.scale))),
        "held_out_error": float(tests[-1].mean_relative_error) if tests else float("nan"),
        "error": "",
    }
