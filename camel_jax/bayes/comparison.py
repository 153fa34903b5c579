"""Which law predicts better: leave a run out by importance sampling, and leave the largest scale out by sampling below it.

PSIS-LOO (Vehtari et al. 2017, arXiv 1507.04544) over runs, not rows: checkpoints and sets of a run are correlated, so leaving one of
them out would leave its answer in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.bayes.convergence import smooth
from camel_jax.bayes.model import run_noise
from camel_jax.bayes.noise import Table
from camel_jax.bayes.posterior import Posterior
from camel_jax.bayes.priors import Layout
from camel_jax.bayes.sampling import sample_posterior
from camel_jax.bayes.whitening import unflatten
from camel_jax.fitting.diagnostics import POOR_K
from camel_jax.laws.law import Law
from camel_jax.tables.runs import Runs, split_by_scale
from camel_jax.types import Array


class Loo(NamedTuple):
    """Expected log density of a run that was left out.

    Attributes:
      total: sum over runs, larger is better. error: its standard error. by_run: (G,). k_hat: (G,); above 0.7 a run is so
      influential that its part cannot be told without sampling again.
    """

    total: float
    error: float
    by_run: np.ndarray
    k_hat: np.ndarray

    @property
    def unreliable(self) -> int:
        """Number of runs with k-hat above 0.7."""
        return int(np.sum(self.k_hat > POOR_K))


class Compared(NamedTuple):
    """One law among several: leave-one-run-out score, its distance to the best with standard error, runs that cannot be told."""

    name: str
    total: float
    behind: float
    error: float
    unreliable: int


class ScaleScore(NamedTuple):
    """Predictions at a scale that was left out, over final and other rows alike.

    Attributes:
      error: mean relative error of the point prediction. coverage: share of measured losses inside the 90 % interval.
      width: mean width of that interval in log loss. crps: mean continuous ranked probability score of log loss; smaller is better.
      converged: whether the draws can be relied on.
    """

    error: float
    coverage: float
    width: float
    crps: float
    converged: bool


def leave_run_out(posterior: Posterior) -> Loo:
    """Score a posterior by how well it predicts every run from the others."""
    flat = jnp.asarray(posterior.z.reshape(-1, posterior.z.shape[-1]))
    logs = np.asarray(_by_run(posterior.plan, posterior.table, flat))
    parts, k_hat = [], []
    for column in logs.T:
        weights = smooth(-column)
        high = weights.log_weights + column
        parts.append(high.max() + np.log(np.sum(np.exp(high - high.max()))))
        k_hat.append(weights.k_hat)
    by_run = np.array(parts)
    return Loo(float(by_run.sum()), float(np.sqrt(len(by_run)) * by_run.std()), by_run, np.array(k_hat))


@partial(jax.jit, static_argnums=0)
def _by_run(plan: Layout, table: Table, z: Array) -> Array:
    def one(x: Array) -> Array:
        return run_noise(plan, table, unflatten(plan, x)).by_run(table.log_losses)

    return jax.lax.map(one, z)


def compare_posteriors(posteriors: Mapping[str, Posterior]) -> list[Compared]:
    """Rank posteriors of the same table by ``leave_run_out``, best first.

    Raises:
      ValueError: the posteriors are of tables with different runs.
    """
    scores = {name: leave_run_out(posterior) for name, posterior in posteriors.items()}
    if len({len(score.by_run) for score in scores.values()}) > 1:
        raise ValueError("the posteriors are of different tables")
    best = max(scores.values(), key=lambda score: score.total)
    rows = []
    for name, score in sorted(scores.items(), key=lambda item: -item[1].total):
        apart = best.by_run - score.by_run
        error = float(np.sqrt(len(apart)) * apart.std())
        rows.append(Compared(name, score.total, float(apart.sum()), error, score.unreliable))
    return rows


def leave_scale_out(law: Law, runs: Runs, key: Array, **options: Any) -> ScaleScore:
    """Sample below the largest size of a table and score the predictions there.

    Args:
      law: a law. runs: the table. key: a ``jax.random`` key. options: of ``sample_posterior``.

    Raises:
      ValueError: the table has one size only.
    """
    below, held = split_by_scale(runs)
    posterior = sample_posterior(law, below, key, **options)
    return score_at(posterior, held)


def score_at(posterior: Posterior, held: Runs, level: float = 0.9) -> ScaleScore:
    """Score a posterior on runs it has not seen."""
    logs = np.log(posterior.sample_losses(held.recipe))
    measured = np.log(np.asarray(held.losses, float))
    seen = np.isfinite(measured)
    low, high = np.quantile(logs, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    point = np.log(np.asarray(posterior.fit.predict(held.recipe)))
    return ScaleScore(
        float(np.expm1(np.abs(point - measured))[seen].mean()),
        float(((low <= measured) & (measured <= high))[seen].mean()),
        float((high - low)[seen].mean()),
        float(crps(logs, np.where(seen, measured, 0.0))[seen].mean()),
        posterior.diagnostics.converged,
    )


def crps(draws: Array, measured: Array) -> np.ndarray:
    """Continuous ranked probability score of draws (M, ...) for measured values (...); in their unit, smaller is better.

    >>> float(crps(np.array([0.0, 2.0]), np.array(1.0)))
    0.5
    """
    x = np.sort(np.asarray(draws, float), axis=0)
    m = len(x)
    weight = (2.0 * np.arange(1, m + 1) - m - 1.0).reshape(-1, *(1,) * (x.ndim - 1))
    return np.mean(np.abs(x - measured), axis=0) - np.sum(weight * x, axis=0) / m**2
