"""Repeated data: what tokens and parameters are worth once a domain's supply of unique tokens is used up.

Domain i has U_i unique tokens and is given r_i D, in R_i = r_i D / u_i - 1 repeats of u_i = min(r_i D, U_i). After Muennighoff et al.
2023 (arXiv 2305.16264), repeated tokens and parameters beyond what the unique tokens can use lose their worth, and beyond that form,
a model with many parameters a unique token loses what it had learnt when it sees them again and again:

    D_i' = u_i + u_i R_D (1 - exp(-R_i / R_D))                                       D' = sum_i D_i'
    N_i' = U_Ni + U_Ni R_N (1 - exp(-(r_i N / U_Ni - 1) / R_N)),  U_Ni = g u_i       N' = sum_i N_i'     (r_i N where that is less)
    P    = c sum_i r_i x_i / (1 + x_i) (1 - exp(-R_i / k))^h,     x_i = (r_i N / (u_i x_0))^z            added to the loss

P is bounded by c, about as much as a model can lose that knows its training text by heart. All of this exists only for tables with
a supply; elsewhere no law has these parameters.

=============================  ==============================  ========================================================
symbol                         in the code                     unit
=============================  ==============================  ========================================================
R_D                            ``repeat``                      epochs
g                              ``size_per_token``              parameters a token, in units of the table
R_N                            ``excess``                      multiples of U_N
c                              ``overfit_ceiling``             loss, in units of the table
x_0                            ``overfit_size``                parameters a unique token, in units of the table
z                              ``overfit_steepness``
k                              ``overfit_epochs``              epochs
h                              ``overfit_onset``, at least 1
=============================  ==============================  ========================================================
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.numerics.stable import power, safe_divide
from camel_jax.recipes.recipe import Recipe
from camel_jax.types import Array

DEFAULT_REPEAT = 15.4  # epochs after which a repeated token is nearly worthless (Muennighoff et al. 2023, their R*_D)
DEFAULT_EXCESS = 5.3  # the same of excess parameters (their R*_N)
# (center, precision) of the priors on raw parameters. Those of the last five were set on forward splits of the public table of
# Muennighoff et al. below 2B parameters; without repeats to speak of, P is near zero under them.
PRIORS = {
    "repeat": (np.log(DEFAULT_REPEAT), 4.0),
    "size_per_token": (0.0, 0.5),
    "excess": (np.log(DEFAULT_EXCESS), 4.0),
    "overfit_ceiling": (np.log(2.0), 16.0),
    "overfit_size": (8.0, 0.25),
    "overfit_steepness": (np.log(1.5), 4.0),
    "overfit_epochs": (np.log(50.0), 1.0),
    "overfit_onset": (0.0, 4.0),
}
LEAVES = tuple(PRIORS)


def repetition_init(key: Array, shape: tuple[int, ...]) -> dict[str, Array]:
    """Random raw starts near the centers of the priors, leaves of one shape.

    >>> sorted(repetition_init(jax.random.key(0), (2,)))[:2]
    ['excess', 'overfit_ceiling']
    """
    keys = jax.random.split(key, len(PRIORS))
    spread = {"overfit_size": 0.5, "overfit_epochs": 0.5}
    return {
        name: center + spread.get(name, 0.1) * jax.random.normal(k, shape)
        for k, (name, (center, _)) in zip(keys, PRIORS.items(), strict=True)
    }


def repetition_constrain(name: str, raw: Array) -> Array:
    """Natural value of one of ``LEAVES``: positive, and at least 1 for the onset."""
    return jnp.exp(raw) + (1.0 if name == "overfit_onset" else 0.0)


def repetition_log_prior(raw: Mapping[str, Array]) -> Array:
    """Log density, up to a constant, of those ``LEAVES`` that are there."""
    terms = (
        -0.5 * precision * jnp.sum((raw[name] - center) ** 2)
        for name, (center, precision) in PRIORS.items()
        if name in raw
    )
    return sum(terms, start=jnp.zeros(()))


def effective_tokens(tokens: Array, supply: Array, repeat: Array) -> Array:
    """Tokens that count, after repetition: U (1 + R (1 - exp(-(e - 1) / R))) beyond one epoch.

    Args:
      tokens: tokens seen per domain, any shape.
      supply: unique tokens per domain, same shape; ``inf`` for no limit.
      repeat: R, the decay constant in epochs.

    Returns:
      Effective tokens, same shape; equal to ``tokens`` up to one epoch.

    >>> [round(float(x), 3) for x in effective_tokens(jnp.array([1.0, 4.0]), jnp.array([2.0, 2.0]), 15.4)]
    [1.0, 3.936]
    """
    limited = jnp.isfinite(supply) & (supply > 0)
    unique = jnp.where(limited, supply, 1.0)
    extra = jnp.maximum(tokens / unique - 1.0, 0.0)
    decayed = unique * (1.0 - repeat * jnp.expm1(-extra / repeat))
    return jnp.where(limited & (tokens > unique), decayed, tokens)


def unique_tokens(recipe: Recipe) -> Array:
    """Unique tokens that a recipe uses of each domain, (K,): all it sees, or the supply where that is less."""
    seen = recipe.weights * recipe.tokens
    return seen if recipe.supply is None else jnp.minimum(seen, recipe.supply)


def effective_data(params: Mapping[str, Array], recipe: Recipe) -> Array:
    """D' of one recipe, summed over domains; the tokens themselves where the recipe has no supply.

    Args:
      params: natural parameters; "repeat" of shape (...), the published constant if absent.
      recipe: one recipe.

    Returns:
      Effective tokens, shape (...).

    >>> float(effective_data({}, Recipe(1.0, 1.0, jnp.asarray(4.0), jnp.array([1.0, 0.0]), jnp.array([2.0, jnp.inf])))).__round__(3)
    3.936
    """
    if recipe.supply is None:
        return recipe.tokens
    repeat = jnp.asarray(params.get("repeat", DEFAULT_REPEAT))[..., None]
    return jnp.sum(effective_tokens(recipe.weights * recipe.tokens, recipe.supply, repeat), -1)


def effective_size(params: Mapping[str, Array], recipe: Recipe, size: Array) -> Array:
    """N' of one recipe; ``size`` itself where the law has no parameters of repetition.

    Args:
      params: natural parameters, leaves (...). recipe: one recipe. size: N, scalar.

    >>> many = {"size_per_token": jnp.asarray(1.0), "excess": jnp.asarray(1.0)}
    >>> one = Recipe(8.0, 8.0, jnp.asarray(4.0), jnp.array([1.0]), jnp.array([2.0]))
    >>> float(effective_size(many, one, 2.0)), round(float(effective_size(many, one, 8.0)), 3)
    (2.0, 3.9)
    """
    if "size_per_token" not in params:
        return size
    own = recipe.weights * size
    useful = params["size_per_token"][..., None] * unique_tokens(recipe)
    return jnp.sum(effective_tokens(own, jnp.where(useful > 0, useful, jnp.inf), params["excess"][..., None]), -1)


def overfitting(params: Mapping[str, Array], recipe: Recipe, size: Array) -> Array | float:
    """P of one recipe, which is added to the loss; 0 where nothing is repeated or the law has no parameters of repetition.

    Args:
      params: natural parameters, leaves (...). recipe: one recipe. size: N, scalar.
    """
    if "overfit_size" not in params or recipe.supply is None:
        return 0.0
    p = {name: params[name][..., None] for name in LEAVES if name.startswith("overfit")}
    unique = unique_tokens(recipe)
    repeats = jnp.maximum(safe_divide(recipe.weights * recipe.tokens, unique) - 1.0, 0.0)
    ratio = safe_divide(recipe.weights * size, unique)
    many = jax.nn.sigmoid(
        p["overfit_steepness"] * (jnp.log(jnp.where(ratio > 0, ratio, 1.0)) - jnp.log(p["overfit_size"]))
    )
    again = power(-jnp.expm1(-repeats / p["overfit_epochs"]), p["overfit_onset"])
    return jnp.sum(p["overfit_ceiling"] * recipe.weights * many * again, -1)
