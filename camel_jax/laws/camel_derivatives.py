"""First and second derivatives of CAMEL's log losses, assembled as an arrow matrix without automatic differentiation.

The law has shared parameters theta (transfer logits, then five numbers a skill) and, for each set, its own phi_v = (log E_v,
log W_v). With shares P_rvs = W_vs l_rs / L_rv of the skills in a loss, for any weights h_rv (curvature) and psi_rv (slope),

    sum_rv h J J' + psi d2 log L = sum_rv (h - psi) J J' + sum_rs c_rs (G G' + d2 log l_rs),   c_rs = sum_v psi_rv P_rvs

J = d log L, G = d log l. Within a row a skill sees the others only through one scalar tau_r, log m_s = (c_s + tau) / (1 + alpha_s):
(1 + a)(log M - log Z_r) in the closed form, the root of sum_s m_s = M in the exact split. So every derivative is (local to the
skill) + (rank one). Products over rows and sets are dense matrix products. The share rho of active parameters in the capacity,
where the table tells it, is one more shared parameter, and moves a row through tau_r alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.numerics.batched import add_first
from camel_jax.types import Array

SKILL_LEAVES = ("amplitudes", "capacity_exponents", "data_exponents", "data_scales", "couplings")
LEAVES = {"transfer", "coefficients", "floors", *SKILL_LEAVES}
BLOCK = 128  # rows whose derivatives are held at once, at most
ROOT_STEPS = 8  # Newton steps to the exact split; four are enough
SHARE = "active_share"  # a leaf of tables with mixtures of experts


class Table(NamedTuple):
    """What the derivatives read of a table: weights (R, K), log total and active parameters (R,), log tokens (R,)."""

    weights: Array
    log_total: Array
    log_active: Array
    log_tokens: Array


class Arrow(NamedTuple):
    """A symmetric matrix of shared (P) and per-set (Q) parameters: shared (P, P), cross (V, P, Q), own (V, Q, Q)."""

    shared: Array
    cross: Array
    own: Array


def pack(raw: dict[str, Array]) -> tuple[Array, Array]:
    """Raw parameters as (theta (P,), phi (V, 1 + S)), in the order of the arrow matrix."""
    more = [raw[SHARE][None]] if SHARE in raw else []
    theta = jnp.concatenate([raw["transfer"].ravel(), *(raw[name] for name in SKILL_LEAVES), *more])
    return theta, jnp.concatenate([raw["floors"][:, None], raw["coefficients"]], 1)


def unpack(theta: Array, phi: Array, n_domains: int) -> dict[str, Array]:
    """The inverse of ``pack``."""
    skills = phi.shape[1] - 1
    start, end = n_domains * skills, (n_domains + len(SKILL_LEAVES)) * skills
    raw = {"transfer": theta[:start].reshape(-1, skills), "floors": phi[:, 0], "coefficients": phi[:, 1:]}
    raw |= dict(zip(SKILL_LEAVES, theta[start:end].reshape(-1, skills), strict=True))
    return raw | {SHARE: theta[end]} if theta.shape[0] > end else raw


def _forward(theta: Array, table: Table, skills: int, exact: bool, demand: Any = None) -> dict[str, Array]:
    """Everything of the latent skills that values and derivatives share; arrays (R, S) unless named otherwise.

    The demand q follows from the transfer unless it is given.

    Of tau: "held" is price + tau, -"omega" its derivatives by the prices, "by_alpha" those by log alpha beyond the price's,
    "by_capacity" (R, 1) that by log M; "kept" holds what second derivatives need besides.
    """
    raw = unpack(theta, jnp.zeros((1, 1 + skills)), table.weights.shape[1])
    log_capacity = table.log_active
    if SHARE in raw:
        log_capacity = table.log_total + jax.nn.sigmoid(raw[SHARE]) * (table.log_active - table.log_total)
    transfer = jax.nn.softmax(raw["transfer"], -1)
    log_alpha, beta = raw["capacity_exponents"], jnp.exp(raw["data_exponents"])
    alpha, p = jnp.exp(log_alpha), 1.0 + jnp.exp(raw["couplings"])
    gamma, a = alpha / (1.0 + alpha), jnp.mean(alpha)
    q = table.weights @ transfer if demand is None else demand
    x = jnp.log(q)
    price = x + raw["amplitudes"] + log_alpha
    if exact:
        give = 1.0 / (1.0 + alpha)
        held = price + _exact_tau(price, give, log_capacity)[:, None]
        weight = jnp.exp(held * give - log_capacity[:, None])
        slack = jnp.sum(weight * give, -1, keepdims=True)
        omega, by_capacity = weight * give / slack, 1.0 / slack
        by_alpha, kept = omega * gamma * held, {"weight": weight, "give": give}
    else:
        zeta = price / (1.0 + a)
        top = jnp.max(zeta, -1, keepdims=True)
        omega = jnp.exp(zeta - top)
        total = jnp.sum(omega, -1, keepdims=True)
        omega = omega / total
        kappa = log_capacity[:, None] - jnp.log(total) - top
        held = price + (1.0 + a) * kappa
        middle = jnp.sum(omega * zeta, -1, keepdims=True)
        by_alpha, by_capacity = (kappa + middle) * alpha / skills, jnp.broadcast_to(1.0 + a, kappa.shape)
        kept = {"away": zeta - middle}
    capacity = -gamma * held
    seen = x + table.log_tokens[:, None]
    data = raw["data_scales"] - beta * seen
    gap = p * (capacity - data)
    log_l = data + jnp.logaddexp(gap, 0.0) / p
    names = "alpha beta p gamma q omega by_alpha by_capacity held capacity seen data gap log_l"
    values = alpha, beta, p, gamma, q, omega, by_alpha, by_capacity, held, capacity, seen, data, gap, log_l
    return dict(zip(names.split(), values, strict=True)) | kept


def _exact_tau(price: Array, give: Array, log_capacity: Array) -> Array:
    """Root tau (R,) of ``logsumexp_s((price + tau) give) = log M``: the function is convex, and from this side no step overshoots."""

    def newton(_: Array, tau: Array) -> Array:
        held = (price + tau[:, None]) * give
        top = jnp.max(held, -1)
        mass = jnp.exp(held - top[:, None])
        total = jnp.sum(mass, -1)
        return tau - (jnp.log(total) + top - log_capacity) * total / jnp.sum(mass * give, -1)

    return jax.lax.fori_loop(0, ROOT_STEPS, newton, jnp.min(log_capacity[:, None] / give - price, -1))


def latent_losses(theta: Array, table: Table, skills: int, exact: bool = False) -> Array:
    """One and the latent losses l_s, (R, 1 + S): a loss is this times exp(phi_v)."""
    l = jnp.exp(_forward(theta, table, skills, exact)["log_l"])
    return jnp.concatenate([jnp.ones((l.shape[0], 1)), l], 1)


def demanded_losses(theta: Array, table: Table, skills: int, demand: Array, exact: bool = False) -> Array:
    """Log latent losses (R, S) at a given demand (R, S) in place of that of the transfer."""
    return _forward(theta, table, skills, exact, demand)["log_l"]


def arrow(
    theta: Array, phi: Array, table: Table, curvature: Array, slope: Array, second: Array, exact: bool = False
) -> tuple[Arrow, Array, Array]:
    """Arrow matrix and gradient of ``sum_rv f_rv(log L_rv)`` with f' = ``slope`` and f'' = ``curvature``.

    Args:
      theta: (P,). phi: (V, 1 + S). table: the rows.
      curvature: (V, R), f'' of every residual (or what the solver puts in its place).
      slope: (V, R), f' of every residual.
      second: scalar, 1 for the second derivatives of the law itself, 0 for Gauss-Newton.
      exact: capacity split exactly in place of the closed form.

    Returns:
      (``Arrow``, gradient by theta (P,), gradient by phi (V, 1 + S)).
    """
    n_sets, skills = phi.shape[0], phi.shape[1] - 1
    rows, n_domains = table.weights.shape
    start = n_domains * skills
    sums = partial(_sums, theta, phi, second=second, exact=exact)
    total = sums(table, curvature, slope) if rows <= BLOCK else _by_blocks(sums, table, curvature, slope)
    natural, side, corner, top, bottom, own_block, gradient, own_gradient = total

    # from natural transfer to its logits
    transfer, eye = jax.nn.softmax(theta[:start].reshape(n_domains, skills), -1), jnp.eye(skills)
    chain = transfer[:, :, None] * (eye - transfer[:, None, :])  # (K, S, S), symmetric in S
    by_t = gradient[:start].reshape(n_domains, skills)
    lean = transfer * (by_t - jnp.sum(transfer * by_t, 1, keepdims=True))  # gradient by logits
    curve = -transfer[:, :, None] * lean[:, None, :] - lean[:, :, None] * transfer[:, None, :]
    curve = second * (curve + lean[:, :, None] * eye)
    natural = jnp.einsum("isj,iskt->ijkt", chain, natural)
    natural = jnp.einsum("ijkt,ktu->ijku", natural, chain) + jnp.einsum("iju,ik->ijku", curve, jnp.eye(n_domains))
    natural = natural.reshape(start, start)
    side = jnp.einsum("isj,isk->ijk", chain, side).reshape(start, -1)
    top = jnp.einsum("isj,visq->vijq", chain, top).reshape(n_sets, start, -1)
    shared = jnp.block([[natural, side], [side.T, corner]])
    gradient = jnp.concatenate([lean.ravel(), gradient[start:]])
    return Arrow(shared, jnp.concatenate([top, bottom], 1), own_block), gradient, own_gradient


def _by_blocks(sums: Callable[..., Any], table: Table, curvature: Array, slope: Array) -> Any:
    """Sums over rows, block by block: what a block needs stays in the cache of a core."""
    rows = slope.shape[1]
    blocks = -(-rows // BLOCK)
    each = -(-rows // blocks)
    more = blocks * each - rows  # rows that weigh nothing

    def cut(x: Array, axis: int, mode: str) -> Array:
        """Blocks as the leading axis."""
        x = jnp.pad(x, [(0, more if i == axis else 0) for i in range(x.ndim)], mode=mode)
        return jnp.moveaxis(x.reshape(*x.shape[:axis], blocks, each, *x.shape[axis + 1 :]), axis, 0)

    parts = jax.tree.map(lambda x: cut(x, 0, "edge"), table), cut(curvature, 1, "constant"), cut(slope, 1, "constant")
    shapes = jax.eval_shape(sums, *jax.tree.map(lambda x: x[0], parts))
    first = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return jax.lax.scan(lambda sofar, part: (jax.tree.map(jnp.add, sofar, sums(*part)), None), first, parts)[0]


def _sums(
    theta: Array,
    phi: Array,
    table: Table,
    curvature: Array,
    slope: Array,
    *,
    second: Array,
    exact: bool,
) -> tuple[Array, ...]:
    """What ``arrow`` sums over rows, by transfer itself in place of its logits.

    Returns:
      The shared matrix in parts, natural (K, S, K, S), side (K, S, P - K S) and corner; that between shared and own parameters,
      top (V, K, S, Q) and bottom; own (V, Q, Q); and the gradients (P,) and (V, Q).
    """
    n_sets, skills = phi.shape[0], phi.shape[1] - 1
    rows, n_domains = table.weights.shape
    start, inner = n_domains * skills, len(SKILL_LEAVES) * skills
    eye = jnp.eye(skills)
    w = _forward(theta, table, skills, exact)
    alpha, beta, p, gamma, q, omega = (w[k] for k in ("alpha", "beta", "p", "gamma", "q", "omega"))
    by_capacity, a_bar = w["by_capacity"], alpha / skills
    pi, zero = jax.nn.sigmoid(w["gap"]), jnp.zeros_like(omega)
    l = jnp.exp(w["log_l"])
    coefficients, floors = jnp.exp(phi[:, 1:]), jnp.exp(phi[:, :1])
    losses = floors + coefficients @ l.T  # (V, R)
    share = l * coefficients[:, None, :] / losses[..., None]  # (V, R, S)
    own = jnp.concatenate([(floors / losses)[..., None], share], -1)

    # log l by (x, A, log alpha, log beta, log u, psi) and by tau, (R, 7, S): first derivatives, and those of the gap within pi
    gamma1 = gamma / (1.0 + alpha)  # d gamma / d log alpha
    gamma2 = gamma1 * (1.0 / (1.0 + alpha) - gamma)
    cap_alpha, dat_beta = -gamma1 * w["held"] - gamma, -beta * w["seen"]
    p1, gap = p - 1.0, w["capacity"] - w["data"]
    f_psi = ((pi * w["capacity"] + (1 - pi) * w["data"] - w["log_l"]) / p) * p1
    h_tau = -pi * gamma
    first = [h_tau - (1 - pi) * beta, h_tau, pi * cap_alpha, (1 - pi) * dat_beta, 1 - pi, f_psi, h_tau]
    first = jnp.stack(first, 1)
    apart = jnp.stack(
        [beta - gamma + zero, -gamma + zero, cap_alpha, -dat_beta, zero - 1, gap * p1 / p, -gamma + zero], 1
    )
    # tau by the same six, by its row alone, and by the share of active parameters: (R, 1), or (R, 0) where that is fixed
    n = jnp.stack([-omega, -omega, -omega + w["by_alpha"], zero, zero, zero], 1)
    rho = jax.nn.sigmoid(theta[start + inner :])
    kappa_rho = (table.log_active - table.log_total)[:, None] * rho * (1.0 - rho)
    kappa_rho2 = kappa_rho * (1.0 - 2.0 * rho)
    by_x = jnp.stack([1.0 / q, *(jnp.ones_like(q) for _ in SKILL_LEAVES)], 1)  # x is log q
    # smaller kernels compile in less time than one that computes everything for every use
    share, own, first, apart, n, w = jax.lax.optimization_barrier((share, own, first, apart, n, w))

    def flat(x: Array, by_rho: Array) -> Array:
        """Natural coordinates of a row: q (S), the five of a skill (5 S), the share of active parameters."""
        return jnp.concatenate([x.reshape(*x.shape[:-2], 6 * skills), by_rho], -1)

    def spread(x: Array) -> Array:
        """Sum over rows: from q of a row to the transfer of its domains."""
        return jnp.concatenate([(table.weights.T @ x[:, :skills]).ravel(), jnp.sum(x[:, skills:], 0)])

    # log L of set v by a row's natural coordinates is share_v bound + z_v n
    z = jnp.einsum("vrs,rs->vr", share, h_tau)
    n_rho = by_capacity * kappa_rho
    bound, by_n = first[:, :6] * by_x, flat(n * by_x, n_rho)
    weight = curvature - second * slope

    def of_row(of_skill: Array, alone: Array) -> Array:
        """``of_skill bound + alone n`` of every row, natural coordinates."""
        return flat(of_skill[:, None] * bound, jnp.zeros_like(kappa_rho)) + alone[:, None] * by_n

    by_share = jnp.einsum("vr,vrs->rs", slope, share)
    gradient = spread(of_row(by_share, jnp.sum(slope * z, 0)))
    own_gradient = jnp.einsum("vr,vrq->vq", slope, own)
    # curvature of the sets: share share' within a row, and what goes with n
    heavy, with_n = weight[..., None] * share, weight * z
    both = jnp.einsum("vrs,vrt->srt", heavy, share)

    # second derivatives of the law: c (G G' + d2 log l), local blocks, rank-one rows, and tau's own curvature
    c = second * by_share
    cc = p * pi * (1 - pi)
    g_tau = jnp.sum(c * h_tau, -1, keepdims=True)  # (R, 1)
    bend, bend_alpha, bend_alphas, toward, level = _bend(w, exact)  # tau's curvature within skills, and with the row
    bend, bend_alpha, bend_alphas = (g_tau * x for x in (bend, bend_alpha, bend_alphas))
    curved = c * pi * gamma1
    left = jnp.concatenate([(c * cc)[:, None] * apart, c[:, None] * first])
    right = jnp.concatenate([apart, first])
    with_x = left[:rows] * apart[:, :1] + left[rows:] * first[:, :1]  # (R, 7, S)
    with_tau = left[:rows] * apart[:, 6:] + left[rows:] * first[:, 6:]
    g_x = c * first[:, 0] - g_tau * omega
    with_x = with_x + jnp.stack(
        [bend - g_x, bend, bend + bend_alpha - curved, -c * (1 - pi) * beta, zero, zero, zero], 1
    )
    with_tau = with_tau - jnp.stack([zero, zero, curved, zero, zero, zero, zero], 1)
    half = (0.5 * jnp.sum(with_tau[:, 6], -1, keepdims=True) + g_tau * level)[..., None]
    by_m = flat((with_tau[:, :6] + half * n + g_tau[..., None] * toward) * by_x, half[:, 0] * n_rho)
    by_m = by_m + of_row(jnp.einsum("vrs,vr->rs", heavy, z), 0.5 * jnp.sum(with_n * z, 0))
    # of the closed form omega omega', whose omega is rest - n
    rest = flat(jnp.stack([zero, zero, w["by_alpha"], zero, zero, zero], 1), n_rho)
    if not exact:
        by_m = by_m + g_tau / by_capacity * (0.5 * by_n - rest)

    def by_domain(x: Array) -> Array:
        """From q of a row to the transfer of its domains, row by row."""
        return jnp.concatenate(
            [(table.weights[:, :, None] * x[:, None, :skills]).reshape(rows, start), x[:, skills:]], -1
        )

    # m n' + n m', and share share' bound bound' of the sets
    columns = by_domain(by_n)
    joint = by_domain(by_m).T @ columns
    joint = joint + joint.T
    natural = joint[:start, :start].reshape(n_domains, skills, n_domains, skills)
    side, corner = joint[:start, start:].reshape(n_domains, skills, -1), joint[start:, start:]
    pairs = (table.weights[:, :, None] * table.weights[:, None, :]).reshape(rows, -1)
    at_q = jnp.swapaxes(both * bound[:, 0].T[..., None] * bound[:, 0], 0, 1).reshape(rows, -1)
    natural = natural + jnp.swapaxes((pairs.T @ at_q).reshape(n_domains, n_domains, skills, skills), 1, 2)
    left_rows = jnp.concatenate([table.weights[:, :, None] * bound[:, None, 0], bound[:, 1:]], 1)  # (R, K + 5, S)
    right_rows = (both[:, :, None, :] * bound[:, 1:]).reshape(skills, rows, inner)
    crossed = jnp.einsum("ras,srm->asm", left_rows, right_rows)
    side = add_first(side, crossed[:n_domains])
    corner = add_first(corner, crossed[n_domains:].reshape(inner, inner))
    width = theta.shape[0] - start

    # local blocks: skill s with itself
    x_x = (pairs.T @ (with_x[:, 0] / q**2)).reshape(n_domains, n_domains, skills)
    natural = natural + jnp.einsum("ijs,st->isjt", x_x, eye)
    x_k = (table.weights.T @ (with_x[:, 1:6] / q[:, None]).reshape(rows, -1)).reshape(n_domains, -1, skills)
    local = jnp.einsum("iks,st->iskt", x_k, eye).reshape(n_domains, skills, inner)
    side = add_first(side, local)
    k_k = jnp.einsum("rjs,rks->jks", left[:, 1:6], right[:, 1:6])
    sums = [
        bend,
        curved - bend_alpha,
        curved * (-2.0 - gamma2 / gamma1 * w["held"]) + 2.0 * bend_alpha + bend_alphas,
        c * first[:, 3],
        c * f_psi * (1.0 - 2.0 * p1 / p),
    ]
    sums = jnp.sum(jnp.stack(sums), 1)
    k_k = k_k + jnp.einsum("njk,ns->jks", _WHERE, sums)
    corner = add_first(corner, jnp.einsum("jks,st->jskt", k_k, eye).reshape(inner, inner))

    # tau's curvature by the share of active parameters and, in the closed form, by the mean exponent
    by_rho = by_capacity * (kappa_rho2 + kappa_rho**2 if exact else kappa_rho2)
    corner = corner.at[inner:, inner:].add(jnp.sum(g_tau * by_rho))
    if not exact:
        at = np.r_[skills : 2 * skills, inner:width]  # all that rest has
        some = rest[:, skills + at]
        corner = corner.at[np.ix_(at, at)].add((g_tau / by_capacity * some).T @ some)
        tilt = omega * w["away"] / by_capacity
        variance = jnp.sum(omega * w["away"] ** 2, -1, keepdims=True)
        by_tilt = spread(
            flat(jnp.stack([tilt, tilt, tilt, zero, zero, zero], 1) * by_x * g_tau[..., None], kappa_rho * g_tau)
        )
        toward_a = jnp.zeros(width).at[skills : 2 * skills].set(a_bar)
        side = side + by_tilt[:start].reshape(n_domains, skills, 1) * toward_a
        corner = corner + by_tilt[start:, None] * toward_a + toward_a[:, None] * by_tilt[start:]
        corner = corner - jnp.sum(g_tau * variance / by_capacity) * toward_a[:, None] * toward_a

    # shared by own: psi P G' in the column of the skill, psi P on the diagonal of the own block
    pulled = second * slope[..., None] * share  # (V, R, S)
    mixed = with_n[..., None] * own + jnp.pad(pulled * h_tau, [(0, 0), (0, 0), (1, 0)])
    across = jnp.einsum("vrq,rp->vpq", mixed, columns)
    sets_q = jax.lax.optimization_barrier(heavy * bound[:, 0])
    sets_q = (table.weights[:, :, None] * sets_q[:, :, None]).reshape(n_sets, rows, start)
    sets_k = (heavy[:, :, None] * bound[:, 1:]).reshape(n_sets, rows, inner)
    top = across[:, :start] + jnp.einsum("vrp,vrq->vpq", sets_q, own)
    bottom = add_first(across[:, start:], jnp.einsum("vrp,vrq->vpq", sets_k, own))
    at_x = jnp.einsum("vrs,ri->vis", pulled * (first[:, 0] / q), table.weights)
    at_k = jnp.einsum("vrs,rks->vks", pulled, first[:, 1:6])
    top = top.reshape(n_sets, n_domains, skills, -1).at[..., 1:].add(jnp.einsum("vis,st->vist", at_x, eye))
    bottom = bottom.at[:, :inner, 1:].add(jnp.einsum("vks,st->vkst", at_k, eye).reshape(n_sets, inner, skills))
    own_block = jnp.einsum("vrp,vrq->vpq", own * weight[..., None], own)
    own_block = own_block + (second * own_gradient)[:, :, None] * jnp.eye(1 + skills)

    return natural, side, corner, top, bottom, own_block, gradient, own_gradient


def _bend(w: dict[str, Array], exact: bool) -> tuple[Array, Array, Array, Array, Array]:
    """Second derivatives of tau, but for what the closed form adds by omega omega' and by the mean exponent.

    Returns:
      Local to a skill (R, S): by price twice, by price and log alpha, by log alpha twice (beyond the price's); then the vector
      (R, 6, S) and the scalar (R, 1) that, times the gradient n of tau, make up ``vector n' + n vector' + 2 scalar n n'``.
    """
    omega, zero = w["omega"], jnp.zeros_like(w["omega"])
    if not exact:
        return -omega / w["by_capacity"], zero, w["by_alpha"] + zero, jnp.zeros((1, 6, 1)), jnp.zeros((1, 1))
    weight, give, gamma, held = w["weight"], w["give"], w["gamma"], w["held"]
    slack = 1.0 / w["by_capacity"]
    twice = -weight * give**2 / slack
    mixed = weight * give * gamma * (1.0 + give * held) / slack
    alphas = weight * give * gamma * held * ((1.0 - 2.0 * gamma) - gamma * give * held) / slack
    toward = jnp.stack([twice, twice, twice + mixed, zero, zero, zero], 1)
    return twice, mixed, alphas, toward, 0.5 * jnp.sum(twice, -1, keepdims=True)


def _where() -> np.ndarray:
    """Where row sums of second derivatives stand among (A, log alpha, log beta, log u, psi), (sums, 5, 5)."""
    at = np.zeros((5, 5, 5))
    at[0, :2, :2] = 1.0
    at[1, 0, 1] = at[1, 1, 0] = -1.0
    at[2, 1, 1] = at[3, 2, 2] = at[4, 4, 4] = 1.0
    return at


_WHERE = _where()
