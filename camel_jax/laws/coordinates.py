"""Coordinates of a law in which a table speaks of one thing at a time, the way to raw parameters and back, and priors on them.

A table pins the level of every set to a fraction of a percent, while floor, coefficients and scales trade against each other over
factors. A sampler in raw parameters would follow a thin curved valley. Here the level is a coordinate of its own, and the terms
are shares of it at a reference recipe x0: size 1, tokens 1, mean mixture, in units of the table.

Separable laws, with joint term J of size and data and mixture term M at x0:

    level = log L(x0)       reducible = log J / E       mixture = log M / E       balance = logit of the size term's part in J^p
    DML: slope_i = t_i M / L   SODM: part_i = logits of C_i r_i^g_i at x0

The joint form of SODM keeps its capacity and data coefficients; its level is that of E + M. CAMEL's are in ``camel_coordinates``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.repetition import LEAVES, PRIORS
from camel_jax.recipes.brief import brief_repr
from camel_jax.types import Array

Leaves = Mapping[str, Array]
Shapes = dict[str, tuple[int, ...]]
SAME_SCALING = ("size_exponent", "data_exponent", "coupling", "mixture_exponent", *LEAVES)
SAME_JOINT = ("size_mixture", "size_power", "data_mixture", "data_power")
LEAST_SHARE = 1e-3  # shares of the reference mixture are at least this where their log is taken
SIZE_EXPONENT, DATA_EXPONENT = 0.12, 0.22  # centers of the exponents, as in ``scaling``


class Prior(NamedTuple):
    """Normal prior on a raw parameter.

    Attributes:
      center: its center.
      sd: standard deviation, of the mean over sets or skills where there is a spread.
      spread: typical standard deviation over the leading axis (sets or skills) around that mean, learnt within a
        factor of e^0.3 or so; None for a parameter on its own.

    >>> Prior(0.0, 2.0)
    Prior(center=0.0, sd=2.0, spread=None)
    """

    center: float
    sd: float
    spread: float | None = None

    __repr__ = brief_repr


class Coordinates(NamedTuple):
    """Where a sampler moves in place of the raw parameters of a law.

    Attributes:
      shapes: ``shapes(raw) -> {name: shape}``: names and shapes of the coordinates of raw parameters.
      to_raw: ``to_raw(at, mean) -> raw``: raw parameters from coordinates, given the reference mixture (K,).
      from_raw: ``from_raw(raw, mean) -> at``: the inverse, up to directions that change no prediction.
      priors: (name, prior) of every coordinate that ``shapes`` may name.
      default: prior of a coordinate that ``priors`` leaves out; None where that is an error.
    """

    shapes: Callable[[Leaves], Shapes]
    to_raw: Callable[[Leaves, Array], dict[str, Array]]
    from_raw: Callable[[Leaves, Array], dict[str, Array]]
    priors: tuple[tuple[str, Prior], ...]
    default: Prior | None = None

    __repr__ = brief_repr


SCALING = {
    "level": Prior(0.0, 0.1),
    "reducible": Prior(np.log(0.8), 0.7, 0.4),
    "balance": Prior(0.0, 0.7, 0.5),
    "size_exponent": Prior(np.log(SIZE_EXPONENT), 0.3, 0.2),
    "data_exponent": Prior(np.log(DATA_EXPONENT), 0.3, 0.2),
    "coupling": Prior(-1.0, 0.5, 0.3),
    "mixture": Prior(np.log(0.6), 0.5, 0.4),
}
REPETITION = {name: Prior(center, precision**-0.5) for name, (center, precision) in PRIORS.items()}
SODM = {"part": Prior(0.0, 0.5, 1.0), "mixture_exponent": Prior(np.log(0.5), 0.4, 0.4)}
TERM = {"mixture": Prior(0.0, 0.5, 0.5), "power": Prior(1.0, 0.5, 0.3)}
DML = {"slope": Prior(0.0, 0.2, 0.3)}
JOINT = {"level": Prior(np.log(0.6), 0.3)} | {
    f"{term}_{name}": prior for term in ("size", "data") for name, prior in TERM.items()
}


def scaling_coordinates(**more: Prior) -> Coordinates:
    """Coordinates of a law of floor, size term, data term and mixture term; more: priors beyond or in place of theirs."""
    return Coordinates(_shapes, _to_raw, _from_raw, tuple((SCALING | REPETITION | more).items()))


def _shapes(raw: Leaves) -> Shapes:
    shapes = {name: tuple(jnp.shape(x)) for name, x in raw.items()}
    sets = shapes["floor"]
    out = {"level": sets} | {name: shapes[name] for name in (*SAME_SCALING, *SAME_JOINT) if name in shapes}
    terms = [name for name in ("size_scale", "data_scale") if name in shapes]
    out |= {"reducible": sets} if terms else {}
    out |= {"balance": sets} if len(terms) == 2 else {}
    out |= {"mixture": sets} if "mixture_scale" in shapes else {}
    out |= {"slope": shapes["mixture_slope"]} if "mixture_slope" in shapes else {}
    out |= {"part": shapes["mixture_scale"]} if "mixture_exponent" in shapes else {}
    return out


def _to_raw(at: Leaves, mean: Array) -> dict[str, Array]:
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


def _from_raw(raw: Leaves, mean: Array) -> dict[str, Array]:
    raw = {name: jnp.asarray(x) for name, x in raw.items()}
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
