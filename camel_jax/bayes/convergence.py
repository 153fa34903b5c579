"""Whether draws can be relied on: R-hat, effective sample size and divergences of chains, k-hat of importance weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from scipy.stats import norm, rankdata

from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.types import Array


class Smoothed(NamedTuple):
    """Pareto-smoothed importance weights.

    Attributes:
      log_weights: (M,), normalised to sum to 1. k_hat: shape of the tail, below 0.7 where estimates are reliable; infinite where
        there are too few draws to tell, minus infinity where the largest weights are equal.
    """

    log_weights: np.ndarray
    k_hat: float


def smooth(log_weights: Array) -> Smoothed:
    """Replace the largest of log importance weights (M,) by quantiles of a generalised Pareto distribution fitted to them.

    Vehtari et al. 2024, arXiv 1507.02646.

    Raises:
      ImportError: ArviZ, an optional extra, is not installed.

    >>> even = smooth(np.zeros(100))
    >>> float(np.exp(even.log_weights).sum().round(6)), even.k_hat
    (1.0, -inf)
    """
    try:
        from arviz_stats.base import array_stats
    except ImportError as error:
        raise ImportError("importance weights need ArviZ: pip install 'camel-jax[bayes]'") from error
    logs = np.asarray(log_weights, float)
    logs = np.where(np.isfinite(logs), logs, -np.inf)
    logs = logs - logs.max()
    n_tail = int(min(0.2 * len(logs), 3.0 * np.sqrt(len(logs))))
    cut, *tail = np.exp(np.sort(logs)[-n_tail - 1 :])
    if n_tail >= 5 and cut < tail[0] < tail[-1]:
        smoothed, k = array_stats.psislw(-logs)  # it takes log likelihoods, and weighs by their inverses
        return Smoothed(np.asarray(smoothed), float(k))
    return Smoothed(logs - np.log(np.sum(np.exp(logs))), float("inf") if n_tail < 5 else float("-inf"))


def rank_normalized(draws: Array) -> np.ndarray:
    """Normal scores of the ranks of draws (C, N, ...) over all chains (Blom's offset)."""
    draws = np.asarray(draws, float)
    flat = draws.reshape(draws.shape[0] * draws.shape[1], -1)
    ranks = rankdata(flat, axis=0)
    return norm.ppf((ranks - 0.375) / (len(flat) + 0.25)).reshape(draws.shape)


def r_hat(draws: Array) -> np.ndarray:
    """Rank-normalised split R-hat of draws (C, N, ...): the larger of that of the draws and that of their spread."""
    draws = np.asarray(draws, float)
    folded = np.abs(draws - np.median(draws, axis=(0, 1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.maximum(*(split_gelman_rubin(rank_normalized(x)) for x in (draws, folded)))


def ess(draws: Array) -> tuple[np.ndarray, np.ndarray]:
    """Effective sample sizes of draws (C, N, ...): of the bulk, and the smaller of those of the 5 % and 95 % tails."""
    draws = np.asarray(draws, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        bulk = effective_sample_size(_split(rank_normalized(draws)))
        tails = [
            effective_sample_size(_split((draws <= np.quantile(draws, q, axis=(0, 1))).astype(float)))
            for q in (0.05, 0.95)
        ]
    return np.asarray(bulk), np.minimum(*tails)


def diagnose(draws: Mapping[str, Array], diverging: Array, at_depth: Array) -> Diagnostics:
    """Diagnostics of NUTS.

    Args:
      draws: named parameters, (C, N, ...). diverging, at_depth: (C, N) bool, iterations that diverged or were cut short.
    """
    names = [name for name, x in draws.items() for _ in range(int(np.prod(np.shape(x)[2:], dtype=int)))]
    flat = np.concatenate([np.asarray(x).reshape(*np.shape(x)[:2], -1) for x in draws.values()], axis=2)
    agreed, (bulk, tail) = r_hat(flat), ess(flat)
    worst = int(np.argmax(np.where(np.isfinite(agreed), agreed, np.inf)))
    return Diagnostics(
        "nuts",
        flat.shape[0],
        flat.shape[1],
        float(agreed[worst]),
        float(bulk.min()),
        float(tail.min()),
        int(np.sum(diverging)),
        float(np.mean(at_depth)),
        worst=names[worst],
    )


def _split(draws: np.ndarray) -> np.ndarray:
    """Every chain as two halves."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])
