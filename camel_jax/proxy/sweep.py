"""From a table of recipes to a table of runs.

On an accelerator the runs of one shape and budget train together in one compiled program, lanes sharded over the devices; on a CPU,
where that is slower, worker processes train one run at a time, one worker a core. Either way mixtures, seeds and budgets are
arguments of the programs and compile nothing again. Finished rows and trainings under way are kept in a folder, so that a sweep
that was stopped goes on from there to the same numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from camel_jax.proxy.batched import train_lanes
from camel_jax.proxy.corpus import Corpus, save_corpus
from camel_jax.proxy.machine import count_cores, describe_machine
from camel_jax.proxy.model import Shape, find_shape
from camel_jax.proxy.snapshots import SUFFIX, load_row, save_row
from camel_jax.proxy.train import Settings, place_text
from camel_jax.proxy.worker import environment
from camel_jax.recipes.recipe import Recipe
from camel_jax.storage import locked
from camel_jax.tables.runs import Runs

Progress = Callable[[int, int], None]


class Sweep(NamedTuple):
    """What a sweep measured.

    Attributes:
      runs: the table, rows in the order of the recipes; sizes and tokens as they were trained.
      seeds: seed of each row, (R,). curves: per row, (steps so far, mean training loss since the entry before).
      record: versions, device, settings, corpus, and the seconds of every row, as data for JSON.
    """

    runs: Runs
    seeds: np.ndarray
    curves: list[list[tuple[int, float]]]
    record: dict[str, Any]


class Job(NamedTuple):
    """One row to train. ``key`` names it on disk: all that its numbers depend on, hashed."""

    index: int
    run: str
    shape: Shape
    weights: tuple[float, ...]
    seed: int
    steps: int
    key: str


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
      recipe: recipes with leading axis R, shares in the order of the corpus's domains; sizes of the ladder (within 2 %).
      names: run ids, R. Rows of one run at several token counts are trained apart, each to the end of a schedule of its own.
      corpus: text and benchmarks.
      folder: where finished rows and snapshots are kept; made if absent.
      seeds: of parameters and order of the data, R; zeros by default. Rows with one seed are comparable in pairs.
      settings: how to train. resume: go on with what ``folder`` holds; without it the folder must hold no rows.
      workers: processes on a CPU, one a core by default. method: "lanes" (together), "workers", or "auto" by the device.
      lanes: most runs trained together. every: seconds between snapshots of a training under way.
      progress: called with tokens done and tokens in all. tell: called with a line on each finished row.

    Raises:
      ValueError: recipes that cannot be trained, or a folder with rows and no ``resume``.
      RuntimeError: a worker died.
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
        left = sorted((job for job in jobs if job.index not in found), key=lambda job: (job.shape.n_active, job.steps))
        meter = Meter(jobs, found, settings, progress, tell)
        if left:
            if method == "workers":
                count = min(workers or count_cores(), len(left))
                results = _train_apart(left, corpus, settings, home, count, every, meter.update)
            else:
                results = _train_together(left, jobs, corpus, settings, home, lanes, every, meter.update)
            for job, row in results:
                save_row(home / f"{job.key}{SUFFIX}", row, job.key)
                (home / f"{job.key}.training").unlink(missing_ok=True)
                found[job.index] = row
                meter.finished(job, row)
    rows = [found[job.index] for job in jobs]
    return _collect(jobs, rows, corpus, settings, method)


def find_shapes(recipe: Recipe, names: Sequence[str], settings: Settings) -> list[Shape]:
    """The model of every recipe; all recipes that cannot be trained are in the one message.

    Raises:
      ValueError: a size that is not on the ladder, or two rows of one run with the same steps.
    """
    shapes: list[Shape] = []
    wrong: dict[str, list[str]] = {}
    seen: set[tuple[str, int]] = set()
    sizes = zip(np.asarray(recipe.n_active), np.asarray(recipe.n_total), np.asarray(recipe.tokens), strict=True)
    for name, (active, total, tokens) in zip(names, sizes, strict=True):
        try:
            shapes.append(find_shape(float(active), float(total)))
        except ValueError as error:
            wrong.setdefault(str(error), []).append(name)
        if (name, steps := settings.steps(float(tokens))) in seen:
            wrong.setdefault(f"two rows of one run have {steps} steps", []).append(name)
        seen.add((name, steps))
    if wrong:
        parts = [f"run {', '.join(runs[:3])}{' ...' if len(runs) > 3 else ''}: {rule}" for rule, runs in wrong.items()]
        raise ValueError("; ".join(parts))
    return shapes


def make_jobs(
    recipe: Recipe,
    names: Sequence[str],
    seeds: Sequence[int] | None,
    corpus: Corpus,
    settings: Settings,
    method: str = "workers",
) -> list[Job]:
    """Jobs of all recipes.

    Raises:
      ValueError: see ``sweep``.
    """
    given = [0] * len(names) if seeds is None else [int(seed) for seed in seeds]
    weights = np.asarray(recipe.weights, float)
    if weights.shape != (len(names), len(corpus.domains)) or len(given) != len(names):
        raise ValueError(
            f"{len(names)} recipes of {len(corpus.domains)} domains do not match shares of shape {weights.shape}"
        )
    common = json.dumps([dataclasses.asdict(settings), method, corpus.record], sort_keys=True)
    jobs = []
    for i, shape in enumerate(find_shapes(recipe, names, settings)):
        shape = dataclasses.replace(shape, symbols=len(corpus.alphabet))
        steps, shares = settings.steps(float(np.asarray(recipe.tokens)[i])), tuple(weights[i].tolist())
        what = json.dumps([common, dataclasses.asdict(shape), shares, given[i], steps])
        jobs.append(Job(i, names[i], shape, shares, given[i], steps, hashlib.sha256(what.encode()).hexdigest()[:24]))
    return jobs


def _open_folder(home: pathlib.Path, jobs: list[Job], resume: bool, corpus: Corpus) -> dict[int, dict[str, Any]]:
    home.mkdir(parents=True, exist_ok=True)
    for stale in home.glob(".*-*"):  # temporary files of a process that was killed
        stale.unlink(missing_ok=True)
    if list(home.glob("*.json")):
        raise ValueError(f"{home} holds rows of an earlier version of this package: remove the folder")
    if not resume and (old := len(list(home.glob(f"*{SUFFIX}")))):
        raise ValueError(f"{home} holds {old} finished rows of an earlier sweep: resume it, or remove the folder")
    sizes = len(corpus.domains), len(corpus.tasks)
    rows = {job.index: load_row(home / f"{job.key}{SUFFIX}", job.key, *sizes) for job in jobs}
    return {index: row for index, row in rows.items() if row is not None}


class Meter:
    """Progress of a sweep in tokens, and a line on each finished row."""

    def __init__(
        self,
        jobs: list[Job],
        found: dict[int, Any],
        settings: Settings,
        progress: Progress | None,
        tell: Callable[[str], None] | None,
    ):
        self._a_step = settings.batch * settings.context
        self._total = sum(job.steps for job in jobs) * self._a_step
        self._steps = {job.index: job.steps if job.index in found else 0 for job in jobs}
        self._old = sum(self._steps.values()) * self._a_step
        self._finished, self._rows = len(found), len(jobs)
        self._progress, self._tell, self._began = progress, tell, time.monotonic()
        if tell is not None and found:
            tell(f"{len(found)} of {len(jobs)} rows were there already")

    def update(self, job: Job, step: int) -> None:
        """A job has come this far."""
        self._steps[job.index] = step
        if self._progress is not None:
            self._progress(sum(self._steps.values()) * self._a_step, self._total)

    def finished(self, job: Job, row: dict[str, Any]) -> None:
        """A row is there."""
        self.update(job, job.steps)
        self._finished += 1
        if self._tell is None:
            return
        done = sum(self._steps.values()) * self._a_step
        pace = (done - self._old) / max(time.monotonic() - self._began, 1e-9)
        loss = float(np.mean(row["losses"]))
        self._tell(
            f"[{self._finished}/{self._rows}] {job.run}: {job.shape.n_active} active parameters, {job.steps * self._a_step} tokens,"
            f" mean loss {loss:.4f}; {pace:,.0f} tokens/s, {(self._total - done) / max(pace, 1.0) / 60:.1f} min left"
        )


def _train_apart(
    jobs: list[Job],
    corpus: Corpus,
    settings: Settings,
    home: pathlib.Path,
    count: int,
    every: float,
    update: Callable[[Job, int], None],
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Rows as they finish, out of worker processes."""
    place_text(corpus, settings)  # too little text is told here, once
    text = home / "corpus.text"
    save_corpus(corpus, text)
    command = [sys.executable, "-m", "camel_jax.proxy.worker", str(text), json.dumps(dataclasses.asdict(settings))]
    package = str(pathlib.Path(__file__).parents[2])
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [package, env.get("PYTHONPATH")]))
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    news: queue.SimpleQueue[tuple[Job | None, dict[str, Any]]] = queue.SimpleQueue()
    workers = [
        subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for _ in range(count)
    ]

    def serve(worker: subprocess.Popen[str]) -> None:
        assert worker.stdin is not None and worker.stdout is not None
        try:
            while True:
                job = todo.get_nowait()
                task = {
                    "index": job.index,
                    "shape": dataclasses.asdict(job.shape),
                    "weights": job.weights,
                    "every": every,
                }
                task |= {"seed": job.seed, "steps": job.steps, "snapshot": str(home / f"{job.key}.training")}
                worker.stdin.write(json.dumps(task) + "\n")
                while True:
                    line = worker.stdout.readline()
                    if not line:
                        raise BrokenPipeError
                    message = json.loads(line)
                    news.put((job, message))
                    if "result" in message:
                        break
        except queue.Empty:
            return
        except (BrokenPipeError, OSError, ValueError):
            news.put((None, {}))

    threads = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in workers]
    try:
        for thread in threads:
            thread.start()
        rows = 0
        while rows < len(jobs):
            job, message = news.get()
            if job is None:
                raise RuntimeError("a training process died; its own words are above")
            if "result" in message:
                rows += 1
                yield job, message["result"]
            else:
                update(job, message["step"])
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()
        text.unlink(missing_ok=True)


def _train_together(
    left: list[Job],
    every_job: list[Job],
    corpus: Corpus,
    settings: Settings,
    home: pathlib.Path,
    lanes: int,
    every: float,
    update: Callable[[Job, int], None],
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Rows of one shape and budget at a time, trained as lanes of one program, as wide as if nothing were finished yet."""
    text = place_text(corpus, settings)
    groups: dict[tuple[Shape, int], list[Job]] = {}
    for job in left:
        groups.setdefault((job.shape, job.steps), []).append(job)
    widths = Counter((job.shape, job.steps) for job in every_job)
    for (shape, steps), members in groups.items():
        for first in range(0, len(members), lanes):
            group = members[first : first + lanes]
            name = hashlib.sha256("".join(job.key for job in group).encode()).hexdigest()[:24]
            snapshot = home / f"{name}.training"
            results = train_lanes(
                shape,
                settings,
                np.array([job.weights for job in group], np.float32),
                np.array([job.seed for job in group], np.int32),
                steps,
                text,
                snapshot=snapshot,
                every=every,
                width=min(lanes, widths[shape, steps]),
                tell=lambda step, group=group: [update(job, step) for job in group],
            )
            yield from zip(group, results, strict=True)
            snapshot.unlink(missing_ok=True)


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
