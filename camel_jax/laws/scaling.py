"""Floor, size and data terms that the separable laws share, with their starts, bounds and priors."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.coordinates import DATA_EXPONENT, SIZE_EXPONENT
from camel_jax.laws.law import varies
from camel_jax.numerics.stable import logsumexp
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers.structure import Structure, Term, structure
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

FLOOR = 0.5  # center of its prior, in units of the table


def scaling_init(key: Array, runs: Runs, coupled: bool) -> dict[str, Array]:
    """Random raw starts, leaves of shape (V,), of the floor, size and data terms that the table can tell apart.

    The size term is dropped from a table with one size, the data term from one with one token count.
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
    return raw


def scaling_constrain(raw: dict[str, Array]) -> dict[str, Array]:
    """Natural parameters: exponentials, and p = 1 + exp for the coupling."""
    return {name: jnp.exp(value) + (1.0 if name == "coupling" else 0.0) for name, value in raw.items()}


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
        size = jnp.log(params["size_scale"]) - params["size_exponent"] * jnp.log(recipe.n_active)
    if "data_scale" in params:
        data = jnp.log(params["data_scale"]) - params["data_exponent"] * jnp.log(recipe.tokens)
    return size, data


def scaling_structure_terms(raw: dict[str, Array], recipe: Recipe) -> list[Term]:
    """The floor, size and data terms as the least squares solver reads them; raw tells which are there."""
    size = {"size_scale": 1.0, "size_exponent": -np.log(np.asarray(recipe.n_active))}
    data = {"data_scale": 1.0, "data_exponent": -np.log(np.asarray(recipe.tokens))}
    there = [branch for branch in (size, data) if next(iter(branch)) in raw]
    coupled = [Term(there, coupling="coupling")] if "coupling" in raw else [Term([branch]) for branch in there]
    return [Term([{"floor": 1.0}]), *coupled]


def scaling_structure(
    raw: dict[str, Array], recipe: Recipe, mixture: Sequence[Term] = (), positive: tuple[str, ...] = ()
) -> Structure:
    """Structure of a separable law: floor, size and data terms, and the mixture's own terms."""
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
    return sum((gaussian(raw[k], *spec) for k, spec in centers.items() if k in raw), start=jnp.zeros(()))
