"""From a fit to a posterior: NUTS in whitened coordinates, or a fast approximation around the mode with its quality shown."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.bayes.convergence import diagnose, smooth
from camel_jax.bayes.noise import Table, lay_out
from camel_jax.bayes.nuts import Progress, Samples, Settings
from camel_jax.bayes.posterior import KEPT, Posterior, all_draws, typical_deviation
from camel_jax.bayes.priors import Layout, from_raw, layout
from camel_jax.bayes.rounds import in_rounds
from camel_jax.bayes.whitening import Whitened, flat_potential, whiten
from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.fitting.fit import fit as fit_law
from camel_jax.fitting.objective import as_data
from camel_jax.fitting.result import Fit
from camel_jax.laws.law import Law, predict_rows, scale_runs
from camel_jax.prediction.discrepancy import Discrepancy
from camel_jax.prediction.residual_field import fit_field, no_field, thin
from camel_jax.tables.runs import Runs, final_rows, select
from camel_jax.types import Array

METHODS = ("nuts", "laplace")
SETTINGS = Settings()


def sample_posterior(
    law: Fit | Law,
    runs: Runs,
    key: Array,
    *,
    chains: int = 4,
    draws: int = 1000,
    method: str = "nuts",
    discrepancy: bool = True,
    field: bool = True,
    max_rows: int | None = None,
    settings: Settings = SETTINGS,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """Draw from the posterior of a law given a table of runs.

    The model: every number of the law has a weakly informative prior in units of the table, pooled over sets and skills
    (``priors``); log losses of a run are multivariate Student-t around the law, correlated over its checkpoints and sets
    (``noise``). Chains start around the fit, in coordinates whitened by the curvature at draws of short first rounds; a chain that
    settles there where the density is hopelessly low goes on from another (``follow``).

    Args:
      law: a fit to these runs, or a law, which is fitted first.
      runs: the table; NaN losses are left out.
      key: a ``jax.random`` key; the same key gives the same numbers.
      chains: number C of chains.
      draws: number N of draws of each chain.
      method: "nuts", or "laplace": draws of the normal approximation around the mode, reweighted, with its k-hat; seconds.
      discrepancy: widen predictions with the distance in scale and mixture, by as much as the back-tests of the fit say;
        False for a law that is believed.
      field: correct predictions near measured mixtures by what the law left unexplained there; see ``field``.
      max_rows: checkpoints used at most, None for all; see ``spread_rows``.
      settings: warm-up, acceptance and tree depth of NUTS.
      resume: folder in which chunks of iterations are kept and looked for, so that a stopped run continues to the same numbers.
      progress: called as ``progress(iterations done, iterations in all)``.

    Returns:
      A ``Posterior``. Look at its ``verdict()`` first.

    Raises:
      FitError: the table cannot tell the law.
      ValueError: float64 is off, an unknown method, too few chains or draws, or the fit is of other domains or sets.

    >>> import jax
    >>> import numpy as np
    >>> from camel_jax import laws
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(1e7, 1e8), checkpoints=1)
    >>> quick = sample_posterior(laws.chinchilla(), runs, jax.random.key(1), draws=100, method="laplace")
    >>> quick.raw["floor"].shape, quick.losses_at("1B", "20B")(np.array([0.5, 0.5])).shape
    ((4, 100, 2), (2,))
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    if chains < 1 or draws < 2:
        raise ValueError(f"at least one chain and two draws are needed; got {chains} and {draws}")
    fit_key, sample_key, error_key = jax.random.split(key, 3)
    fit = law if isinstance(law, Fit) else fit_law(law, runs, key=fit_key, starts=2)
    if (fit.domains, fit.sets) != (runs.domains, runs.sets):
        raise ValueError("the table has other domains or sets than the fit")
    used = runs if max_rows is None else select(runs, spread_rows(runs, max_rows))
    plan, table, start = start_at(fit, used)
    target = whiten(plan, table, start)
    if method == "nuts":
        samples, restarted = in_rounds(
            plan, target, sample_key, chains, draws, settings, resume=resume, progress=progress
        )
        found = None
    else:
        samples, found = _laplace(plan, target, sample_key, chains, draws)
        restarted = 0
    raw, noise = jax.tree.map(np.asarray, all_draws(plan, jnp.asarray(samples.z), table.mean))
    if found is None:
        spread = {f"noise_{name}": x for name, x in noise._asdict().items() if np.ptp(x) > 0}
        found = diagnose(raw | spread, samples.diverging, samples.steps >= 2 ** settings.depth[1] - 1)._replace(
            restarted=restarted
        )
    seed = int(jax.random.randint(error_key, (), 0, 2**31 - 1))
    as_fit = posterior_as_fit(fit, runs, raw, noise, samples, found, seed, discrepancy, field)
    return Posterior(as_fit, raw, noise, samples.z, -samples.potential, plan, table)


def spread_rows(runs: Runs, max_rows: int) -> np.ndarray:
    """Indices of at most ``max_rows`` rows: runs lose checkpoints, evenly spaced and never the last; where there are more runs than
    rows, every size loses its share of runs.
    """
    last = np.flatnonzero(final_rows(runs))
    if len(last) <= max_rows:
        return thin(runs, max_rows)
    ordered = last[np.argsort(np.asarray(runs.recipe.n_active, float)[last], kind="stable")]
    return np.sort(ordered[np.linspace(0, len(last) - 1, max_rows).round().astype(int)])


def start_at(fit: Fit, runs: Runs) -> tuple[Layout, Table, dict[str, np.ndarray]]:
    """The model of a fit and its table, and the standard normals at the best start of the fit, with its residual as noise."""
    table = lay_out(scale_runs(fit.units, runs))
    best = int(np.argmin(np.where(np.isfinite(fit.objective), fit.objective, np.inf)))
    raw = jax.tree.map(lambda x: np.asarray(x)[best], fit.raw)
    plan = layout(fit.inner_law, raw, table.measured.shape[1], len(runs.sets))
    return plan, table, from_raw(plan, raw, np.asarray(fit.discrepancy.scale), table.mean)


def _laplace(plan: Layout, target: Whitened, key: Array, chains: int, draws: int) -> tuple[Samples, Diagnostics]:
    """Draws of the normal approximation, resampled by Pareto-smoothed importance weights."""
    draw_key, pick_key = jax.random.split(key)
    n = chains * draws
    u = jax.random.normal(draw_key, (2 * n, len(target.mode)))
    z = target.mode + u @ target.scale
    density = np.asarray(_potentials(plan, target.table, z))
    weights = smooth(0.5 * np.sum(np.asarray(u) ** 2, axis=1) - density)
    pick = np.asarray(jax.random.choice(pick_key, 2 * n, (n,), p=jnp.exp(weights.log_weights)))
    shape = chains, draws
    none = np.zeros(shape)
    samples = Samples(np.asarray(z)[pick].reshape(*shape, -1), density[pick].reshape(shape), none > 0, none, none)
    return samples, Diagnostics("laplace", chains, draws, k_hat=weights.k_hat)


@partial(jax.jit, static_argnums=0)
def _potentials(plan: Layout, table: Table, z: Array) -> Array:
    return jax.lax.map(lambda x: flat_potential(plan, table, x), z)


NOTHING = 1e-9  # of the noise, where draws are to carry no error of their own


def no_slopes(d: Discrepancy, *, variances: bool) -> dict[str, Array]:
    """Leaves of a discrepancy that expects no error beyond the table, or that has none there at all."""
    names = ("common", "own", "slowing", *(("common_variance", "own_variance") if variances else ()))
    return {name: jnp.zeros_like(getattr(d, name)) for name in names}


def posterior_as_fit(
    fit: Fit,
    runs: Runs,
    raw: Any,
    noise: Any,
    samples: Samples,
    found: Diagnostics,
    seed: int,
    discrepancy: bool,
    field: bool,
) -> Fit:
    """The posterior as a fit: evenly spaced draws stand for its starts and its resamples alike."""
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), raw)
    n = len(jax.tree.leaves(flat)[0])
    keep = np.unique(np.linspace(0, n - 1, min(KEPT, n)).round().astype(int))
    keep = keep[np.argsort(np.arange(len(keep)) * 0.618034 % 1.0)]  # the first few are spread over all chains, too
    kept = jax.tree.map(lambda x: x[keep], flat)
    level = np.full(len(keep), float(np.mean(samples.potential)))  # one value for all: no draw is better than another
    fine = np.zeros(len(keep), np.int32)
    scaled = scale_runs(fit.units, runs)
    data = as_data(scaled)
    logs = _mean_log(fit.inner_law, kept, data.recipe)
    residuals = np.where(np.asarray(data.measured), np.asarray(data.log_losses) - np.asarray(logs), np.nan)
    d = fit.discrepancy._replace(
        scale=jnp.asarray(typical_deviation(noise)) * (1.0 if discrepancy else NOTHING),
        **no_slopes(fit.discrepancy, variances=not discrepancy),
        finished=jnp.asarray(0.0),  # the noise of the model knows of early checkpoints itself
        typical=jnp.asarray(1.0),
    )
    return dataclasses.replace(
        fit,
        raw=kept,
        objective=level,
        status=fine,
        steps=fine,
        resampled=kept,
        resampled_objective=level,
        resampled_status=fine,
        discrepancy=d,
        field=fit_field(runs, residuals) if field else no_field(len(fit.domains), len(fit.sets)),
        seed=seed,
        diagnostics=found,
    )


@partial(jax.jit, static_argnums=0)
def _mean_log(law: Law, raw: Any, recipe: Any) -> Array:
    logs = jax.lax.map(lambda r: jnp.log(predict_rows(law, law.constrain(r), recipe)), raw)
    return jnp.mean(logs, axis=0)
