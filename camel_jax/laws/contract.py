"""Whether the functions of a law do what the contract says, found on shapes alone before a fit is started."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.law import Law, flat_leaves
from camel_jax.recipes.user_functions import naming
from camel_jax.tables.runs import Runs


def check_contract(law: Law, runs: Runs) -> None:
    """Trace the functions of a law once, on a table of these names, and compare what they give with the contract.

    Args:
      law: the law. runs: the table, in its units.

    Raises:
      ValueError: a function fails or gives something else; the message names the function, its place and the shapes.
    """
    if all(str(getattr(f, "__module__", "")).startswith("camel_jax.") for f in (law.init, law.predict, law.log_prior)):
        return  # the package's own are tested, and tracing takes a while
    domains, sets = len(runs.domains), len(runs.sets)
    key = jax.random.key(0)
    with naming(f"init of the law {law.name!r}", law.init, f"a key and a table of {domains} domains and {sets} sets"):
        raw = jax.eval_shape(lambda k: law.init(k, runs), key)
    if not _is_nested(raw):
        raise ValueError(
            f"init of the law {law.name!r} must give a dictionary of arrays (or of dictionaries), not {type(raw).__name__}"
        )
    shapes = ", ".join(f"{name} {x.shape}" for name, x in flat_leaves(raw).items())[:300]
    with naming(f"constrain of the law {law.name!r}", law.constrain, f"raw parameters {shapes}"):
        params = jax.eval_shape(law.constrain, raw)
    recipe = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], jnp.result_type(float)), runs.recipe)
    if runs.recipe.supply is not None and np.ndim(runs.recipe.supply) == 1:
        recipe = dataclasses.replace(recipe, supply=jax.ShapeDtypeStruct((domains,), jnp.result_type(float)))
    took = f"parameters {shapes} and a recipe with weights ({domains},)"
    with naming(f"predict of the law {law.name!r}", law.predict, took):
        losses = jax.eval_shape(law.predict, params, recipe)
    if getattr(losses, "shape", None) != (sets,):
        given = getattr(losses, "shape", type(losses).__name__)
        raise ValueError(
            f"predict of the law {law.name!r} must give losses ({sets},), one a validation set, not {given}"
        )
    with naming(f"log_prior of the law {law.name!r}", law.log_prior, f"raw parameters {shapes}"):
        prior = jax.eval_shape(law.log_prior, raw)
    if getattr(prior, "shape", None) != ():
        raise ValueError(
            f"log_prior of the law {law.name!r} must give one number, not shape {getattr(prior, 'shape', None)}"
        )


def _is_nested(raw: Any) -> bool:
    if not hasattr(raw, "items") or not raw:
        return False
    return all(isinstance(k, str) and "/" not in k and (hasattr(x, "shape") or _is_nested(x)) for k, x in raw.items())
