"""The numpyro model of every law."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpyro
from numpyro import distributions as dist
from numpyro.infer.util import potential_energy

from camel_jax.bayes.noise import RunNoise, Table
from camel_jax.bayes.priors import Layout, to_raw
from camel_jax.laws.law import predict_rows
from camel_jax.types import Array


def model(plan: Layout, table: Table, observed: Array | None = None) -> None:
    """Standard normals, the law's raw parameters made of them, and the log losses of the table around the law.

    Args:
      plan: the law and its priors. table: recipes and what is measured.
      observed: log losses (G, C, V), or None to draw them.
    """
    z = {
        name: numpyro.sample(name, dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
        for name, shape in plan.sites.items()
    }
    numpyro.sample("log_losses", run_noise(plan, table, z), obs=observed)


def run_noise(plan: Layout, table: Table, z: Mapping[str, Array]) -> RunNoise:
    """The distribution of the log losses of a table, given the standard normals."""
    raw, noise = to_raw(plan, z, table.mean)
    losses = predict_rows(plan.law, plan.law.constrain(raw), table.recipe)
    center = jnp.log(losses).reshape(jnp.shape(table.log_losses))
    return RunNoise(center, noise, table.measured, table.wear)


def potential(plan: Layout, table: Table, z: Mapping[str, Array]) -> Array:
    """Negative log density of parameters and table, ()."""
    return potential_energy(model, (plan, table, table.log_losses), {}, dict(z))


def simulate(plan: Layout, table: Table, key: Array) -> tuple[dict[str, Array], Array]:
    """Parameters from the prior and a table from them: standard normals by site, and log losses (G, C, V)."""
    drawn = numpyro.handlers.trace(numpyro.handlers.seed(model, key)).get_trace(plan, table)
    return {name: drawn[name]["value"] for name in plan.sites}, drawn["log_losses"]["value"]


@partial(jax.jit, static_argnums=(0, 3))
def prior_predictive(plan: Layout, table: Table, key: Array, count: int = 200) -> Array:
    """Log losses that the priors alone allow, (count, G, C, V), in units of the table: what "weakly informative" means here."""
    return jax.vmap(lambda k: simulate(plan, table, k)[1])(jax.random.split(key, count))
