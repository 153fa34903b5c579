"""From a table of recipes to a table of runs.

On an accelerator the runs of one shape and budget train together in one compiled program, lanes sharded over the devices; on a CPU,
where that is slower, worker processes train one run at a time, one worker a core. Either way mixtures, seeds and budgets are
arguments of the programs and compile nothing again. Finished rows and trainings under way are kept in a folder, so that a sweep
that was stopped goes on from there to the same numbers.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from camel_jax.proxy.corpus import Corpus
from camel_jax.proxy.jobs import Job, make_jobs
from camel_jax.proxy.machine import count_cores, describe_machine
from camel_jax.proxy.meter import Meter, Progress
from camel_jax.proxy.rows import train_apart, train_together
from camel_jax.proxy.snapshots import SUFFIX, load_row, save_row
from camel_jax.proxy.train import Settings
from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.storage import locked
from camel_jax.tables.runs import Runs


class Sweep(NamedTuple):
    """What a sweep measured.

    Attributes:
      runs: the table, rows in the order of the recipes; sizes and tokens as they were trained.
      seeds: seed of each row, (R,).
      curves: per row, (steps so far, mean training loss since the entry before).
      record: versions, device, settings, corpus, and the seconds of every row, as data for JSON.
    """

    runs: Runs
    seeds: np.ndarray
    curves: list[list[tuple[int, float]]]
    record: dict[str, Any]

    __repr__ = brief_repr


def sweep(
    recipe: Recipe,
    names: Sequence[str],
    corpus: Corpus,
    folder: str | os.PathLike[str],
    *,
    seeds: Sequence[int] | None = None,
    settings: Settings | None = None,
    resume: bool = False,
    workers: int | None = None,
    method: str = "auto",
    lanes: int = 64,
    every: float = 60.0,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Sweep:
    """Train every recipe and measure its losses and accuracies.

    Args:
      recipe: recipes with leading axis R, shares in the order of the corpus's domains; each size is trained as the
        nearest model of the ladder.
      names: run ids, R. Rows of one run at several token counts are trained apart, each to the end of a schedule of its own.
      corpus: text and benchmarks.
      folder: where finished rows and snapshots are kept; made if absent.
      seeds: of parameters and order of the data, R; zeros by default. Rows with one seed are comparable in pairs.
      settings: how to train.
      resume: go on with what ``folder`` holds; without it the folder must hold no rows.
      workers: processes on a CPU, one a core by default.
      method: "lanes" (together), "workers", or "auto" by the device.
      lanes: most runs trained together.
      every: seconds between snapshots of a training under way.
      progress: called with tokens done and tokens in all.
      tell: called with a line on each finished row.

    Raises:
      ValueError: recipes that cannot be trained, or a folder with rows and no ``resume``.
      RuntimeError: a worker died.

    >>> import numpy as np
    >>> from camel_jax.proxy.train import Settings
    >>> import tempfile
    >>> from camel_jax.proxy.corpus import build_corpus
    >>> corpus = build_corpus(("math", "knowledge"), domain_bytes=20_000, items=10)
    >>> two = Recipe(*np.array([[6224.0, 6224.0], [6224.0, 6224.0], [8e3, 8e3]]), np.array([[0.25, 0.75], [0.5, 0.5]]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = sweep(two, ["a", "b"], corpus, folder, settings=Settings(batch=4, context=32), method="lanes")
    >>> made.runs.run_names, made.runs.losses.shape, made.runs.recipe.tokens.tolist()
    (('a', 'b'), (2, 2), [7936.0, 7936.0])
    """
    settings = (settings or Settings()).resolved()
    if method not in ("auto", "lanes", "workers"):
        raise ValueError(f"method {method!r} is none of auto, lanes, workers")
    if method == "auto":
        method = "workers" if jax.default_backend() == "cpu" else "lanes"
    jobs = make_jobs(recipe, names, seeds, corpus, settings, method)
    home = pathlib.Path(folder)
    with locked(home):
        found = _open_folder(home, jobs, resume, corpus)
        waiting = sorted((job for job in jobs if job.row not in found), key=lambda job: (job.shape.n_active, job.steps))
        meter = Meter(jobs, found, settings, progress, tell)
        if waiting:
            if method == "workers":
                count = min(workers or count_cores(), len(waiting))
                results = train_apart(waiting, corpus, settings, home, count, every, meter.update)
            else:
                results = train_together(waiting, jobs, corpus, settings, home, lanes, every, meter.update)
            for job, row in results:
                save_row(home / f"{job.key}{SUFFIX}", row, job.key)
                (home / f"{job.key}.training").unlink(missing_ok=True)
                found[job.row] = row
                meter.finished(job, row)
    rows = [found[job.row] for job in jobs]
    return _collect(jobs, rows, corpus, settings, method)


def _open_folder(home: pathlib.Path, jobs: list[Job], resume: bool, corpus: Corpus) -> dict[int, dict[str, Any]]:
    home.mkdir(parents=True, exist_ok=True)
    for stale in home.glob(".*-*"):  # temporary files of a process that was killed
        stale.unlink(missing_ok=True)
    if list(home.glob("*.json")):
        raise ValueError(f"{home} holds rows of an earlier version of this package: remove the folder")
    if not resume and (old := len(list(home.glob(f"*{SUFFIX}")))):
        raise ValueError(f"{home} holds {old} finished rows of an earlier sweep: resume it, or remove the folder")
    sizes = len(corpus.domains), len(corpus.tasks)
    rows = {job.row: load_row(home / f"{job.key}{SUFFIX}", job.key, *sizes) for job in jobs}
    return {index: row for index, row in rows.items() if row is not None}


def _collect(jobs: list[Job], rows: list[dict[str, Any]], corpus: Corpus, settings: Settings, method: str) -> Sweep:
    a_step = settings.batch * settings.context
    tasks = tuple(sorted(corpus.tasks))
    tokens = np.array([job.steps * a_step for job in jobs], float)
    names = list(dict.fromkeys(job.run for job in jobs))
    runs = Runs(
        Recipe(
            np.array([job.shape.n_total for job in jobs], float),
            np.array([job.shape.n_active for job in jobs], float),
            tokens,
            np.array([job.weights for job in jobs]),
        ),
        np.round(np.array([row["losses"] for row in rows]), 5),
        np.round(np.array([row["accuracies"] for row in rows]).reshape(len(rows), len(tasks)), 5),
        np.array([names.index(job.run) for job in jobs]),
        corpus.domains,
        corpus.domains,
        tasks,
        tuple(names),
    )
    record = {
        **describe_machine(),
        "method": method,
        "settings": dataclasses.asdict(settings),
        "corpus": corpus.record,
        "tokens": int(tokens.sum()),
        "seconds": round(sum(row["seconds"] + row["evaluation_seconds"] for row in rows), 1),
        "runs": [
            {
                "run": job.run,
                "seed": job.seed,
                "tokens": job.steps * a_step,
                "shape": dataclasses.asdict(job.shape),
                "seconds": round(row["seconds"], 3),
                "tokens_per_second": round(job.steps * a_step / max(row["seconds"], 1e-9)),
                "evaluation_seconds": round(row["evaluation_seconds"], 3),
                "nats_of_right_answers": {t: round(value, 4) for t, value in zip(tasks, row["answers"], strict=True)},
            }
            for job, row in zip(jobs, rows, strict=True)
        ],
    }
    curves = [[(int(step) * a_step, float(loss)) for step, loss in row["curve"]] for row in rows]
    return Sweep(runs, np.array([job.seed for job in jobs]), curves, record)
