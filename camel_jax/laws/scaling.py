"""Floor, size and data terms that the separable laws share, with their starts, bounds and priors."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.coordinates import DATA_EXPONENT, SIZE_EXPONENT
from camel_jax.laws.law import faint_prior, varies
from camel_jax.laws.repetition import (
    LEAVES,
    effective_data,
    effective_size,
    overfitting,
    repetition_constrain,
    repetition_init,
    repetition_log_prior,
)
from camel_jax.numerics.stable import logsumexp
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers.structure import Structure, Term, structure
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

FLOOR = 0.5  # center of its prior, in units of the table


def scaling_init(key: Array, runs: Runs, coupled: bool) -> dict[str, Array]:
    """Random raw starts, leaves of shape (V,), of the floor, size and data terms that the table can tell apart.

    There are parameters of repetition where the table has a supply. The size term is
    dropped from a table with one size, the data term from one with one token count.
    """
    n_sets = len(runs.sets)
    keys = jax.random.split(key, 6)

    def normal(i: int, center: float, spread: float) -> Array:
        return center + spread * jax.random.normal(keys[i], (n_sets,))

    raw = {"floor": normal(0, np.log(FLOOR), 0.2)}
    if varies(runs.recipe.n_active):
        raw["size_scale"] = normal(1, np.log(0.2), 0.4)
        raw["size_exponent"] = normal(2, np.log(SIZE_EXPONENT), 0.3)
    if varies(runs.recipe.tokens):
        raw["data_scale"] = normal(3, np.log(0.2), 0.4)
        raw["data_exponent"] = normal(4, np.log(DATA_EXPONENT), 0.3)
    if coupled and "size_scale" in raw and "data_scale" in raw:
        raw["coupling"] = normal(5, -1.0, 0.1)
    if runs.recipe.supply is not None:
        raw |= repetition_init(jax.random.fold_in(key, 8), (n_sets,))
    return raw


def scaling_constrain(raw: dict[str, Array]) -> dict[str, Array]:
    """Natural parameters: exponentials, and p = 1 + exp for the coupling."""
    return {
        name: repetition_constrain(name, value)
        if name in LEAVES
        else jnp.exp(value) + (1.0 if name == "coupling" else 0.0)
        for name, value in raw.items()
    }


def join_terms(params: dict[str, Array], size_loss: Array | None, data_loss: Array | None) -> Array:
    """Sum of the log-space size and data terms, or their p-norm where the law is coupled; log terms in, loss out."""
    terms = [term for term in (size_loss, data_loss) if term is not None]
    if not terms:
        return jnp.zeros_like(params["floor"])
    if "coupling" in params:
        p = params["coupling"]
        return jnp.exp(logsumexp(jnp.stack([p * term for term in terms]), axis=0) / p)
    return sum(jnp.exp(term) for term in terms)


def scaling_terms(params: dict[str, Array], recipe: Recipe) -> tuple[Array | None, Array | None]:
    """Log of the size term A N^-a and of the data term B D^-b; None where the table could not tell."""
    size = data = None
    if "size_scale" in params:
        worth = effective_size(params, recipe, recipe.n_active)
        size = jnp.log(params["size_scale"]) - params["size_exponent"] * jnp.log(worth)
    if "data_scale" in params:
        data = jnp.log(params["data_scale"]) - params["data_exponent"] * jnp.log(effective_data(params, recipe))
    return size, data


def scaling_loss(params: dict[str, Array], recipe: Recipe) -> Array:
    """Floor, size and data terms, and what is lost by repetition: the loss but for the mixture's own term."""
    joint = join_terms(params, *scaling_terms(params, recipe))
    return params["floor"] + joint + overfitting(params, recipe, recipe.n_active)


def scaling_structure_terms(raw: dict[str, Array], recipe: Recipe) -> list[Term]:
    """The floor, size and data terms as the least squares solver reads them; raw tells which are there."""
    size = {"size_scale": 1.0, "size_exponent": -np.log(np.asarray(recipe.n_active))}
    data = {"data_scale": 1.0, "data_exponent": -np.log(np.asarray(recipe.tokens))}
    there = [branch for branch in (size, data) if next(iter(branch)) in raw]
    coupled = [Term(there, coupling="coupling")] if "coupling" in raw else [Term([branch]) for branch in there]
    # one feature a row, so that a floor alone, on a table of one size and one token count, knows how many rows there are
    return [Term([{"floor": np.ones(np.shape(recipe.n_active))}]), *coupled]


def scaling_structure(
    raw: dict[str, Array], recipe: Recipe, mixture: Sequence[Term] = (), positive: tuple[str, ...] = ()
) -> Structure | None:
    """Structure of a separable law: floor, size and data terms, and the mixture's own terms; None with parameters of repetition."""
    if "repeat" in raw:
        return None
    leaves = {name: np.shape(value)[1:] for name, value in raw.items()}
    powers = [name for name in ("size_exponent", "data_exponent", *positive) if name in raw]
    return structure(leaves, [*scaling_structure_terms(raw, recipe), *mixture], powers)


def gaussian(value: Array, center: float, precision: float) -> Array:
    """Log density, up to a constant, of independent normals."""
    return -0.5 * precision * jnp.sum((value - center) ** 2)


def scaling_log_prior(raw: dict[str, Array]) -> Array:
    """Priors of the upgraded baselines, the same in kind and strength as CAMEL's."""
    centers = {
        "floor": (np.log(FLOOR), 1.0),
        "size_scale": (np.log(0.2), 0.1),
        "size_exponent": (np.log(SIZE_EXPONENT), 30.0),
        "data_scale": (np.log(0.2), 0.1),
        "data_exponent": (np.log(DATA_EXPONENT), 30.0),
        "coupling": (-1.0, 2.0),
    }
    total = sum((gaussian(raw[k], *spec) for k, spec in centers.items() if k in raw), start=jnp.zeros(()))
    return total + repetition_log_prior(raw) if "repeat" in raw else total


def published_prior(raw: dict[str, Array]) -> Array:
    """All that a published form gets: ``faint_prior``, and the priors of repetition on the parameters that stand for it."""
    own = {name: leaf for name, leaf in raw.items() if name not in LEAVES}
    return faint_prior(own) + repetition_log_prior(raw)
