"""Where the mixtures of a table lie: their bounds and hull, how far others are from them, and whether any of them mixes domains."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from camel_jax.types import Array

UNMIXED = 0.99  # share from which on a run counts as one of a single domain


class Away(NamedTuple):
    """How far mixtures lie from the measured ones, as Euclidean distances of the shares.

    Attributes:
      hull: (M,) to the convex hull of the measured mixtures; 0 inside.
      nearest: (M,) to the nearest measured mixture.
    """

    hull: np.ndarray
    nearest: np.ndarray


def none_mix(mixtures: Array) -> bool:
    """Whether there are several domains and no mixture of several among these, (G, K).

    >>> none_mix([[1.0, 0.0], [0.0, 1.0]]), none_mix([[0.5, 0.5], [0.0, 1.0]])
    (True, False)
    """
    shares = np.asarray(mixtures)
    return bool(shares.shape[1] > 1 and shares.max(1).min() > UNMIXED)


def thin(mixtures: np.ndarray, most: int) -> np.ndarray:
    """At most so many of mixtures (G, K), spread over their order, with those of the smallest and largest share of every domain."""
    ends = np.unique([mixtures.argmin(0), mixtures.argmax(0)])[:most]
    others = np.setdiff1d(np.arange(len(mixtures)), ends)
    spread = np.linspace(0, len(others) - 1, min(most - len(ends), len(others))).round().astype(int)
    return mixtures[np.sort(np.concatenate([ends, others[spread]]))]


def within_measured(fit: Any) -> dict[str, tuple[float, float]]:
    """Smallest and largest measured share of every domain of a fit, for a decision that is to keep to them.

    Args:
      fit: the fit.

    Returns:
      What :func:`camel_jax.mixture.limits.parse_limits` and the decisions take as ``measured``.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> {name: (round(low, 3), round(high, 3)) for name, (low, high) in within_measured(fitted).items()}
    {'d0': (0.017, 0.815), 'd1': (0.185, 0.983)}
    """
    shares = np.asarray(fit.discrepancy.mixtures, float)
    return dict(zip(fit.domains, zip(shares.min(0).tolist(), shares.max(0).tolist(), strict=True), strict=True))


def away_from(mixtures: Array, weights: Array) -> Away:
    """How far mixtures lie from measured ones.

    The nearest point of a hull to w is found by nonnegative least squares: of |sum_g a_g (m_g - w)|^2 + (sum_g a_g - 1)^2 over
    a >= 0 the minimum is that point, once a is scaled to add up to 1.

    Args:
      mixtures: (G, K) the measured ones.
      weights: (K,) or (M, K) others.

    >>> corners = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    >>> away = away_from(corners, [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> away.hull.round(4).tolist(), away.nearest.round(4).tolist()
    ([0.0, 1.2247], [0.7071, 1.4142])
    """
    from scipy.optimize import nnls

    known, others = np.asarray(mixtures, float), np.atleast_2d(np.asarray(weights, float))
    hull, nearest = np.zeros(len(others)), np.zeros(len(others))
    for i, w in enumerate(others):
        apart = known - w
        nearest[i] = np.sqrt((apart**2).sum(1).min())
        share = nnls(np.vstack([apart.T, np.ones(len(known))]), np.append(np.zeros(len(w)), 1.0))[0]
        hull[i] = min(float(np.linalg.norm(share @ apart / share.sum())), nearest[i])
    return Away(np.where(hull < 1e-9, 0.0, hull), nearest)
