"""Fits of a law whose log losses are linear in features of the mixture, with ridge strengths chosen by the evidence.

For one set, with rows r of weight w_r (a run is worth one row, however many checkpoints it has),

    y_r = base(p, N_r, D_r) + sum_i b_i x_ri + e_r,   e ~ Normal(0, sigma^2 / w_r),   b_i ~ Normal(0, sigma^2 / lambda)

``base`` is linearised at the parameters p, which have priors of their own, p and b are solved for together, and lambda is the point
of a grid at which the table is most probable once p, b and sigma are integrated or profiled out; this is repeated until nothing
moves. Residuals beyond ``HUBER`` sigma count less. The power of the features is one for all sets: the most probable one on their
mean. All of it is a few small eigenvalue problems a set, and every lane (resample, back-test, fold) learns its own strengths.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from camel_jax.fitting.objective import ROWS_PER_RUN, Data
from camel_jax.laws.law import LogLinear
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers.minimize import Solution
from camel_jax.solvers.status import CONVERGED, MAX_STEPS, NON_FINITE
from camel_jax.types import Array

HUBER = 2.0  # residual, in units of the noise of its set, beyond which rows count less
STRENGTHS = 10.0 ** np.arange(-4.0, 4.01, 0.25)  # lambda, in units of the mean information on a slope
POWERS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0)
LONGEST = 0.5  # of a step in a parameter of ``base``
MAX_ITERATIONS, TOLERANCE = 100, 1e-7
LEAST_NOISE = 1e-6  # sigma never falls below it


class _State(NamedTuple):
    """Where the fit of one set stands: p (P,), b (K,), sigma, spread, evidence, last move, iterations."""

    own: Array
    slope: Array
    noise: Array
    spread: Array
    evidence: Array
    moved: Array
    steps: Array


def by_evidence(form: LogLinear, data: Data, raw: Any, counts: Array | None) -> Solution:
    """Fit every lane; starts play no part but as the first guess of ``base``.

    Args:
      form: what the law tells of itself.
      data: the table in its units.
      raw: starts, leaves (L, V, ...).
      counts: (L, R) multiplicities of rows, or None for ones.

    Returns:
      ``Solution`` with params like ``raw`` and (L V,) objective (minus the log evidence), status and steps.
    """
    n, n_rows = len(raw["spread"]), len(data.weights)
    times = np.ones((n, n_rows)) if counts is None else np.asarray(counts, float)
    different, which = np.unique(times, axis=0, return_inverse=True)
    which = which.reshape(-1)
    first = np.unique(which, return_index=True)[1]
    base = {k: np.asarray(v) for k, v in raw.items() if k not in ("slope", "power", "spread")}
    found = [
        jax.tree.map(
            np.asarray, _fit_lane(form, data._replace(weights=data.weights * t), {k: v[i] for k, v in base.items()})
        )
        for t, i in zip(different, first, strict=True)
    ]
    params, *rest = jax.tree.map(lambda *x: np.stack(x)[which], *found)
    return Solution({k: params[k] for k in raw}, *(x.reshape(-1) for x in rest))


@partial(jax.jit, static_argnums=0)
def _fit_lane(form: LogLinear, data: Data, base: dict[str, Array]) -> tuple[Any, Array, Array, Array]:
    """One lane: parameters with leaves (V, ...), minus log evidence, status and steps (V,)."""
    weights = jnp.where(data.measured.T, data.weights / ROWS_PER_RUN, 0.0)  # (V, R)
    n_domains = data.recipe.weights.shape[1]
    one = {k: v[0] for k, v in base.items()}
    unravel = ravel_pytree(one)[1]
    own = jax.vmap(lambda x: ravel_pytree(x)[0])(base)

    def solve(power: Array, state: _State, limit: int) -> _State:
        features = form.features(data.recipe.weights, power)
        step = partial(_step, form, data.recipe, features, unravel)

        def each(state: _State, y: Array, w: Array) -> _State:
            moving = lambda s: (s.steps < limit) & (s.moved > TOLERANCE)  # noqa: E731
            return jax.lax.while_loop(moving, lambda s: step(s, y, w), state)

        return jax.vmap(each)(state, data.log_losses.T, weights)

    n_sets = own.shape[0]
    zero, count = jnp.zeros(n_sets), jnp.zeros(n_sets, jnp.int32)
    start = _State(own, jnp.zeros((n_sets, n_domains)), zero + 0.1, zero, zero, zero + jnp.inf, count)
    again = lambda s: s._replace(moved=zero + jnp.inf, steps=count)  # noqa: E731
    usual = solve(jnp.asarray(form.power), start, MAX_ITERATIONS)
    powers = jnp.asarray(POWERS)
    # from the fit at the usual power, a few steps tell how much more probable another makes the table
    tried = jax.lax.map(lambda g: solve(g, again(usual), 2).evidence, powers)  # (powers, V)
    known = jnp.isfinite(tried).all(0) & (weights.sum(1) > 0)
    mean = jnp.sum(jnp.where(known, tried, 0.0), 1) / jnp.maximum(known.sum(), 1)
    best = powers[jnp.argmax(mean - 0.5 * (jnp.log(powers / form.power) / form.spread) ** 2)]
    last = solve(best, again(usual), MAX_ITERATIONS)
    params = jax.vmap(unravel)(last.own) | {
        "slope": last.slope,
        "power": jnp.full(n_sets, jnp.log(best)),
        "spread": last.spread,
    }
    fine = jnp.isfinite(last.evidence) & jnp.isfinite(last.slope).all(1) & jnp.isfinite(last.own).all(1)
    done = jnp.where(last.moved <= jnp.sqrt(TOLERANCE), CONVERGED, MAX_STEPS)
    return params, jnp.where(fine, -last.evidence, jnp.inf), jnp.where(fine, done, NON_FINITE), last.steps


def _step(
    form: LogLinear, recipe: Recipe, features: Array, unravel: Any, state: _State, y: Array, weights: Array
) -> _State:
    """Linearise the base law, choose the ridge strength, and solve for its parameters and the slopes."""

    def base(own: Array) -> Array:
        single = jax.tree.map(lambda x: x[None], unravel(own))
        return jax.vmap(lambda row: form.base(single, row)[0])(recipe)

    def prior(own: Array) -> Array:
        return form.prior(jax.tree.map(lambda x: x[None], unravel(own)))

    own = state.own
    value, tangent = base(own), jax.jacfwd(base)(own)
    pull, hold = jax.grad(prior)(own), -jax.hessian(prior)(own)
    error = jnp.where(weights > 0, y - value - features @ state.slope, 0.0)
    w = weights * jnp.minimum(1.0, HUBER * state.noise / jnp.maximum(jnp.abs(error), 1e-12))
    target = jnp.where(weights > 0, y - value, 0.0)  # of a step in p, and of the slopes themselves
    variance = state.noise**2
    inner = (tangent.T * w) @ tangent + variance * hold
    right = tangent.T @ (w * target) + variance * pull
    across = (tangent.T * w) @ features
    solved = jnp.linalg.solve(inner, jnp.concatenate([across, right[:, None]], 1))
    information = (features.T * w) @ features - across.T @ solved[:, :-1]
    gradient = features.T @ (w * target) - across.T @ solved[:, -1]
    values, vectors = jnp.linalg.eigh(0.5 * (information + information.T))
    values, along = jnp.maximum(values, 0.0), vectors.T @ gradient
    rest = jnp.sum(w * target**2) - right @ solved[:, -1]
    free = jnp.maximum(jnp.sum(w) - jnp.trace(jnp.linalg.solve(inner, inner - variance * hold)), 1.0)
    strengths = jnp.asarray(STRENGTHS) * jnp.maximum(jnp.mean(values), 1e-12)
    explained = jnp.sum(along**2 / (values + strengths[:, None]), 1)
    left = jnp.maximum(rest - explained, free * LEAST_NOISE**2)
    evidence = -0.5 * free * jnp.log(left) - 0.5 * jnp.sum(jnp.log1p(values / strengths[:, None]), 1)
    best = jnp.argmax(evidence)
    strength, noise = strengths[best], jnp.sqrt(left[best] / free)
    slope = vectors @ (along / (values + strength))
    move = jnp.clip(solved[:, -1] - solved[:, :-1] @ slope, -LONGEST, LONGEST)
    changed = jnp.maximum(jnp.max(jnp.abs(move)), jnp.max(jnp.abs(slope - state.slope)))
    spread = jnp.log(noise) - 0.5 * jnp.log(strength)
    return _State(own + move, slope, noise, spread, evidence[best], changed, state.steps + 1)
