"""Joint fits of hundreds of parameters: Newton steps on an arrow matrix, per-set coefficients solved again at every trial.

For laws of the form ``L_rv = sum_q exp(phi_vq) b_rq(theta)`` with shared parameters theta and per-set phi_v, and the objective
of ``objective``: a Huber loss of log residuals plus quadratic priors. What makes it converge:

- **Homotopy in the Huber threshold.** It starts near the size of the residuals (a least squares problem) and shrinks to its
  final value; at the final value most residuals are in the linear zone, where iteratively reweighted steps crawl.
- **Variable projection.** After a step in (theta, phi), each phi_v is solved again by its own small Newton steps: curved valleys
  between theta and phi become straight.
- **Second derivatives of the law.** In the linear zone J'WJ has little curvature of its own, so what Gauss-Newton leaves out
  is of the same size as what it keeps. It joins once the threshold is near its final value.
- **Curvature by its size.** The objective is saddle-shaped over most of the way. Damping that outweighs negative curvature makes
  every direction slow; here an eigendecomposition gives each direction the size of its own curvature ("saddle-free Newton").
- **Few rows first.** On a large table the way to the neighbourhood of the solution is taken on a sample of the rows.
- **Arrow structure.** Sets are eliminated one by one (Schur complement), so a step decomposes one P x P matrix, once for all dampings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from camel_jax.fitting.cost import PRODUCTS, Shape, dense_is_quicker
from camel_jax.fitting.newton_models import Model, Quadratic, dense_model, free_model, quadratic_priors, solve_one
from camel_jax.fitting.objective import Data, Robust, huber
from camel_jax.laws.law import JointDerivatives, Law
from camel_jax.numerics.batched import by_matrix
from camel_jax.solvers.minimize import Solution
from camel_jax.solvers.status import CONVERGED, MAX_STEPS, NON_FINITE, RUNNING
from camel_jax.types import Array


class Joint(NamedTuple):
    """A law with shared and per-set parameters, on one table.

    Attributes:
      latent: ``latent(theta) -> (R, Q)``, the terms b of every row.
      model: ``model(theta, phi, curvature (V, R), slope (V, R), second) -> Model``: gradient and curvature of a sum over rows and sets
        of functions of log L with these first and second derivatives, and of the priors.
    """

    latent: Callable[[Array], Array]
    model: Callable[[Array, Array, Array, Array, Array], Model]


class Schedule(NamedTuple):
    """How the solver moves; the defaults serve all tables tried.

    Attributes:
      max_steps: largest number of steps.
      rtol: stop when ``window`` steps together improve the objective by less than this fraction.
      warm_rtol: the same from a warm start: what a resample tells is how far its optimum moves.
      window: steps between two looks at the progress.
      start: first Huber threshold, in units of the mean absolute residual at the start.
      warm_start: the same from a warm start; 0 for the final threshold.
      shrink: factor of the threshold at every good step.
      linear: share of the reweighted curvature kept in the linear zone.
      exact_below: threshold, in units of the final one, below which second derivatives of the law join.
      trials: largest number of damping values tried at one step.
      large, stride, coarse_rtol: on tables of at least so many rows, the way begins on every ``stride``-th row, to this tolerance.
      follow: largest threshold after a good step, in units of the mean absolute residual.
      refinements: Newton steps of the sets' own parameters at every trial.
      dense: by the matrix of the shared parameters, or (False) by products with it; None for what takes less time.
      products: with the matrix, in a step without it.
    """

    max_steps: int = 250
    rtol: float = 2e-4
    warm_rtol: float = 1e-3
    window: int = 5
    start: float = 2.0
    warm_start: float = 0.0
    shrink: float = 0.8
    linear: float = 0.5
    exact_below: float = 4.0
    trials: int = 8
    large: int = 800
    stride: int = 4
    coarse_rtol: float = 1e-3
    follow: float = 2.0
    refinements: int = 2
    dense: bool | None = None
    products: int = PRODUCTS


class _State(NamedTuple):
    theta: Array
    phi: Array
    residual: Array
    value: Array  # at the present threshold
    delta: Array
    damping: Array
    window_value: Array
    status: Array
    steps: Array


DEFAULT = Schedule()


def minimize(
    joint: Joint,
    theta: Array,
    phi: Array,
    log_losses: Array,
    weights: Array,
    prior: Quadratic,
    robust: Robust,
    schedule: Schedule = DEFAULT,
    warm: Array = False,
) -> Solution:
    """Minimise ``sum_rv w_rv huber(log L_rv - y_rv) / (delta noise) + prior`` over (theta, phi).

    Args:
      joint: the law on this table.
      theta: (P,) start. phi: (V, Q) start.
      log_losses: y, (V, R). weights: w, (V, R), 0 where not measured.
      prior: quadratic priors.
      robust: final threshold, and noise.
      schedule: how the solver moves.
      warm: True for a start near the solution: no homotopy.

    Returns:
      ``Solution`` whose params are (theta, phi).
    """
    eye = jnp.eye(phi.shape[1])

    def residual_of(phi: Array, latent: Array) -> Array:
        return jnp.log(jnp.exp(phi) @ latent.T) - log_losses

    def own_value(phi: Array, residual: Array, delta: Array) -> Array:
        """Data term and own prior of each set, (V,)."""
        data = jnp.sum(weights * huber(residual, delta), -1) / (delta * robust.noise)
        return data + 0.5 * jnp.sum(prior.precision * (phi - prior.center) ** 2, -1)

    def total(theta: Array, own: Array) -> Array:
        return prior.add_value(jnp.sum(own), theta)

    def mean_size(residual: Array) -> Array:
        return jnp.sum(weights * jnp.abs(residual)) / jnp.sum(weights)

    def slopes(residual: Array, delta: Array) -> tuple[Array, Array]:
        size = jnp.abs(residual)
        scale = weights / (delta * robust.noise)
        curvature = jnp.where(size <= delta, 1.0, schedule.linear * delta / jnp.maximum(size, delta))
        return scale * curvature, scale * jnp.clip(residual, -delta, delta)

    def refine(theta: Array, phi: Array, delta: Array) -> tuple[Array, Array]:
        """Damped Newton steps of every set's own parameters, and the objective there."""
        latent = joint.latent(theta)

        def attempt(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            phi, value, ridge = carry
            terms = jnp.exp(phi)[:, None, :] * latent
            losses = jnp.sum(terms, -1, keepdims=True)
            curvature, slope = slopes(jnp.log(losses[..., 0]) - log_losses, delta)
            share = terms / losses
            gradient = jnp.einsum("vr,vrq->vq", slope, share) + prior.precision * (phi - prior.center)
            matrix = jnp.swapaxes(share * curvature[..., None], 1, 2) @ share
            diagonal = jnp.diagonal(matrix, axis1=1, axis2=2) + prior.precision
            matrix = matrix + (prior.precision + ridge[:, None] * diagonal)[:, :, None] * eye
            new = phi - by_matrix(lambda m, g: solve_one(jnp.linalg.cholesky(m), g), matrix, gradient)
            new_value = own_value(new, residual_of(new, latent), delta)
            better = new_value < value
            phi, value = jnp.where(better[:, None], new, phi), jnp.where(better, new_value, value)
            return phi, value, jnp.where(better, 1e-3, 300.0 * ridge)

        first = phi, own_value(phi, residual_of(phi, latent), delta), jnp.full(phi.shape[0], 1e-3)
        phi, value, _ = jax.lax.fori_loop(0, schedule.refinements, attempt, first)
        return phi, total(theta, value)

    def step(state: _State) -> _State:
        theta, phi, delta = state.theta, state.phi, state.delta
        curvature, slope = slopes(state.residual, delta)
        second = jnp.where(delta <= schedule.exact_below * robust.delta, 1.0, 0.0)
        model = joint.model(theta, phi, curvature, slope, second)
        by_theta, by_phi, own = model.by_theta, model.by_phi, model.own
        own_scale = jnp.maximum(jnp.abs(jnp.diagonal(own, axis1=1, axis2=2)), prior.precision) + 1e-12

        def trial(carry: Any) -> Any:
            damping, tried = carry[2], carry[5]
            left = by_matrix(jnp.linalg.cholesky, own + (damping * own_scale)[:, :, None] * eye)
            # another damping moves the eigenvalues, not their axes: one decomposition serves all trials of a step
            known = jax.lax.cond(model.is_known(carry[7]), lambda: carry[7], lambda: model.decompose(left))
            reduced = by_theta - model.to_shared(by_matrix(solve_one, left, by_phi))
            d_theta, moved = model.solve(known, reduced, damping)
            d_phi = -by_matrix(solve_one, left, by_phi + model.to_own(d_theta))
            new_theta = theta + d_theta
            new_phi, value = refine(new_theta, phi + d_phi, delta)
            slope_along = by_theta @ d_theta + jnp.sum(by_phi * d_phi)
            damped = damping * (moved + jnp.sum(own_scale * d_phi**2))
            gain = (state.value - value) / jnp.maximum(0.5 * (damped - slope_along), 1e-300)
            good = jnp.isfinite(value) & (value < state.value) & jnp.all(jnp.isfinite(new_phi))
            next_damping = damping * jnp.where(gain > 0.7, 0.2, jnp.where(gain > 0.25, 1.0, 3.0))
            next_damping = jnp.where(good, jnp.maximum(next_damping, 1e-8), damping * 5.0)
            pick = lambda new, old: jnp.where(good, new, old)  # noqa: E731
            return (
                pick(new_theta, carry[0]),
                pick(new_phi, carry[1]),
                next_damping,
                pick(value, carry[3]),
                good,
                tried + 1,
                jnp.where(good, gain, 0.0),
                known,
            )

        first = (theta, phi, state.damping, state.value, jnp.array(False), 0, jnp.zeros_like(delta), model.unknown)
        new = jax.lax.while_loop(lambda c: ~c[4] & (c[5] < schedule.trials), trial, first)
        theta, phi, damping, value, good, _, gain, _ = new
        steps = state.steps + 1
        final = delta <= robust.delta
        # a step that fails at every damping means this threshold has nothing more to give
        residual = residual_of(phi, joint.latent(theta))
        next_delta = jnp.minimum(delta * schedule.shrink, schedule.follow * mean_size(residual))
        smaller = jnp.where((gain > 0.1) | ~good, jnp.maximum(robust.delta, next_delta), delta)
        value = total(theta, own_value(phi, residual, smaller))
        look = steps % schedule.window == 0
        small = state.window_value - value <= schedule.rtol * jnp.abs(value)
        done = final & ((look & small) | ~good)
        status = jnp.where(done, CONVERGED, RUNNING)
        status = jnp.where(jnp.isfinite(value), status, NON_FINITE)
        window_value = jnp.where(~final, jnp.inf, jnp.where(look, value, state.window_value))
        damping = jnp.where(good, damping, 1e-2)
        return _State(theta, phi, residual, value, smaller, damping, window_value, status.astype(jnp.int32), steps)

    final = jnp.asarray(robust.delta, theta.dtype)
    residual = residual_of(phi, joint.latent(theta))
    begin = jnp.where(warm, schedule.warm_start, schedule.start)
    delta = jnp.maximum(final, begin * mean_size(residual))
    value = total(theta, own_value(phi, residual, delta))
    status = jnp.where(jnp.isfinite(value), RUNNING, NON_FINITE).astype(jnp.int32)
    damping = jnp.where(warm, 1e-3, 1e-2).astype(theta.dtype)
    state = _State(theta, phi, residual, value, delta, damping, jnp.inf * jnp.ones_like(value), status, jnp.int32(0))
    last = jax.lax.while_loop(lambda s: (s.status == RUNNING) & (s.steps < schedule.max_steps), step, state)
    status = jnp.where(last.status == RUNNING, MAX_STEPS, last.status)
    return Solution(
        (last.theta, last.phi), total(last.theta, own_value(last.phi, last.residual, final)), status, last.steps
    )


def supports(law: Law, data: Data, raw: Any) -> bool:
    """Whether ``minimize_joint`` can fit a law to a table: it offers its derivatives, and knows the table."""
    return law.derivatives is not None and law.derivatives.supports(raw, data.recipe)


def minimize_joint(
    law: Law,
    raw: Any,
    data: Data,
    robust: Robust,
    schedule: Schedule = DEFAULT,
    *,
    warm: Array = False,
) -> Solution:
    """Fit a joint law from one start; map over starts and resamples.

    Minimises the same objective as ``objective.objective``.

    Args:
      law: a law for which ``supports`` is true; its ``log_prior`` is quadratic.
      raw: one start, unconstrained.
      data: the table; resamples multiply ``data.weights``.
      robust: settings of the robust objective.
      schedule: how the solver moves.
      warm: True for a start near the solution, such as a resample's.

    Returns:
      ``Solution`` with params like ``raw``.
    """
    known = law.derivatives
    if known is None:
        raise ValueError(f"{law.name} offers no derivatives for Newton's method")
    theta, phi = known.pack(raw)
    n_domains = data.recipe.weights.shape[1]
    dense = schedule.dense
    if dense is None:
        rows, sets = data.log_losses.shape
        dense = dense_is_quicker(Shape(theta.size, rows, n_domains, sets, phi.shape[1]))
    prior = quadratic_priors(law, known, theta, phi, n_domains, dense)
    near, spent = warm, 0
    if data.log_losses.shape[0] >= schedule.large:
        # far from the solution a sample of the rows says as much; from there the whole table needs few steps
        some = jax.tree.map(lambda x: x[:: schedule.stride], data)
        scale = jnp.sum(data.weights) / jnp.maximum(jnp.sum(some.weights), 1e-300)
        some = some._replace(weights=some.weights * scale)
        limit = jnp.where(warm, 0, schedule.max_steps)
        quick = schedule._replace(max_steps=limit, rtol=schedule.coarse_rtol)
        coarse = _on_table(known, theta, phi, some, prior, robust, quick)
        fine = jnp.isfinite(coarse.objective)
        theta, phi = (jnp.where(fine, new, old) for new, old in zip(coarse.params, (theta, phi), strict=True))
        near, spent = warm | fine, coarse.steps
    rtol = jnp.where(warm, schedule.warm_rtol, schedule.rtol)
    last = schedule._replace(max_steps=schedule.max_steps - spent, rtol=rtol)
    solution = _on_table(known, theta, phi, data, prior, robust, last, near)
    theta, phi = solution.params
    return solution._replace(params=known.unpack(theta, phi, n_domains), steps=solution.steps + spent)


def _on_table(
    known: JointDerivatives,
    theta: Array,
    phi: Array,
    data: Data,
    prior: Quadratic,
    robust: Robust,
    schedule: Schedule,
    warm: Array = False,
) -> Solution:
    """``minimize`` on one table."""
    joint = Joint(
        lambda theta: known.latent(theta, data.recipe, phi.shape[1]),
        partial(dense_model, known, data.recipe, prior)
        if prior.matrix is not None
        else partial(free_model, known, data.recipe, prior, schedule.products),
    )
    weights = jnp.where(data.measured, data.weights[:, None], 0.0).T
    return minimize(joint, theta, phi, data.log_losses.T, weights, prior, robust, schedule, warm)
