"""What is known of a law before the next runs are bought: from nothing, or from the runs that are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.design.candidates import Target
from camel_jax.design.information import prior_precision, sensitivities, table_information
from camel_jax.design.ladder import Ladder
from camel_jax.fitting.fit import ROBUST
from camel_jax.fitting.result import Fit
from camel_jax.fitting.starts import good_starts
from camel_jax.laws.law import Law, Units, constrain_all, predict_rows, scale_recipe, scale_runs, table_units
from camel_jax.prediction.discrepancy import Discrepancy, discrepancy_scale
from camel_jax.recipes.recipe import Recipe
from camel_jax.runtime import require_float64
from camel_jax.tables.runs import Runs
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

# The prior of a law is a penalty that makes fits extrapolate well. As a belief it is too sure: in fits of public tables the mean
# exponent or coupling lies 3 of its standard deviations from the center at the median, every fourth more than 6
# (benchmarks/design/belief.py). Designs believe in deviations four times as large as the prior does.
SPREAD = 4.0


@dataclasses.dataclass(frozen=True, repr=False)
class Knowledge(Readable):
    """What is known of a law.

    Attributes:
      law: the law, in units of the table.
      units: those units.
      raw: M plausible values of its unconstrained parameters, leaves (M, ...).
      precision: (M, P, P) of the raw parameters: of the belief before any run, and the information of the runs that are there.
      noise: (V,) standard deviation of the log loss of one run.
      center: (K,) mean mixture.
      domains: K names.
      sets: V names.
      runs: number of runs that are there.
      largest: (active parameters, tokens) of the largest of them, zeros for none.
      discrepancy: expected error of the law itself, where a fit has measured it.
    """

    law: Law
    units: Units
    raw: Any
    precision: Array
    noise: np.ndarray
    center: np.ndarray
    domains: tuple[str, ...]
    sets: tuple[str, ...]
    runs: int = 0
    largest: tuple[float, float] = (0.0, 0.0)
    discrepancy: Discrepancy | None = None

    def _view(self) -> View:
        from camel_jax.views.plans import knowledge_view

        return knowledge_view(self)

    def slopes(self, recipe: Recipe) -> Array:
        """Derivatives of log losses by raw parameters over the noise, (M, R, V, P)."""
        return sensitivities(self.law, self.units, self.raw, recipe) / self.noise[:, None]

    def losses(self, recipe: Recipe) -> np.ndarray:
        """Losses that the draws expect, (M, R, V) in nats."""
        params = constrain_all(self.law, self.raw)
        scaled = jax.tree.map(lambda x: jnp.asarray(x, float), scale_recipe(self.units, recipe))
        return np.asarray(_losses(self.law, params, scaled)) * np.asarray(self.units.losses)

    def law_error(self, target: Target, size: float, tokens: float) -> float:
        """Root mean square of the law's own error of log loss at the target if its runs reached a size and token count."""
        if self.discrepancy is None:
            return float("nan")
        reach = self.discrepancy._replace(
            size=jnp.asarray(max(self.largest[0], size)), tokens=jnp.asarray(max(self.largest[1], tokens))
        )
        error = jax.vmap(lambda recipe: discrepancy_scale(reach, recipe))(jax.tree.map(jnp.asarray, target.recipe))
        return float(jnp.sqrt(jnp.mean(error**2)))


@partial(jax.jit, static_argnums=0)
def _losses(law: Law, params: Any, recipe: Recipe) -> Array:
    return jax.vmap(lambda one: predict_rows(law, one, recipe))(params)


def know_nothing(
    law: Law,
    ladder: Ladder,
    target: Target,
    domains: Sequence[str],
    sets: Sequence[str] | None = None,
    *,
    key: Array,
    draws: int = 4,
    noise: float | Array | None = None,
    prior: Array | float | None = None,
) -> Knowledge:
    """Knowledge before the first run: a belief around several random starts of the law, ``SPREAD`` times as wide as its prior.

    Args:
      law: a law, such as ``laws.camel()``.
      ladder: sizes that may be bought.
      target: where to predict.
      domains: K names.
      sets: V names; the domains if None.
      key: a ``jax.random`` key.
      draws: number of random starts M.
      noise: standard deviation of the log loss of one run, scalar or (V,); that of the robust objective (0.004) if None.
      prior: precision of the raw parameters, scalar or (P, P), in place of that belief.

    Raises:
      ValueError: a number that makes no sense, or a prior that leaves a direction of the parameters entirely open.

    >>> import jax
    >>> import camel_jax as cj
    >>> ladder, target = cj.make_ladder(["10M", "100M"]), cj.target_region("1B", None, [[0.5, 0.5]])
    >>> known = know_nothing(cj.laws.dml(), ladder, target, ["web", "code"], key=jax.random.key(0), draws=2)
    >>> known.runs, known.losses(target.recipe).shape
    (0, (2, 1, 2))
    """
    require_float64("a design")
    domains, sets = tuple(domains), tuple(domains if sets is None else sets)
    k = len(domains)
    if target.recipe.weights.shape[1] != k:
        raise ValueError(f"the target mixtures have {target.recipe.weights.shape[1]} shares for {k} domains")
    pseudo = pseudo_table(ladder, target, domains, sets)
    units = table_units(pseudo)
    raw = _starts(key, law, scale_runs(units, pseudo), draws)
    return Knowledge(
        law,
        units,
        raw,
        _checked(_belief(law, raw) if prior is None else _given(prior, raw)),
        _noise(ROBUST.noise if noise is None else noise, len(sets)),
        np.full(k, 1.0 / k),
        domains,
        sets,
    )


def know_runs(
    fit: Fit,
    runs: Runs,
    ladder: Ladder,
    target: Target,
    *,
    key: Array | None = None,
    draws: int = 4,
    noise: float | Array | None = None,
) -> Knowledge:
    """Knowledge from a table of runs and a law fitted to it.

    Terms of the law that the table could not tell (one size, one token count) are back at what is believed before any run,
    since the next runs may tell them.

    Args:
      fit: a fitted law.
      runs: the table it was fitted to.
      ladder: sizes that may be bought.
      target: where to predict.
      key: a ``jax.random`` key for the terms that the fit does not have; from the seed of the fit if None.
      draws: how many of the fit's starts, then resamples, to average over.
      noise: standard deviation of the log loss of one run, scalar or (V,); the in-sample residual of each set if None.

    Raises:
      ValueError: the table and the fit do not belong together.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> ladder, target = cj.make_ladder(["100M", "300M"]), cj.target_region("1B", None, [[0.5, 0.5]])
    >>> known = know_runs(fitted, runs, ladder, target)
    >>> known.runs, known.largest
    (16, (100000000.0, ...))
    """
    require_float64("a design")
    if (runs.domains, runs.sets) != (fit.domains, fit.sets):
        raise ValueError("the table has other domains or sets than the fit")
    starts = good_starts(fit.objective)
    starts = starts[np.argsort(fit.objective[starts], kind="stable")]
    fitted = jax.tree.map(lambda x, y: np.concatenate([np.asarray(x)[starts], y]), fit.raw, fit.resampled)
    usable = np.all([np.isfinite(x).reshape(len(x), -1).all(1) for x in jax.tree.leaves(fitted)], axis=0)
    fitted = jax.tree.map(lambda x: x[usable][:draws], fitted)
    count = len(jax.tree.leaves(fitted)[0])
    both = _union(runs, pseudo_table(ladder, target, runs.domains, runs.sets))
    raw = fitted
    if isinstance(fitted, dict):
        key = jax.random.key(fit.seed) if key is None else key
        raw = _starts(key, fit.inner_law, scale_runs(fit.units, both), count) | fitted
    raw = jax.tree.map(jnp.asarray, raw)
    noise = _noise(np.maximum(np.asarray(fit.discrepancy.scale), 1e-3) if noise is None else noise, len(runs.sets))
    precision = _belief(fit.inner_law, raw) + table_information(fit.inner_law, fit.units, raw, runs, noise)
    return Knowledge(
        fit.inner_law,
        fit.units,
        raw,
        _checked(precision),
        noise,
        np.asarray(fit.discrepancy.mean),
        runs.domains,
        runs.sets,
        len(np.unique(np.asarray(runs.run))),
        (float(np.max(runs.recipe.n_active)), float(np.max(runs.recipe.tokens))),
        fit.discrepancy,
    )


def pseudo_table(ladder: Ladder, target: Target, domains: tuple[str, ...], sets: tuple[str, ...]) -> Runs:
    """A table of the ladder's recipes and the target's, all losses 1: shapes and units for a law that has seen no run."""
    one, t = ladder.recipes(np.full((1, len(domains)), 1.0 / len(domains))), target.recipe
    first = Recipe(t.n_total[:1], t.n_active[:1], t.tokens[:1], t.weights[:1])
    recipe = jax.tree.map(lambda a, b: np.concatenate([a, b]), one, first)
    n = len(recipe.tokens)
    return Runs(recipe, np.ones((n, len(sets))), np.zeros((n, 0)), np.arange(n), domains, sets)


def _union(runs: Runs, more: Runs) -> Runs:
    bare = dataclasses.replace(runs.recipe, supply=None)
    recipe = jax.tree.map(lambda a, b: np.concatenate([np.asarray(a), b]), bare, more.recipe)
    supply = runs.recipe.supply
    if supply is not None:
        known = np.broadcast_to(np.asarray(supply), np.shape(runs.recipe.weights))
        recipe = dataclasses.replace(recipe, supply=np.concatenate([known, np.full(more.recipe.weights.shape, np.inf)]))
    n = len(recipe.tokens)
    return Runs(recipe, np.ones((n, len(runs.sets))), np.zeros((n, 0)), np.arange(n), runs.domains, runs.sets)


def _starts(key: Array, law: Law, scaled: Runs, draws: int) -> Any:
    if draws < 1:
        raise ValueError(f"at least one draw of the parameters is needed, got {draws}")
    return jax.vmap(lambda k: law.init(k, scaled))(jax.random.split(key, draws))


def _belief(law: Law, raw: Any) -> Array:
    """Precision of what is known before any run, (M, P, P)."""
    return prior_precision(law, raw) / SPREAD**2


def _given(prior: Any, raw: Any) -> Array:
    leaves = jax.tree.leaves(raw)
    draws, n = len(leaves[0]), sum(int(np.prod(x.shape[1:], dtype=int)) for x in leaves)
    matrix = np.asarray(prior, float)
    if matrix.shape not in ((), (n, n)):
        raise ValueError(f"the prior precision must be a number or ({n}, {n}), got shape {matrix.shape}")
    return jnp.broadcast_to(matrix * np.eye(n) if matrix.ndim == 0 else matrix, (draws, n, n))


def _checked(precision: Array) -> Array:
    """A precision that can be inverted.

    Raises:
      ValueError: some direction of the parameters is known neither from the prior nor from runs.
    """
    values = np.linalg.eigvalsh(np.asarray(precision))
    if not (np.isfinite(values).all() and (values[:, 0] > 1e-14 * values[:, -1]).all()):
        raise ValueError("the prior and the runs leave a parameter of the law entirely open; give a prior precision")
    return precision


def _noise(noise: Any, n_sets: int) -> np.ndarray:
    out = np.broadcast_to(np.asarray(noise, float), (n_sets,)) + 0.0
    if not (np.isfinite(out).all() and (out > 0).all()):
        raise ValueError(f"noise must be above zero, got {noise!r}")
    return out
