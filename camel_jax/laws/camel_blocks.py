"""Diagonal blocks of CAMEL's Gauss-Newton matrix, without the matrix: what a matrix-free step is preconditioned with.

A domain moves a loss only through the demand q of a row. With A_rv = d log L_rv / d q_r, the block of domain i by its natural transfer
is ``sum_r r_i^2 sum_v h_rv A_rv A_rv'``, whose inner sum all domains share: the cost is linear in domains, rows and sets.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from camel_jax.laws.camel_derivatives import Table, demanded_losses
from camel_jax.types import Array


def curvature_blocks(
    theta: Array, phi: Array, table: Table, curvature: Array, exact: bool = False
) -> tuple[Array, Array]:
    """Blocks of ``sum_rv h_rv J_rv J_rv'`` with J = d log L / d theta.

    Args:
      theta: (P,). phi: (V, 1 + S). table: the rows.
      curvature: h, (V, R), not negative.
      exact: capacity split exactly in place of the closed form.

    Returns:
      Of the transfer logits of each domain (K, S, S), and of the other shared parameters (P - K S, P - K S).
    """
    skills, (rows, n_domains) = phi.shape[1] - 1, table.weights.shape
    start = n_domains * skills
    transfer = jax.nn.softmax(theta[:start].reshape(n_domains, skills), -1)
    demand, inner = table.weights @ transfer, theta[start:]

    def losses(demand: Array, inner: Array) -> Array:
        return demanded_losses(jnp.concatenate([theta[:start], inner]), table, skills, demand, exact)

    # rows see only their own demand: one derivative along a skill gives that of every row
    along = lambda e: jax.jvp(lambda q: losses(q, inner), (demand,), (jnp.broadcast_to(e, demand.shape),))  # noqa: E731
    log_l, by_demand = jax.vmap(along, out_axes=(None, 0))(jnp.eye(skills))  # (R, S), (S, R, S)
    by_inner = jax.jacfwd(lambda x: losses(demand, x))(inner)  # (R, S, M)

    def of_set(sofar: Any, one: tuple[Array, Array]) -> tuple[Any, None]:
        phi, weight = one
        terms = jnp.exp(phi[1:] + log_l)
        share = terms / (jnp.exp(phi[0]) + jnp.sum(terms, -1, keepdims=True))
        by_q = jnp.einsum("rt,srt->rs", share, by_demand)
        by_own = jnp.einsum("rt,rtm->rm", share, by_inner)
        at_q = sofar[0] + (weight[:, None] * by_q)[:, :, None] * by_q[:, None, :]
        return (at_q, sofar[1] + (weight[:, None] * by_own).T @ by_own), None

    nothing = jnp.zeros((rows, skills, skills)), jnp.zeros((inner.size, inner.size))
    (at_q, corner), _ = jax.lax.scan(of_set, nothing, (phi, curvature))
    natural = (table.weights**2).T @ at_q.reshape(rows, -1)
    chain = transfer[:, :, None] * (jnp.eye(skills) - transfer[:, None, :])
    return chain @ natural.reshape(n_domains, skills, skills) @ chain, corner
