"""The network: a decoder-only transformer of bytes, dense or mixture-of-experts, and the ladder of sizes.

Rotary positions, RMSNorm before each part, squared ReLU, tied embeddings. With d = width, L = layers, a dense model has

    L (12 d^2 + 2 d) + d

parameters besides the embedding. A mixture-of-experts keeps that number *active*: its k chosen experts and its router together
are as large as the dense feed-forward part, so that dense and sparse models of one active size lie on one scale.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

try:
    from flax import nnx
except ImportError:
    from camel_jax.runtime import require

    require("proxy", "flax", "training proxy models")
    raise

from camel_jax.types import Array

CAPACITY = 1.25  # places of an expert over its even share of the tokens, in training


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a model is, and what a program is compiled for.

    Attributes:
      width: d, a multiple of 2 x ``heads``. layers, heads: how many. experts: 1 for a dense model. top_k: experts per token.
      symbols: size of the alphabet.

    >>> Shape(16, 2, 1).n_active, Shape(16, 2, 1, experts=4).n_active, Shape(16, 2, 1, experts=4).n_total
    (6224, 6224, 18128)
    """

    width: int
    layers: int
    heads: int
    experts: int = 1
    top_k: int = 1
    symbols: int = 96

    @property
    def hidden(self) -> int:
        """Units of the feed-forward part, or of one expert."""
        if self.experts == 1:
            return 4 * self.width
        return (8 * self.width - self.experts) // (2 * self.top_k)

    @property
    def n_active(self) -> int:
        """Parameters that a token uses, besides the embedding: a sparse model's unchosen experts are left out."""
        return self._count(self.top_k)

    @property
    def n_total(self) -> int:
        """All parameters besides the embedding."""
        return self._count(self.experts)

    def _count(self, experts: int) -> int:
        d = self.width
        router = d * self.experts if self.experts > 1 else 0
        return self.layers * (4 * d * d + router + experts * 2 * d * self.hidden + 2 * d) + d


LADDER = tuple(
    Shape(width, layers, heads)
    for width, layers, heads in (
        (16, 2, 1),
        (24, 2, 1),
        (32, 2, 2),
        (48, 2, 3),
        (64, 2, 4),
        (96, 3, 6),
        (128, 4, 8),
        (160, 4, 10),
        (256, 6, 8),
    )
)
SPARSITIES = tuple((experts, k) for experts in (2, 4, 8, 16) for k in (1, 2) if k < experts)
FAR = 2.0  # a size of a recipe may be so many times smaller or larger than the model that stands for it


def find_shape(n_active: float, n_total: float) -> Shape:
    """The model of the ladder that is nearest in active parameters, and nearest in the ratio of total to active ones.

    A recipe of 6K is trained as the model of 6,224 parameters; what was trained is what the table of runs says.

    Args:
      n_active, n_total: parameters besides the embedding. Equal ones ask for a dense model.

    Raises:
      ValueError: the nearest is more than twice or less than half as large; the message lists the sizes there are.

    >>> find_shape(6e3, 6e3).n_active, find_shape(14e3, 14e3).n_active, find_shape(6224, 18128).experts
    (6224, 13944, 4)
    """
    base = min(LADDER, key=lambda shape: abs(math.log(n_active / shape.n_active)))
    if abs(math.log(n_active / base.n_active)) > math.log(FAR):
        sizes = ", ".join(str(shape.n_active) for shape in LADDER)
        raise ValueError(f"no proxy model is near {n_active:.6g} active parameters: the ladder is {sizes}")
    if n_active == n_total:
        return base
    shapes = [base, *(dataclasses.replace(base, experts=e, top_k=k) for e, k in SPARSITIES)]
    asked = n_total / n_active * base.n_active
    best = min(shapes, key=lambda shape: abs(math.log(asked / shape.n_total)))
    if abs(math.log(asked / best.n_total)) > math.log(FAR):
        sizes = ", ".join(str(shape.n_total) for shape in shapes)
        raise ValueError(
            f"no proxy model of {base.n_active} active parameters is near {n_total:.6g} in total: there are {sizes}"
        )
    return best


def _matrix(rngs: nnx.Rngs, *shape: int, gain: float = 1.0) -> nnx.Param:
    """Normal with variance gain^2 over inputs (the last axis but one)."""
    return nnx.Param(gain / math.sqrt(shape[-2]) * jax.random.normal(rngs.params(), shape, jnp.float32))


class Block(nnx.Module):
    """Attention, then a feed-forward part: one, or experts with a router."""

    def __init__(self, shape: Shape, rngs: nnx.Rngs):
        d, h = shape.width, shape.hidden
        self.shape = shape
        small = 1 / math.sqrt(2 * shape.layers)
        self.attention_gain = nnx.Param(jnp.ones(d, jnp.float32))
        self.qkv = _matrix(rngs, d, 3 * d)
        self.attention_out = _matrix(rngs, d, d, gain=small)
        self.feed_gain = nnx.Param(jnp.ones(d, jnp.float32))
        if shape.experts == 1:
            self.up, self.down = _matrix(rngs, d, h), _matrix(rngs, h, d, gain=small)
        else:
            self.router = _matrix(rngs, d, shape.experts)
            self.up = _matrix(rngs, shape.experts, d, h)
            self.down = _matrix(rngs, shape.experts, h, d, gain=small)

    def __call__(self, x: Array, rotation: tuple[Array, Array], drop: bool) -> tuple[Array, Array]:
        """(B, T, d) -> (B, T, d), and the imbalance of the router (1 when even, 0 for a dense part)."""
        x = x + self._attend(_normalize(x, self.attention_gain), rotation)
        y = _normalize(x, self.feed_gain)
        if self.shape.experts == 1:
            return x + _feed(y, self.up[...], self.down[...]), jnp.zeros((), jnp.float32)
        flat = y.reshape(-1, y.shape[-1])
        out, imbalance = self._route(flat, drop)
        return x + out.reshape(x.shape), imbalance

    def _attend(self, x: Array, rotation: tuple[Array, Array]) -> Array:
        batch, length, d = x.shape
        heads = self.shape.heads
        q, k, v = jnp.moveaxis((x @ self.qkv[...].astype(x.dtype)).reshape(batch, length, 3, heads, d // heads), 2, 0)
        q, k = _rotate(q, rotation), _rotate(k, rotation)
        scores = jnp.einsum("bqhc,bkhc->bhqk", q, k).astype(jnp.float32) / math.sqrt(d // heads)
        causal = jnp.tril(jnp.ones((length, length), bool))
        shares = jax.nn.softmax(jnp.where(causal, scores, -1e30), -1).astype(x.dtype)
        mixed = jnp.einsum("bhqk,bkhc->bqhc", shares, v).reshape(batch, length, d)
        return mixed @ self.attention_out[...].astype(x.dtype)

    def _route(self, x: Array, drop: bool) -> tuple[Array, Array]:
        """Experts of each token, weighted by the router: (N, d) -> (N, d) and the imbalance.

        With ``drop`` each expert has 1.25 times its even share of places, in the order of the tokens, and later tokens pass it
        by; without, every token reaches all its experts.
        """
        n, experts, k = x.shape[0], self.shape.experts, self.shape.top_k
        odds = jax.nn.softmax((x @ self.router[...].astype(x.dtype)).astype(jnp.float32), -1)
        gates, chosen = jax.lax.top_k(odds, k)
        taken = jax.nn.one_hot(chosen, experts, dtype=jnp.int32)  # (N, k, E)
        load = taken.sum((0, 1)).astype(jnp.float32) / (n * k)
        imbalance = experts * jnp.sum(load * odds.mean(0))
        up, down = self.up[...].astype(x.dtype), self.down[...].astype(x.dtype)
        if not drop:
            weights = jnp.sum(taken * gates[..., None], 1).astype(x.dtype)
            return jnp.einsum("end,ne->nd", _feed(x, up, down), weights), imbalance
        places = math.ceil(CAPACITY * k * n / experts)
        flat = taken.reshape(n * k, experts)
        place = jnp.sum((jnp.cumsum(flat, 0) - 1) * flat, -1)
        expert = chosen.reshape(-1)
        seats = jnp.zeros((experts, places, x.shape[-1]), x.dtype)
        seats = seats.at[expert, place].set(jnp.repeat(x, k, 0), mode="drop")
        back = _feed(seats, up, down).at[expert, place].get(mode="fill", fill_value=0)
        return jnp.sum(back.reshape(n, k, -1) * gates[..., None].astype(x.dtype), 1), imbalance


class Transformer(nnx.Module):
    """Symbols (B, T) -> logits of the next symbol (B, T, A), and the mean imbalance of the routers."""

    def __init__(self, shape: Shape, rngs: nnx.Rngs):
        self.shape = shape
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (shape.symbols, shape.width), jnp.float32))
        self.blocks = nnx.List([Block(shape, rngs) for _ in range(shape.layers)])
        self.gain = nnx.Param(jnp.ones(shape.width, jnp.float32))

    def __call__(self, symbols: Array, dtype: Any = jnp.float32, drop: bool = False) -> tuple[Array, Array]:
        """Logits in float32; inner products in ``dtype``. ``drop`` is for training a mixture-of-experts."""
        shape = self.shape
        table = self.embedding[...].astype(dtype)
        x = table[symbols]
        rotation = _rotation(symbols.shape[-1], shape.width // shape.heads, dtype)
        imbalance = jnp.zeros((), jnp.float32)
        for block in self.blocks:
            x, uneven = block(x, rotation, drop)
            imbalance += uneven / shape.layers
        x = _normalize(x, self.gain)
        return (x @ table.T).astype(jnp.float32) * (8.0 / shape.width), imbalance


def _normalize(x: Array, gain: Any) -> Array:
    wide = x.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + 1e-6)
    return (wide * scale * gain[...]).astype(x.dtype)


def _feed(x: Array, up: Array, down: Array) -> Array:
    inner = jax.nn.relu(x @ up)
    return (inner * inner) @ down


def _rotation(length: int, size: int, dtype: Any) -> tuple[Array, Array]:
    """Cosines and sines of rotary positions, (T, 1, size / 2)."""
    rates = 1.0 / 1000.0 ** (jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None, None] * rates
    return jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)


def _rotate(x: Array, rotation: tuple[Array, Array]) -> Array:
    cosine, sine = rotation
    left, right = jnp.split(x, 2, -1)
    return jnp.concatenate([left * cosine - right * sine, left * sine + right * cosine], -1)


def make_params(shape: Shape, seed: Array) -> Any:
    """First parameters of a model, float32, from an integer seed (which may be traced)."""
    return nnx.state(Transformer(shape, nnx.Rngs(params=jax.random.key(seed))), nnx.Param)


def apply(
    shape: Shape, params: Any, symbols: Array, dtype: Any = jnp.float32, drop: bool = False
) -> tuple[Array, Array]:
    """Logits (B, T, A) and imbalance of a model with these parameters."""
    blank = nnx.eval_shape(lambda: Transformer(shape, nnx.Rngs(params=0)))
    return nnx.merge(nnx.graphdef(blank), params)(symbols, dtype, drop)


def count_params(params: Any) -> tuple[int, int]:
    """(all but the embedding, the embedding), counted on the arrays."""
    embedding = params["embedding"].size
    return sum(leaf.size for leaf in jax.tree.leaves(params)) - embedding, embedding
