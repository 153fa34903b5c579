"""Smooth minimisation over a polytope of mixtures: softmax descent to find the basin, a barrier method to finish.

    min f(w)  subject to  sum w = 1,  a <= w <= b,  G w <= h,  E w = E c,  g(w) >= 0

The finish is a feasible primal-dual barrier method with exact Hessians, in full coordinates, so that bounds stay on the
diagonal and the linear algebra stays accurate when a share goes to zero. Everything is a pure function of arrays:
callers vmap over starts and over problems. (Nocedal & Wright, Numerical Optimization, 2nd ed., ch. 19.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from camel_jax.mixture.newton_step import MANY, curvature, newton_step
from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.simplex import from_simplex, to_simplex
from camel_jax.types import Array

Function = Callable[[Array, Any, Array], Array]  # (weights, args, smoothing) -> scalar to be minimised
Inside = Callable[[Array, Any], Array]  # (weights, args) -> (p,), positive inside
NO_CAP = 2.0  # an upper bound no share can come near
AT_ONCE = 32  # points that are finished together, each with its second derivatives in memory
CONVERGED, MAX_STEPS, NOT_FINITE, STALLED = 0, 1, 2, 3


class Region(NamedTuple):
    """A polytope of mixtures with a strictly inner point; every leaf may have a batch axis in front.

    Attributes:
      lower, upper: floors and caps, shape (K,); ``NO_CAP`` where there is none.
      free: boolean (K,); the other domains stay at their share in ``center``.
      rows, limits: ``rows @ w <= limits``, shapes (m, K) and (m,); a row of zeros with limit 1 is padding.
      equal: orthonormal rows, zero where not free, whose product with w stays what it is at the center, shape (q, K);
        the sum over the free domains is in their span. A row of zeros is padding.
      center: a point strictly inside all inequalities for the free domains, shape (K,).
    """

    lower: Array
    upper: Array
    free: Array
    rows: Array
    limits: Array
    equal: Array
    center: Array

    __repr__ = brief_repr


class Finish(NamedTuple):
    """Where the barrier method stopped.

    Attributes:
      weights: (K,), strictly inside. value: the objective there, without smoothing.
      lower, upper, rows, inside: multipliers of the limits, in units of the objective: the gain per unit of relaxation.
      residual: largest violation of the optimality conditions in scaled units.
      steps: Newton steps taken. status: 0 converged, 1 out of steps, 2 not finite, 3 no step reduced the merit.
    """

    weights: Array
    value: Array
    lower: Array
    upper: Array
    rows: Array
    inside: Array
    residual: Array
    steps: Array
    status: Array


def simplex_region(n_domains: int) -> Region:
    """The whole simplex of K domains, without limits.

    >>> simplex_region(3).center.tolist()
    [0.333..., 0.333..., 0.333...]
    """
    ones = jnp.ones(n_domains)
    return Region(
        lower=0.0 * ones,
        upper=NO_CAP * ones,
        free=ones > 0,
        rows=jnp.zeros((1, n_domains)),
        limits=jnp.ones(1),
        equal=ones[None, :] / n_domains**0.5,
        center=ones / n_domains,
    )


def nothing_inside(weights: Array, args: Any) -> Array:
    """No curved constraint: an empty vector."""
    del args
    return jnp.zeros((0,), weights.dtype)


def retract(weights: Array, region: Region, inside: Inside, args: Any, keep: float = 0.95) -> Array:
    """Pull a mixture toward the center until it is strictly inside every constraint.

    Args:
      weights: (K,), any point. keep: fraction of the way to the boundary that is kept.
    """
    direction = jnp.where(region.free, weights - region.center, 0.0)
    equal = jnp.where(region.free, region.equal, 0.0)
    direction = direction - equal.T @ (equal @ direction)
    direction = jnp.where(region.free, direction, 0.0)
    room = _slacks(region.center, region)
    change = _slack_change(direction, region)
    reach = _longest_step(room, change)
    longest = jnp.minimum(1.0, keep * reach)
    at_center = inside(region.center, args)
    if at_center.shape[0] == 0:
        return region.center + longest * direction

    def good(t: Array) -> Array:
        return jnp.all(inside(region.center + t * direction, args) > (1 - keep) * at_center)

    def step(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        ok = good(middle)
        return jnp.where(ok, middle, low), jnp.where(ok, high, middle)

    low = jax.lax.fori_loop(0, 30, step, (jnp.zeros_like(longest), longest))[0]
    return region.center + jnp.where(good(longest), longest, low) * direction


def softmax_descent(
    function: Function,
    inside: Inside,
    start: Array,
    region: Region,
    args: Any,
    scale: Array,
    steps: int = 80,
    rate: float = 0.2,
) -> tuple[Array, Array]:
    """Adam on softmax coordinates, other limits as a growing quadratic penalty; ends strictly inside, and never worse than it began.

    Args:
      function: objective. inside: curved constraints. start: (K,), inside. scale: multiplies the objective.

    Returns:
      (weights (K,), objective there); not finite objectives come back as inf.
    """
    goal = region.equal @ region.center
    fixed = region.center * ~region.free
    lower = jnp.where(region.free, region.lower, fixed)
    upper = jnp.where(region.free, region.upper, fixed)

    def penalised(z: Array, weight: Array) -> Array:
        w = to_simplex(z, lower, upper)
        over = jnp.maximum(region.rows @ w - region.limits, 0.0)
        under = jnp.minimum(inside(w, args), 0.0)
        apart = region.equal @ w - goal
        broken = jnp.sum(over**2) + jnp.sum(under**2) + jnp.sum(apart**2)
        return scale * function(w, args, 1e-3 / scale) + weight * broken

    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.05))
    z = from_simplex(start, lower, upper)

    def step(carry: tuple[Array, Any], i: Array) -> tuple[tuple[Array, Any], None]:
        z, state = carry
        slope = jax.grad(penalised)(z, 10.0 * 100.0 ** (i / steps))
        slope = jnp.where(jnp.isfinite(slope), slope, 0.0)
        update, state = optimizer.update(slope, state)
        z = jnp.clip(z + update, -40.0, 40.0)
        return (z, state), None

    (z, _), _ = jax.lax.scan(step, (z - jnp.mean(z), optimizer.init(z)), jnp.arange(steps))
    ends = jnp.stack(
        [start, retract(to_simplex(z, lower, upper), region, inside, args)]
    )  # a long first step may leave a small basin
    values = jax.vmap(lambda w: function(w, args, jnp.zeros_like(scale)))(ends)
    values = jnp.where(jnp.isfinite(values), values, jnp.inf)
    better = jnp.argmin(values[::-1])
    return ends[::-1][better], values[::-1][better]


def objective_scale(function: Function, starts: Array, region: Region, args: Any) -> Array:
    """One over the typical slope of the objective along the region, from the starts, shape (n, K)."""

    def slope(w: Array) -> Array:
        gradient = jnp.where(region.free, jax.grad(function)(w, args, jnp.asarray(1e-3, w.dtype)), 0.0)
        mean = jnp.sum(gradient) / jnp.maximum(jnp.sum(region.free), 1)
        return jnp.max(jnp.where(region.free, jnp.abs(gradient - mean), 0.0))

    slopes = jax.vmap(slope)(starts)
    seen = jnp.isfinite(slopes)
    typical = jnp.exp(
        jnp.sum(jnp.where(seen, jnp.log(jnp.where(seen, jnp.maximum(slopes, 1e-12), 1.0)), 0.0))
        / jnp.maximum(jnp.sum(seen), 1)
    )
    return 1.0 / jnp.clip(typical, 1e-9, 1e12)


def interior_finish(
    function: Function,
    inside: Inside,
    start: Array,
    region: Region,
    args: Any,
    scale: Array,
    max_steps: int = 80,
    barrier: Array | float = 1e-2,
    last_barrier: float = 1e-9,
    power: float = 1.5,
) -> Finish:
    """Feasible primal-dual barrier method from a strictly inner start.

    Args:
      function, inside: objective and curved constraints. start: (K,), strictly inside. args: passed on to both.
      scale: multiplies the objective so that its slopes are of order one.
      barrier, last_barrier: first and last barrier weight, in scaled units; the objective ends within about
        (number of limits) x last_barrier / scale of a local optimum.
      power: how fast the barrier falls, ``min(0.2 mu, mu^power)``; 1 for objectives with corners rounded by smoothing.
    """
    free, equal = region.free, jnp.where(region.free, region.equal, 0.0)
    size = start.shape[0]
    n_rows = region.rows.shape[0]
    n_curved = jax.eval_shape(inside, start, args).shape[0]
    arcs = n_curved > 0 and size > MANY  # steps straight along a curved limit of many domains would be short

    def objective(w: Array, smoothing: Array) -> Array:
        return scale * function(w, args, smoothing / scale)

    def barrier_of(room: Array) -> Array:
        return -jnp.sum(jnp.log(jnp.where(room > 0, room, 1.0)))

    def step(state: tuple) -> tuple:
        w, duals, mu, count, _, _, gained = state
        # the function appears twice in this program, here and in the line search: compile time is most of the wait
        hessian, gradient, value = curvature(lambda v: objective(v, mu), w)
        room = jnp.concatenate([_slacks(w, region), inside(w, args)])
        d_in = duals[2 * size + n_rows :]
        d_low, d_high = duals[:size], duals[size : 2 * size]
        table = jnp.concatenate([jnp.eye(size), -jnp.eye(size), -region.rows])
        if d_in.shape[0]:
            hessian = hessian - curvature(lambda v: d_in @ inside(v, args), w)[0]
            table = jnp.concatenate([table, jax.jacrev(inside)(w, args)])
        table = jnp.where(free, table, 0.0)

        # how far from optimal for this barrier
        lean = jnp.where(free, gradient - table.T @ duals, 0.0)
        lean = lean - equal.T @ (equal @ lean)
        residual = jnp.maximum(jnp.max(jnp.abs(lean)), jnp.max(jnp.where(active, jnp.abs(duals * room - mu), 0.0)))
        noise = 64 * jnp.finfo(w.dtype).eps * (1.0 + jnp.abs(value))
        at_end = mu <= last_barrier
        close = (residual <= jnp.maximum(10.0 * mu, 1e-9)) | (gained <= jnp.where(at_end, noise, -1.0))
        finite = jnp.all(jnp.isfinite(hessian)) & jnp.isfinite(value)
        status = jnp.where(
            ~finite, NOT_FINITE, jnp.where(at_end & close, jnp.where(residual <= 1e-5, CONVERGED, STALLED), -1)
        )
        smoothing = mu
        mu = jnp.where(close, jnp.maximum(last_barrier, jnp.minimum(0.2 * mu, mu**power)), mu)

        rows = table[2 * size :]
        matrix = hessian + jnp.diag(jnp.where(free, d_low / room[:size] + d_high / room[size : 2 * size], 0.0))
        matrix = matrix + (rows.T * (duals / room)[2 * size :]) @ rows
        pushed = gradient - table.T @ (mu / room)
        across = table[2 * size + n_rows :] if arcs else jnp.zeros((0, size), w.dtype)
        directions = newton_step(matrix, jnp.column_stack([-pushed, across.T]), equal, free)
        dw = directions[:, 0]
        change = table @ dw
        longest = jnp.minimum(1.0, 0.995 * _longest_step(room[: 2 * size + n_rows], change[: 2 * size + n_rows]))
        factors = longest * jnp.asarray([1.0, 0.5, 0.2, 0.05, 0.005, 1e-4], w.dtype)
        bend = jnp.zeros_like(w)
        if arcs:
            gap = inside(w + longest * dw, args) - room[-n_curved:] - longest * change[-n_curved:]
            bend = _bend(directions[:, 1:], across, gap) / longest**2

        def merit(t: Array) -> Array:
            trial = w + t * dw + t**2 * bend
            room_there = jnp.concatenate([_slacks(trial, region), inside(trial, args)])
            total = objective(trial, smoothing) + mu * barrier_of(room_there)
            return jnp.where(jnp.all(room_there > 0) & jnp.isfinite(total), total, jnp.inf)

        tried = jax.vmap(merit)(factors)
        now = value + mu * barrier_of(room)
        good = tried <= now + 1e-4 * factors * (pushed @ dw) + noise
        pick = jnp.argmax(good)
        moved = jnp.any(good)
        t = jnp.where(moved, factors[pick], 0.0)
        new = w + t * dw + t**2 * bend
        d_step = mu / room - duals - duals / room * change
        t_dual = jnp.minimum(1.0, 0.995 * _longest_step(duals, d_step))
        new_room = jnp.concatenate([_slacks(new, region), inside(new, args)])
        new_duals = jnp.clip(duals + t_dual * d_step, mu / new_room * 1e-4, mu / new_room * 1e4)
        go = (status < 0) & jnp.all(jnp.isfinite(new)) & jnp.all(jnp.isfinite(new_duals))
        status = jnp.where((status < 0) & ~go, NOT_FINITE, status)
        gained = jnp.where(moved, jnp.where(close, jnp.inf, now - tried[pick]), -jnp.inf)
        return (
            jnp.where(go, new, w),
            jnp.where(go, new_duals, duals),
            mu,
            count + go,
            status,
            residual,
            gained,
        )

    active = jnp.concatenate([free, free, jnp.ones(n_rows + n_curved, bool)])
    mu = jnp.asarray(barrier, start.dtype)
    room = jnp.concatenate([_slacks(start, region), inside(start, args)])
    first = (
        start,
        mu / jnp.where(room > 0, room, 1.0),
        mu,
        jnp.zeros((), int),
        jnp.where(jnp.all(room > 0), -1, NOT_FINITE),
        jnp.asarray(jnp.inf, start.dtype),
        jnp.asarray(jnp.inf, start.dtype),
    )
    w, duals, _, count, status, residual, _ = jax.lax.while_loop(
        lambda state: (state[4] < 0) & (state[3] < max_steps), step, first
    )
    value = function(w, args, jnp.zeros_like(mu))
    value = jnp.where(jnp.isfinite(value) & (status != NOT_FINITE), value, jnp.inf)
    duals = duals / scale
    shown = jnp.concatenate([free, free])
    d_low, d_high = jnp.split(jnp.where(shown, duals[: 2 * size], 0.0), 2)
    return Finish(
        weights=w,
        value=value,
        lower=d_low,
        upper=d_high,
        rows=duals[2 * size : 2 * size + n_rows],
        inside=duals[2 * size + n_rows :],
        residual=residual,
        steps=count,
        status=jnp.where(status < 0, MAX_STEPS, status),
    )


def _bend(ways: Array, across: Array, gap: Array) -> Array:
    """The second-order correction of a step, (K,): what takes back the room that curved limits lose along it beyond first order.

    Args:
      ways: (K, c), Newton directions toward more room. across: (c, K), derivatives of the room.
      gap: (c,), room at the end of the step less that of first order.
    """
    taken = across @ ways
    unit = jnp.maximum(jnp.max(jnp.abs(taken)), jnp.finfo(gap.dtype).tiny)
    return ways @ jnp.linalg.solve(taken + 1e-12 * unit * jnp.eye(len(gap)), -jnp.minimum(gap, 0.0))


def each(function: Callable[..., Any], points: Array, *more: Array) -> Any:
    """A function at each of several points (n, K), and of what else has a leading axis: in groups, or of many domains one by one.

    Second derivatives of all points at once would fill the memory. Of many domains, all points would wait for the slowest, too, and
    a factorisation that is needed only where curvature is negative would be computed for every point.
    """
    if points.shape[-1] > MANY:
        return jax.lax.map(lambda one: function(*one), (points, *more))
    if len(points) <= AT_ONCE:
        return jax.vmap(function)(points, *more)
    return jax.lax.map(lambda one: function(*one), (points, *more), batch_size=AT_ONCE)


def longest_step(weights: Array, direction: Array, region: Region) -> Array:
    """How far a mixture inside a region can move along a direction before it meets a linear limit."""
    return _longest_step(_slacks(weights, region), _slack_change(direction, region))


def _slacks(w: Array, region: Region) -> Array:
    low = jnp.where(region.free, w - region.lower, 1.0)
    high = jnp.where(region.free, region.upper - w, 1.0)
    return jnp.concatenate([low, high, region.limits - region.rows @ w])


def _slack_change(direction: Array, region: Region) -> Array:
    direction = jnp.where(region.free, direction, 0.0)
    return jnp.concatenate([direction, -direction, -region.rows @ direction])


def _longest_step(room: Array, change: Array) -> Array:
    shrinks = change < 0
    return jnp.min(jnp.where(shrinks, -room / jnp.where(shrinks, change, -1.0), jnp.inf))
