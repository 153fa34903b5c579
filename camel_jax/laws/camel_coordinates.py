"""Coordinates of CAMEL for samplers; see ``coordinates`` for what they are for.

At the reference recipe x0, with capacity and data terms c_s and d_s of skill s:

    level_v = log L_v(x0)   floor_v = logit E_v / L_v   read_vs = logits of W_vs l_s / (L_v - E_v)   balance_s = log d_s / c_s
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.allocation import log_allocate, log_allocate_closed
from camel_jax.laws.coordinates import DATA_EXPONENT, REPETITION, SIZE_EXPONENT, Coordinates, Leaves, Prior, Shapes
from camel_jax.laws.repetition import LEAVES
from camel_jax.types import Array

SAME = (
    "transfer",
    "amplitudes",
    "capacity_exponents",
    "data_exponents",
    "couplings",
    "active_share",
    *LEAVES,
)


def camel_coordinates(exact: bool) -> Coordinates:
    """Coordinates of CAMEL; exact: whether capacity is split by the exact root."""
    priors = {
        "level": Prior(0.0, 0.1),
        "floors": Prior(0.0, 0.7, 0.4),
        "read": Prior(0.0, 1.0, 1.0),
        "transfer": Prior(0.0, 2.0),
        "amplitudes": Prior(0.0, 0.7),
        "capacity_exponents": Prior(np.log(SIZE_EXPONENT), 0.3, 0.15),
        "data_exponents": Prior(np.log(DATA_EXPONENT), 0.3, 0.15),
        "balance": Prior(0.0, 1.0),
        "couplings": Prior(-1.0, 0.5, 0.2),
        "active_share": Prior(0.0, 1.5),
    } | REPETITION
    return Coordinates(_shapes, partial(_to_raw, exact), partial(_from_raw, exact), tuple(priors.items()))


def _shapes(raw: Leaves) -> Shapes:
    shapes = {name: tuple(jnp.shape(x)) for name, x in raw.items()}
    renamed = {"coefficients": "read", "data_scales": "balance"}
    return {renamed.get(name, name): shape for name, shape in shapes.items()} | {"level": shapes["floors"]}


def _to_raw(exact: bool, at: Leaves, mean: Array) -> dict[str, Array]:
    raw = {name: at[name] for name in SAME if name in at}
    capacity, demand, p = _reference(exact, raw, mean)
    data = at["balance"] + capacity
    skill = jnp.logaddexp(p * capacity, p * data) / p
    raw["data_scales"] = data + jnp.exp(raw["data_exponents"]) * demand
    level, share = at["level"], at["floors"]
    raw["floors"] = level + jax.nn.log_sigmoid(share)
    raw["coefficients"] = (level + jax.nn.log_sigmoid(-share))[:, None] + jax.nn.log_softmax(at["read"]) - skill
    return raw


def _from_raw(exact: bool, raw: Leaves, mean: Array) -> dict[str, Array]:
    raw = {name: jnp.asarray(x) for name, x in raw.items()}
    at = {name: raw[name] for name in SAME if name in raw}
    capacity, demand, p = _reference(exact, raw, mean)
    data = raw["data_scales"] - jnp.exp(raw["data_exponents"]) * demand
    skill = raw["coefficients"] + jnp.logaddexp(p * capacity, p * data) / p
    reducible = jax.nn.logsumexp(skill, axis=1)
    level = jnp.logaddexp(raw["floors"], reducible)
    return at | {
        "balance": data - capacity,
        "level": level,
        "floors": raw["floors"] - reducible,
        "read": skill - jnp.mean(skill, axis=1, keepdims=True),
    }


def _reference(exact: bool, raw: Leaves, mean: Array) -> tuple[Array, Array, Array]:
    """At the reference recipe: log capacity term of every skill, log demand, and the coupling, (S,) each."""
    transfer, exponents = jax.nn.softmax(raw["transfer"], axis=-1), jnp.exp(raw["capacity_exponents"])
    demand = jnp.log(jnp.matmul(jnp.asarray(mean), transfer, precision="highest"))
    allocate = log_allocate if exact else log_allocate_closed
    capacity = -exponents * allocate(demand, raw["amplitudes"], exponents, jnp.zeros(()))
    p = 1.0 + jnp.exp(raw["couplings"]) if "couplings" in raw else jnp.ones_like(exponents)
    return capacity, demand, p
