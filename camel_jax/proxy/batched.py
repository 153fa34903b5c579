"""Many runs of one shape and budget in one compiled program, sharded over the devices there are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from camel_jax.proxy.model import Shape
from camel_jax.proxy.snapshots import load_snapshot, save_snapshot
from camel_jax.proxy.train import Settings, Text, programs
from camel_jax.proxy.worker import marks


def train_lanes(
    shape: Shape,
    settings: Settings,
    weights: np.ndarray,
    seeds: np.ndarray,
    steps: int,
    text: Text,
    *,
    snapshot: str | os.PathLike[str] | None = None,
    every: float = 60.0,
    width: int = 0,
    tell: Callable[[int], Any] | None = None,
) -> list[dict[str, Any]]:
    """Train runs that differ in mixture and seed together.

    Args:
      shape, settings, text: as in ``train``. weights: (n, K). seeds: (n,). steps: of each.
      snapshot: file to continue from and to write every so many seconds. width: lanes of the program, at least n; those to
        spare, and as many as the devices need to share evenly, repeat the last run.
      tell: called with the steps done.

    Returns:
      Per run the outcome, loss curve and its share of the seconds, as data for JSON.
    """
    devices = jax.devices()
    mesh = jax.sharding.Mesh(np.array(devices), ("runs",))
    split, everywhere = NamedSharding(mesh, PartitionSpec("runs")), NamedSharding(mesh, PartitionSpec())
    count = len(weights)
    lanes = -(-max(width, count) // len(devices)) * len(devices)
    index = np.minimum(np.arange(lanes), count - 1)
    start, train, evaluate = programs(shape, settings, True)
    shares, numbers = jax.device_put((np.asarray(weights, np.float32)[index], seeds.astype(np.int32)[index]), split)
    text = jax.device_put(text, everywhere)
    state = jax.device_put(start(numbers), split)
    step, curves, before = 0, [[] for _ in range(count)], 0.0
    kept = None if snapshot is None else load_snapshot(snapshot, state)
    if kept is not None:
        state, note = jax.device_put(kept[0], split), kept[1]
        step, curves, before = note["step"], note["curves"], note["seconds"]
    began = saved = time.monotonic()
    for stop in marks(steps):
        if stop <= step:
            continue
        state = train(state, shares, numbers, np.array([step, stop, steps], np.int32), text)
        for curve, loss in zip(curves, np.asarray(state.loss, float)[:count].tolist(), strict=True):
            curve.append([stop, loss / (stop - step)])
        step = stop
        if tell is not None:
            tell(step)
        now = time.monotonic()
        if snapshot is not None and step < steps and now - saved >= every:
            save_snapshot(snapshot, state, {"step": step, "curves": curves, "seconds": before + now - began})
            saved = now
    trained = time.monotonic()
    outcome = jax.tree.map(lambda leaf: np.asarray(leaf, float)[:count].tolist(), evaluate(state.params, text))
    seconds, evaluation = (before + trained - began) / count, (time.monotonic() - trained) / count
    rows = zip(outcome.losses, outcome.accuracies, outcome.answers, curves, strict=True)
    return [
        {"losses": losses, "accuracies": accuracies, "answers": answers, "curve": curve}
        | {"seconds": seconds, "evaluation_seconds": evaluation}
        for losses, accuracies, answers, curve in rows
    ]
