"""A posterior over a law: its draws, how far to trust them, and what decisions and predictions need."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.bayes.noise import Noise, Table, noise_deviation
from camel_jax.bayes.priors import Layout, to_raw
from camel_jax.bayes.whitening import unflatten
from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.fitting.result import Fit
from camel_jax.laws.law import Law, Units, flat_leaves, in_units, predict_rows
from camel_jax.prediction.discrepancy import discrepancy_scale
from camel_jax.prediction.draws import Draws, LossesAt
from camel_jax.prediction.residual_field import field_correction, unknown_share
from camel_jax.recipes.outcome import Interval
from camel_jax.recipes.recipe import Recipe
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

KEPT = 256  # draws that go into decisions and files, evenly spaced over all chains


@dataclasses.dataclass(frozen=True, repr=False)
class Posterior(Readable):
    """Draws of a law given a table of runs.

    Attributes:
      fit: the posterior as a ``Fit``, with ``KEPT`` draws in place of starts and resamples: what predict, mix, budget and design read.
      raw: unconstrained parameters of all draws, leaves (C, N, ...).
      noise: ``Noise`` of all draws, leaves (C, N, ...).
      z: standard normals behind them, (C, N, D).
      log_density: (C, N), up to a constant.
      plan: the law and the priors of its numbers, in the order of ``z``.
      table: the runs that the model was given, in units of the table.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(1e7, 1e8), checkpoints=1)
    >>> quick = cj.sample_posterior(cj.laws.chinchilla(), runs, jax.random.key(1), draws=100, method="laplace")
    >>> at = quick.predict(cj.dense(3e8, 1e10, [0.5, 0.5]), level=0.5)
    >>> bool((at.low < at.point).all() and (at.point < at.high).all())
    True
    """

    fit: Fit
    raw: dict[str, np.ndarray]
    noise: Noise
    z: np.ndarray
    log_density: np.ndarray
    plan: Layout
    table: Table

    def _view(self) -> View:
        from camel_jax.views.fits import posterior_view

        return posterior_view(self)

    def to_frame(self) -> Any:
        """One row a raw parameter and noise, as a pandas DataFrame: name, mean, sd, low and high (90 %)."""
        from camel_jax.views.fits import posterior_columns
        from camel_jax.views.view import to_frame

        return to_frame(posterior_columns(flat_leaves(self.raw), self.noise))

    def plot(self, ax: Any = None) -> Any:
        """Predicted losses along sizes at the mean mixture, with 90 % intervals; returns the Axes."""
        return self.fit.plot(ax)

    def to_xarray(self) -> Any:
        """All draws of raw parameters and noise as an xarray Dataset, with axes ``chain``, ``draw``, ``set`` and ``domain``."""
        from camel_jax.views.fits import draws_dataset

        axes = {"scale": ("set",), "common": (), "own": (), "tail": ()}
        noise = {f"noise_{name}": (axes[name], np.asarray(x)) for name, x in self.noise._asdict().items()}
        names = {"set": self.fit.sets, "domain": self.fit.domains}
        return draws_dataset(
            flat_leaves(self.raw) | noise | {"log_density": ((), self.log_density)}, ("chain", "draw"), names
        )

    def draws(self) -> Draws:
        """``KEPT`` draws with their errors in scale, for decisions."""
        return self.fit.draws()

    def losses_at(self, size: str | float, tokens: str | float, supply: Array | None = None) -> LossesAt:
        """Losses as a differentiable function of the mixture at one size and token count; see ``Draws.losses_at``."""
        return self.fit.losses_at(size, tokens, supply)

    @property
    def diagnostics(self) -> Diagnostics:
        """Whether the draws can be relied on; they travel with the fit."""
        assert self.fit.diagnostics is not None
        return self.fit.diagnostics

    def verdict(self) -> str:
        """Whether the draws can be relied on, in plain words."""
        return self.diagnostics.verdict()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``fit``, the posterior as a fit, to one file; ``load_fit`` and the command line read it."""
        self.fit.save(path)

    def sample_losses(
        self, recipe: Recipe, *, key: Array | None = None, noise: bool = True, field: bool = True
    ) -> np.ndarray:
        """Draws of the losses of new runs.

        Args:
          recipe: recipes with a leading axis R.
          key: a ``jax.random`` key for the noise.
          noise: with the noise of a run and the error of the law in scale; False for the law alone.
          field: correct near measured mixtures, as the predictions of a fit do; what the correction already knows of the error
            of a run is no longer open, and its noise is smaller by as much (``unknown_share``).

        Returns:
          (M, R, V) losses in nats per token, for all M = C N draws.
        """
        key = jax.random.key(self.fit.seed) if key is None else key
        recipe = jax.tree.map(lambda x: jnp.asarray(x, float), recipe)
        flat = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *np.shape(x)[2:]), (self.raw, self.noise))
        logs = _law_rows(self.fit.inner_law, self.fit.units, flat[0], recipe)
        if field:
            bare = dataclasses.replace(recipe, supply=None)
            logs = logs + jax.lax.map(partial(field_correction, self.fit.field), bare, batch_size=256)
        if noise:
            reach = _reach(self.fit, recipe)
            reach = reach * jnp.sqrt(unknown_share(self.fit.field, recipe)) if field else reach
            logs = logs + _errors(key, flat[1], reach, logs.shape)
        return np.exp(np.asarray(logs))

    def predict(self, recipe: Recipe, level: float = 0.9, *, key: Array | None = None) -> Interval:
        """Predicted losses with a central interval for a measured loss, from quantiles of the posterior predictive.

        Args:
          recipe: one recipe, or recipes with a leading axis R.
          level: probability mass of the interval, in (0, 1).
          key: a ``jax.random`` key for the noise.

        Returns:
          (V,) or (R, V) losses in nats per token.

        Raises:
          ValueError: level outside (0, 1).
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must lie in (0, 1); got {level}")
        if np.ndim(recipe.tokens) == 0:
            one = self.predict(jax.tree.map(lambda x: jnp.asarray(x)[None], recipe), level, key=key)
            return Interval(*(x[0] for x in one))
        logs = np.log(self.sample_losses(recipe, key=key))
        low, high = np.quantile(logs, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        point = self.fit.predict(recipe)
        return Interval(point, np.exp(low), np.exp(high))

    def to_arviz(self) -> Any:
        """The draws as ArviZ's inference data: raw parameters, noise and log density.

        Raises:
          ImportError: ArviZ, an optional extra, is not installed.
        """
        try:
            from arviz_base import from_dict  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("this export needs ArviZ: pip install 'camel-jax[bayes]'") from error
        noise = {f"noise_{name}": np.asarray(x) for name, x in self.noise._asdict().items()}
        return from_dict({"posterior": flat_leaves(self.raw) | noise, "sample_stats": {"lp": self.log_density}})


@partial(jax.jit, static_argnums=0)
def all_draws(plan: Layout, z: Array, mean: Array) -> tuple[dict[str, Array], Noise]:
    """Raw parameters and noise of standard normals (C, N, D)."""
    return jax.vmap(jax.vmap(lambda x: to_raw(plan, unflatten(plan, x), mean)))(z)


@partial(jax.jit, static_argnums=0)
def _law_rows(law: Law, units: Units, raw: Any, recipe: Recipe) -> Array:
    return jax.lax.map(lambda r: jnp.log(predict_rows(in_units(law, units), law.constrain(r), recipe)), raw)


def _reach(fit: Fit, recipe: Recipe) -> Array:
    """How much larger errors are at recipes than within the table, (R, V); see ``discrepancy_scale``."""
    d = fit.discrepancy
    if not np.any(d.common_variance):
        return jnp.ones((len(recipe), 1))
    bare = dataclasses.replace(recipe, supply=None)
    return jax.lax.map(partial(discrepancy_scale, d), bare, batch_size=256) / d.scale


def _errors(key: Array, noise: Noise, reach: Array, shape: tuple[int, ...]) -> Array:
    """Errors of log loss: Student-t of every draw, correlated over the sets of a recipe as in ``RunNoise``, (M, R, V)."""
    run, single, gamma = jax.random.split(key, 3)
    tail, shared = noise.tail[:, None, None], noise.common[:, None, None]
    factor = 2.0 * jax.random.gamma(gamma, tail / 2, (shape[0], shape[1], 1)) / tail
    z = jnp.sqrt(shared) * jax.random.normal(run, (shape[0], shape[1], 1))
    z = z + jnp.sqrt(1.0 - shared) * jax.random.normal(single, shape)
    return noise.scale[:, None, :] * z / jnp.sqrt(factor) * reach


def typical_deviation(noise: Noise) -> np.ndarray:
    """Median over draws of the standard deviation of log loss, (V,)."""
    return np.median(np.asarray(noise_deviation(noise)).reshape(-1, np.shape(noise.scale)[-1]), axis=0)
