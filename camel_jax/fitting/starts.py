"""Random starts of a fit: their keys, and which of them count once they are solved."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from camel_jax.solvers.minimize import Solution
from camel_jax.types import Array


@partial(jax.jit, static_argnums=1)
def seeds(key: Array, starts: int) -> tuple[Array, Array, Array]:
    """Keys of the starts, the key of the resamples, and the seed of the errors of draws."""
    start_key, resample_key, error_key = jax.random.split(key, 3)
    return jax.random.split(start_key, starts), resample_key, jax.random.randint(error_key, (), 0, 2**31 - 1)


def good_starts(values: np.ndarray, tolerance: float = 0.005) -> np.ndarray:
    """Indices of starts whose objective is finite and within a fraction of the best; chosen by the objective only."""
    values = np.where(np.isfinite(values), values, np.inf)
    best = values.min()
    return np.flatnonzero(values <= best + tolerance * max(abs(best), 1e-12))


def some_lanes(raw: Any, index: Any) -> Any:
    """Lanes of parameters, on the host: an eager gather of every leaf would be a program of its own."""
    return jax.tree.map(lambda x: np.asarray(x)[index], raw)


def best_first(solution: Solution, starts: int, n_sets: int) -> tuple[Solution, np.ndarray]:
    """Starts of a separable law ranked within each set, so that start 0 holds the best of every set."""
    by_set = np.asarray(solution.objective).reshape(starts, n_sets)
    rank = np.argsort(np.where(np.isfinite(by_set), by_set, np.inf), axis=0, kind="stable")
    pick = rank, np.arange(n_sets)[None, :]
    flat = [np.asarray(x).reshape(starts, n_sets)[pick].reshape(-1) for x in solution[1:]]
    return Solution(some_lanes(solution.params, pick), *flat), flat[0].reshape(starts, n_sets).sum(1)
