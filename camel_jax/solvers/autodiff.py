"""Laws given as plain functions, differentiated for the least squares solver: row by row, by groups of parameters, or as a whole."""

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
from camel_jax.solvers.projection import Scale
from camel_jax.solvers.structure import group_normal, group_pairs
from camel_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Rowwise:
    """Any law: a function of raw parameters and one row, differentiated in reverse mode over rows and lanes."""

    predict: Callable[[Any, Any], Array]
    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    log_link: bool
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

    def whole(self, flat: Array, row: Any) -> Array:
        """Prediction from the flat parameters (P,) and one row."""
        ends = np.cumsum([int(np.prod(s, dtype=int)) for s in self.shapes])[:-1]
        leaves = [x.reshape(s) for x, s in zip(jnp.split(flat, ends), self.shapes, strict=True)]
        return jnp.reshape(self.predict(jax.tree.unflatten(self.treedef, leaves), row), ())

    def evaluate(self, data: Any, raw: Array) -> tuple[Array, Array]:
        """Values (R, L) on the scale of the residuals, and their derivative as ``normal`` reads it, at raw (P, L)."""
        one = jax.value_and_grad(self.scalar)
        over_lanes = jax.vmap(one, in_axes=(0, None))
        value, slopes = jax.vmap(over_lanes, in_axes=(None, 0))(tuple(raw), data)
        jacobian = jnp.stack(slopes)
        if self.log_link:
            value, jacobian = fast_log(value), jacobian * (1.0 / value)
        return value, lax.optimization_barrier(jacobian)  # else every entry of J'WJ would compute it again

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


@dataclasses.dataclass(frozen=True)
class Grouped:
    """A row-wise function whose parameters share slopes: only one derivative a group is taken, no Jacobian is formed."""

    rowwise: Rowwise
    groups: tuple[tuple[int, ...], ...]
    reference: tuple[int, ...]  # of each parameter, the row where its chain factor is read off; -1 for none
    scales: tuple[Scale, ...] = ()  # terms whose scale is a parameter

    @cached_property
    def n_params(self) -> int:
        """Number of parameters P."""
        return self.rowwise.n_params

    @cached_property
    def pairs(self) -> Pairs:
        """Parameters of each packed row of J'WJ."""
        return group_pairs(self.groups)

    @cached_property
    def _chained(self) -> tuple[bool, ...]:
        return tuple(r >= 0 for r in self.reference)

    def shares(self, data: Any, jacobian: Any) -> list[Array]:
        """Share of L of each of the ``scales``' terms, (R, L): its derivative by the logarithm of the scale."""
        (slopes, chain), out = jacobian, []
        for scale in self.scales:
            i = scale.moves[0][0]
            a = next(a for a, group in enumerate(self.groups) if i in group)
            feature = data["group_features"][a][self.groups[a].index(i)][:, None]
            out.append(slopes[a] * (feature * chain[i] if self._chained[i] else feature))
        return out

    def evaluate(self, data: Any, raw: Array) -> tuple[Array, Any]:
        """Values (R, L) on the scale of the residuals, and their derivative as ``normal`` reads it, at raw (P, L)."""
        rows, heads = data["rows"], [g[0] for g in self.groups]

        def one(head: tuple[Array, ...], raw: tuple[Array, ...], row: Any) -> Array:
            entries = list(raw)
            for i, value in zip(heads, head, strict=True):
                entries[i] = value
            return self.rowwise.scalar(tuple(entries), row)

        entries = tuple(raw)
        over_lanes = jax.vmap(jax.value_and_grad(one), in_axes=(0, 0, None))
        value, slopes = jax.vmap(over_lanes, in_axes=(None, None, 0))(tuple(raw[i] for i in heads), entries, rows)
        # chain factors: the ratio of two slopes at the one row where the feature is 1
        chain: list[Any] = [None] * self.n_params
        needed = sorted(set(self.reference) - {-1})
        if needed:
            at = jax.tree.map(lambda leaf: leaf[np.array(needed)], rows)
            full = jax.vmap(jax.vmap(jax.grad(self.rowwise.scalar), in_axes=(0, None)), in_axes=(None, 0))(entries, at)
            for i, group in ((i, g) for g in self.groups for i in g if self._chained[i]):
                k = needed.index(self.reference[i])
                below = full[group[0]][k]
                chain[i] = jnp.where(below == 0, 0.0, full[i][k] / jnp.where(below == 0, 1.0, below))
        if not self.rowwise.log_link:
            return value, (slopes, chain)
        inverse = 1.0 / value
        return fast_log(value), ([s * inverse for s in slopes], chain)

    def normal(self, data: Any, jacobian: Any, weights: Array, weighted_residual: Array) -> tuple[Array, Array]:
        """J\'WJ, packed, and J\'Wr."""
        slopes, chain = jacobian
        return group_normal(self.groups, self._chained, data, slopes, chain, weights, weighted_residual)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A function of raw parameters and the whole table, whose rows may depend on one another; forward mode."""

    predict: Callable[[Any, Any], Array]
    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    log_link: bool

    scales = ()
    n_params = Rowwise.n_params
    pairs = Rowwise.pairs
    normal = Rowwise.normal
    _normal_by_matrix = Rowwise._normal_by_matrix

    def evaluate(self, data: Any, raw: Array) -> tuple[Array, Array]:
        """Values (R, L) on the scale of the residuals, and their derivative as ``normal`` reads it, at raw (P, L)."""

        def values(flat: Array) -> tuple[Array, Array]:
            leaves, at = [], 0
            for shape in self.shapes:
                size = int(np.prod(shape, dtype=int))
                leaves.append(flat[at : at + size].reshape(shape))
                at += size
            value = self.predict(jax.tree.unflatten(self.treedef, leaves), data)
            return value, value

        jacobian, value = jax.vmap(jax.jacfwd(values, has_aux=True), in_axes=1, out_axes=(2, 1))(raw)
        jacobian = jnp.swapaxes(jacobian, 0, 1)
        return (fast_log(value), jacobian / value) if self.log_link else (value, jacobian)
