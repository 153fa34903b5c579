"""SODM, scaling laws for optimal data mixtures (Shukor et al. 2025, arXiv 2507.09404), additive and joint.

additive   L_v = E + 1 / sum_i C_i r_i^g_i + A N^-a + B D^-b
joint      L_v = E + 1 / sum_i C_i r_i^g_i + (sum_i CA_i r_i)^gA N^-a + (sum_i CB_i r_i)^gB D^-b
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.coordinates import JOINT, SODM, scaling_coordinates
from camel_jax.laws.law import Law, runs_for_domains
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
from camel_jax.numerics.stable import power
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers.structure import Structure, Term
from camel_jax.tables.runs import Runs
from camel_jax.types import Array


def _sodm(joint: bool, upgraded: bool) -> Law:
    name = "sodm_joint" if joint else "sodm"

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        raw = scaling_init(key, runs, upgraded)
        keys = jax.random.split(jax.random.fold_in(key, 7), 4)
        shape = len(runs.sets), len(runs.domains)
        raw["mixture_scale"] = np.log(4.0) + 0.5 * jax.random.normal(keys[0], shape)
        raw["mixture_exponent"] = np.log(0.5) + 0.3 * jax.random.normal(keys[1], shape)
        if joint:
            for term, k in (("size", keys[2]), ("data", keys[3])):
                if f"{term}_scale" in raw:
                    raw[f"{term}_mixture"] = 0.3 * jax.random.normal(k, shape)
                    raw[f"{term}_power"] = jnp.zeros(shape[:1])
                    del raw[f"{term}_scale"]  # the mixture's coefficients carry the scale
        return raw

    def constrain(raw: dict[str, Array]) -> dict[str, Array]:
        powers = {k: raw[k] for k in raw if k.endswith("_power")}
        return scaling_constrain({k: v for k, v in raw.items() if k not in powers}) | powers

    def predict(params: dict[str, Array], recipe: Recipe) -> Array:
        r, lost = recipe.weights, overfitting(params, recipe, recipe.n_active)
        demand = jnp.sum(params["mixture_scale"] * power(r, params["mixture_exponent"]), axis=-1)
        if joint:
            for term in ("size", "data"):
                if f"{term}_mixture" in params:
                    scale = jnp.matmul(0.2 * params[f"{term}_mixture"], r, precision="highest")
                    params = params | {f"{term}_scale": power(scale, params[f"{term}_power"])}
        return params["floor"] + 1.0 / demand + join_terms(params, *scaling_terms(params, recipe)) + lost

    def log_prior(raw: dict[str, Array]) -> Array:
        total = scaling_log_prior(raw)
        total += gaussian(raw["mixture_scale"], np.log(4.0), 0.1) + gaussian(raw["mixture_exponent"], np.log(0.5), 1.0)
        for term in ("size", "data"):
            if f"{term}_mixture" in raw:
                total += gaussian(raw[f"{term}_mixture"], 0.0, 0.1) + gaussian(raw[f"{term}_power"], 0.0, 0.1)
        return total

    def structure(raw: dict[str, Array], recipe: Recipe) -> Structure | None:
        r = np.asarray(recipe.weights).T
        log_r = np.log(np.where(r > 0, r, 1.0))
        branches = [{("mixture_scale", i): 1.0, ("mixture_exponent", i): row} for i, row in enumerate(log_r)]
        return scaling_structure(raw, recipe, [Term(branches, power=-1.0, present=r > 0)], ("mixture_exponent",))

    return Law(
        name,
        init,
        predict,
        constrain,
        log_prior if upgraded else published_prior,
        separable=True,
        min_runs=runs_for_domains if upgraded else lambda runs: len(runs.domains) + 3,
        settings=(("upgraded", upgraded),),
        structure=None if joint else structure,
        coordinates=scaling_coordinates(**SODM, **(JOINT if joint else {})),
    )


@lru_cache(maxsize=64)
def sodm(upgraded: bool = True) -> Law:
    """SODM, additive form: the mixture shifts the loss by the same amount at every size.

    Args:
      upgraded: couple the size and data terms and put priors on the parameters; False is the published form.

    >>> sodm().name
    'sodm'
    """
    return _sodm(False, upgraded)


@lru_cache(maxsize=64)
def sodm_joint(upgraded: bool = True) -> Law:
    """SODM, joint form: the mixture also sets the scale of the size and data terms.

    Args:
      upgraded: couple the size and data terms and put priors on the parameters; False is the published form.

    >>> sodm_joint().name
    'sodm_joint'
    """
    return _sodm(True, upgraded)
