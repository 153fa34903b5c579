"""Laws given as plain functions, differentiated row by row for the least squares solver."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from camel_jax.numerics.batched import UNROLL, Pairs, fast_log, lower_pairs
from camel_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Rowwise:
    """Any law: a function of raw parameters and one row, differentiated in reverse mode over rows and lanes."""

    predict: Callable[[Any, Any], Array]
    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    scales = ()

    @cached_property
    def n_params(self) -> int:
        """Number of parameters P."""
        return sum(int(np.prod(s, dtype=int)) for s in self.shapes)

    @cached_property
    def pairs(self) -> Pairs:
        """Parameters of each packed row of J'WJ."""
        return lower_pairs(self.n_params)

    def scalar(self, entries: tuple[Array, ...], row: Any) -> Array:
        """Prediction from the flat parameters, one scalar each, and one row."""
        leaves, at = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape, dtype=int))
            leaves.append(jnp.stack(entries[at : at + size]).reshape(shape) if shape else entries[at])
            at += size
        return jnp.reshape(self.predict(jax.tree.unflatten(self.treedef, leaves), row), ())

    def evaluate(self, data: Any, raw: Array) -> tuple[Array, Array]:
        """Log predictions (R, L), and their derivative as ``normal`` reads it, at raw (P, L)."""
        one = jax.value_and_grad(self.scalar)
        over_lanes = jax.vmap(one, in_axes=(0, None))
        value, slopes = jax.vmap(over_lanes, in_axes=(None, 0))(tuple(raw), data)
        jacobian = jnp.stack(slopes) * (1.0 / value)
        return fast_log(value), lax.optimization_barrier(jacobian)  # else every entry of J'WJ would compute it again

    def normal(self, data: Any, jacobian: Array, weights: Array, weighted_residual: Array) -> tuple[Array, Array]:
        """J\'WJ, packed, and J\'Wr."""
        if self.n_params > UNROLL:
            return self._normal_by_matrix(jacobian, weights, weighted_residual)
        scaled = lax.optimization_barrier(jacobian * weights)
        matrix = jnp.stack([jnp.sum(scaled[i] * jacobian[j], 0) for i, j in self.pairs])
        return matrix, jnp.sum(jacobian * weighted_residual, 1)

    def _normal_by_matrix(self, jacobian: Array, weights: Array, weighted_residual: Array) -> tuple[Array, Array]:
        full = jnp.einsum("prl,qrl->lpq", jacobian * weights, jacobian)
        pairs = np.array(self.pairs)
        return full[:, pairs[:, 0], pairs[:, 1]].T, jnp.sum(jacobian * weighted_residual, 1)
