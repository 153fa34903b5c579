"""First and second derivatives of CAMEL's log losses, assembled as an arrow matrix without automatic differentiation.

The law has shared parameters theta (transfer logits, then five numbers a skill) and, for each set, its own phi_v = (log E_v,
log W_v). With shares P_rvs = W_vs l_rs / L_rv of the skills in a loss, for any weights h_rv (curvature) and psi_rv (slope),

    sum_rv h J J' + psi d2 log L = sum_rv (h - psi) J J' + sum_rs c_rs (G G' + d2 log l_rs),   c_rs = sum_v psi_rv P_rvs

J = d log L, G = d log l. Within a row a skill sees the others only through one scalar, tau_r = (1 + a)(log M - log Z_r), so that
every derivative is (local to the skill) + (rank one). Products over rows and sets are dense matrix products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = Any

SKILL_LEAVES = ("amplitudes", "capacity_exponents", "data_exponents", "data_scales", "couplings")
LEAVES = {"transfer", "coefficients", "floors", *SKILL_LEAVES}


class Table(NamedTuple):
    """What the derivatives read of a table: weights (R, K), log capacity (R,), log tokens (R,)."""

    weights: Array
    log_capacity: Array
    log_tokens: Array


class Arrow(NamedTuple):
    """A symmetric matrix of shared (P) and per-set (Q) parameters: shared (P, P), cross (V, P, Q), own (V, Q, Q)."""

    shared: Array
    cross: Array
    own: Array


def pack(raw: dict[str, Array]) -> tuple[Array, Array]:
    """Raw parameters as (theta (P,), phi (V, 1 + S)), in the order of the arrow matrix."""
    theta = jnp.concatenate([raw["transfer"].ravel(), *(raw[name] for name in SKILL_LEAVES)])
    return theta, jnp.concatenate([raw["floors"][:, None], raw["coefficients"]], 1)


def unpack(theta: Array, phi: Array) -> dict[str, Array]:
    """The inverse of ``pack``."""
    skills = phi.shape[1] - 1
    split = theta.shape[0] - len(SKILL_LEAVES) * skills
    raw = {"transfer": theta[:split].reshape(-1, skills), "floors": phi[:, 0], "coefficients": phi[:, 1:]}
    return raw | dict(zip(SKILL_LEAVES, theta[split:].reshape(-1, skills), strict=True))


def _forward(theta: Array, table: Table, skills: int) -> dict[str, Array]:
    """Everything of the latent skills that values and derivatives share; arrays (R, S) unless named otherwise."""
    raw = unpack(theta, jnp.zeros((1, 1 + skills)))
    transfer = jax.nn.softmax(raw["transfer"], -1)
    log_alpha, beta = raw["capacity_exponents"], jnp.exp(raw["data_exponents"])
    alpha, p = jnp.exp(log_alpha), 1.0 + jnp.exp(raw["couplings"])
    gamma, a = alpha / (1.0 + alpha), jnp.mean(alpha)
    q = table.weights @ transfer
    x = jnp.log(q)
    price = x + raw["amplitudes"] + log_alpha
    zeta = price / (1.0 + a)
    top = jnp.max(zeta, -1, keepdims=True)
    omega = jnp.exp(zeta - top)
    total = jnp.sum(omega, -1, keepdims=True)
    kappa = table.log_capacity[:, None] - jnp.log(total) - top
    held = price + (1.0 + a) * kappa
    capacity = -gamma * held
    seen = x + table.log_tokens[:, None]
    data = raw["data_scales"] - beta * seen
    gap = p * (capacity - data)
    log_l = data + jnp.logaddexp(gap, 0.0) / p
    names = "transfer alpha beta p gamma a q omega zeta kappa held capacity seen data gap log_l"
    values = transfer, alpha, beta, p, gamma, a, q, omega / total, zeta, kappa, held, capacity, seen, data, gap, log_l
    return dict(zip(names.split(), values, strict=True))


def latent_losses(theta: Array, table: Table, skills: int) -> Array:
    """One and the latent losses l_s, (R, 1 + S): a loss is this times exp(phi_v)."""
    l = jnp.exp(_forward(theta, table, skills)["log_l"])
    return jnp.concatenate([jnp.ones((l.shape[0], 1)), l], 1)


def arrow(
    theta: Array, phi: Array, table: Table, curvature: Array, slope: Array, second: Array
) -> tuple[Arrow, Array, Array]:
    """Arrow matrix and gradient of ``sum_rv f_rv(log L_rv)`` with f' = ``slope`` and f'' = ``curvature``.

    Args:
      theta: (P,). phi: (V, 1 + S). table: the rows.
      curvature: (V, R), f'' of every residual (or what the solver puts in its place).
      slope: (V, R), f' of every residual.
      second: scalar, 1 for the second derivatives of the law itself, 0 for Gauss-Newton.

    Returns:
      (``Arrow``, gradient by theta (P,), gradient by phi (V, 1 + S)).
    """
    n_sets, skills = phi.shape[0], phi.shape[1] - 1
    w = _forward(theta, table, skills)
    rows, n_domains = table.weights.shape
    alpha, beta, p, gamma, q, omega = (w[k] for k in ("alpha", "beta", "p", "gamma", "q", "omega"))
    one_a = 1.0 + w["a"]
    pi = jax.nn.sigmoid(w["gap"])
    l = jnp.exp(w["log_l"])
    coefficients, floors = jnp.exp(phi[:, 1:]), jnp.exp(phi[:, :1])
    losses = floors + coefficients @ l.T  # (V, R)
    share = l * coefficients[:, None, :] / losses[..., None]  # (V, R, S)
    floor_share = floors / losses

    # first derivatives of log l by (x, A, log alpha, log beta, log u, psi), and by tau
    gamma1 = gamma / (1.0 + alpha)  # d gamma / d log alpha
    cap_alpha = -gamma1 * w["held"] - gamma
    f_psi = ((pi * w["capacity"] + (1 - pi) * w["data"] - w["log_l"]) / p) * (p - 1.0)
    h_tau = -pi * gamma
    h_beta, h_u = -(1 - pi) * beta * w["seen"], 1 - pi
    local = [h_tau - (1 - pi) * beta, h_tau, pi * cap_alpha, h_beta, h_u, f_psi]
    m1 = jnp.sum(omega * w["zeta"], -1, keepdims=True)
    tau_a = w["kappa"] + m1  # (R, 1)
    a_bar = alpha / skills
    n = [-omega, -omega, -omega + tau_a * a_bar]  # d tau by x, A, log alpha; 0 for the others

    def columns(by_x: Array, others: list[Array]) -> Array:
        """Rows of derivatives by natural parameters: transfer (K S), then the five of a skill."""
        natural = table.weights[..., None] * (by_x / q)[..., None, :]
        return jnp.concatenate([natural.reshape(*natural.shape[:-2], -1), *others], -1)

    z = jnp.sum(share * h_tau, -1, keepdims=True)  # (V, R, 1)
    by_q = (share * local[0] + z * n[0]) / q
    by_skill = jnp.concatenate(
        [share * local[1] + z * n[1], share * local[2] + z * n[2], *(share * h for h in local[3:])], -1
    )
    own = jnp.concatenate([floor_share[..., None], share], -1)
    weight = curvature - second * slope
    heavy_q, heavy_skill = weight[..., None] * by_q, weight[..., None] * by_skill
    start, width = n_domains * skills, n_domains * skills + by_skill.shape[-1]
    natural = (table.weights[:, :, None] * heavy_q[:, :, None, :]).reshape(n_sets, rows, start)
    cross = jnp.concatenate([jnp.einsum("vrp,vrq->vpq", natural, own), jnp.einsum("vrp,vrq->vpq", heavy_skill, own)], 1)
    own_block = jnp.einsum("vrp,vrq->vpq", own * weight[..., None], own)
    pull_q, pull_skill = jnp.einsum("vr,vrs->rs", slope, by_q), jnp.einsum("vr,vrk->k", slope, by_skill)
    gradient = jnp.concatenate([(table.weights.T @ pull_q).ravel(), pull_skill])
    own_gradient = jnp.einsum("vr,vrq->vq", slope, own)

    # second derivatives of the law: c (G G' + d2 log l), local blocks, rank-one rows, and tau's own curvature
    c = second * jnp.einsum("vr,vrs->rs", slope, share)
    cc = p * pi * (1 - pi)  # d2 log l by (capacity, capacity) = by (data, data) = -by (capacity, data)
    gap = w["capacity"] - w["data"]
    p1 = p - 1.0
    c_psi = pi * (1 - pi) * gap * p1  # d pi / d psi
    f_p = f_psi / p1
    # psi = log(p - 1): d2/dpsi2 = f_p p1 + f_pp p1^2
    psi_psi = f_psi + (pi * (1 - pi) * gap**2 / p - 2.0 * f_p / p) * p1**2
    cap = [-gamma + 0 * pi, -gamma + 0 * pi, cap_alpha, 0 * pi, 0 * pi, -gamma + 0 * pi]  # by x, A, alpha, beta, u, tau
    dat = [-beta + 0 * pi, 0 * pi, 0 * pi, -beta * w["seen"], 1 + 0 * pi, 0 * pi]
    gamma2 = gamma1 * (1.0 / (1.0 + alpha) - gamma)
    extra = {
        (0, 2): -pi * gamma1,
        (1, 2): -pi * gamma1,
        (2, 2): pi * (-gamma2 * w["held"] - 2 * gamma1),
        (2, 5): -pi * gamma1,
        (3, 3): h_beta,
        (0, 3): -(1 - pi) * beta,
    }
    g_tau = jnp.sum(c * h_tau, -1, keepdims=True)  # (R, 1)
    bend = -g_tau * omega / one_a  # tau's curvature on the diagonal of price x price
    g_x = c * local[0] + g_tau * n[0]
    first = [*local[:5], h_tau]  # x, A, alpha, beta, u, tau

    def block(j: int, k: int) -> Array:
        value = cc * (cap[j] - dat[j]) * (cap[k] - dat[k]) + first[j] * first[k] + extra.get((j, k), 0.0)
        value = c * value
        if j < 3 and k < 3:
            value = value + bend
        return value - g_x if j == k == 0 else value

    def block_psi(j: int) -> Array:
        return c * (c_psi * (cap[j] - dat[j]) + first[j] * f_psi)

    mixed = [block(j, 5) for j in range(5)] + [block_psi(5)]  # local by tau
    tau_tau = jnp.sum(block(5, 5), -1, keepdims=True)
    zeros = jnp.zeros_like(omega)
    by_n = [n[0] / q, jnp.concatenate([n[1], n[2], zeros, zeros, zeros], -1)]
    half = 0.5 * tau_tau
    by_m = [
        (mixed[0] + half * n[0]) / q,
        jnp.concatenate([mixed[1] + half * n[1], mixed[2] + half * n[2], *mixed[3:]], -1),
    ]
    by_omega = [omega / q, jnp.concatenate([omega, omega, zeros, zeros, zeros], -1)]
    bent = g_tau / one_a
    # rank-one rows join the sets: m n' + n m' + omega omega'
    left_q = jnp.concatenate([heavy_q, by_m[0][None], by_n[0][None], bent * by_omega[0][None]])
    right_q = jnp.concatenate([by_q, by_n[0][None], by_m[0][None], by_omega[0][None]])
    left_skill = jnp.concatenate([heavy_skill, by_m[1][None], by_n[1][None], bent * by_omega[1][None]])
    right_skill = jnp.concatenate([by_skill, by_n[1][None], by_m[1][None], by_omega[1][None]])
    pairs = (table.weights[:, :, None] * table.weights[:, None, :]).reshape(rows, -1)
    in_row = jnp.einsum("vrs,vrt->rst", left_q, right_q)
    natural = (pairs.T @ in_row.reshape(rows, -1)).reshape(n_domains, n_domains, skills, skills)
    natural = jnp.swapaxes(natural, 1, 2).reshape(start, start)
    side = table.weights.T @ jnp.einsum("vrs,vrk->rsk", left_q, right_skill).reshape(rows, -1)
    side = side.reshape(start, width - start)
    corner = left_skill.reshape(-1, width - start).T @ right_skill.reshape(-1, width - start)
    shared = jnp.block([[natural, side], [side.T, corner]])
    toward_a = jnp.concatenate([jnp.zeros(width - 4 * skills), a_bar, jnp.zeros(3 * skills)])
    tilt = omega * (w["zeta"] - m1) / one_a
    by_tilt = g_tau[:, 0] @ columns(tilt, [tilt, tilt, zeros, zeros, zeros])
    variance = jnp.sum(omega * (w["zeta"] - m1) ** 2, -1, keepdims=True)
    shared = shared + by_tilt[:, None] * toward_a + toward_a[:, None] * by_tilt
    shared = shared - jnp.sum(g_tau * variance) / one_a * toward_a[:, None] * toward_a

    # local blocks: skill s with itself
    index = jnp.arange(skills)
    t_t = (pairs.T @ (block(0, 0) / q**2)).reshape(n_domains, n_domains, skills)
    natural = shared[:start, :start].reshape(n_domains, skills, n_domains, skills)
    natural = natural.at[:, index, :, index].add(jnp.moveaxis(t_t, -1, 0))
    side = shared[:start, start:].reshape(n_domains, skills, 5, skills)
    corner = shared[start:, start:].reshape(5, skills, 5, skills)
    for k in range(1, 6):
        by_x = table.weights.T @ ((block(0, k) if k < 5 else block_psi(0)) / q)  # (K, S)
        side = side.at[:, index, k - 1, index].add(by_x)
        for j in range(1, k + 1):
            value = block(j, k) if k < 5 else (block_psi(j) if j < 5 else c * (psi_psi + f_psi**2))
            value = jnp.sum(value, 0)
            if j == k == 2:
                value = value + jnp.sum(g_tau * tau_a) * a_bar
            corner = corner.at[j - 1, index, k - 1, index].add(value)
            if j != k:
                corner = corner.at[k - 1, index, j - 1, index].add(value)

    # shared by own: psi P G' in the column of the skill, psi P on the diagonal of the own block
    pulled = second * slope[..., None] * share  # (V, R, S)
    rank = jnp.einsum("vrs,rp->vps", pulled * h_tau, columns(n[0], [n[1], n[2], zeros, zeros, zeros]))
    cross = cross.at[:, :, 1:].add(rank)
    spread = cross[:, :start, 1:].reshape(n_sets, n_domains, skills, skills)
    spread = spread.at[:, :, index, index].add(jnp.einsum("vrs,ri->vis", pulled * (local[0] / q), table.weights))
    cross = cross.at[:, :start, 1:].set(spread.reshape(n_sets, start, skills))
    for k in range(1, 6):
        at = start + (k - 1) * skills + index
        cross = cross.at[:, at, 1 + index].add(jnp.sum(pulled * local[k], 1))
    own_diagonal = jnp.concatenate([second * jnp.sum(slope * floor_share, 1)[:, None], jnp.sum(pulled, 1)], 1)
    own_block = own_block + own_diagonal[:, :, None] * jnp.eye(1 + skills)

    # from natural transfer to its logits
    transfer = w["transfer"]
    chain = transfer[:, :, None] * (jnp.eye(skills) - transfer[:, None, :])  # (K, S, S), symmetric in S
    by_t = gradient[:start].reshape(n_domains, skills)
    natural = jnp.einsum("isj,isku,kuv->ijkv", chain, natural, chain, optimize="optimal")
    lean = transfer * (by_t - jnp.sum(transfer * by_t, 1, keepdims=True))  # gradient by logits
    curve = -transfer[:, :, None] * lean[:, None, :] - lean[:, :, None] * transfer[:, None, :]
    curve = second * (curve + lean[:, :, None] * jnp.eye(skills))
    domain = jnp.arange(n_domains)
    natural = natural.at[domain, :, domain, :].add(curve).reshape(start, start)
    side = jnp.einsum("isj,isku->ijku", chain, side).reshape(start, -1)
    top = jnp.einsum("isj,visq->vijq", chain, cross[:, :start].reshape(n_sets, n_domains, skills, -1))
    cross = jnp.concatenate([top.reshape(n_sets, start, -1), cross[:, start:]], 1)
    corner = corner.reshape(width - start, -1)
    shared = jnp.block([[natural, side], [side.T, corner]])
    return Arrow(shared, cross, own_block), jnp.concatenate([lean.ravel(), gradient[start:]]), own_gradient
