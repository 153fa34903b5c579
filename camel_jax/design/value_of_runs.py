"""Go on, or train the target now: what the next batch of runs is expected to save, per unit of its cost.

To first order the losses at the target are normal, with covariance C before the batch and C' after it; what the batch will say is
then normal with covariance C - C'. So the regret of choosing the best mixture of the target, now and after the batch, is an
average over three normal draws: no run has to be simulated and no law refitted.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.sizes import format_count
from camel_jax.types import Array

SAMPLES = 2000


class Worth(NamedTuple):
    """Whether the next batch is worth its cost.

    Attributes:
      level: probability of the interval.
      cost: of the batch.
      before: half-width of the interval of log loss at the target (0.01 is one percent), from the law's parameters.
      after: the same with the batch.
      saved: their difference.
      per_cost: saved per unit of cost.
      first_half: the same over the first half of the cost.
      last_half: the same over the last half of the cost.
      regret_before: expected regret in nats of choosing among the target's mixtures now.
      regret_after: the same after the batch.
      regret_saved: their difference.
      regret_per_cost: the same per unit of cost.
      tokens_saved: nats that the same cost saves if it buys more tokens for the target instead.
      go_on: whether the batch saves more nats than those tokens; otherwise train the target now.
      law_error: half-width of the law's own error after the batch; NaN if not known.
      sentence: all of it in words.
    """

    level: float
    cost: float
    before: float
    after: float
    saved: float
    per_cost: float
    first_half: float
    last_half: float
    regret_before: float
    regret_after: float
    regret_saved: float
    regret_per_cost: float
    tokens_saved: float
    go_on: bool
    law_error: float
    sentence: str

    __repr__ = brief_repr


def worth(design: Any, level: float = 0.9) -> Worth:
    """What a batch is expected to do to the interval and to the regret at the target, as data and in words.

    Args:
      design: the batch, a ``design.Design``.
      level: probability of the interval, in (0, 1).

    Raises:
      ValueError: a level outside (0, 1).

    >>> import numpy as np
    >>> import jax
    >>> import camel_jax as cj
    >>> line = np.linspace(0.1, 0.9, 5)
    >>> mixtures, ladder = np.stack([line, 1 - line], 1), cj.make_ladder(["10M", "100M"])
    >>> target = cj.target_region("1B", None, mixtures)
    >>> known = cj.know_nothing(cj.laws.dml(), ladder, target, ["web", "code"], key=jax.random.key(0), draws=2)
    >>> told = worth(cj.propose_runs(known, ladder, 1e19, target, mixtures))
    >>> told.after < told.before, told.cost <= 1e19
    (True, True)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    cost, before, after = design.total_cost, z * design.error_before, z * design.error_after
    errors = z * np.append(design.error_before, design.curve_error)
    costs = np.append(0.0, design.curve_cost)
    middle = float(np.interp(0.5 * cost, costs, errors))
    first, last = (before - middle) / (0.5 * cost), (middle - after) / (0.5 * cost)
    law_error = z * design.law_error_after
    regret = design.regret_before - design.regret_after
    go_on = bool(regret > design.tokens_saved)
    start = f"+-{100 * before:.2f} %" if before < 0.5 else "more than +-50 %"
    now = f"{design.regret_before:.2g}" if before < 0.5 else "unknown"
    sentence = (
        f"{format_count(float(design.counts.sum()))} runs for {cost:.3g} narrow the {100 * level:g} % interval at the target"
        f" ({design.target.text()}) from {start} to +-{100 * after:.2f} %, if the law is right;"
        f" the second half of the cost saves {100 * last * 0.5 * cost:.2f} points of it"
    )
    if np.isfinite(law_error):
        sentence += f", and the law's own error there stays near +-{100 * law_error:.2f} %"
    sentence += (
        f". The expected regret of the mixture chosen goes from {now} to {design.regret_after:.2g} nats; as more tokens for the"
        f" target the same cost would save {design.tokens_saved:.2g} nats: "
        + ("buy the runs." if go_on else "train the target now.")
    )
    return Worth(
        level, cost, before, after, before - after, (before - after) / cost, first, last,
        design.regret_before, design.regret_after, regret, regret / cost, design.tokens_saved, go_on, law_error, sentence,
    )  # fmt: skip


def expected_regret(mean: Array, before: Array, after: Array) -> tuple[float, float]:
    """Expected regret of choosing the mixture of least expected loss, before and after a batch of runs.

    Args:
      mean: (M, n) expected losses of n mixtures for M draws of the law, in nats.
      before, after: (M, n, n) their covariance without and with the batch.

    Returns:
      (before, after) in nats.

    Two mixtures that are equally good so far, with independent errors of 1: the regret is 1 / sqrt(pi). A perfect batch ends it:

    >>> now, then = expected_regret(np.zeros((1, 2)), np.eye(2)[None], np.zeros((1, 2, 2)))
    >>> round(now, 1), then
    (0.6, 0.0)
    """
    rng = np.random.default_rng(0)
    found = []
    for m, c, rest in zip(*(np.asarray(x, float) for x in (mean, before, after)), strict=True):
        learnt, left = (rng.standard_normal((SAMPLES, len(m))) @ _root(x).T for x in (c - rest, rest))
        expected = m + learnt
        truth = expected + left
        lowest = truth.min(1)
        then = np.take_along_axis(truth, expected.argmin(1)[:, None], 1)[:, 0]
        found.append((np.mean(truth[:, m.argmin()] - lowest), np.mean(then - lowest)))
    now, then = np.mean(found, 0)
    return float(now), float(then)


def _root(matrix: np.ndarray) -> np.ndarray:
    """A square root of a covariance matrix, round-off below zero cut off."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return vectors * np.sqrt(np.maximum(values, 0.0))
