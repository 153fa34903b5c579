"""How far a sweep has come, in tokens and in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from camel_jax.proxy.jobs import Job
from camel_jax.proxy.train import Settings

Progress = Callable[[int, int], None]


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
        self._steps = {job.row: job.steps if job.row in found else 0 for job in jobs}
        self._old = sum(self._steps.values()) * self._a_step
        self._finished, self._rows = len(found), len(jobs)
        self._progress, self._tell, self._began = progress, tell, time.monotonic()
        if tell is not None and found:
            tell(f"{len(found)} of {len(jobs)} rows were there already")

    def update(self, job: Job, step: int) -> None:
        """A job has come this far."""
        self._steps[job.row] = step
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
