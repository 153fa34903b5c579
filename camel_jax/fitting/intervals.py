"""How sure a prediction is: intervals of bootstrap and discrepancy together, and what they cover."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.downstream.outcomes import NO_BENCHMARKS, columns_read
from camel_jax.downstream.result import AccuracyDraws
from camel_jax.fitting.result import Fit, usable_draws
from camel_jax.laws.law import Law, Units, constrain_all, in_units, predict_rows
from camel_jax.prediction.beyond import nearest_fitted
from camel_jax.prediction.discrepancy import error_quantiles
from camel_jax.prediction.draws import Draws
from camel_jax.prediction.residual_field import unknown_share
from camel_jax.recipes.outcome import Interval
from camel_jax.recipes.recipe import Recipe, select_recipe
from camel_jax.types import Array

WAY = 0.5  # of the logarithms of size and tokens beyond a table: steps in which the spread on the way out is looked at


def predict_interval(fit: Fit, recipe: Recipe, level: float = 0.9) -> Interval:
    """Predicted losses with a central interval for a measured loss.

    The interval is that of the law's discrepancy, which grows with the distance beyond the sizes and tokens of the table and with
    the distance of the mixture from those of the table, and never narrower than the bootstrap resamples make it there, or nearer to
    the table on the way. A posterior has the noise of a run in place of the latter, less what the field already knows of it, as
    ``Posterior.predict`` does.

    Args:
      fit: a fitted law.
      recipe: one recipe, or recipes with a leading axis R.
      level: probability mass of the interval, in (0, 1).

    Returns:
      Losses (R, V) or (V,) in nats per token.

    Raises:
      ValueError: level outside (0, 1).

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> near, far = (predict_interval(fitted, cj.dense(size, 1e10, [0.5, 0.5])) for size in (1e8, 1e10))
    >>> bool((far.high / far.low > near.high / near.low).all())  # the farther beyond the table, the wider
    True
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1); got {level}")
    point = fit.predict(recipe)
    single, rows = np.ndim(recipe.tokens) == 0, _rows(recipe)
    raw, keep = usable_draws(fit)
    params = constrain_all(fit.inner_law, jax.tree.map(lambda x: np.asarray(x)[keep], raw))
    remaining = unknown_share(fit.field, rows) if fit.diagnostics is not None else np.ones((1, 1))
    between = _spread_so_far(fit, params, rows)
    low, high = error_quantiles(fit.discrepancy, rows, between, remaining, level)
    low, high = (low[0], high[0]) if single else (low, high)
    return Interval(point, point * jnp.exp(jnp.minimum(low, 0.0)), point * jnp.exp(jnp.maximum(high, 0.0)))


def _spread_so_far(fit: Fit, params: Any, rows: Recipe) -> np.ndarray:
    """The spread of the law's parameters at recipes, and beyond the table the largest on the way there, (R, V).

    On the way out a spread may shrink: members that differ at the edge of the table may agree further on. That is no knowledge, and an
    interval that narrows where less was measured would say it is. Spreads are taken in steps of ``WAY`` and interpolated.

    Args:
      fit: the fit. params: natural parameters of its members. rows: recipes with a leading axis R.
    """
    near = nearest_fitted(rows, fit.discrepancy.size, fit.discrepancy.tokens)
    size, tokens = (
        np.log(np.asarray(at)) - np.log(np.asarray(edge))
        for at, edge in ((rows.n_active, near.n_active), (rows.tokens, near.tokens))
    )
    way = np.hypot(size, tokens)
    count = np.ceil(way / WAY).astype(int) + 1
    row = np.repeat(np.arange(len(way)), count)
    step = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    padding = (1 << (len(row) - 1).bit_length()) - len(row)  # to a power of two, so that few programs are compiled
    row, step = (np.concatenate([x, np.repeat(x[-1:], padding)]) for x in (row, step))
    share = step * WAY / np.where(way > 0, way, 1.0)[row]
    larger, longer = np.exp(share * size[row]), np.exp(share * tokens[row])
    start = select_recipe(dataclasses.replace(near, supply=rows.supply), row)
    passed = dataclasses.replace(
        start, n_total=start.n_total * larger, n_active=start.n_active * larger, tokens=start.tokens * longer
    )
    spread = np.asarray(_log_spread(fit.inner_law, params, fit.units, passed))
    out = np.zeros((len(way), int(count.max()) + 1, spread.shape[1]))
    out[row, step] = spread
    out = np.maximum.accumulate(out, axis=1)
    before, part = np.divmod(way / WAY, 1.0)
    before = before.astype(int)
    at = np.arange(len(way))
    return out[at, before] + part[:, None] * (out[at, before + 1] - out[at, before])


@partial(jax.jit, static_argnums=0)
def _log_spread(law: Law, params: Any, units: Units, recipe: Recipe) -> Array:
    """Standard deviation of log loss over parameters with a leading axis, (R, V)."""
    losses = jax.lax.map(lambda p: predict_rows(in_units(law, units), p, recipe), params)
    return jnp.std(jnp.log(losses), axis=0)


def accuracy_interval(fit: Fit, recipe: Recipe, level: float = 0.9) -> Interval:
    """Predicted benchmark accuracies with a central interval for a measured accuracy.

    The point is the benchmark law at the predicted losses. The bounds are quantiles of draws that carry, each, one draw of
    the losses (bootstrap and discrepancy, as in ``predict_interval``), one refit and one error of the benchmark law, and the
    binomial noise of the items where their number is known; widened where they would leave the point outside.

    Args:
      fit: a fitted law with a benchmark law; see ``Fit.with_benchmarks``.
      recipe: one recipe, or recipes with a leading axis R.
      level: probability mass of the interval, in (0, 1).

    Returns:
      Accuracies (R, T) or (T,) of every task of the law, flagged or not, in the order of ``fit.benchmarks.tasks``.

    Raises:
      ValueError: level outside (0, 1), or no benchmark law.

    >>> import dataclasses
    >>> import jax
    >>> import numpy as np
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))  # a table of runs would have measured these
    >>> runs = dataclasses.replace(runs, tasks=("qa", "code"), accuracies=0.25 + 0.5 * knows)
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> fitted = fitted.with_benchmarks(cj.fit_accuracies(runs, key=jax.random.key(2), resamples=0, starts=1))
    >>> found = accuracy_interval(fitted, cj.dense(3e8, 1e10, [0.5, 0.5]), level=0.5)
    >>> found.point.shape, bool((found.low < found.high).all())
    ((2,), True)
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1); got {level}")
    if (benchmarks := fit.benchmarks) is None:
        raise ValueError(NO_BENCHMARKS)
    single, rows = np.ndim(recipe.tokens) == 0, _rows(recipe)
    columns = columns_read(benchmarks, fit.sets)
    point = benchmarks.predict(jnp.asarray(fit.predict(rows))[:, columns])
    draws = fit.draws(field=True)
    copies = -(-ACCURACY_DRAWS // len(draws.bias))
    law_key, noise_key = jax.random.split(fit.benchmark_key)
    sampled = benchmarks.sample(law_key, copies * len(draws.bias))
    noise = benchmarks.noise * jax.random.normal(noise_key, sampled.error.shape)
    low, high = _accuracy_bounds(draws, sampled, noise, columns, rows, level)
    found = Interval(point, jnp.minimum(low, point), jnp.maximum(high, point))
    return Interval(*(x[0] for x in found)) if single else found


ACCURACY_DRAWS = (
    1024  # draws of losses are repeated until there are this many, each with its own error of the benchmark law
)


def _rows(recipe: Recipe) -> Recipe:
    """Recipes with a leading axis throughout: a single one gets it, a shared supply is repeated."""
    single = np.ndim(recipe.tokens) == 0
    rows = jax.tree.map(lambda x: jnp.asarray(x, float)[None], recipe) if single else recipe
    supply = rows.supply
    if supply is not None and np.ndim(supply) == 1:
        rows = dataclasses.replace(rows, supply=jnp.broadcast_to(supply, np.shape(rows.weights)))
    return rows


@jax.jit
def _accuracy_bounds(
    draws: Draws, law: AccuracyDraws, noise: Array, columns: Array, recipe: Recipe, level: Array
) -> tuple[Array, Array]:
    def one(row: Recipe) -> Array:
        losses = draws.predict(row)[:, columns]
        drawn = law.predict(jnp.tile(losses, (len(law.error) // len(losses), 1)), noise)
        return jnp.quantile(drawn, jnp.stack([0.5 - level / 2, 0.5 + level / 2]), axis=0)

    bounds = jax.lax.map(one, recipe, batch_size=16)
    return bounds[:, 0], bounds[:, 1]


def coverage(interval: Interval, losses: Array, rows: Array | None = None) -> float:
    """Share of measured losses inside an interval; NaN losses are left out.

    Args:
      interval: (R, V) prediction.
      losses: (R, V) measured losses.
      rows: mask of the rows that count, or None for all.
    """
    losses = np.asarray(losses, float)
    seen = np.isfinite(losses) & (True if rows is None else np.asarray(rows)[:, None])
    inside = (losses >= np.asarray(interval.low)) & (losses <= np.asarray(interval.high))
    return float(inside[seen].mean())
