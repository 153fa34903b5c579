"""Pareto-smoothed importance sampling (Vehtari et al. 2024, arXiv 1507.02646): weights that are safe to use, and k-hat, which says when
they are not.

The largest weights are replaced by quantiles of a generalised Pareto distribution fitted to them; its shape k-hat tells how many
moments the weights have. Below 0.7 estimates are reliable; above, the approximation misses a part that matters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from camel_jax.types import Array


class Smoothed(NamedTuple):
    """Smoothed weights.

    Attributes:
      log_weights: (M,), normalised to sum to 1. k_hat: shape of the tail; infinite where there are too few draws to tell.
    """

    log_weights: np.ndarray
    k_hat: float


def fit_pareto(excess: Array) -> tuple[float, float]:
    """Shape k and scale of a generalised Pareto distribution (Zhang and Stephens 2009, with a weak prior k ~ 0.5).

    Args:
      excess: (n,) values above a threshold, all positive.
    """
    x = np.sort(np.asarray(excess, float))
    n, m = len(x), 30 + int(np.sqrt(len(x)))
    grid = (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * x[int(n / 4 + 0.5) - 1]) + 1.0 / x[-1]
    shape = np.mean(np.log1p(-grid[:, None] * x), axis=1)
    like = n * (np.log(-grid / shape) - shape - 1.0)
    weight = np.exp(like - like.max())
    theta = np.sum(grid * weight) / np.sum(weight)
    k = np.mean(np.log1p(-theta * x))
    return float((k * n + 0.5 * 10) / (n + 10)), float(-k / theta)


def smooth(log_weights: Array) -> Smoothed:
    """Pareto-smooth log importance weights (M,).

    >>> even = smooth(np.zeros(100))
    >>> float(np.exp(even.log_weights).sum().round(6))
    1.0
    """
    logs = np.asarray(log_weights, float)
    logs = np.where(np.isfinite(logs), logs, -np.inf)
    logs = logs - logs.max()
    n_tail = int(min(0.2 * len(logs), 3.0 * np.sqrt(len(logs))))
    k = float("inf")
    if n_tail >= 5:
        order = np.argsort(logs, kind="stable")
        tail, cut = order[-n_tail:], logs[order[-n_tail - 1]]
        excess = np.exp(logs[tail]) - np.exp(cut)
        if excess[0] > 0 and excess[-1] > excess[0]:
            k, scale = fit_pareto(excess)
            at = (np.arange(n_tail) + 0.5) / n_tail
            quantiles = scale * np.expm1(-k * np.log1p(-at)) / k if abs(k) > 1e-9 else -scale * np.log1p(-at)
            logs = logs.copy()
            logs[tail] = np.minimum(np.log(quantiles + np.exp(cut)), 0.0)
        else:
            k = float("-inf")  # no tail at all: equal weights
    total = logs.max() + np.log(np.sum(np.exp(logs - logs.max())))
    return Smoothed(logs - total, k)
