"""Draws: one type for what a bootstrap, a Laplace approximation and a sampler know, with the discrepancy of a law in scale.

A fitted law is never exactly right at a size it has not seen. Its error there is mostly a bias per validation set, partly
shared by all sets, and partly a smooth function of the mixture. Each draw m carries one such error, so that intervals and
decisions see it:

    log L_mv(r) = log point_v(r) + (log law_m(r) - mean over draws) + rest_v(r) (e_mv(r) - mean over draws)
    e_mv(r)     = leverage(r) slope_mv + within_v(r) u_mv(r)
    u_mv(r)     = sqrt(1 - c) (common_m + own_mv) / sqrt(2) + sqrt(c / K) sum_i z_mvi (r_i - mean_i) / spread_i
    rest_v(r)   = the share of e that the spread of law_m does not hold already

Each draw has a scenario of its own for how large slopes are; see ``discrepancy`` for leverage, slopes and the error within.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.blend import without_idle
from camel_jax.laws.law import Law, Units, in_units
from camel_jax.prediction.beyond import corrected, fresh, nearest_fitted
from camel_jax.prediction.discrepancy import Discrepancy, error_within, expected_slope, leverage
from camel_jax.prediction.measured import none_mix
from camel_jax.prediction.residual_field import ResidualField, field_correction
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.sizes import parse_size, parse_tokens
from camel_jax.types import Array
from camel_jax.views.view import Readable, View


@functools.partial(jax.jit, static_argnums=0)
def _predict_members(law: Law, units: Units, params: Any, recipe: Recipe) -> Array:
    """Losses (M, V) of every member for one recipe; traced once for all the programs that use it."""
    return jax.vmap(in_units(law, units).predict, in_axes=(0, None))(params, recipe)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Draws(Readable):
    """M draws of a law, with their errors in scale.

    Attributes:
      params: constrained parameters, leaves (M, ...), in units of the table.
      center: constrained parameters of the point prediction, leaves (S, ...): the geometric mean over S is the center.
      units: ``Units`` of the table.
      discrepancy: ``Discrepancy``.
      field: ``ResidualField``, the correction of the point prediction near measured mixtures.
      bias: (M, V) standard normals.
      slope: (M, V, K) standard normals.
      beyond: (M, 1 + V) standard normals, of the slopes beyond the table.
      tail: (M,) uniform in [0, 1], which scenario of the slopes a draw has.
      law: the law in units of the table (static).
      domains: names of the K domains (static).
      sets: names of the V validation sets (static).

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> fitted.draws().predict(cj.dense(3e8, 1e10, [0.5, 0.5])).shape
    (128, 2)
    """

    params: Any
    center: Any
    units: Units
    discrepancy: Discrepancy
    field: ResidualField
    bias: Array
    slope: Array
    beyond: Array
    tail: Array
    law: Law = dataclasses.field(metadata={"static": True})
    domains: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    sets: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    def point(self, recipe: Recipe) -> Array:
        """Point prediction for one recipe, (V,) nats: the geometric mean over the center's members, corrected.

        The corrections are the residual field near measured mixtures, and beyond the table the error that back-tests make expect.
        """
        return jnp.exp(self._log_center(recipe) + self._correction(recipe))

    def _log_center(self, recipe: Recipe) -> Array:
        return jnp.mean(jnp.log(self._members(self.center, recipe)), axis=0)

    def _correction(self, recipe: Recipe) -> Array:
        d = self.discrepancy
        near = nearest_fitted(recipe, d.size, d.tokens)
        fall = jnp.maximum(self._log_center(near) - self._log_center(fresh(recipe)), 0.0)
        at, inside = (field_correction(self.field, one) for one in (recipe, near))
        return corrected(d, fall, at, inside)

    def predict(self, recipe: Recipe) -> Array:
        """Losses of every draw for one recipe, (M, V) nats; vmap over recipes."""
        d = self.discrepancy
        log_draws = jnp.log(self._members(self.params, recipe))
        centered = log_draws - jnp.mean(log_draws, axis=0)
        mixed = jnp.einsum("mvk,k->mv", self.slope, (recipe.weights - d.mean) / d.spread) / np.sqrt(len(self.domains))
        within = jnp.sqrt(1.0 - d.mixture_share) * self.bias + jnp.sqrt(d.mixture_share) * mixed
        error = error_within(d, recipe) * within + leverage(d, recipe) * self._slopes()
        error = error - jnp.mean(error, axis=0)
        total = jnp.var(error, axis=0) + 1e-24
        rest = jnp.sqrt(jnp.maximum(1.0 - jnp.var(centered, axis=0) / total, LEAST_REST**2))
        return self.point(recipe) * jnp.exp(centered + rest * error)

    def _slopes(self) -> Array:
        """Errors per unit of leverage, (M, V), about their expectation: every draw has one of the scenarios."""
        d = self.discrepancy
        scenario = jnp.searchsorted(jnp.cumsum(d.weights)[:-1], self.tail)
        mean = (d.common[:, None] + d.own)[scenario] - expected_slope(d)
        common = jnp.sqrt(d.common_variance)[scenario][:, None] * self.beyond[:, :1]
        return mean + common + jnp.sqrt(d.own_variance)[scenario][:, None] * self.beyond[:, 1:]

    def _view(self) -> View:
        from camel_jax.views.fits import draws_view

        return draws_view(self)

    def to_xarray(self) -> Any:
        """Natural parameters and errors in scale of the draws as an xarray Dataset, with axes ``draw``, ``set`` and ``domain``.

        With as many sets as domains, axes of parameters whose length does not tell which they are have names of their own.

        Raises:
          MissingExtraError: xarray, which the extra ``bayes`` brings, is not installed.
        """
        from camel_jax.views.fits import draws_dataset, named_leaves

        groups = named_leaves(self.params) | {
            "error_bias": (("set",), self.bias),
            "error_slope": (("set", "domain"), self.slope),
            "error_common": ((), self.beyond[:, 0]),
            "error_own": (("set",), self.beyond[:, 1:]),
            "error_tail": ((), self.tail),
        }
        return draws_dataset(groups, ("draw",), {"set": self.sets, "domain": self.domains})

    def _members(self, params: Any, recipe: Recipe) -> Array:
        return _predict_members(self.law, self.units, params, recipe)

    def losses_at(self, size: str | float, tokens: str | float, supply: Array | None = None) -> LossesAt:
        """The draws as a function of the mixture, at one model size and token count.

        Args:
          size: active parameters, as a number or as text such as "7B" or "55B-A1.2B".
          tokens: training tokens, as a number or as text such as "1T".
          supply: unique tokens per domain, (K,), or None for no limit.
        """
        n_total, n_active = parse_size(size)
        total, active, seen = (jnp.asarray(x, float) for x in (n_total, n_active, parse_tokens(tokens)))
        law, params, center = without_idle(self.law, self.params, self.center)
        used = dataclasses.replace(self, law=law, params=params, center=center)
        return LossesAt(used, total, active, seen, None if supply is None else jnp.asarray(supply, float))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class LossesAt(Readable):
    """A differentiable function from a mixture (K,) to validation losses (V,), at one size and token count.

    ``self(weights)`` is the point prediction, ``self.draws(weights)`` the (M, V) draws; both in nats per token.

    Attributes:
      source: the draws.
      n_total: (), total parameters.
      n_active: (), active parameters.
      tokens: (), training tokens.
      supply: (K,) unique tokens per domain, or None for no limit.

    >>> import jax
    >>> import numpy as np
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> at = fitted.losses_at("300M-A100M", "10B")
    >>> tuple(f"{size:.0e}" for size in at.fitted_sizes)
    ('1e+07', '1e+08')
    >>> half = np.array([0.5, 0.5])
    >>> float(at.n_active), at(half).shape, at.draws(half).shape
    (100000000.0, (2,), (128, 2))
    """

    source: Draws
    n_total: Array
    n_active: Array
    tokens: Array
    supply: Array | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the K training domains."""
        return self.source.domains

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the V validation sets."""
        return self.source.sets

    @property
    def reference(self) -> Array:
        """Mean mixture of the fitted table, (K,)."""
        return self.source.discrepancy.mean

    @property
    def unmixed(self) -> bool:
        """Whether no run of the fitted table mixes domains, so that draws cannot tell which mixture is better."""
        return none_mix(self.source.discrepancy.mixtures)

    @property
    def measured(self) -> Array:
        """Mixtures of the fitted table, (G, K)."""
        return self.source.discrepancy.mixtures

    @property
    def fitted_sizes(self) -> tuple[float, float]:
        """Smallest and largest active parameters of the fitted table."""
        d = self.source.discrepancy
        return float(d.size * jnp.exp(-d.size_span)), float(d.size)

    @property
    def n_draws(self) -> int:
        """Number M of draws."""
        return len(self.source.bias)

    def recipe(self, weights: Array) -> Recipe:
        """The recipe of a mixture at this size and token count."""
        return Recipe(self.n_total, self.n_active, self.tokens, jnp.asarray(weights, float), self.supply)

    def __call__(self, weights: Array) -> Array:
        """Point prediction, (V,)."""
        return self.source.point(self.recipe(weights))

    def draws(self, weights: Array) -> Array:
        """Losses of every draw, (M, V)."""
        return self.source.predict(self.recipe(weights))

    def _view(self) -> View:
        from camel_jax.views.fits import source_view

        return source_view(self)

    def to_frame(self, weights: Array | None = None, level: float = 0.9) -> Any:
        """Predicted losses at a mixture as a pandas DataFrame: name, point, low and high.

        Args:
          weights: (K,) mixture; ``reference`` if None.
          level: probability of the intervals.
        """
        from camel_jax.views.fits import outcome_columns
        from camel_jax.views.view import to_frame

        return to_frame(outcome_columns(self, weights, level))

    def plot(self, weights: Array | None = None, ax: Any = None) -> Any:
        """Predicted losses at a mixture (``reference`` if None) with 90 % intervals; returns the Axes."""
        from camel_jax.views.fits import plot_outcomes

        return plot_outcomes(self, weights, ax)


LEAST_REST = 0.2  # of the error that a draw carries however wide the spread of the law's parameters is


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def draw_errors(key: Array, n_draws: int, n_sets: int, n_domains: int) -> tuple[Array, Array, Array, Array]:
    """Errors of draws: bias (M, V), half of it common to all sets, slopes over mixtures (M, V, K), and beyond and tail of ``Draws``."""
    common, own, slope = jax.random.split(key, 3)
    bias = jax.random.normal(common, (n_draws, 1)) + jax.random.normal(own, (n_draws, n_sets))
    beyond, tail = jax.random.split(jax.random.fold_in(key, 1))
    spread = jax.random.permutation(tail, (jnp.arange(n_draws) + 0.5) / n_draws)
    slopes = jax.random.normal(slope, (n_draws, n_sets, n_domains))
    return bias / np.sqrt(2.0), slopes, jax.random.normal(beyond, (n_draws, 1 + n_sets)), spread
