"""Accuracies of the largest proxies predicted end to end, from mixtures: python benchmarks/proxy_accuracy.py.

CAMEL and the benchmark law are fitted to the rows of camel_jax/data/proxy_runs.csv below its largest size; recipes at that size are
mapped to losses and losses to accuracies, with nothing measured there. Beside it: the same benchmark law given the measured losses,
and the accuracy of the same mixture at the next smaller size. Writes benchmarks/results/proxy_accuracy.json.
"""

from __future__ import annotations

import json

import numpy as np
from make_proxy_table import ROOT, TABLE, current_commit

from camel_jax.runtime import start_engine
from camel_jax.storage import replacing

RESULT = ROOT / "benchmarks" / "results" / "proxy_accuracy.json"


def main() -> None:
    """Fit, predict, compare and write."""
    commit = current_commit()
    start_engine()
    import jax

    from camel_jax import accuracy_interval, fit_accuracies, laws, read_runs, split_by_scale
    from camel_jax.fitting import fit

    runs = read_runs(TABLE, on_ignored=lambda names: None)
    below, above = split_by_scale(runs)
    benchmarks = fit_accuracies(below, key=jax.random.key(1))
    fitted = fit(laws.camel(), below, key=jax.random.key(0), starts=2, resamples=16).with_benchmarks(benchmarks)
    interval = accuracy_interval(fitted, above.recipe)
    measured = above.accuracies
    predictions = {
        "from mixtures": np.asarray(interval.point),
        "from measured losses": np.asarray(benchmarks.predict(above.losses)),
        "same mixture, next smaller size": same_mixture(below, above),
    }
    usable = np.flatnonzero(benchmarks.usable)
    inside = (measured >= np.asarray(interval.low)) & (measured <= np.asarray(interval.high))
    result = {
        "commit": commit,
        "jax": jax.__version__,
        "held_out": len(above),
        "flags": benchmarks.flags,
        "mean_absolute_error_points": {
            name: {task: round(100 * float(np.abs(p - measured)[:, t].mean()), 2) for t, task in enumerate(runs.tasks)}
            | {
                "tasks with signal": round(100 * float(np.abs(p - measured)[:, usable].mean()), 2),
                "their mean": round(100 * float(np.abs((p - measured)[:, usable].mean(1)).mean()), 2),
            }
            for name, p in predictions.items()
        },
        "inside_90_percent": round(float(inside[:, usable].mean()), 3),
        "binomial_noise_points": round(100 * float(np.sqrt(measured * (1 - measured) / 240).mean()), 2),
    }
    print(json.dumps(result, indent=1))
    with replacing(RESULT) as part:
        part.write_text(json.dumps(result, indent=1) + "\n")


def same_mixture(below, above) -> np.ndarray:
    """Accuracies (R, T) of the largest fitted run, longest trained, with the nearest mixture."""
    size, tokens = np.asarray(below.recipe.n_active), np.asarray(below.recipe.tokens)
    rows = np.flatnonzero((size == size.max()) & (tokens == tokens.max()))
    apart = np.abs(np.asarray(above.recipe.weights)[:, None] - np.asarray(below.recipe.weights)[rows]).sum(2)
    return below.accuracies[rows[apart.argmin(1)]]


if __name__ == "__main__":
    main()
