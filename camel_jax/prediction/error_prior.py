"""What is known of a law's error beyond a table before the table has said anything, and what its back-tests add.

The settings of the prior were learnt from forward back-tests of public tables: every law fitted to the sizes below each of their
sizes and judged above them (benchmarks/accuracy/error_prior.py writes error_prior.json). A table updates the prior by its own
back-tests: the error of every set at a held-out size is a slope times the leverage of that size, plus noise. Slopes of one fit are
alike over sets (``common_share``) and over fits to fewer and to more sizes (``lasting``); how large they are is uncertain, in
scenarios whose weights follow from how probable each makes the errors that were seen.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from camel_jax.prediction.discrepancy import Slopes

SCENARIOS = np.linspace(-3.5, 3.5, 19)  # log size of slopes, in units of its spread
TAIL = 5.0  # degrees of freedom of their weights
REFERENCE = 0.005  # error within the table at which slopes are stated
SETS = 4.0  # sets that count as independent when scenarios are weighed: errors of sets are alike
CELLS = 3.0  # of the rows at a held-out size count as independent
SHARED_NOISE = 0.3  # share of a held-out size's noise that all sets have in common


class ErrorPrior(NamedTuple):
    """Settings of the prior; see ``discrepancy`` for what they mean.

    Attributes:
      level: error within the table, over its in-sample residual.
      floor, floor_runs: least error that is thought possible, and how many runs it weighs.
      width, tokens_share, mixture_growth: as in ``Discrepancy``.
      slope, spread, power: median slope at the reference error within, spread of its logarithm, and power of that error.
      unmixed: factor e^unmixed on slopes where no run mixes domains: there the error within holds no error in mixtures.
      one_size, one_size_spread: median slope and its spread on a table of one size.
      common_share: share of the variance of slopes that all sets have in common.
      lasting: correlation of the slopes of fits to fewer and to more sizes.
    """

    level: float
    floor: float
    floor_runs: float
    width: float
    tokens_share: float
    mixture_growth: float
    slope: float
    spread: float
    power: float
    unmixed: float
    one_size: float
    one_size_spread: float
    common_share: float
    lasting: float


class Seen(NamedTuple):
    """Errors of one back-test at one held-out size.

    Attributes:
      below: number of sizes fitted. error: (V,) mean log measured minus log predicted loss, NaN where not measured.
      leverage: of the held-out size. scale: (V,) error within the table that was fitted.
    """

    below: int
    error: np.ndarray
    leverage: float
    scale: np.ndarray


class Scatter(NamedTuple):
    """Mean square of the errors at a held-out size about their mean, over what the prior expects, and from how many runs."""

    ratio: float
    runs: int


@lru_cache(maxsize=1)
def _priors() -> dict[str, ErrorPrior]:
    found = json.loads(pathlib.Path(__file__).with_name("error_prior.json").read_text())
    return {name: ErrorPrior(**settings) for name, settings in found["laws"].items()}


def error_prior(law: str) -> ErrorPrior:
    """The prior of a law, by its name; that of all laws together for a law of which no back-tests are on record.

    >>> error_prior("camel").level > 1.0, error_prior("my own law") == error_prior("all laws")
    (True, True)
    """
    return _priors().get(law, _priors()["all laws"])


def robust_variance(residuals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean square of log residuals (R, V) under row weights (R,), each counted as at most four typical ones, (V,); NaN is left out."""
    size = np.abs(residuals)
    seen = np.isfinite(size)
    typical = np.array([1.4826 * np.median(x[ok]) if ok.any() else 0.0 for x, ok in zip(size.T, seen.T, strict=True)])
    size = np.minimum(np.where(seen, size, 0.0), 4.0 * np.maximum(typical, 1e-5))
    mass = np.where(seen, np.asarray(weights)[:, None], 0.0)
    return (mass * size**2).sum(0) / np.maximum(mass.sum(0), 1e-300)


def within_scale(prior: ErrorPrior, variance: np.ndarray, runs: int) -> np.ndarray:
    """Error within the table, (V,), from the variance of in-sample residuals: never less than what so few runs can tell."""
    return prior.level * np.sqrt((runs * variance + prior.floor_runs * prior.floor**2) / (runs + prior.floor_runs))


def scatter_at(errors: np.ndarray, mass: np.ndarray, runs: int) -> Scatter:
    """How errors at a held-out size scatter about the mean of each set.

    Args:
      errors: (R, V) over what is expected of them, NaN where not measured. mass: (R, V) weights, zero there.
      runs: how many runs the rows are of.

    >>> scatter_at(np.array([[1.0], [-1.0]]), np.ones((2, 1)), 2)
    Scatter(ratio=2.0, runs=2)
    """
    if runs < 2:
        return Scatter(1.0, 0)
    errors = np.where(mass > 0, errors, 0.0)
    apart = errors - (mass * errors).sum(0) / np.maximum(mass.sum(0), 1e-300)
    typical = 1.4826 * np.median(np.abs(apart[mass > 0]))
    apart = np.clip(apart, -4.0 * typical, 4.0 * typical)  # one run that does not belong must not decide
    return Scatter(float((mass * apart**2).sum() / mass.sum() * runs / (runs - 1)), runs)


def error_over_prior(scatter: Sequence[Scatter], prior: ErrorPrior) -> float:
    """The error within a table over that of the prior, at most 1, from how errors scatter at sizes that were held out.

    They cannot be smaller there than within the table, so that small ones say that the prior is too wide, while large ones may come
    from the way beyond. The prior counts as many runs as its floor does: the fewer runs were held out, the nearer to 1.

    >>> [round(error_over_prior([Scatter(0.25, n)], error_prior("camel")), 2) for n in (0, 7, 1000)]
    [1.0, 0.79, 0.51]
    """
    runs = sum(one.runs for one in scatter)
    told = sum(one.runs * min(one.ratio, 1.0) for one in scatter)
    return float(np.sqrt((prior.floor_runs + told) / (prior.floor_runs + runs)))


def scale_errors(
    prior: ErrorPrior, seen: Sequence[Seen], scale: np.ndarray, *, one_size: bool, unmixed: bool
) -> Slopes:
    """Slopes of a law's error beyond a table, after its back-tests.

    Args:
      prior: settings.
      seen: back-tests that were fitted to two sizes or more.
      scale: (V,) error within the table, of ``within_scale``.
      one_size: the table has one size, so that no back-test can say anything.
      unmixed: no run of the table mixes domains.
    """
    median, spread = (
        (prior.one_size, prior.one_size_spread)
        if one_size
        else (prior.slope * np.exp(prior.unmixed * unmixed), prior.spread)
    )
    typical = np.median(scale) / prior.level
    deviations = median * (typical / REFERENCE) ** prior.power * np.exp(spread * SCENARIOS)
    log_weights = -0.5 * (TAIL + 1.0) * np.log1p(SCENARIOS**2 / TAIL)
    shared, lasting = prior.common_share, prior.lasting
    own = np.zeros((len(SCENARIOS), len(scale)))
    common, common_variance, own_variance = np.zeros((3, len(SCENARIOS)))
    common_variance += shared * deviations**2
    own_variance += (1.0 - shared) * deviations**2
    if seen and not one_size:
        reach = np.array([x.leverage for x in seen])
        errors = np.array([x.error for x in seen])
        known = np.isfinite(errors)
        count = np.maximum(known.sum(1), 1)
        mean = np.where(known, errors, 0.0).sum(1) / count
        apart = np.where(known, errors - mean[:, None], 0.0)
        noise = np.array([np.mean(x.scale**2) for x in seen]) / CELLS
        below = np.array([x.below for x in seen])
        alike = np.outer(reach, reach) * (lasting + (1.0 - lasting) * (below[:, None] == below))
        n = len(scale)
        for i, variance in enumerate(deviations**2):
            covariance = variance * (shared + (1.0 - shared) / n) * alike + np.diag(noise * (1.0 / n + SHARED_NOISE))
            cross = variance * shared * lasting * reach
            told = np.linalg.solve(covariance, np.stack([mean, cross], 1))
            common[i], common_variance[i] = cross @ told[:, 0], max(variance * shared - cross @ told[:, 1], 0.0)
            log_weights[i] -= 0.5 * (mean @ told[:, 0] + np.linalg.slogdet(covariance)[1])
            if n > 1:
                covariance = variance * (1.0 - shared) * alike + np.diag(noise)
                cross = variance * (1.0 - shared) * lasting * reach
                told = np.linalg.solve(covariance, np.column_stack([apart, cross]))
                own[i] = cross @ told[:, :-1]
                own_variance[i] = max(variance * (1.0 - shared) - cross @ told[:, -1], 0.0)
                density = np.sum(apart * told[:, :-1]) + (n - 1) * np.linalg.slogdet(covariance)[1]
                log_weights[i] -= 0.5 * density * min(n - 1.0, SETS) / (n - 1.0)
    weights = np.exp(log_weights - log_weights.max())
    return Slopes(weights / weights.sum(), common, own, common_variance, own_variance)
