"""Rounds of NUTS: short ones in shallow trees that find the posterior and measure it, and a long one whose draws are kept."""

from __future__ import annotations

import os

import jax
import numpy as np

from camel_jax.bayes.nuts import Progress, Samples, Settings, run_nuts
from camel_jax.bayes.priors import Layout
from camel_jax.bayes.whitening import Whitened, to_whitened, whiten_around
from camel_jax.types import Array

EXPLORE, LOOK = 3, 100  # rounds that only explore, and iterations of each that are looked at
POINTS = 24  # draws at which the curvature is measured


def in_rounds(
    plan: Layout,
    target: Whitened,
    key: Array,
    chains: int,
    draws: int,
    settings: Settings,
    *,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Samples, int]:
    """Draws of all chains after three short rounds that learn where the posterior lies and how steep it is there, and how many chains
    were stuck after a short round and began again elsewhere.

    Args:
      plan, target: the model and the first whitened coordinates. key: a ``jax.random`` key.
      chains, draws, settings: as in ``sample_posterior``, and so are resume and progress.
    """
    start_key, *keys = jax.random.split(key, EXPLORE + 2)
    u = 0.5 * np.asarray(jax.random.normal(start_key, (chains, len(target.mode))))
    total = (EXPLORE + 1) * settings.warmup + draws * settings.thin
    restarted, look = 0, min(LOOK, settings.warmup)

    def run(i: int, length: int, last: int = 0) -> Samples:
        def report(at: int, _: int) -> None:
            if progress is not None:
                progress(i * settings.warmup + at, total)

        return run_nuts(plan, target, keys[i], u, length, settings, last=last, resume=resume, progress=report)

    for i in range(EXPLORE):
        samples = run(i, 0, look)
        source = follow(samples.potential, len(target.mode))
        restarted += int(np.sum(source != np.arange(chains)))
        leading = np.unique(source)
        points = samples.z[leading][:, np.linspace(0, look - 1, -(-POINTS // len(leading))).round().astype(int)]
        target = whiten_around(plan, target.table, points.reshape(-1, points.shape[-1]))
        u = to_whitened(target, samples.z[source, -1 - np.arange(chains) * (source != np.arange(chains))])
    return run(EXPLORE, draws), restarted


def follow(potential: np.ndarray, size: int) -> np.ndarray:
    """Which chain each chain goes on from after a round that only explores: itself, unless it is stuck.

    A chain is stuck if its mean potential is above the lowest by more than half the number of parameters: a mode that far below
    in density would have to be 1.6 times as wide in every direction to matter.

    Args:
      potential: (C, N) of the round. size: number of parameters.

    Returns:
      (C,) indices of chains.

    >>> follow(np.array([[-10.0, -11.0], [30.0, 29.0], [-9.0, -12.0], [31.0, 28.0]]), 20).tolist()
    [0, 0, 2, 2]
    """
    level = np.mean(potential, axis=1)
    leading = np.flatnonzero(level <= level.min() + 0.5 * size)
    out = np.arange(len(level))
    stuck = np.setdiff1d(out, leading)
    out[stuck] = leading[np.arange(len(stuck)) % len(leading)]
    return out
