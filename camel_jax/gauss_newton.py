"""Joint fits of hundreds of parameters: Newton steps on an arrow matrix, per-set coefficients solved again at every trial.

For laws of the form ``L_rv = sum_q exp(phi_vq) b_rq(theta)`` with shared parameters theta and per-set phi_v, and the objective
of ``objective``: a Huber loss of log residuals plus quadratic priors. What makes it converge:

- **Homotopy in the Huber threshold.** It starts near the size of the residuals (a least squares problem) and shrinks to its
  final value; at the final value most residuals are in the linear zone, where iteratively reweighted steps crawl.
- **Variable projection.** After a step in (theta, phi), each phi_v is solved again by its own small Newton steps: curved valleys
  between theta and phi become straight.
- **Second derivatives of the law.** In the linear zone J'WJ has little curvature of its own, so what Gauss-Newton leaves out
  is of the same size as what it keeps. It joins once the threshold is near its final value.
- **Arrow structure.** Sets are eliminated one by one (Schur complement), so a step factors one P x P matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from camel_jax.laws import camel_newton
from camel_jax.laws.law import Law
from camel_jax.objective import Data, Robust, huber
from camel_jax.solve import CONVERGED, MAX_STEPS, NON_FINITE, Solution

Array = Any


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
      window: steps between two looks at the progress.
      start: first Huber threshold, in units of the mean absolute residual at the start.
      shrink: factor of the threshold at every good step.
      linear: share of the reweighted curvature kept in the linear zone.
      exact_below: threshold, in units of the final one, below which second derivatives of the law join.
      trials: largest number of damping values tried at one step.
    """

    max_steps: int = 250
    rtol: float = 2e-4
    window: int = 5
    start: float = 2.0
    shrink: float = 0.8
    linear: float = 0.1
    exact_below: float = 4.0
    trials: int = 8


class _State(NamedTuple):
    theta: Array
    phi: Array
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
    warm: bool = False,
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

    def own_value(phi: Array, latent: Array, delta: Array) -> Array:
        """Data term and own prior of each set, (V,)."""
        residual = jnp.log(jnp.exp(phi) @ latent.T) - log_losses
        data = jnp.sum(weights * huber(residual, delta), -1) / (delta * robust.noise)
        return data + 0.5 * jnp.sum(prior.precision * (phi - prior.center) ** 2, -1)

    def slopes(residual: Array, delta: Array) -> tuple[Array, Array]:
        size = jnp.abs(residual)
        scale = weights / (delta * robust.noise)
        curvature = jnp.where(size <= delta, 1.0, schedule.linear * delta / jnp.maximum(size, delta))
        return scale * curvature, scale * jnp.clip(residual, -delta, delta)

    def refine(theta: Array, phi: Array, delta: Array) -> tuple[Array, Array]:
        """Two damped Newton steps of every set's own parameters, and the objective there."""
        latent = joint.latent(theta)
        value = own_value(phi, latent, delta)
        for _ in range(2):
            terms = jnp.exp(phi)[:, None, :] * latent
            total = jnp.sum(terms, -1, keepdims=True)
            curvature, slope = slopes(jnp.log(total[..., 0]) - log_losses, delta)
            share = terms / total
            gradient = jnp.einsum("vr,vrq->vq", slope, share) + prior.precision * (phi - prior.center)
            matrix = jnp.swapaxes(share * curvature[..., None], 1, 2) @ share
            diagonal = jnp.diagonal(matrix, axis1=1, axis2=2) + prior.precision
            matrix = matrix + (prior.precision + 1e-3 * diagonal)[:, :, None] * eye
            step = -_solve(jnp.linalg.cholesky(matrix), gradient[..., None])[..., 0]
            for length in (1.0, 0.25):
                new = phi + length * step
                new_value = own_value(new, latent, delta)
                better = new_value < value
                phi, value = jnp.where(better[:, None], new, phi), jnp.where(better, new_value, value)
                step = jnp.where(better[:, None], 0.0, step)
        shared = prior.constant + 0.5 * theta @ prior.matrix @ theta + prior.linear @ theta
        return phi, jnp.sum(value) + shared

    def step(state: _State) -> _State:
        theta, phi, delta = state.theta, state.phi, state.delta
        residual = jnp.log(jnp.exp(phi) @ joint.latent(theta).T) - log_losses
        curvature, slope = slopes(residual, delta)
        second = jnp.where(delta <= schedule.exact_below * robust.delta, 1.0, 0.0)
        arrow, by_theta, by_phi = joint.arrow(theta, phi, curvature, slope, second)
        shared, own = arrow.shared + prior.matrix, arrow.own + prior.precision[:, :, None] * eye
        by_theta = by_theta + prior.matrix @ theta + prior.linear
        by_phi = by_phi + prior.precision * (phi - prior.center)
        scale = jnp.maximum(jnp.abs(jnp.diagonal(shared)), jnp.diagonal(prior.matrix)) + 1e-12
        own_scale = jnp.maximum(jnp.abs(jnp.diagonal(own, axis1=1, axis2=2)), prior.precision) + 1e-12

        def trial(carry: Any) -> Any:
            damping, tried = carry[2], carry[5]
            left = jnp.linalg.cholesky(own + (damping * own_scale)[:, :, None] * eye)
            half = jax.vmap(_half)(left, jnp.concatenate([jnp.swapaxes(arrow.cross, 1, 2), by_phi[..., None]], -1))
            rows = half.reshape(-1, half.shape[-1])
            schur = shared + jnp.diag(damping * scale) - rows[:, :-1].T @ rows[:, :-1]
            right = by_theta - rows[:, :-1].T @ rows[:, -1]
            d_theta = -_solve(jnp.linalg.cholesky(schur), right[:, None])[:, 0]
            pulled = by_phi + jnp.einsum("vpq,p->vq", arrow.cross, d_theta)
            d_phi = -_solve(left, pulled[..., None])[..., 0]
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
            )

        first = (theta, phi, state.damping, state.value, jnp.array(False), 0, jnp.zeros_like(delta))
        new = jax.lax.while_loop(lambda c: ~c[4] & (c[5] < schedule.trials), trial, first)
        theta, phi, damping, value, good, _, gain = new
        steps = state.steps + 1
        final = delta <= robust.delta
        # a step that fails at every damping means this threshold has nothing more to give
        smaller = jnp.where((gain > 0.1) | ~good, jnp.maximum(robust.delta, delta * schedule.shrink), delta)
        changed = smaller < delta
        value = jax.lax.cond(changed, lambda: evaluate(theta, phi, smaller), lambda: value)
        look = steps % schedule.window == 0
        small = state.window_value - value <= schedule.rtol * jnp.abs(value)
        done = final & ((look & small) | ~good)
        status = jnp.where(done, CONVERGED, RUNNING)
        status = jnp.where(jnp.isfinite(value), status, NON_FINITE)
        window_value = jnp.where(~final, jnp.inf, jnp.where(look, value, state.window_value))
        damping = jnp.where(good, damping, 1e-2)
        return _State(theta, phi, value, smaller, damping, window_value, status.astype(jnp.int32), steps)

    def evaluate(theta: Array, phi: Array, delta: Array) -> Array:
        shared = prior.constant + 0.5 * theta @ prior.matrix @ theta + prior.linear @ theta
        return jnp.sum(own_value(phi, joint.latent(theta), delta)) + shared

    final = jnp.asarray(robust.delta, theta.dtype)
    residual = jnp.log(jnp.exp(phi) @ joint.latent(theta).T) - log_losses
    size = jnp.sum(weights * jnp.abs(residual)) / jnp.sum(weights)
    delta = final if warm else jnp.maximum(final, schedule.start * size)
    phi, value = refine(theta, phi, delta)
    status = jnp.where(jnp.isfinite(value), RUNNING, NON_FINITE).astype(jnp.int32)
    damping = jnp.asarray(1e-3 if warm else 1e-2, theta.dtype)
    state = _State(theta, phi, value, delta, damping, jnp.inf * jnp.ones_like(value), status, jnp.int32(0))
    last = jax.lax.while_loop(lambda s: (s.status == RUNNING) & (s.steps < schedule.max_steps), step, state)
    status = jnp.where(last.status == RUNNING, MAX_STEPS, last.status)
    return Solution((last.theta, last.phi), evaluate(last.theta, last.phi, final), status, last.steps)


def supports(law: Law, data: Data, raw: Any) -> bool:
    """Whether ``minimize_joint`` knows the structure of a law on a table: CAMEL, coupled, closed form, no limited supply."""
    settings = dict(law.settings)
    known = isinstance(raw, dict) and set(raw) == camel_newton.LEAVES
    return law.name == "camel" and known and not settings.get("exact") and data.recipe.supply is None


def minimize_joint(
    law: Law,
    raw: Any,
    data: Data,
    robust: Robust,
    schedule: Schedule = DEFAULT,
    *,
    warm: bool = False,
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
    theta, phi = camel_newton.pack(raw)
    skills = phi.shape[1] - 1
    recipe = data.recipe
    table = camel_newton.Table(recipe.weights, jnp.log(recipe.n_active), jnp.log(recipe.tokens))
    joint = Joint(
        lambda theta: camel_newton.latent_losses(theta, table, skills),
        lambda theta, phi, curvature, slope, second: camel_newton.arrow(theta, phi, table, curvature, slope, second),
    )
    weights = jnp.where(data.measured, data.weights[:, None], 0.0).T
    solution = minimize(joint, theta, phi, data.log_losses.T, weights, _prior(law, theta, phi), robust, schedule, warm)
    return solution._replace(params=camel_newton.unpack(*solution.params))


def _prior(law: Law, theta: Array, phi: Array) -> Quadratic:
    """The quadratic form behind a law's log prior, by differentiating it at zero."""

    def by_theta(theta: Array) -> Array:
        return -law.log_prior(camel_newton.unpack(theta, jnp.zeros_like(phi)))

    def by_phi(phi: Array) -> Array:
        return -law.log_prior(camel_newton.unpack(jnp.zeros_like(theta), phi))

    # the own prior is a sum over parameters, so that one derivative along all ones gives its diagonal
    zero, ones = jnp.zeros_like(phi), jnp.ones_like(phi)
    slope, precision = jax.jvp(jax.grad(by_phi), (zero,), (ones,))
    center = -slope / precision
    constant = by_phi(zero) - 0.5 * jnp.sum(precision * center**2)
    start = jnp.zeros_like(theta)
    return Quadratic(constant, jax.hessian(by_theta)(start), jax.grad(by_theta)(start), center, precision)


def _half(left: Array, right: Array) -> Array:
    return jax.scipy.linalg.solve_triangular(left, right, lower=True)


def _solve(left: Array, right: Array) -> Array:
    """Solve with a lower Cholesky factor, batched over leading axes."""
    half = jax.lax.linalg.triangular_solve(left, right, left_side=True, lower=True)
    return jax.lax.linalg.triangular_solve(left, half, left_side=True, lower=True, transpose_a=True)
