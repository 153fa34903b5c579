"""CAMEL: capacity-aware mixture law, with latent skills shared by all validation sets.

A model of capacity M divides it over S skills so that its training loss is least; the mixture r asks for skill s with weight
q_s = sum_i r_i T_is. What is left of skill s is a loss l_s with two causes, too little capacity and too little data, joined
by a p-norm so that a larger model also learns faster. Every validation set reads the same skills:

    q_s = sum_i r_i T_is                          m_s = capacity given to skill s (see ``allocation``)
    l_s = ((m_s^-alpha_s)^p_s + (u_s (q_s D)^-beta_s)^p_s)^(1/p_s)
    L_v = E_v + sum_s W_vs l_s                    M = N^rho N_total^(1 - rho)

The allocation follows the theorem of Li, Gu and Zhang 2026 (arXiv 2603.08022); latent skills, the coupling and the priors are
ours. Where a domain has a limited supply of unique tokens, its tokens count for less with every epoch, r_i D becoming D_i', and so do
parameters beyond what these can use, M becoming M'; repeated too often, they add a loss P_v. See ``repetition``.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws import camel_blocks, camel_derivatives
from camel_jax.laws.allocation import log_allocate, log_allocate_closed
from camel_jax.laws.camel_coordinates import camel_coordinates
from camel_jax.laws.law import JointDerivatives, Law, runs_for_domains, varies
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
from camel_jax.numerics.stable import logsumexp
from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, count_mixtures
from camel_jax.types import Array, PerSet, PerSkill

FEW_MIXTURES = 2.0  # mixtures a domain up to which they are few: see ``blend``


class CamelParams(NamedTuple):
    """Natural parameters of CAMEL for K domains, V sets and S skills.

    Attributes:
      transfer: T, (K, S), rows on the simplex: what each domain asks of each skill.
      amplitudes: A, (S,): how much of the training loss a skill is worth in the split of capacity.
      capacity_exponents: alpha, (S,).
      data_exponents: beta, (S,).
      data_scales: u, (S,).
      couplings: p, (S,), at least 1.
      coefficients: W, (V, S).
      floors: E, (V,).
      active_share: rho, (): M = N^rho N_total^(1 - rho).
      repeat: R, (): epochs over which repeated tokens lose their worth.
      repetition: other parameters of repetition, by name: () each, but for the ceiling of what it adds to a loss, (V,). None or
        empty for tables without a supply.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> law = camel(skills=4)
    >>> params = law.constrain(law.init(jax.random.key(1), runs))
    >>> params.transfer.shape, params.coefficients.shape
    ((2, 4), (2, 4))
    """

    transfer: Array
    amplitudes: Array
    capacity_exponents: Array
    data_exponents: Array
    data_scales: Array
    couplings: Array
    coefficients: Array
    floors: Array
    active_share: Array
    repeat: Array
    repetition: dict[str, Array] | None = None

    __repr__ = brief_repr


def log_demand(transfer: Array, recipe: Recipe) -> Array:
    """Log of the demand for each skill, log q_s = log sum_i r_i T_is, shape (S,)."""
    return jnp.log(jnp.matmul(recipe.weights, transfer, precision="highest"))


def _few_mixtures(runs: Runs) -> tuple[str, ...]:
    n_mixtures = count_mixtures(runs)
    if n_mixtures > FEW_MIXTURES * len(runs.domains):
        return ()
    return (
        f"{n_mixtures} mixtures of {len(runs.domains)} domains are few for camel: on public tables of two a domain or fewer, "
        "its blend with sodm, weighted by what it learns from the table, predicted better; try the law blend",
    )


def _log_capacity(params: CamelParams, recipe: Recipe) -> Array:
    rho = params.active_share
    return rho * jnp.log(recipe.n_active) + (1.0 - rho) * jnp.log(recipe.n_total)


def skill_losses(params: CamelParams, recipe: Recipe, exact: bool = False) -> PerSkill:
    """Log of the loss that remains of each skill, log l_s, shape (S,), for one recipe."""
    log_q = log_demand(params.transfer, recipe)
    log_capacity = _log_capacity(params, recipe)
    if params.repetition:
        log_capacity = jnp.log(effective_size(params.repetition, recipe, jnp.exp(log_capacity)))
    allocate = log_allocate if exact else log_allocate_closed
    log_m = allocate(log_q, jnp.log(params.amplitudes), params.capacity_exponents, log_capacity)
    if recipe.supply is None:
        log_seen = log_q + jnp.log(recipe.tokens)
    else:
        seen = effective_tokens(recipe.weights * recipe.tokens, recipe.supply, params.repeat)
        log_seen = jnp.log(jnp.matmul(seen, params.transfer, precision="highest"))
    capacity = -params.capacity_exponents * log_m
    data = jnp.log(params.data_scales) - params.data_exponents * log_seen
    p = params.couplings
    return logsumexp(jnp.stack([p * capacity, p * data]), axis=0) / p


class CamelPrior(NamedTuple):
    """Centers and precisions of the Gaussian priors on raw parameters, in the units of the table.

    Attributes:
      capacity_exponent: center of the capacity exponents alpha; their logarithm is normal.
      data_exponent: center of the data exponents beta; their logarithm is normal.
      exponent_mean: precision of the mean of the log exponents over skills.
      exponent_spread: precision of each skill's log exponent around that mean.
      coupling: center of log(p - 1), with p the couplings.
      coupling_mean: precision of the mean of log(p - 1) over skills.
      coupling_spread: precision of each skill's log(p - 1) around that mean.
      transfer: precision of the raw transfer matrix.
      coefficients: precision of the log coefficients W.
      floor: center of the floors E, as a share of the typical loss of a set.
      floors: precision of the log floors.
      data_scales: precision of the log data scales u.
      amplitudes: precision of the log amplitudes A.

    >>> camel(skills=4, prior=CamelPrior(floor=0.4)).name
    'camel'
    """

    capacity_exponent: float = 0.12
    data_exponent: float = 0.22
    exponent_mean: float = 100.0
    exponent_spread: float = 80.0
    coupling: float = -1.0
    coupling_mean: float = 2.0
    coupling_spread: float = 30.0
    transfer: float = 0.5
    coefficients: float = 1.0
    floor: float = 0.5
    floors: float = 1.0
    data_scales: float = 1.0
    amplitudes: float = 1.0

    __repr__ = brief_repr


@lru_cache(maxsize=64)
def camel(
    skills: int = 16,
    *,
    exact: bool = False,
    coupled: bool = True,
    prior: CamelPrior | tuple[float | int, ...] | None = None,
) -> Law:
    """The capacity-aware mixture law with latent skills; the default law of the package.

    Args:
      skills: number of latent skills S; results are flat from 10 to 24.
      exact: split capacity by the exact root in place of the first-order closed form.
      coupled: join capacity and data terms by a p-norm; False adds them (p = 1).
      prior: centers and precisions of the priors, as a file has them or named; the default serves all tables.

    Returns:
      A ``Law`` whose params are ``CamelParams``.

    >>> camel(skills=4).name
    'camel'
    """
    prior = CamelPrior() if prior is None else CamelPrior(*prior)
    log_w0 = np.log((1.0 - prior.floor) / skills)

    @partial(jax.jit, static_argnums=(1, 2))  # one program for all leaves; starts of one law share it
    def start(key: Array, n_domains: int, n_sets: int) -> dict[str, Array]:
        # one draw long enough for every leaf, in place of a generator a leaf: that takes seconds to compile
        longest = skills * max(n_domains, n_sets)
        drawn = jax.vmap(lambda k: jax.random.normal(k, (longest,)))(jax.random.split(key, 8))

        def normal(i: int, shape: tuple[int, ...], center: float, spread: float) -> Array:
            return center + spread * drawn[i, : math.prod(shape)].reshape(shape)

        raw = {
            "transfer": normal(0, (n_domains, skills), 0.0, 1.0),
            "amplitudes": normal(1, (skills,), 0.0, 0.3),
            "capacity_exponents": normal(2, (skills,), np.log(prior.capacity_exponent), 0.1),
            "data_exponents": normal(3, (skills,), np.log(prior.data_exponent), 0.1),
            "data_scales": normal(4, (skills,), 0.0, 0.3),
            "coefficients": normal(5, (n_sets, skills), log_w0, 0.5),
            "floors": jnp.full((n_sets,), np.log(prior.floor)),
        }
        return raw | ({"couplings": normal(6, (skills,), prior.coupling, 0.1)} if coupled else {})

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        raw = start(key, len(runs.domains), len(runs.sets))
        if varies(runs.recipe.n_total / runs.recipe.n_active):
            raw["active_share"] = jnp.asarray(0.0)
        if runs.recipe.supply is not None:
            # every set has its own ceiling, and all share the rest
            drawn = repetition_init(jax.random.fold_in(key, 8), (len(runs.sets),))
            raw |= {name: x if name == "overfit_ceiling" else x[0] for name, x in drawn.items()}
            raw["repeat"] = jnp.asarray(np.log(DEFAULT_REPEAT))
        return raw

    def constrain(raw: dict[str, Array]) -> CamelParams:
        alpha = jnp.exp(raw["capacity_exponents"])
        return CamelParams(
            transfer=jax.nn.softmax(raw["transfer"], axis=-1),
            amplitudes=jnp.exp(raw["amplitudes"]),
            capacity_exponents=alpha,
            data_exponents=jnp.exp(raw["data_exponents"]),
            data_scales=jnp.exp(raw["data_scales"]),
            couplings=1.0 + jnp.exp(raw["couplings"]) if coupled else jnp.ones_like(alpha),
            coefficients=jnp.exp(raw["coefficients"]),
            floors=jnp.exp(raw["floors"]),
            active_share=jax.nn.sigmoid(raw["active_share"]) if "active_share" in raw else jnp.ones(()),
            repeat=jnp.exp(raw["repeat"]) if "repeat" in raw else jnp.asarray(DEFAULT_REPEAT),
            repetition={k: repetition_constrain(k, raw[k]) for k in LEAVES if k in raw and k != "repeat"},
        )

    def predict(params: CamelParams, recipe: Recipe) -> PerSet:
        terms = jnp.exp(skill_losses(params, recipe, exact))
        losses = params.floors + jnp.matmul(params.coefficients, terms, precision="highest")
        if not params.repetition:
            return losses
        return losses + overfitting(params.repetition, recipe, jnp.exp(_log_capacity(params, recipe)))

    def log_prior(raw: dict[str, Array]) -> Array:
        def about(value: Array, center: float, mean: float, spread: float) -> Array:
            average = jnp.mean(value)
            return mean * (average - center) ** 2 + spread * jnp.sum((value - average) ** 2)

        total = about(
            raw["capacity_exponents"], np.log(prior.capacity_exponent), prior.exponent_mean, prior.exponent_spread
        )
        total += about(raw["data_exponents"], np.log(prior.data_exponent), prior.exponent_mean, prior.exponent_spread)
        total += prior.transfer * jnp.sum(raw["transfer"] ** 2)
        total += prior.coefficients * jnp.sum((raw["coefficients"] - log_w0) ** 2)
        total += prior.floors * jnp.sum((raw["floors"] - np.log(prior.floor)) ** 2)
        total += prior.data_scales * jnp.sum(raw["data_scales"] ** 2)
        total += prior.amplitudes * jnp.sum(raw["amplitudes"] ** 2)
        if coupled:
            total += about(raw["couplings"], prior.coupling, prior.coupling_mean, prior.coupling_spread)
        if "active_share" in raw:
            total += 0.3 * raw["active_share"] ** 2
        return -0.5 * total + repetition_log_prior(raw) if "repeat" in raw else -0.5 * total

    return Law(
        "camel",
        init,
        predict,
        constrain,
        log_prior,
        min_runs=runs_for_domains,
        settings=(("skills", skills), ("exact", exact), ("coupled", coupled), ("prior", tuple(prior))),
        notes=_few_mixtures,
        derivatives=_derivatives(exact),
        coordinates=camel_coordinates(exact),
    )


def _derivatives(exact: bool) -> JointDerivatives:
    """The derivatives as a law offers them; exact: whether capacity is split by the exact root."""

    def table(recipe: Recipe) -> camel_derivatives.Table:
        logs = (jnp.log(x) for x in (recipe.n_total, recipe.n_active, recipe.tokens))
        return camel_derivatives.Table(recipe.weights, *logs)

    return JointDerivatives(
        lambda raw, recipe: (
            isinstance(raw, dict)
            and set(raw) - {camel_derivatives.SHARE} == camel_derivatives.LEAVES
            and recipe.supply is None
        ),
        camel_derivatives.pack,
        camel_derivatives.unpack,
        lambda theta, recipe, n_terms: camel_derivatives.latent_losses(theta, table(recipe), n_terms - 1, exact),
        lambda theta, phi, recipe, curvature, slope, second: camel_derivatives.arrow(
            theta, phi, table(recipe), curvature, slope, second, exact
        ),
        lambda theta, phi, recipe, curvature: camel_blocks.curvature_blocks(
            theta, phi, table(recipe), curvature, exact
        ),
    )
