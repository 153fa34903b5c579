"""A planted table of many domains: sparse mixtures around a natural one, a law of a few skills, noise of runs and sets."""

from __future__ import annotations

import numpy as np

from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs

SIZES, PARTS = (3e7, 1e8, 3e8), (0.6, 0.3, 0.1)


def planted(n_domains: int, n_runs: int, n_sets: int, seed: int = 0, skills: int = 6, one_size: bool = False) -> Runs:
    """A table of ``n_runs`` runs, each of its own mixture; by default of three sizes, six tenths of the runs at the smallest."""
    rng = np.random.default_rng(seed)
    natural = rng.dirichlet(np.full(n_domains, 0.8))
    mixtures = rng.gamma(np.maximum(natural * n_domains * 0.7, 0.02), size=(n_runs, n_domains))
    mixtures /= mixtures.sum(1, keepdims=True)
    sizes = np.full(n_runs, SIZES[0]) if one_size else np.repeat(SIZES, _counts(n_runs))
    tokens = np.full(n_runs, 5e9) if one_size else 20.0 * sizes * np.tile([1.0, 2.0], n_runs)[:n_runs]
    transfer = rng.dirichlet(np.full(skills, 0.4), size=n_domains)
    alpha, beta = 0.12 * np.exp(0.2 * rng.standard_normal(skills)), 0.22 * np.exp(0.2 * rng.standard_normal(skills))
    demand = mixtures @ transfer
    log_m = (np.log(demand * alpha) - np.log((demand * alpha).sum(1, keepdims=True))) / (1 + alpha)
    log_m += np.log(sizes / SIZES[0])[:, None]
    p = 1.4
    held, seen = np.exp(-alpha * log_m), (demand * tokens[:, None] / 1e9) ** -beta
    left = (held**p + seen**p) ** (1 / p)
    read = rng.dirichlet(np.full(skills, 0.5), size=n_sets)
    losses = (1.0 + rng.random(n_sets)) + left @ (1.5 * read.T)
    losses = losses * np.exp(0.003 * rng.standard_normal(losses.shape))
    return Runs(
        Recipe(sizes, sizes, tokens, mixtures),
        losses,
        np.zeros((n_runs, 0)),
        np.arange(n_runs),
        tuple(f"d{i}" for i in range(n_domains)),
        tuple(f"v{i}" for i in range(n_sets)),
        (),
        tuple(f"run{i}" for i in range(n_runs)),
    )


def _counts(n_runs: int) -> list[int]:
    few = [round(part * n_runs) for part in PARTS[1:]]
    return [n_runs - sum(few), *few]
