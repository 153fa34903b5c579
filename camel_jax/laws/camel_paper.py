"""CAMEL in the setting of its paper, as far as it is known: one skill a training domain, identity transfer, additive terms.

    q_i = (1 - e) r_i + e / K                    m = capacity given to the domains, in closed form (``allocation``)
    L_v = E_v + sum_i W_vi m_i^-alpha_i + sum_i U_vi (q_i D)^-beta_i

Li, Gu and Zhang 2026 (arXiv 2603.08022) is known here from its abstract, its theorem and its captions; what it fits with is not, so
this is a reading and no reproduction. The leak e is ours: without it the loss of a mixture with a zero share is infinite. It
is learnt, and starts at 2 %. Where domains have a supply, r_i D becomes D_i', m is of M', and P_v is added; see ``repetition``.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.allocation import log_allocate_closed
from camel_jax.laws.coordinates import DATA_EXPONENT, SIZE_EXPONENT
from camel_jax.laws.law import Law
from camel_jax.laws.repetition import (
    DEFAULT_REPEAT,
    LEAVES,
    effective_size,
    effective_tokens,
    overfitting,
    repetition_constrain,
    repetition_init,
    repetition_log_prior,
)
from camel_jax.laws.scaling import gaussian
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array, PerSet

LEAK = np.log(0.02 / 0.98)


@lru_cache(maxsize=4)
def camel_paper() -> Law:
    """CAMEL with one skill a domain and additive terms: a row of the leaderboard beside the package's own form.

    >>> camel_paper().name
    'camel_paper'
    """

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        k, v = len(runs.domains), len(runs.sets)
        keys = jax.random.split(key, 6)

        def normal(i: int, shape: tuple[int, ...], center: float, spread: float) -> Array:
            return center + spread * jax.random.normal(keys[i], shape)

        raw = {
            "amplitudes": normal(0, (k,), 0.0, 0.3),
            "capacity_exponents": normal(1, (k,), np.log(SIZE_EXPONENT), 0.1),
            "data_exponents": normal(2, (k,), np.log(DATA_EXPONENT), 0.1),
            "capacity_coefficients": normal(3, (v, k), np.log(0.25 / k), 0.5),
            "data_coefficients": normal(4, (v, k), np.log(0.25 / k), 0.5),
            "floors": normal(5, (v,), np.log(0.5), 0.1),
            "leak": jnp.asarray(LEAK),
        }
        if runs.recipe.supply is None:
            return raw
        drawn = repetition_init(jax.random.fold_in(key, 6), (v,))
        return raw | {name: x if name == "overfit_ceiling" else x[0] for name, x in drawn.items()}

    def constrain(raw: dict[str, Array]) -> dict[str, Array]:
        own = {name: jnp.exp(x) for name, x in raw.items() if name not in ("leak", *LEAVES)}
        own["leak"] = jax.nn.sigmoid(raw["leak"])
        return own | {name: repetition_constrain(name, raw[name]) for name in LEAVES if name in raw}

    def predict(params: dict[str, Array], recipe: Recipe) -> PerSet:
        leak, alpha, beta = params["leak"], params["capacity_exponents"], params["data_exponents"]
        log_q = jnp.log((1.0 - leak) * recipe.weights + leak / recipe.weights.shape[-1])
        log_size = jnp.log(effective_size(params, recipe, recipe.n_active))
        log_m = log_allocate_closed(log_q, jnp.log(params["amplitudes"]), alpha, log_size)
        log_seen = log_q + jnp.log(recipe.tokens)
        if recipe.supply is not None:
            repeat = params.get("repeat", jnp.asarray(DEFAULT_REPEAT))
            seen = effective_tokens(recipe.weights * recipe.tokens, recipe.supply, repeat)
            log_seen = jnp.log((1.0 - leak) * seen + leak * jnp.mean(seen))
        capacity, data = jnp.exp(-alpha * log_m), jnp.exp(-beta * log_seen)
        left = jnp.matmul(params["capacity_coefficients"], capacity, precision="highest")
        left = left + jnp.matmul(params["data_coefficients"], data, precision="highest")
        return params["floors"] + left + overfitting(params, recipe, recipe.n_active)

    def log_prior(raw: dict[str, Array]) -> Array:
        k = raw["amplitudes"].shape[0]
        return (
            gaussian(raw["capacity_exponents"], np.log(SIZE_EXPONENT), 30.0)
            + gaussian(raw["data_exponents"], np.log(DATA_EXPONENT), 30.0)
            + gaussian(raw["capacity_coefficients"], np.log(0.25 / k), 0.1)
            + gaussian(raw["data_coefficients"], np.log(0.25 / k), 0.1)
            + gaussian(raw["amplitudes"], 0.0, 1.0)
            + gaussian(raw["floors"], np.log(0.5), 1.0)
            + gaussian(raw["leak"], LEAK, 1.0)
            + repetition_log_prior(raw)
        )

    return Law("camel_paper", init, predict, constrain, log_prior, min_runs=lambda runs: len(runs.domains) + 3)
