"""What a fit says of the sampler whose draws it holds, and when such draws can be relied on."""

from __future__ import annotations

from typing import NamedTuple

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
