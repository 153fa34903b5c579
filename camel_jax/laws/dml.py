"""DML, the data mixing law (Ye et al. 2025, arXiv 2403.16952): an exponential of a linear function of the shares.

L_v = c_v + k_v exp(sum_i t_vi r_i) + A_v N^-a_v + B_v D^-b_v
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.coordinates import DML, scaling_coordinates
from camel_jax.laws.law import Law
from camel_jax.laws.repetition import overfitting
from camel_jax.laws.scaling import (
    gaussian,
    join_terms,
    published_prior,
    scaling_constrain,
    scaling_init,
    scaling_log_prior,
    scaling_structure,
    scaling_terms,
)
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers.structure import Structure, Term
from camel_jax.tables.runs import Runs
from camel_jax.types import Array, PerSet


@lru_cache(maxsize=64)
def dml(upgraded: bool = True) -> Law:
    """The data mixing law, with size and data terms.

    Args:
      upgraded: couple the size and data terms and put priors on the parameters; False is the published form.

    >>> dml().separable
    True
    """

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        raw = scaling_init(key, runs, upgraded)
        scale, slope = jax.random.split(jax.random.fold_in(key, 7))
        n_sets, n_domains = len(runs.sets), len(runs.domains)
        raw["mixture_scale"] = np.log(0.3) + 0.3 * jax.random.normal(scale, (n_sets,))
        raw["mixture_slope"] = 0.5 * jax.random.normal(slope, (n_sets, n_domains))
        return raw

    def constrain(raw: dict[str, Array]) -> dict[str, Array]:
        params = scaling_constrain({k: v for k, v in raw.items() if k != "mixture_slope"})
        return params | {"mixture_slope": raw["mixture_slope"]}

    def predict(params: dict[str, Array], recipe: Recipe) -> PerSet:
        slope = jnp.matmul(params["mixture_slope"], recipe.weights, precision="highest")
        lost = overfitting(params, recipe, recipe.n_active)
        mixture = params["mixture_scale"] * jnp.exp(slope)
        return params["floor"] + mixture + join_terms(params, *scaling_terms(params, recipe)) + lost

    def log_prior(raw: dict[str, Array]) -> Array:
        mixture = gaussian(raw["mixture_scale"], np.log(0.3), 0.1) + gaussian(raw["mixture_slope"], 0.0, 0.1)
        return scaling_log_prior(raw) + mixture

    def structure(raw: dict[str, Array], recipe: Recipe) -> Structure | None:
        return scaling_structure(
            raw, recipe, [Term([{"mixture_scale": 1.0, "mixture_slope": np.asarray(recipe.weights).T}])]
        )

    return Law(
        "dml",
        init,
        predict,
        constrain,
        log_prior if upgraded else published_prior,
        separable=True,
        min_runs=lambda runs: len(runs.domains) + 3,
        settings=(("upgraded", upgraded),),
        structure=structure,
        coordinates=scaling_coordinates(**DML),
    )
