"""A process that trains runs one after the other: tasks as JSON lines on stdin, results as JSON lines on stdout.

Started by ``sweep`` as ``python -m camel_jax.proxy.worker CORPUS SETTINGS``. It ends when stdin does, or when nobody listens.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def environment() -> dict[str, str]:
    """The environment of a worker: the CPU, compiled programs shared, and one thread; threads that spin slow each other down."""
    import jax

    flags = os.environ.get("XLA_FLAGS", "").split()
    replaced = ("host_platform_device_count", "multi_thread_eigen", "intra_op_parallelism")
    kept = [flag for flag in flags if not any(name in flag for name in replaced)]
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    if folder := jax.config.values.get("jax_compilation_cache_dir"):
        one |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5"}
    return {**os.environ, **one, "XLA_FLAGS": " ".join([ONE_CORE, *kept]), "JAX_PLATFORMS": "cpu"}


def train_one(task: dict[str, Any], text: Any, settings: Any, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """One run from its task: continues from its snapshot, and writes one from time to time.

    Args:
      task: shape, weights, seed, steps, snapshot (a path), every (seconds between snapshots).
      text, settings: as in ``train``. tell: called with the progress of the run a few times.

    Returns:
      The outcome, loss curve and times as data for JSON.
    """
    import jax
    import numpy as np

    from camel_jax.proxy.model import Shape
    from camel_jax.proxy.snapshots import load_snapshot, save_snapshot
    from camel_jax.proxy.train import programs

    start, train, evaluate = programs(Shape(**task["shape"]), settings, False)
    weights, seed = np.asarray(task["weights"], np.float32), np.int32(task["seed"])
    total, state = task["steps"], start(seed)
    kept = load_snapshot(task["snapshot"], state)
    step, curve, before = 0, [], 0.0
    if kept is not None:
        state, note = kept
        step, curve, before = note["step"], note["curve"], note["seconds"]
    began = saved = time.monotonic()
    for stop in marks(total):
        if stop <= step:
            continue
        state = train(state, weights, seed, np.array([step, stop, total], np.int32), text)
        curve.append([stop, float(state.loss) / (stop - step)])
        step = stop
        tell({"step": step, "loss": curve[-1][1]})
        now = time.monotonic()
        if step < total and now - saved >= task["every"]:
            save_snapshot(task["snapshot"], state, {"step": step, "curve": curve, "seconds": before + now - began})
            saved = now
    trained = time.monotonic()
    outcome = jax.tree.map(lambda leaf: np.asarray(leaf, float).tolist(), evaluate(state.params, text))
    return {
        **outcome._asdict(),
        "curve": curve,
        "seconds": before + trained - began,
        "evaluation_seconds": time.monotonic() - trained,
    }


def marks(total: int, count: int = 20) -> list[int]:
    """Steps at which a run reports: about ``count``, the last of them ``total``.

    >>> marks(7, 3)
    [2, 5, 7]
    """
    return sorted({round(total * (i + 1) / count) for i in range(count)} - {0} | {total})


def main() -> None:
    """Train what stdin asks for."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: end without a traceback
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back while Python started
    corpus_path, settings_json = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints must not reach the results

    from camel_jax.proxy.corpus import load_corpus
    from camel_jax.proxy.train import Settings, place_text

    settings = Settings(**json.loads(settings_json))
    text = place_text(load_corpus(corpus_path), settings)

    def tell(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    try:
        for line in sys.stdin:
            task = json.loads(line)
            result = train_one(task, text, settings, lambda note, i=task["index"]: tell({"index": i, **note}))
            tell({"index": task["index"], "result": result})
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    main()
