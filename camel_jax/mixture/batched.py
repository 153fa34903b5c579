"""Many mixture problems in one program: every problem from many starts, one lane each, lanes on the last axis.

    min f(A w)  subject to  sum w = 1,  a <= w <= b,  G w <= h            for P problems of K domains at once

A law reads a mixture through a few linear readings ``A w`` (skills, sums of domains), so the cost is a function of S readings:
its exact second derivatives cost S directions, not K. The method is that of ``interior`` (feasible primal-dual barrier method with
a modified Cholesky factorisation), written lane by lane: a few steps from every start, then one candidate for each valley, told
apart by whether the cost rises between them (Ursem 1999), is finished. Convex problems show one valley, and cost one finish.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from camel_jax.mixture.barrier import CONVERGED, MAX_STEPS, NOT_FINITE, STALLED
from camel_jax.numerics.batched import eliminate, fast_log, once, shifted_solve, total
from camel_jax.types import Array

Cost = Callable[[Array, Any], Array]  # (readings (S, L), args with leaves (..., L)) -> (L,), each lane on its own
_CHUNK = 64  # lanes that stay in the cache of a core
_FACTORS = (1.0, 0.5, 0.2, 0.05, 0.005)


class Problems(NamedTuple):
    """P problems of up to K domains, S readings and m limits on sums; lanes last.

    Attributes:
      lower, upper: floors and caps, (K, P); a share with both equal is fixed there, 2 is no cap.
      rows, limits: ``rows @ w <= limits``, (m, K, P) and (m, P), m at least 1; a row of zeros with limit 1 is padding.
      readings: (S, K, P).
    """

    lower: Array
    upper: Array
    rows: Array
    limits: Array
    readings: Array


class Best(NamedTuple):
    """The best mixture found for each of P problems.

    Attributes:
      weights: (K, P). value: (P,), inf where nothing was found. status: (P,), as in ``interior.Finish``.
      steps: (P,), Newton steps of its finish.
    """

    weights: Array
    value: Array
    status: Array
    steps: Array


def solve_many(
    cost: Cost,
    problems: Problems,
    args: Any,
    points: Array,
    *,
    first_steps: int = 5,
    valleys: int = 6,
    max_steps: int = 40,
    last_barrier: float = 1e-9,
) -> Best:
    """Minimise P costs over P regions, each from the same starting points.

    Args:
      cost: of readings (S, L) and args (..., L), a number a lane, (L,); twice differentiable. args: leaves (..., P).
      points: mixtures (n, K) to start from, pulled inside each region; 2 S starts far along the readings come with them.
      first_steps: barrier steps from every start. valleys: most candidates of a problem to finish.
      max_steps: most steps of a finish. last_barrier: the objective ends within about (number of limits) x this of a local
        optimum, in units of its slope.

    Returns:
      Best; a region without an inner point has value inf and status ``NOT_FINITE``.

    >>> flat = Problems(jnp.zeros((3, 1)), jnp.ones((3, 1)), jnp.zeros((1, 3, 1)), jnp.ones((1, 1)), jnp.eye(3)[..., None])
    >>> solve = jax.jit(functools.partial(solve_many, lambda q, a: jnp.sum(a / (q + 0.1), 0)))
    >>> best = solve(flat, jnp.array([[1.0], [1.0], [4.0]]), jnp.eye(3))
    >>> best.weights[:, 0].round(3).tolist()
    [0.225, 0.225, 0.55]
    """
    count = problems.lower.shape[1]
    center, inside = inner_points(problems)
    starts = jnp.concatenate(
        [_along_readings(problems, center), _pulled_inside(problems, center, points)], 1
    )  # (K, n, P)
    n = starts.shape[1]
    scale = _scales(cost, problems, args, starts[:, -4:])
    most = jnp.array([first_steps, max_steps])
    barriers = jnp.array([1e-2, 1e-3])
    size = min(_CHUNK, n * count)

    def phase(i: Array, state: tuple) -> tuple:
        """First every start, then the best of every valley: one program, which is compiled once."""
        found, picked, valid = state
        sequence = jnp.argsort(~valid.reshape(-1), stable=True)
        order = jnp.concatenate([sequence, jnp.zeros(size, int)])
        pending = valid.sum()
        begin = jnp.take_along_axis(found.weights, picked[None], 1).reshape(found.weights.shape[0], -1)

        def chunk(state: tuple) -> tuple:
            done, found = state
            index = jax.lax.dynamic_slice(order, (done,), (size,))
            which = index % count
            go = jnp.where((done + jnp.arange(size) < pending) & inside[which], -1, NOT_FINITE)
            some, their = _pick(problems, which), _pick(args, which)
            new = _newton(cost, some, their, begin[:, index], scale[which], go, barriers[i], last_barrier, most[i])
            write = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=done, axis=-1)
            return done + size, jax.tree.map(write, found, new)

        blank = _blank(begin.shape[0], n * count + size)
        found = jax.lax.while_loop(lambda state: state[0] < pending, chunk, (0, blank))[1]
        back = jnp.argsort(sequence).reshape(n, count)
        found = jax.tree.map(lambda leaf: leaf[..., back], found)
        return found, *_valleys(cost, problems, args, found.weights, found.value, jnp.where(i == 0, valleys, 0))

    everything = jnp.broadcast_to(jnp.arange(n)[:, None], (n, count))
    begin = _blank(1, n, count)._replace(weights=starts)
    found = jax.lax.fori_loop(0, 2, phase, (begin, everything, jnp.ones((n, count), bool)))[0]
    best = jnp.argmin(found.value, 0)

    def of_best(leaf: Array) -> Array:
        return jnp.take_along_axis(leaf, best[None], 0)[0]

    weights = jnp.take_along_axis(found.weights, best[None, None], 1)[:, 0]
    return Best(weights, of_best(found.value), of_best(found.status), of_best(found.steps))


class _Lanes(NamedTuple):
    weights: Array
    value: Array
    status: Array
    steps: Array


def _blank(size: int, *shape: int) -> _Lanes:
    return _Lanes(
        jnp.zeros((size, *shape)), jnp.full(shape, jnp.inf), jnp.full(shape, NOT_FINITE), jnp.zeros(shape, int)
    )


def _pick(tree: Any, which: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[..., which], tree)


def _apply(table: Array, w: Array) -> Array:
    """Products (S, L) of tables (S, K, L) with vectors (K, L)."""
    return total([table[:, k] * w[k] for k in range(table.shape[1])])


def _apply_transposed(table: Array, y: Array) -> Array:
    """(K, L) of tables (S, K, L) and (S, L)."""
    return total([table[s] * y[s] for s in range(table.shape[0])])


def inner_points(problems: Problems, steps: int = 40) -> tuple[Array, Array]:
    """Analytic centers (K, P) of the regions, and whether (P,) each is strictly inside.

    Newton from a point inside the box, with the limits on sums loosened until it is inside them too and drawn in by and by.
    """
    lower, upper, rows, limits = problems[:4]
    free = upper > lower
    cap = jnp.where(free, jnp.minimum(upper, 1.0), lower)
    width = (cap - lower).sum(0)
    mass = 1.0 - lower.sum(0)
    share = mass / jnp.where(width > 0, width, 1.0)
    start = lower + jnp.clip(share, 0.0, 1.0) * (cap - lower)
    rows = jnp.where(free, rows, 0.0)
    limits = limits - _apply(jnp.where(free, 0.0, problems.rows), lower)

    def step(state: tuple) -> tuple:
        i, w, loose, _ = state
        low, high = jnp.where(free, w - lower, 1.0), jnp.where(free, upper - w, 1.0)
        room = limits + loose - _apply(rows, w)
        pull = rows / room[:, None]
        slope = jnp.where(free, 1.0 / high - 1.0 / low, 0.0) + pull.sum(0)
        inverse = jnp.where(free, 1.0 / (1.0 / low**2 + 1.0 / high**2), 0.0)
        columns = jnp.stack([-slope, jnp.where(free, 1.0, 0.0)]) * inverse  # for the slope and the sum
        m = rows.shape[0]
        half = pull * inverse
        small = jnp.stack([jnp.stack([(pull[i] * half[j]).sum(0) + (i == j) for j in range(m)]) for i in range(m)])
        right = jnp.stack([(pull * columns[c]).sum(1) for c in range(2)])  # (2, m, P)
        inner = eliminate(small, right)
        solved = columns - jnp.stack([_apply_transposed(half, inner[c]) for c in range(2)])
        level = solved[0].sum(0) / jnp.maximum(solved[1].sum(0), 1e-300)
        move = solved[0] - level * solved[1]
        decrement = jnp.sqrt(jnp.maximum(-(slope * move).sum(0), 0.0))
        w = w + jnp.where(decrement > 0.3, 1.0 / (1.0 + decrement), 1.0) * move
        drawn_in = jnp.maximum(loose - 0.8 * (limits + loose - _apply(rows, w)), 0.0)
        loose = jnp.where(decrement < 0.5, drawn_in, loose)  # sooner, the limits would outrun the point
        return i + 1, w, loose, ((decrement > 0.1) | (loose > 0).any(0)).any()

    loose = jnp.maximum(_apply(rows, start) - limits, 0.0) + jnp.where((rows != 0).any(1), 0.1, 0.0)
    first = (0, start, loose, jnp.ones((), bool))
    w = jax.lax.while_loop(lambda state: state[3] & (state[0] < steps), step, first)[1]
    room = jnp.concatenate([jnp.where(free, jnp.minimum(w - lower, upper - w), 1.0), limits - _apply(rows, w)])
    return w, (room > 0).all(0) & jnp.isfinite(w).all(0) & free.any(0) & (jnp.abs(w.sum(0) - 1.0) < 1e-9)


def _along_readings(problems: Problems, center: Array) -> Array:
    """Points (K, 2 S, P) far from the centers along every reading, both ways: a cost of readings has its valleys along them."""
    free = problems.upper > problems.lower
    low, high = jnp.where(free, center - problems.lower, 1.0), jnp.where(free, problems.upper - center, 1.0)
    give = jnp.where(free, 1.0 / (1.0 / low**2 + 1.0 / high**2), 0.0)  # shares with room move more
    level = (give * problems.readings).sum(1) / jnp.maximum(give.sum(0), 1e-300)
    direction = jnp.moveaxis(give * (problems.readings - level[:, None]), 0, 1)
    direction = direction / jnp.maximum(jnp.abs(direction).max(0), 1e-300)
    return _toward(problems, center, jnp.concatenate([direction, -direction], 1), jnp.inf)


def _pulled_inside(problems: Problems, center: Array, points: Array) -> Array:
    """Points (n, K) moved toward the centers until strictly inside, (K, n, P)."""
    free = problems.upper > problems.lower
    mass = jnp.where(free, center, 0.0).sum(0)
    w = jnp.where(free[:, None], points.T[:, :, None], 0.0)
    w = w / jnp.maximum(w.sum(0), 1e-300) * mass
    return _toward(problems, center, jnp.where(free[:, None], w - center[:, None], 0.0), 1.0)


def _toward(problems: Problems, center: Array, direction: Array, most: float, keep: float = 0.95) -> Array:
    """From the centers along directions (K, n, P), at most ``most`` times them and ``keep`` of the way to the boundary."""
    free = problems.upper > problems.lower
    room = _rooms(center, problems, free)[:, None]
    turns = total([problems.rows[:, k, None] * direction[k] for k in range(len(free))])
    change = jnp.concatenate([direction, -direction, -turns])
    reach = jnp.min(jnp.where(change < 0, -room / jnp.where(change < 0, change, -1.0), jnp.inf), 0)
    step = jnp.minimum(most, keep * reach)
    return center[:, None] + jnp.where(jnp.isfinite(step), step, 0.0) * direction


def _rooms(w: Array, problems: Problems, free: Array) -> Array:
    """Room under floors, caps and sums, (2 K + m, L)."""
    low = jnp.where(free, w - problems.lower, 1.0)
    high = jnp.where(free, problems.upper - w, 1.0)
    return jnp.concatenate([low, high, problems.limits - _apply(problems.rows, w)])


def _scales(cost: Cost, problems: Problems, args: Any, starts: Array) -> Array:
    """One over the typical slope of each cost along its region, (P,), from a few starts (K, n, P)."""
    free = problems.upper > problems.lower

    def slope(w: Array) -> Array:
        _, back = jax.vjp(lambda q: cost(q, args), _apply(problems.readings, w))
        gradient = _apply_transposed(problems.readings, back(jnp.ones(w.shape[1:], w.dtype))[0])
        mean = jnp.where(free, gradient, 0.0).sum(0) / jnp.maximum(free.sum(0), 1)
        return jnp.max(jnp.where(free, jnp.abs(gradient - mean), 0.0), 0)

    slopes = jax.vmap(slope, in_axes=1)(starts)
    seen = jnp.isfinite(slopes)
    logs = jnp.where(seen, jnp.log(jnp.where(seen, jnp.maximum(slopes, 1e-12), 1.0)), 0.0).sum(0)
    return 1.0 / jnp.clip(jnp.exp(logs / jnp.maximum(seen.sum(0), 1)), 1e-9, 1e12)


def _valleys(cost: Cost, problems: Problems, args: Any, near: Array, values: Array, most: Array) -> tuple[Array, Array]:
    """The best candidate of each valley: positions (n, P) among the candidates (K, n, P), and which of them count, most in all.

    A candidate belongs to the valley of a better one unless the cost is higher somewhere between them.
    """
    readings = total([problems.readings[:, k, None] * near[k] for k in range(near.shape[0])])  # (S, n, P)
    between = jax.vmap(lambda q: cost(q, args), in_axes=1)
    place = jnp.arange(values.shape[0])[:, None]

    def take(state: tuple) -> tuple:
        i, apart, picked, valid = state
        best = jnp.argmin(jnp.where(apart, values, jnp.inf), 0)
        value = jnp.take_along_axis(values, best[None], 0)
        here = jnp.take_along_axis(readings, best[None, None], 1)
        higher = jnp.maximum(values, value) + 1e-9 * (1.0 + jnp.abs(values))
        hill = jnp.zeros(values.shape, bool)
        for t in (0.2, 0.4, 0.6, 0.8):
            hill |= between((1.0 - t) * here + t * readings) > higher
        picked, valid = jnp.where(place == i, best, picked), jnp.where(place == i, apart.any(0), valid)
        return i + 1, apart & hill, picked, valid

    blank = jnp.isfinite(values), jnp.zeros(values.shape, int), jnp.zeros(values.shape, bool)
    return jax.lax.while_loop(lambda state: (state[0] < most) & state[1].any(), take, (0, *blank))[2:]


def _newton(
    cost: Cost,
    problems: Problems,
    args: Any,
    start: Array,
    scale: Array,
    status: Array,
    barrier: Array,
    last_barrier: float,
    most: Array,
    power: float = 1.5,
) -> _Lanes:
    """The barrier method of ``interior.interior_finish`` for L lanes, each from a strictly inner start (K, L).

    Lanes whose ``status`` (L,) is not negative are left alone; the others go on until they end or ``most`` steps are taken.
    """
    free = problems.upper > problems.lower
    size, lanes = start.shape
    dtype = start.dtype
    readings = jnp.where(free, problems.readings, 0.0)
    rows = jnp.where(free, problems.rows, 0.0)
    still = _apply(jnp.where(free, 0.0, problems.readings), start)
    n_readings, n_rows = readings.shape[0], rows.shape[0]
    equal = jnp.where(free, jax.lax.rsqrt(jnp.maximum(free.sum(0), 1).astype(dtype)), 0.0)
    active = jnp.concatenate([free, free, jnp.ones((n_rows, lanes), bool)])
    eps = jnp.finfo(dtype).eps
    directions = jnp.broadcast_to(jnp.eye(n_readings, dtype=dtype)[:, :, None], (n_readings, n_readings, lanes))

    def scaled(q: Array) -> Array:
        return scale * cost(q, args)

    def slope(q: Array) -> tuple[Array, Array]:
        value, back = jax.vjp(scaled, q)
        return back(jnp.ones(lanes, dtype))[0], value

    def derivatives(q: Array) -> tuple[Array, Array, Array]:
        slopes, turn, value = jax.linearize(slope, q, has_aux=True)
        return slopes, jax.vmap(turn)(directions), value  # (S, L), (S, S, L), (L,)

    def step(state: tuple) -> tuple:
        w, duals, mu, count, status, gained, taken = state
        more = (status < 0).any()  # true, but the compiler does not know
        q, room = once(more, lambda w: (_apply(readings, w) + still, _rooms(w, problems, free)), w)
        slopes, curves, value = once(more, derivatives, q)
        gradient, turned = once(
            more,
            lambda slopes, curves: (
                _apply_transposed(readings, slopes),
                [_apply_transposed(readings, curves[s]) for s in range(n_readings)],
            ),
            slopes,
            curves,
        )
        lean = gradient - duals[:size] + duals[size : 2 * size] + _apply_transposed(rows, duals[2 * size :])
        lean = jnp.where(free, lean, 0.0)
        lean = lean - equal * (equal * lean).sum(0)
        residual = jnp.abs(lean).max(0)
        residual = jnp.maximum(residual, jnp.where(active, jnp.abs(duals * room - mu), 0.0).max(0))
        noise = 64 * eps * (1.0 + jnp.abs(value))
        at_end = mu <= last_barrier
        close = (residual <= jnp.maximum(10.0 * mu, 1e-9)) | (gained <= jnp.where(at_end, noise, -1.0))
        finite = jnp.isfinite(curves).all((0, 1)) & jnp.isfinite(value)
        ended = jnp.where(at_end & close, jnp.where(residual <= 1e-5, CONVERGED, STALLED), -1)
        status = jnp.where(status < 0, jnp.where(finite, ended, NOT_FINITE), status)
        mu = jnp.where(close, jnp.maximum(last_barrier, jnp.minimum(0.2 * mu, mu**power)), mu)

        ratio = duals / room
        diagonal = jnp.where(free, ratio[:size] + ratio[size : 2 * size], 1.0)
        weighted = [ratio[2 * size + r] * rows[r] for r in range(n_rows)]
        push = mu / room
        pushed = gradient - push[:size] + push[size : 2 * size] + _apply_transposed(rows, push[2 * size :])
        pushed = jnp.where(free, pushed, 0.0)
        left, other = jnp.concatenate([readings, rows]), jnp.stack([*turned, *weighted])
        move = _direction(more, left, other, diagonal, -pushed, equal, free)
        turns, moved_q = once(more, lambda move: (_apply(rows, move), _apply(readings, move)), move)
        change = jnp.concatenate([move, -move, -turns])
        longest = jnp.minimum(1.0, 0.995 * _reach(room, change))

        relative = jnp.where(active, change / room, 0.0)
        factors = jnp.asarray(_FACTORS, dtype)[:, None] * longest

        def rise_of(t: Array, q: Array, moved_q: Array, relative: Array, mu: Array, value: Array) -> Array:
            grown = 1.0 + t * relative
            logs = total([fast_log(jnp.prod(part, 0)) for part in jnp.split(grown, (size, 2 * size))])
            rise = scaled(q + t * moved_q) - value - mu * logs
            return jnp.where(jnp.isfinite(rise), rise, jnp.inf)

        along = jax.vmap(rise_of, in_axes=(0, *(None,) * 5))
        tried = once(more, along, factors, q, moved_q, relative, mu, value)
        good = tried <= 1e-4 * factors * (pushed * move).sum(0) + noise
        moved, t, fell = jnp.zeros(lanes, bool), jnp.zeros(lanes, dtype), jnp.zeros(lanes, dtype)
        for i in reversed(range(len(_FACTORS))):  # the longest good one
            moved, t, fell = moved | good[i], jnp.where(good[i], factors[i], t), jnp.where(good[i], -tried[i], fell)
        new = w + t * move
        turn_duals = push - duals - ratio * change
        t_dual = jnp.minimum(1.0, 0.995 * _reach(duals, turn_duals))
        new_room = room + t * change
        new_duals = jnp.clip(duals + t_dual * turn_duals, mu / new_room * 1e-4, mu / new_room * 1e4)
        fine = jnp.isfinite(new).all(0) & jnp.isfinite(new_duals).all(0)
        go = (status < 0) & fine
        status = jnp.where((status < 0) & ~fine, NOT_FINITE, status)
        gained = jnp.where(go, jnp.where(moved, jnp.where(close, jnp.inf, fell), -jnp.inf), gained)
        return jnp.where(go, new, w), jnp.where(go, new_duals, duals), mu, count + go, status, gained, taken + 1

    mu = jnp.full(lanes, barrier)
    room = _rooms(start, problems, free)
    status = jnp.where((status < 0) & ~(room > 0).all(0), NOT_FINITE, status)
    first = (
        start,
        mu / jnp.where(room > 0, room, 1.0),
        mu,
        jnp.zeros(lanes, int),
        status,
        jnp.full(lanes, jnp.inf, dtype),
        0,
    )
    state = jax.lax.while_loop(lambda s: (s[4] < 0).any() & (s[6] < most), step, first)
    w, status = state[0], state[4]
    value = cost(_apply(readings, w) + still, args)
    value = jnp.where(jnp.isfinite(value) & (status != NOT_FINITE), value, jnp.inf)
    return _Lanes(w, value, jnp.where(status < 0, MAX_STEPS, status), state[3])


def _reach(room: Array, change: Array) -> Array:
    shrinks = change < 0
    return jnp.min(jnp.where(shrinks, -room / jnp.where(shrinks, change, -1.0), jnp.inf), 0)


def _direction(go: Array, left: Array, other: Array, diagonal: Array, right: Array, equal: Array, free: Array) -> Array:
    """Newton directions (K, L) that keep the sum.

    Args:
      go: scalar, true. left, other, diagonal: the Hessians are ``sum_s left_s other_s'`` (S, K, L) plus a diagonal (K, L).
      right: (K, L). equal: (K, L), unit vector of the sum. free: boolean (K, L).
    """

    def scaling(left: Array, other: Array, diagonal: Array) -> tuple[Array, Array]:
        plain_head = total([left[s] * other[s] for s in range(left.shape[0])])
        whole = jnp.abs(plain_head + jnp.where(free, diagonal, 0.0))
        # curvature along the sum does not matter, so it can be made positive
        lift = 1.0 + jnp.max(jnp.where(free & (whole < 1e3), whole, 0.0), 0)
        return lift, jax.lax.rsqrt(jnp.maximum(jnp.abs(plain_head + diagonal + lift * equal * equal), 1e-8))

    lift, unit = once(go, scaling, left, other, diagonal)
    left = jnp.concatenate([left, (lift * equal)[None]]) * unit
    other = jnp.concatenate([other, equal[None]]) * unit
    solved = unit * shifted_solve(go, left, other, diagonal * unit * unit, jnp.stack([right, equal]) * unit)
    plain, moved = solved[0], solved[1]
    along = (equal * moved).sum(0)
    move = plain - moved * ((equal * plain).sum(0) / jnp.where(along > 0, along, 1.0))
    move = move - equal * (equal * move).sum(0)
    return jnp.where(free, move, 0.0)
