"""Rows of a sweep as they finish: from worker processes that train one run each, or from lanes that train together."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from camel_jax.proxy.batched import train_lanes
from camel_jax.proxy.corpus import Corpus, save_corpus
from camel_jax.proxy.jobs import Job
from camel_jax.proxy.model import Shape
from camel_jax.proxy.train import Settings, place_text
from camel_jax.proxy.worker import environment


def train_apart(
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
    with _no_interrupt():
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
                    "index": job.row,
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


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back from processes that are started meanwhile; a worker lets it through when it can end without a traceback."""
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def train_together(
    waiting: list[Job],
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
    for job in waiting:
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
