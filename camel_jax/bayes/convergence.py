"""Whether the chains agree: R-hat, effective sample size and divergences as data, with a verdict in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from scipy.stats import norm, rankdata

from camel_jax.types import Array

GOOD_R_HAT, GOOD_ESS = 1.01, 400.0  # Vehtari et al. 2021, arXiv 1903.08008
POOR_K = 0.7  # Vehtari et al. 2024, arXiv 1507.02646


class Diagnostics(NamedTuple):
    """How far to trust a posterior.

    Attributes:
      method: "nuts" or "laplace". chains, draws: C chains of N draws.
      r_hat: largest rank-normalised split R-hat over all parameters, also of their spread; 1 is agreement. NaN for laplace.
      ess: smallest effective sample size of the bulk. ess_tail: smallest of the 5 % and 95 % tails. NaN for laplace.
      divergences: iterations after warm-up that lost their energy. at_depth: share that reached the largest tree.
      k_hat: Pareto k-hat of the importance weights of laplace; below 0.7 is sound. NaN for nuts.
      worst: name of the parameter of the largest R-hat.
      restarted: times that a chain was stuck in a mode of no weight during warm-up, and began again where another one was.
    """

    method: str
    chains: int
    draws: int
    r_hat: float = float("nan")
    ess: float = float("nan")
    ess_tail: float = float("nan")
    divergences: int = 0
    at_depth: float = 0.0
    k_hat: float = float("nan")
    worst: str = ""
    restarted: int = 0

    @property
    def converged(self) -> bool:
        """Whether the draws can be relied on: R-hat, effective sample size of the bulk and divergences, or k-hat."""
        if self.method == "laplace":
            return bool(self.k_hat < POOR_K)
        return bool(self.r_hat < GOOD_R_HAT and self.ess >= GOOD_ESS and not self.divergences)

    def verdict(self) -> str:
        """The diagnostics in a sentence or two."""
        if self.method == "laplace":
            told = f"approximation around the mode: Pareto k-hat {self.k_hat:.2f}"
            good = "the posterior is close to it, and the draws are reweighted"
            poor = "above 0.7, the posterior is not of that shape: use the sampler for intervals that matter"
            return f"{told}; {good if self.converged else poor}"
        told = (
            f"{self.chains} chains x {self.draws} draws: R-hat {self.r_hat:.3f}, effective sample size {self.ess:.0f} "
            f"(tails {self.ess_tail:.0f}), {self.divergences} divergences"
        )
        few = f"the ends of intervals are rough (below {GOOD_ESS:.0f} in the tails of some parameter)"
        rough = [few] if self.ess_tail < GOOD_ESS else []
        if self.restarted:
            rough.append(
                f"{self.restarted} times in warm-up a chain was stuck in a mode of no weight and moved to the others"
            )
        if self.converged:
            return "; ".join([told, "the chains agree", *rough])
        wrong = []
        if not self.r_hat < GOOD_R_HAT:
            wrong.append(f"the chains do not agree on {self.worst} (R-hat should be below {GOOD_R_HAT}): draw more")
        if not self.ess >= GOOD_ESS:
            wrong.append(f"too few independent draws (at least {GOOD_ESS:.0f}): draw more")
        if self.divergences:
            wrong.append("divergent steps: some corner of the posterior was not reached; raise accept towards 1")
        return "; ".join([told, *wrong, *rough])


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
