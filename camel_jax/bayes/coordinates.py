"""Coordinates of a law in which a table speaks of one thing at a time, and the way to the optimiser's raw parameters and back.

A table pins the level of every set to a fraction of a percent, while floor, coefficients and scales trade against each other over
factors. A sampler in raw parameters would follow a thin curved valley. Here the level is a coordinate of its own, and the terms
are shares of it at a reference recipe x0: size 1, tokens 1, mean mixture, in units of the table.

CAMEL, at x0 with capacity and data terms c_s and d_s of skill s:

    level_v = log L_v(x0)   floor_v = logit E_v / L_v   read_vs = logits of W_vs l_s / (L_v - E_v)   balance_s = log d_s / c_s

Separable laws, with joint term J of size and data and mixture term M at x0:

    level = log L(x0)       reducible = log J / E       mixture = log M / E       balance = logit of the size term's part in J^p
    DML: slope_i = t_i M / L   SODM: part_i = logits of C_i r_i^g_i at x0

The joint form of SODM keeps its capacity and data coefficients; its level is that of E + M.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from camel_jax.laws.allocation import log_allocate, log_allocate_closed
from camel_jax.laws.camel import log_demand
from camel_jax.laws.law import Law
from camel_jax.recipes.recipe import Recipe
from camel_jax.types import Array

Leaves = Mapping[str, Array]
SAME_CAMEL = (
    "transfer",
    "amplitudes",
    "capacity_exponents",
    "data_exponents",
    "couplings",
    "active_share",
    "repeat",
)
SAME_SCALING = ("size_exponent", "data_exponent", "coupling", "mixture_exponent")
SAME_JOINT = ("size_mixture", "size_power", "data_mixture", "data_power")
LEAST_SHARE = 1e-3  # shares of the reference mixture are at least this where their log is taken


def coordinate_shapes(law: Law, raw: Leaves) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the coordinates of a law with these raw parameters."""
    shapes = {name: tuple(jnp.shape(x)) for name, x in raw.items()}
    if law.name == "camel":
        renamed = {"coefficients": "read", "data_scales": "balance"}
        return {renamed.get(name, name): shape for name, shape in shapes.items()} | {"level": shapes["floors"]}
    sets = shapes["floor"]
    out = {"level": sets} | {name: shapes[name] for name in (*SAME_SCALING, *SAME_JOINT) if name in shapes}
    terms = [name for name in ("size_scale", "data_scale") if name in shapes]
    out |= {"reducible": sets} if terms else {}
    out |= {"balance": sets} if len(terms) == 2 else {}
    out |= {"mixture": sets} if "mixture_scale" in shapes else {}
    out |= {"slope": shapes["mixture_slope"]} if "mixture_slope" in shapes else {}
    out |= {"part": shapes["mixture_scale"]} if "mixture_exponent" in shapes else {}
    return out


def to_raw(law: Law, at: Leaves, mean: Array) -> dict[str, Array]:
    """Raw parameters from coordinates.

    Args:
      law: the law in units of the table. at: coordinates by name. mean: mixture of the reference recipe, (K,).
    """
    if law.name == "camel":
        raw = {name: at[name] for name in SAME_CAMEL if name in at}
        capacity, demand, p = _camel_reference(law, raw, mean)
        data = at["balance"] + capacity
        skill = jnp.logaddexp(p * capacity, p * data) / p
        raw["data_scales"] = data + jnp.exp(raw["data_exponents"]) * demand
        level, share = at["level"], at["floors"]
        raw["floors"] = level + jax.nn.log_sigmoid(share)
        raw["coefficients"] = (level + jax.nn.log_sigmoid(-share))[:, None] + jax.nn.log_softmax(at["read"]) - skill
        return raw
    raw = {name: at[name] for name in (*SAME_SCALING, *SAME_JOINT) if name in at}
    terms = [name for name in ("reducible", "mixture") if name in at]
    parts = jax.nn.log_softmax(jnp.stack([jnp.zeros_like(at["level"])] + [at[name] for name in terms]), axis=0)
    raw["floor"] = at["level"] + parts[0]
    size = dict(zip(terms, at["level"] + parts[1:], strict=True))
    if "balance" in at:
        p = 1.0 + jnp.exp(at["coupling"]) if "coupling" in at else 1.0
        raw["size_scale"] = size["reducible"] + jax.nn.log_sigmoid(at["balance"]) / p
        raw["data_scale"] = size["reducible"] + jax.nn.log_sigmoid(-at["balance"]) / p
    elif "reducible" in at:
        raw["size_scale" if "size_exponent" in at else "data_scale"] = size["reducible"]
    if "slope" in at:
        raw["mixture_slope"] = at["slope"] / jnp.exp(parts[terms.index("mixture") + 1])[:, None]
        raw["mixture_scale"] = size["mixture"] - raw["mixture_slope"] @ mean
    if "part" in at:
        there = jnp.exp(raw["mixture_exponent"]) * jnp.log(jnp.maximum(mean, LEAST_SHARE))
        raw["mixture_scale"] = jax.nn.log_softmax(at["part"]) - size["mixture"][:, None] - there
    return raw


def from_raw(law: Law, raw: Leaves, mean: Array) -> dict[str, Array]:
    """Coordinates of raw parameters: the inverse of ``to_raw``, up to directions that change no prediction."""
    raw = {name: jnp.asarray(x) for name, x in raw.items()}
    if law.name == "camel":
        at = {name: raw[name] for name in SAME_CAMEL if name in raw}
        capacity, demand, p = _camel_reference(law, raw, mean)
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
    at = {name: raw[name] for name in (*SAME_SCALING, *SAME_JOINT) if name in raw}
    parts = {"floor": raw["floor"]}
    scales = [raw[name] for name in ("size_scale", "data_scale") if name in raw]
    if len(scales) == 2:
        p = 1.0 + jnp.exp(raw["coupling"]) if "coupling" in raw else 1.0
        parts["reducible"] = jnp.logaddexp(p * scales[0], p * scales[1]) / p
        at["balance"] = p * (scales[0] - scales[1])
    elif scales:
        parts["reducible"] = scales[0]
    if "mixture_slope" in raw:
        parts["mixture"] = raw["mixture_scale"] + raw["mixture_slope"] @ mean
    if "mixture_exponent" in raw:
        there = jnp.exp(raw["mixture_exponent"]) * jnp.log(jnp.maximum(mean, LEAST_SHARE))
        demand = raw["mixture_scale"] + there
        parts["mixture"] = -jax.nn.logsumexp(demand, axis=1)
        at["part"] = demand - jnp.mean(demand, axis=1, keepdims=True)
    at["level"] = jax.nn.logsumexp(jnp.stack(list(parts.values())), axis=0)
    at |= {name: part - parts["floor"] for name, part in parts.items() if name != "floor"}
    if "mixture_slope" in raw:
        at["slope"] = raw["mixture_slope"] * jnp.exp(parts["mixture"] - at["level"])[:, None]
    return at


def _camel_reference(law: Law, raw: Leaves, mean: Array) -> tuple[Array, Array, Array]:
    """At the reference recipe: log capacity term of every skill, log demand, and the coupling, (S,) each."""
    transfer, exponents = jax.nn.softmax(raw["transfer"], axis=-1), jnp.exp(raw["capacity_exponents"])
    one = jnp.ones(())
    demand = log_demand(transfer, Recipe(one, one, one, jnp.asarray(mean)))
    allocate = log_allocate if dict(law.settings)["exact"] else log_allocate_closed
    capacity = -exponents * allocate(demand, raw["amplitudes"], exponents, jnp.zeros(()))
    p = 1.0 + jnp.exp(raw["couplings"]) if "couplings" in raw else jnp.ones_like(exponents)
    return capacity, demand, p
