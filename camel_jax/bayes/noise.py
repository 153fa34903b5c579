"""What a run measures around a law: a multivariate Student-t over all its checkpoints and sets.

The log residual of run g at checkpoint c on set v, in units of the scale sigma_v of its set and of the wear w_gc of its
checkpoint, is a sum of three effects divided by one random factor of the run:

    z_gcv = (log L_gcv - log law_v(x_gc)) / (sigma_v w_gc) = (common_g + own_gv + single_gcv) / sqrt(chi2_g(nu) / nu)

    var common = s, var own = (1 - s) t, var single = (1 - s) (1 - t)

Checkpoints of a run and sets of a run are correlated, so eleven checkpoints are not eleven runs; and the shared factor makes a
bad run one outlier and not many. All three effects are integrated out in closed form (Sherman and Morrison, twice).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from numpyro import distributions as dist

from camel_jax.fitting.objective import PROGRESS_POWER
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, progress
from camel_jax.types import Array


class Table(NamedTuple):
    """Runs laid out for the model: G runs of at most C checkpoints, in units of the table.

    Attributes:
      recipe: (G C, ...) recipes, missing checkpoints filled with the first row.
      log_losses: (G, C, V); 0 where not measured.
      measured: (G, C, V) bool.
      wear: (G, C): how much noisier a checkpoint is than the end of a run.
      mean: (K,) mean mixture.
    """

    recipe: Recipe
    log_losses: Array
    measured: Array
    wear: Array
    mean: Array


class Noise(NamedTuple):
    """Parameters of the noise.

    Attributes:
      scale: sigma, (V,), of log loss.
      common: s, (): share of the variance that all sets and checkpoints of a run have in common.
      own: t, (): share of the rest that the checkpoints of a run have in common on one set; not told by tables of final rows.
      tail: nu, (): degrees of freedom.
    """

    scale: Array
    common: Array
    own: Array
    tail: Array


def lay_out(runs: Runs) -> Table:
    """A table in its units as ``Table``; host side."""
    run = np.unique(np.asarray(runs.run), return_inverse=True)[1].reshape(-1)
    order = np.lexsort((np.asarray(runs.recipe.tokens), run))
    place = np.arange(len(run)) - np.searchsorted(run[order], run[order])
    shape = run.max() + 1, place.max() + 1
    index, there = np.zeros(shape, int), np.zeros(shape, bool)
    index[run[order], place], there[run[order], place] = order, True
    losses = np.asarray(runs.losses, float)[index]
    measured = np.isfinite(losses) & there[:, :, None]
    supply = runs.recipe.supply
    if supply is not None:
        supply = np.broadcast_to(np.asarray(supply, float), np.shape(runs.recipe.weights))
    r = runs.recipe
    recipe = Recipe(r.n_total, r.n_active, r.tokens, r.weights, supply)
    return Table(
        jax.tree.map(lambda x: jnp.asarray(np.asarray(x, float)[index.ravel()]), recipe),
        jnp.asarray(np.log(np.where(measured, losses, 1.0))),
        jnp.asarray(measured),
        jnp.asarray(progress(runs)[index] ** (-PROGRESS_POWER / 2)),
        jnp.asarray(np.asarray(r.weights, float).mean(0)),
    )


class RunNoise(dist.Distribution):
    """Log losses (G, C, V) of runs around those of a law, as a numpyro distribution.

    Args:
      center: log losses of the law, (G, C, V). noise: its parameters.
      measured: (G, C, V) bool; what is not measured counts for nothing. wear: (G, C).
    """

    pytree_data_fields = ("center", "noise", "measured", "wear")

    def __init__(self, center: Array, noise: Noise, measured: Array, wear: Array):
        self.center, self.noise, self.measured, self.wear = center, noise, measured, wear
        super().__init__(batch_shape=(), event_shape=jnp.shape(center), validate_args=False)

    @property
    def support(self) -> dist.constraints.Constraint:
        """Tables of real numbers."""
        return dist.constraints.independent(dist.constraints.real, 3)

    def log_prob(self, value: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Log density of a table, ()."""
        return jnp.sum(self.by_run(value))

    def by_run(self, value: Array) -> Array:
        """Log density of every run, (G,)."""
        noise, seen = self.noise, self.measured
        unit = self.wear[:, :, None] * noise.scale
        z = jnp.where(seen, (value - self.center) / unit, 0.0)
        count, total = jnp.sum(seen, axis=1), jnp.sum(z, axis=1)  # (G, V)
        own, single = (1.0 - noise.common) * noise.own, (1.0 - noise.common) * (1.0 - noise.own)
        joint = single + count * own
        quad = (jnp.sum(z**2, axis=1) - own * total**2 / joint) / single
        logdet = jnp.where(count > 0, (count - 1) * jnp.log(single) + jnp.log(joint), 0.0)
        ones, cross = jnp.sum(count / joint, axis=1), jnp.sum(total / joint, axis=1)  # (G,)
        spread = 1.0 + noise.common * ones
        quad = jnp.sum(quad, axis=1) - noise.common * cross**2 / spread
        units = jnp.sum(jnp.where(seen, jnp.log(self.wear)[:, :, None], 0.0), axis=(1, 2)) + count @ jnp.log(
            noise.scale
        )
        logdet = jnp.sum(logdet, axis=1) + jnp.log(spread) + 2.0 * units
        n, nu = jnp.sum(count, axis=1), noise.tail
        height = gammaln((nu + n) / 2) - gammaln(nu / 2) - 0.5 * n * jnp.log(nu * jnp.pi)
        return height - 0.5 * logdet - 0.5 * (nu + n) * jnp.log1p(quad / nu)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Log losses of runs, (*sample_shape, G, C, V)."""
        n_runs, _, n_sets = jnp.shape(self.center)
        keys = jax.random.split(key, 4)
        noise = self.noise
        common = jax.random.normal(keys[0], (*sample_shape, n_runs, 1, 1))
        own = jax.random.normal(keys[1], (*sample_shape, n_runs, 1, n_sets))
        single = jax.random.normal(keys[2], (*sample_shape, *jnp.shape(self.center)))
        factor = 2.0 * jax.random.gamma(keys[3], noise.tail / 2, (*sample_shape, n_runs, 1, 1)) / noise.tail
        remaining = jnp.sqrt(1.0 - noise.common)
        z = jnp.sqrt(noise.common) * common
        z = z + remaining * (jnp.sqrt(noise.own) * own + jnp.sqrt(1.0 - noise.own) * single)
        return self.center + self.wear[:, :, None] * noise.scale * z / jnp.sqrt(factor)


def noise_deviation(noise: Noise) -> Array:
    """Standard deviation of log loss at the end of a run, (V,) or with the leading axes of the parameters."""
    return noise.scale * jnp.sqrt(noise.tail / (noise.tail - 2.0))[..., None]
