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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from camel_jax.fitting.objective import Data, Robust, huber
from camel_jax.laws import camel_derivatives
from camel_jax.laws.law import Law
from camel_jax.numerics.batched import by_matrix
from camel_jax.solvers.minimize import CONVERGED, MAX_STEPS, NON_FINITE, Solution
from camel_jax.types import Array


class Joint(NamedTuple):
    """A law with shared and per-set parameters, on one table.

    Attributes:
      latent: ``latent(theta) -> (R, Q)``, the terms b of every row.
      arrow: ``arrow(theta, phi, curvature (V, R), slope (V, R), second) -> (Arrow, gradient (P,), gradient (V, Q))``: matrix
        and gradient of a sum over rows and sets of functions of log L with these first and second derivatives.
    """

    latent: Callable[[Array], Array]
    arrow: Callable[[Array, Array, Array, Array, Array], tuple[Any, Array, Array]]


class Quadratic(NamedTuple):
    """Priors as quadratic forms: ``constant + x'Hx / 2 + g'x`` for theta; a center and a precision for every phi.

    Attributes:
      constant: scalar. matrix: (P, P). linear: (P,).
      center: (V, Q). precision: (V, Q).
    """

    constant: Array
    matrix: Array
    linear: Array
    center: Array
    precision: Array


class Schedule(NamedTuple):
    """How the solver moves; the defaults serve all tables tried.

    Attributes:
      max_steps: largest number of steps.
      rtol: stop when ``window`` steps together improve the objective by less than this fraction.
      warm_rtol: the same from a warm start: what a resample tells is how far its optimum moves.
      window: steps between two looks at the progress.
      start: first Huber threshold, in units of the mean absolute residual at the start.
      shrink: factor of the threshold at every good step.
      linear: share of the reweighted curvature kept in the linear zone.
      exact_below: threshold, in units of the final one, below which second derivatives of the law join.
      trials: largest number of damping values tried at one step.
      large, stride, coarse_rtol: on tables of at least so many rows, the way begins on every ``stride``-th row, to this tolerance.
      follow: largest threshold after a good step, in units of the mean absolute residual.
      refinements: Newton steps of the sets' own parameters at every trial.
    """

    max_steps: int = 250
    rtol: float = 2e-4
    warm_rtol: float = 1e-3
    window: int = 5
    start: float = 2.0
    shrink: float = 0.8
    linear: float = 0.5
    exact_below: float = 4.0
    trials: int = 8
    large: int = 800
    stride: int = 4
    coarse_rtol: float = 1e-3
    follow: float = 2.0
    refinements: int = 2


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


RUNNING = -1
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
        return jnp.sum(own) + prior.constant + 0.5 * theta @ prior.matrix @ theta + prior.linear @ theta

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
            new = phi - by_matrix(lambda m, g: _solve(jnp.linalg.cholesky(m), g), matrix, gradient)
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
        arrow, by_theta, by_phi = joint.arrow(theta, phi, curvature, slope, second)
        shared, own = arrow.shared + prior.matrix, arrow.own + prior.precision[:, :, None] * eye
        by_theta = by_theta + prior.matrix @ theta + prior.linear
        by_phi = by_phi + prior.precision * (phi - prior.center)
        scale = jnp.maximum(jnp.abs(jnp.diagonal(shared)), jnp.diagonal(prior.matrix)) + 1e-12
        unit = jax.lax.rsqrt(scale)
        own_scale = jnp.maximum(jnp.abs(jnp.diagonal(own, axis1=1, axis2=2)), prior.precision) + 1e-12

        def spectrum(left: Array) -> _Spectrum:
            """Of the shared parameters' matrix, the sets' own eliminated; NaN where an own matrix is not positive definite."""
            half = by_matrix(_half, left, jnp.swapaxes(arrow.cross, 1, 2)).reshape(-1, len(theta))
            return _decompose((shared - half.T @ half) * unit[:, None] * unit)

        def trial(carry: Any) -> Any:
            damping, tried = carry[2], carry[5]
            left = by_matrix(jnp.linalg.cholesky, own + (damping * own_scale)[:, :, None] * eye)
            # another damping moves the eigenvalues, not their axes: one decomposition serves all trials of a step
            known = jax.lax.cond(jnp.isfinite(carry[7].matrix[0, 0]), lambda: carry[7], lambda: spectrum(left))
            reduced = by_theta - jnp.einsum("vpq,vq->p", arrow.cross, by_matrix(_solve, left, by_phi))
            d_theta = -unit * _saddle_free(known, unit * reduced, damping)
            d_phi = -by_matrix(_solve, left, by_phi + jnp.einsum("vpq,p->vq", arrow.cross, d_theta))
            new_theta = theta + d_theta
            new_phi, value = refine(new_theta, phi + d_phi, delta)
            slope_along = by_theta @ d_theta + jnp.sum(by_phi * d_phi)
            damped = damping * (jnp.sum(scale * d_theta**2) + jnp.sum(own_scale * d_phi**2))
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

        unknown = _Spectrum(shared * jnp.nan, jnp.array(False), by_theta, shared)
        first = (theta, phi, state.damping, state.value, jnp.array(False), 0, jnp.zeros_like(delta), unknown)
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
    delta = jnp.where(warm, final, jnp.maximum(final, schedule.start * mean_size(residual)))
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
    """Whether ``minimize_joint`` knows the structure of a law on a table: CAMEL, coupled, no limited supply."""
    known = isinstance(raw, dict) and set(raw) - {camel_derivatives.SHARE} == camel_derivatives.LEAVES
    return law.name == "camel" and known and data.recipe.supply is None


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
    theta, phi = camel_derivatives.pack(raw)
    n_domains = data.recipe.weights.shape[1]
    prior = _prior(law, theta, phi, n_domains)
    near, spent, exact = warm, 0, bool(dict(law.settings)["exact"])
    if data.log_losses.shape[0] >= schedule.large:
        # far from the solution a sample of the rows says as much; from there the whole table needs few steps
        some = jax.tree.map(lambda x: x[:: schedule.stride], data)
        scale = jnp.sum(data.weights) / jnp.maximum(jnp.sum(some.weights), 1e-300)
        some = some._replace(weights=some.weights * scale)
        limit = jnp.where(warm, 0, schedule.max_steps)
        coarse = _on_table(
            theta, phi, some, prior, robust, schedule._replace(max_steps=limit, rtol=schedule.coarse_rtol), exact=exact
        )
        fine = jnp.isfinite(coarse.objective)
        theta, phi = (jnp.where(fine, new, old) for new, old in zip(coarse.params, (theta, phi), strict=True))
        near, spent = warm | fine, coarse.steps
    rtol = jnp.where(warm, schedule.warm_rtol, schedule.rtol)
    last = schedule._replace(max_steps=schedule.max_steps - spent, rtol=rtol)
    solution = _on_table(theta, phi, data, prior, robust, last, near, exact)
    theta, phi = solution.params
    return solution._replace(params=camel_derivatives.unpack(theta, phi, n_domains), steps=solution.steps + spent)


def _on_table(
    theta: Array,
    phi: Array,
    data: Data,
    prior: Quadratic,
    robust: Robust,
    schedule: Schedule,
    warm: Array = False,
    exact: bool = False,
) -> Solution:
    """``minimize`` of CAMEL on one table."""
    skills, recipe = phi.shape[1] - 1, data.recipe
    sizes = jnp.log(recipe.n_total), jnp.log(recipe.n_active)
    table = camel_derivatives.Table(recipe.weights, *sizes, jnp.log(recipe.tokens))
    joint = Joint(
        lambda theta: camel_derivatives.latent_losses(theta, table, skills, exact),
        lambda theta, phi, curvature, slope, second: camel_derivatives.arrow(
            theta, phi, table, curvature, slope, second, exact
        ),
    )
    weights = jnp.where(data.measured, data.weights[:, None], 0.0).T
    return minimize(joint, theta, phi, data.log_losses.T, weights, prior, robust, schedule, warm)


def _prior(law: Law, theta: Array, phi: Array, n_domains: int) -> Quadratic:
    """The quadratic form behind a law's log prior, by differentiating it at zero."""

    def by_theta(theta: Array) -> Array:
        return -law.log_prior(camel_derivatives.unpack(theta, jnp.zeros_like(phi), n_domains))

    def by_phi(phi: Array) -> Array:
        return -law.log_prior(camel_derivatives.unpack(jnp.zeros_like(theta), phi, n_domains))

    # the own prior is a sum over parameters, so that one derivative along all ones gives its diagonal
    zero, ones = jnp.zeros_like(phi), jnp.ones_like(phi)
    slope, precision = jax.jvp(jax.grad(by_phi), (zero,), (ones,))
    center = -slope / precision
    constant = by_phi(zero) - 0.5 * jnp.sum(precision * center**2)
    start = jnp.zeros_like(theta)
    return Quadratic(constant, jax.hessian(by_theta)(start), jax.grad(by_theta)(start), center, precision)


class _Spectrum(NamedTuple):
    """A symmetric matrix (P, P), whether it is positive definite, and where not, its eigenvalues (P,) and axes (P, P)."""

    matrix: Array
    convex: Array
    values: Array
    axes: Array


def _decompose(matrix: Array) -> _Spectrum:
    # without a negative eigenvalue no eigenvectors are needed, and to find that out takes a tenth of the time
    convex = jnp.all(jnp.isfinite(jnp.diagonal(jnp.linalg.cholesky(matrix, symmetrize_input=False))))
    nothing = jnp.zeros(len(matrix)), jnp.zeros_like(matrix)
    bent = lambda: tuple(jnp.linalg.eigh(matrix, symmetrize_input=False))  # noqa: E731
    return _Spectrum(matrix, convex, *jax.lax.cond(convex, lambda: nothing, bent))


def _saddle_free(known: _Spectrum, gradient: Array, damping: Array) -> Array:
    """``(|matrix| + damping)^-1 gradient``, where |matrix| has the absolute eigenvalues of the matrix."""

    def bent(gradient: Array) -> Array:
        return known.axes @ ((known.axes.T @ gradient) / (jnp.abs(known.values) + damping))

    def convex(gradient: Array) -> Array:
        firm = known.matrix + damping * jnp.eye(len(gradient))
        return _solve(jnp.linalg.cholesky(firm, symmetrize_input=False), gradient)

    return jax.lax.cond(known.convex, convex, bent, gradient)


def _half(left: Array, right: Array) -> Array:
    return jax.scipy.linalg.solve_triangular(left, right, lower=True)


def _solve(left: Array, right: Array) -> Array:
    """Solve for a vector with a lower Cholesky factor."""
    half = jax.lax.linalg.triangular_solve(left, right[:, None], left_side=True, lower=True)
    return jax.lax.linalg.triangular_solve(left, half, left_side=True, lower=True, transpose_a=True)[:, 0]
