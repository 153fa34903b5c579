"""Fitting a law to a table of runs: starts x bootstrap resamples (x sets, where a law is separable) as one batch of lanes."""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np

from camel_jax.fitting.backtest import is_unmixed, judge_forward, law_discrepancy
from camel_jax.fitting.identifiability import FitError, check_table
from camel_jax.fitting.lanes import ask, best_solver, solve_request
from camel_jax.fitting.objective import Robust, as_data, law_fall, mean_log
from camel_jax.fitting.plan import Asking, Lanes, Progress, Request, answer
from camel_jax.fitting.result import Fit
from camel_jax.fitting.stacking import learn_weights
from camel_jax.fitting.starts import best_first, good_starts, seeds, some_lanes
from camel_jax.laws.blend import with_share
from camel_jax.laws.contract import check_contract
from camel_jax.laws.law import Law, Units, in_units, scale_runs, table_units
from camel_jax.prediction.beyond import expected_slowing, step_beyond
from camel_jax.prediction.error_prior import error_prior, robust_variance, scale_errors, within_scale
from camel_jax.prediction.residual_field import fit_field, is_far_out, no_field, weakened
from camel_jax.runtime import forget_programs, require_float64
from camel_jax.tables.runs import Runs, resample_counts, scales
from camel_jax.tables.sanity import as_notes, check_sanity, left_out
from camel_jax.types import Array

SOLVERS = ("auto", "newton", "lbfgs", "adam", "least_squares")
ROBUST = Robust()


def fit(
    law: Law,
    runs: Runs,
    *,
    key: Array,
    resamples: int = 0,
    starts: int = 4,
    solver: str = "auto",
    weighting: str = "balanced",
    field: bool = True,
    backtests: int = 3,
    robust: Robust = ROBUST,
    max_steps: int | None = None,
    chunk: int | None = None,
    pad_rows: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Fit a law to a table of runs from random starts, and refit it to bootstrap resamples of the runs.

    Minimises ``sum_rv w_r huber(log predicted - log measured) / (delta noise) - log prior`` in unconstrained space. Resamples
    draw runs (not rows) with replacement within each model size and start from the best fits.

    Args:
      law: a law, such as ``laws.camel()``.
      runs: the table; NaN losses are left out.
      key: a ``jax.random`` key; the same key gives the same numbers.
      resamples: number of bootstrap resamples B.
      starts: number of random starts S.
      solver: "auto" (the fastest that knows the law), "newton" (CAMEL), "least_squares" (separable laws with a Gaussian
        prior), "lbfgs" or "adam".
      weighting: row weights, "balanced", "uniform" or "final"; see ``objective.row_weights``.
      field: correct predictions near measured mixtures by what the law left unexplained there; see ``field``.
      backtests: how many of the largest sizes to predict from the sizes below them. They set the widths of intervals beyond the table,
        correct predictions there, and weaken the residual field where it does harm; a size with fewer than two below it is not tested.
      robust: settings of the robust objective.
      max_steps: cap on the iterations of a lane; the solver's default if None.
      chunk: lanes solved between two reports of progress; bounds the memory whatever the number of resamples.
      pad_rows: pad the table to this many rows with rows that weigh nothing, so that fits to tables of different lengths share
        one compiled program; None for no padding. It changes no result beyond round-off.
      resume: folder in which finished lanes are kept and looked for, so that a fit that was stopped continues; None for none.
      progress: called as ``progress(lanes done, lanes in all)``; in a job of many processes, lanes of this process.

    In a job of many processes (``processes.join_job``) every process makes the same call and gets the same ``Fit``.

    Returns:
      A ``Fit``.

    Raises:
      FitError: the table cannot tell the law (too few runs, nothing measured), or every start failed.
      ValueError: float64 is off, an unknown solver or weighting, or a law whose functions do not keep to the contract.

    >>> import jax
    >>> from camel_jax import laws
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(1e7, 1e8))
    >>> fit(laws.chinchilla(), runs, key=jax.random.key(1), starts=2).check()
    '2 starts: 2 converged'
    """
    forget_programs()
    options: dict[str, Any] = {
        "resamples": resamples,
        "starts": starts,
        "solver": solver,
        "weighting": weighting,
        "field": field,
    }
    options |= {"backtests": backtests, "robust": robust, "max_steps": max_steps, "chunk": chunk, "pad_rows": pad_rows}
    return answer(asking_fit(law, runs, key=key, resume=resume, progress=progress, **options), solve_request)


def asking_fit(
    law: Law,
    runs: Runs,
    *,
    key: Array,
    resamples: int = 0,
    starts: int = 4,
    solver: str = "auto",
    weighting: str = "balanced",
    field: bool = True,
    backtests: int = 3,
    robust: Robust = ROBUST,
    max_steps: int | None = None,
    chunk: int | None = None,
    pad_rows: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Asking[Fit]:
    """``fit`` as work that asks for the lanes it needs solved, so that the lanes of many tables can be solved together."""
    require_float64("fitting")
    if jax.default_backend() == "tpu":
        raise ValueError(
            "a TPU has no float64, which fitting needs: fit on its host with JAX_PLATFORMS=cpu; a saved fit predicts in float32"
        )
    if solver not in SOLVERS:
        raise ValueError(f"solver {solver!r} is not one of {', '.join(SOLVERS)}")
    if starts < 1 or resamples < 0:
        raise ValueError(f"starts must be at least 1 and resamples at least 0; got {starts} and {resamples}")
    odd = check_sanity(runs)
    notes = check_table(law, runs) + as_notes(odd)
    units = table_units(runs)
    scaled = scale_runs(units, runs)
    check_contract(law, scaled)
    data = as_data(scaled, weighting, pad_rows)
    start_keys, resample_key, error_seed = seeds(key, starts)
    raw = jax.vmap(lambda k: law.init(k, scaled))(start_keys)

    n_sets = len(runs.sets) if law.separable else 1
    total = (starts + resamples) * n_sets
    if solver == "auto":
        solver = best_solver(law, data, raw)
    elif law.parts:
        raise ValueError(f"the parts of {law.name} each have their own solver: solver='auto', not {solver!r}")
    settings = Lanes(law, solver, robust, max_steps, None if resume is None else os.fspath(resume))

    def report(offset: int) -> Progress:
        return lambda done, _: None if progress is None else progress(offset + done, total)

    first = yield from ask(Request(settings, data, raw, None, chunk=chunk, progress=report(0)))
    objective_of = np.asarray(first.objective)
    if law.separable:
        first, objective_of = best_first(first, starts, n_sets)
    good = good_starts(objective_of)
    if not np.isfinite(objective_of).any():
        raise FitError(f"{law.name}: none of {starts} starts reached a finite objective")

    order = good[np.argsort(objective_of[good], kind="stable")]
    if law.parts:
        share = (yield from learn_weights(settings, data, some_lanes(first.params, order[0]), scaled))[1:]
        first = first._replace(params=with_share(first.params, share))
        raw = with_share(raw, share)
    take = order[np.arange(resamples) % len(order)] if resamples else np.zeros(0, int)
    warm = some_lanes(first.params, take)
    counts = resample_counts(resample_key, runs, resamples)
    counts = np.pad(counts, [(0, 0), (0, len(data.weights) - len(runs))])
    again = yield from ask(Request(settings, data, warm, counts, True, chunk, report(starts * n_sets)))
    again_objective = np.asarray(again.objective).reshape(resamples, n_sets).sum(1) if resamples else np.zeros(0)
    again_status = np.asarray(again.status).reshape(resamples, n_sets).max(1) if resamples else np.zeros(0, np.int32)

    some = some_lanes(raw, slice(8 if law.separable else 1))
    if law.parts:  # its first part starts anew, as it does on the whole table; the others where they ended there
        known = {key: np.asarray(x)[order[:1]] for key, x in first.params.items()}
        again_at = [name for name, part in law.parts[1:] if part.separable]
        some = {key: known[key] if key.partition(".")[0] in again_at else x for key, x in some.items()}
    prior = error_prior(law.name)
    judged = yield from judge_forward(settings, data, some, scaled, backtests, prior, counts, field=field)

    members = [some_lanes(first.params, i) for i in good]
    residuals = mean_log(law, members, data.recipe) - np.asarray(data.log_losses)
    residuals = np.where(np.asarray(data.measured), residuals, np.nan)[: len(runs)]
    residuals = np.where(left_out(runs, odd) | is_far_out(residuals), np.nan, residuals)
    row_mass = np.asarray(data.weights)[: len(runs)]
    scale = within_scale(prior, robust_variance(residuals, row_mass), len(np.unique(np.asarray(runs.run))))
    one_size = len(scales(runs)) == 1
    slopes = scale_errors(prior, judged.seen, scale, one_size=one_size, unmixed=is_unmixed(runs))
    discrepancy = law_discrepancy(runs, judged.within * scale, row_mass, slopes, prior, judged.mixture_share)
    largest = float(np.max(scaled.recipe.n_active)), float(np.max(scaled.recipe.tokens))
    step = law_fall(law, members, step_beyond(*largest, np.asarray(discrepancy.mean), data.recipe), *largest)[0]
    return Fit(
        law=in_units(law, units),
        raw=jax.tree.map(np.asarray, first.params),
        objective=objective_of,
        status=np.asarray(first.status).reshape(starts, n_sets).max(1),
        steps=np.asarray(first.steps).reshape(starts, n_sets).max(1),
        resampled=jax.tree.map(np.asarray, again.params),
        resampled_objective=again_objective,
        resampled_status=again_status,
        inner_law=law,
        units=Units(*(np.asarray(u) for u in units)),
        field=weakened(fit_field(runs, -residuals), judged.strength)
        if field
        else no_field(len(runs.domains), len(runs.sets)),
        discrepancy=discrepancy._replace(slowing=expected_slowing(discrepancy, step)),
        domains=runs.domains,
        sets=runs.sets,
        size_range=_range(runs.recipe.n_active),
        tokens_range=_range(runs.recipe.tokens),
        notes=notes,
        seed=int(error_seed),
        backtests=tuple(test._replace(size=test.size * float(units.size)) for test in judged.tests),
    )


def _range(values: Array) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))
