"""What a study shows: the runs it asks for, and its history as columns."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import numpy as np

from camel_jax.design.result import Design
from camel_jax.recipes.sizes import format_count, format_size
from camel_jax.study.ask import as_columns
from camel_jax.study.store import Asked, Snapshot
from camel_jax.views.view import Readable, Sheet, View, to_frame


@dataclasses.dataclass(frozen=True, repr=False)
class Proposal(Readable):
    """Runs that a study asks for; plain data.

    Attributes:
      runs: names, recipes and costs, in the order to buy them.
      domains: K names.
      design: what the new ones are expected to do; None where all are replicates.
      sentence: the same in words.

    >>> import tempfile
    >>> import camel_jax as cj
    >>> place = f"{tempfile.mkdtemp()}/study.db"
    >>> study = cj.Study(place, domains=["web", "code"], target="1B", ladder=["10M", "30M"], law="dml")
    >>> proposal = study.ask(1e17, max_runs=2)
    >>> list(proposal.to_columns()), len(proposal)
    (['run', 'size', 'tokens', 'mix/web', 'mix/code'], 2)
    """

    runs: tuple[Asked, ...]
    domains: tuple[str, ...]
    design: Design | None = None
    sentence: str = ""

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def total_cost(self) -> float:
        """Cost of all runs, in the study's unit."""
        return float(sum(run.cost for run in self.runs))

    def to_columns(self) -> dict[str, Any]:
        """A run table without losses, as ``sweep`` reads it."""
        return dict(as_columns(list(self.runs), self.domains))

    def to_frame(self) -> Any:
        """The runs as a run table without losses, as a pandas DataFrame."""
        return to_frame(self.to_columns())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the runs as a run table without losses, CSV or Parquet by suffix."""
        from camel_jax.tables.write import write_columns

        write_columns(self.to_columns(), path)

    def _view(self) -> View:
        columns: dict[str, Any] = {"run": [run.run for run in self.runs]}
        columns["size"] = [format_size(run.n_total, run.n_active) for run in self.runs]
        columns["tokens"] = [format_count(run.tokens) for run in self.runs]
        columns |= {d: [run.weights[k] for run in self.runs] for k, d in enumerate(self.domains)}
        if any(run.replicates for run in self.runs):
            columns["replicates"] = [run.replicates for run in self.runs]
        title = f"{len(self.runs)} runs for {self.total_cost:.3g}"
        notes = ([self.sentence] if self.sentence else []) + list(self.design.notes if self.design else ())
        return View(title, {}, (Sheet("in the order of buying", columns),), notes)


def history_columns(now: Snapshot, domains: tuple[str, ...]) -> dict[str, Any]:
    """Every run of a study, a row a checkpoint, and a row for a run without one."""
    rows: list[tuple[Asked, Any]] = []
    for run in now.runs:
        told = [one for one in now.results if one.run == run.run]
        rows += [(run, one) for one in told] or [(run, None)]
    recipes = [run if one is None else one for run, one in rows]

    def utc(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else ""

    def numbers(kind: str) -> dict[str, Any]:
        names = dict.fromkeys(name for one in now.results for name in getattr(one, kind))
        word = {"losses": "loss", "accuracies": "acc"}[kind]
        return {
            f"{word}/{name}": np.array(
                [np.nan if one is None else getattr(one, kind).get(name, np.nan) for _, one in rows]
            )
            for name in names
        }

    return {
        "run": [run.run for run, _ in rows],
        "ask": np.array([run.ask for run, _ in rows], int),
        "state": [run.state for run, _ in rows],
        "replicates": [run.replicates for run, _ in rows],
        "size": np.array([one.n_active for one in recipes], float),
        "size_total": np.array([one.n_total for one in recipes], float),
        "tokens": np.array([one.tokens for one in recipes], float),
        "cost": np.array([run.cost for run, _ in rows], float),
        **{f"mix/{d}": np.array([one.weights[k] for one in recipes], float) for k, d in enumerate(domains)},
        **numbers("losses"),
        **numbers("accuracies"),
        "asked": [utc(run.asked) for run, _ in rows],
        "told": ["" if one is None else utc(one.told) for _, one in rows],
    }
