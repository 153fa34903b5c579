"""Draws: one type for what a bootstrap, a Laplace approximation and a sampler know, with the discrepancy of a law in scale.

A fitted law is never exactly right at a size it has not seen. Its error there is mostly a bias per validation set, partly
shared by all sets, and partly a smooth function of the mixture. Each draw m carries one such error, so that intervals and
decisions see it:

    log L_mv(r) = log point_v(r) + (log law_m(r) - mean over draws) + scale_v g(N, D) e_mv(r)
    e_mv(r)     = sqrt(1 - c) (common_m + own_mv) / sqrt(2) + sqrt(c / K) sum_i z_mvi (r_i - mean_i) / spread_i
    g(N, D)     = s (level + growth (log+(N / N_max) + log+(D / D_max) / 2)) / typical
    s           = max(1, finished / D)^0.4

Laws are furthest off early in training, hence s.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.law import Law, Units, in_units
from camel_jax.prediction.discrepancy import Discrepancy, discrepancy_factor
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
      bias: (M, V) standard normals. slope: (M, V, K) standard normals.
      law: the law in units of the table (static).
      domains, sets: names (static).
    """

    params: Any
    center: Any
    units: Units
    discrepancy: Discrepancy
    field: ResidualField
    bias: Array
    slope: Array
    law: Law = dataclasses.field(metadata={"static": True})
    domains: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    sets: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    def point(self, recipe: Recipe) -> Array:
        """Point prediction for one recipe, (V,) nats: the geometric mean over the center's members, and the field."""
        law = jnp.mean(jnp.log(self._members(self.center, recipe)), axis=0)
        rows = np.shape(self.field.log_size)[-1]
        return jnp.exp(law + field_correction(self.field, recipe) if rows else law)

    def predict(self, recipe: Recipe) -> Array:
        """Losses of every draw for one recipe, (M, V) nats; vmap over recipes."""
        d = self.discrepancy
        log_draws = jnp.log(self._members(self.params, recipe))
        centered = log_draws - jnp.mean(log_draws, axis=0)
        mixed = jnp.einsum("mvk,k->mv", self.slope, (recipe.weights - d.mean) / d.spread) / np.sqrt(len(self.domains))
        error = jnp.sqrt(1.0 - d.mixture_share) * self.bias + jnp.sqrt(d.mixture_share) * mixed
        error = (error - jnp.mean(error, axis=0)) * d.scale * discrepancy_factor(d, recipe)
        return self.point(recipe) * jnp.exp(centered + error)

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
        return LossesAt(self, total, active, seen, None if supply is None else jnp.asarray(supply, float))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class LossesAt(Readable):
    """A differentiable function from a mixture (K,) to validation losses (V,), at one size and token count.

    ``self(weights)`` is the point prediction, ``self.draws(weights)`` the (M, V) draws; both in nats per token.
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
          weights: (K,) mixture; ``reference`` if None. level: probability of the intervals.
        """
        from camel_jax.views.fits import outcome_columns
        from camel_jax.views.view import to_frame

        return to_frame(outcome_columns(self, weights, level))

    def plot(self, weights: Array | None = None, ax: Any = None) -> Any:
        """Predicted losses at a mixture (``reference`` if None) with 90 % intervals; returns the Axes."""
        from camel_jax.views.fits import plot_outcomes

        return plot_outcomes(self, weights, ax)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def draw_errors(key: Array, n_draws: int, n_sets: int, n_domains: int) -> tuple[Array, Array]:
    """Standard normal errors of draws: bias (M, V), half of it common to all sets, and slopes (M, V, K)."""
    common, own, slope = jax.random.split(key, 3)
    bias = jax.random.normal(common, (n_draws, 1)) + jax.random.normal(own, (n_draws, n_sets))
    return bias / np.sqrt(2.0), jax.random.normal(slope, (n_draws, n_sets, n_domains))
