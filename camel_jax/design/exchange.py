"""Optimal design on arrays: which experiments to buy so that given predictions vary least, under a budget.

Experiment c measures V numbers with unit noise and derivatives J_c (V, P) by the P parameters; the targets have derivatives T.
With precision F of what is known already, a design of counts n has covariance and criterion

    Sigma(n) = (F + sum_c n_c J_c' J_c)^-1        criterion(n) = mean over draws of trace(A Sigma(n)),  A = T' diag(w) T

Adding or removing one experiment is an update of rank V: with S = I + s J Sigma J' (s = +1 or -1) the criterion moves by
-s trace(S^-1 J Sigma A Sigma J'). Designs grow greedily by gain per resource and are improved by exchanging, dropping and
buying again. All of it is for M draws of the parameters at once: the leading axis of every array.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.types import Array


class Pool(NamedTuple):
    """Experiments to choose from, and the question.

    Attributes:
      jacobian: (M, C, V, P) derivatives over the noise. cost: (C,), above zero. rung: (C,) index of the group a minimum holds for.
      precision: (M, P, P) of what is known already. targets: (M, P, P) the matrices A.
    """

    jacobian: Array
    cost: np.ndarray
    rung: np.ndarray
    precision: Array
    targets: Array


class Budget(NamedTuple):
    """What a design may use.

    Attributes:
      cost: all it may cost. runs: most experiments. least: fewest experiments of every rung, (rungs,).
      most: how often one and the same experiment may be bought; None for no limit.
    """

    cost: float
    runs: int
    least: np.ndarray
    most: int | None = None

    def left(self, counts: np.ndarray) -> np.ndarray:
        """Which experiments may be bought once more, as far as ``most`` goes, (C,)."""
        return np.ones(len(counts), bool) if self.most is None else counts < self.most


class State(NamedTuple):
    """A design's covariance Sigma and Sigma A Sigma, (M, P, P), and both seen from every experiment, (M, C, V, V)."""

    covariance: Array
    sandwich: Array
    gram: Array
    cross: Array


def inverse(matrix: Array) -> Array:
    """Inverse of positive definite matrices (..., P, P); NaN where they are not."""
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1]), matrix.shape)
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(matrix), True), eye)


def _check(precision: Array, jacobian: Array, counts: Array, rows: Array) -> None:
    """The axes of a design: M draws, C experiments, V sets, P parameters."""
    draws, experiments, _, n = jacobian.shape
    chex.assert_shape([precision, counts, rows], [(draws, n, n), (experiments,), (draws, None, n)])


@jax.jit
def start(pool: Pool, counts: Array) -> State:
    """The state of a design from scratch; counts (C,)."""
    jacobian = pool.jacobian
    _check(pool.precision, jacobian, counts, pool.targets)

    def one(j: Array, precision: Array, targets: Array) -> State:
        covariance = inverse(precision + jnp.einsum("c,cvp,cvq->pq", counts, j, j, optimize=True))
        sandwich = covariance @ targets @ covariance
        gram, cross = (jnp.einsum("cvp,cwp->cvw", j @ m, j) for m in (covariance, sandwich))
        return State(covariance, sandwich, gram, cross)

    return jax.vmap(one)(jacobian, pool.precision, pool.targets)


@jax.jit
def change(pool: Pool, state: State, c: Array, sign: Array) -> State:
    """The state with experiment ``c`` bought once more (sign +1) or once less (-1)."""

    def one(j: Array, targets: Array, s: State) -> State:
        root = jnp.linalg.cholesky(jnp.eye(j.shape[1]) + sign * s.gram[c])
        u = jax.scipy.linalg.solve_triangular(root, j[c] @ s.covariance, lower=True).T  # (P, V)
        w, inner = s.covariance @ (targets @ u), u.T @ targets @ u
        ju, jw = j @ u, j @ w
        mixed, seen = u @ w.T, jnp.einsum("cva,cwa->cvw", ju, jw)
        return State(
            s.covariance - sign * u @ u.T,
            s.sandwich - sign * (mixed + mixed.T) + u @ inner @ u.T,
            s.gram - sign * jnp.einsum("cva,cwa->cvw", ju, ju),
            s.cross - sign * (seen + jnp.swapaxes(seen, -1, -2)) + jnp.einsum("cva,ab,cwb->cvw", ju, inner, ju),
        )

    return jax.vmap(one)(pool.jacobian, pool.targets, state)


@jax.jit
def gains(state: State, sign: Array = 1.0) -> Array:
    """How much the criterion falls by buying each experiment once (+1), or rises by giving one back (-1), (C,)."""
    return jnp.mean(rank_gain(state.gram, state.cross, sign), axis=0)


def rank_gain(gram: Array, cross: Array, sign: Array = 1.0) -> Array:
    """trace((I + s G)^-1 K) over the last two axes."""
    eye = jnp.eye(gram.shape[-1])
    return jnp.trace(jnp.linalg.solve(eye + sign * gram, cross), axis1=-2, axis2=-1)


@jax.jit
def variances(precision: Array, jacobian: Array, counts: Array, rows: Array) -> Array:
    """Variance of every target row under a design, mean over draws: rows (M, Q, P) -> (Q,)."""
    _check(precision, jacobian, counts, rows)

    def one(f: Array, j: Array, t: Array) -> Array:
        root = jnp.linalg.cholesky(f + jnp.einsum("c,cvp,cvq->pq", counts, j, j, optimize=True))
        return jnp.sum(jax.scipy.linalg.solve_triangular(root, t.T, lower=True) ** 2, axis=0)

    return jnp.mean(jax.vmap(one)(precision, jacobian, rows), axis=0)


@jax.jit
def covariance(precision: Array, jacobian: Array, counts: Array, rows: Array) -> Array:
    """Covariance of the target rows under a design for every draw: rows (M, Q, P) -> (M, Q, Q)."""
    _check(precision, jacobian, counts, rows)

    def one(f: Array, j: Array, t: Array) -> Array:
        root = jnp.linalg.cholesky(f + jnp.einsum("c,cvp,cvq->pq", counts, j, j, optimize=True))
        half = jax.scipy.linalg.solve_triangular(root, t.T, lower=True)
        return half.T @ half

    return jax.vmap(one)(precision, jacobian, rows)


def criterion(pool: Pool, counts: np.ndarray) -> float:
    """Mean over draws of trace(A Sigma) of a design; counts (C,)."""
    return float(_criterion(pool.jacobian, pool.precision, pool.targets, jnp.asarray(counts, float)))


@jax.jit
def _criterion(jacobian: Array, precision: Array, targets: Array, counts: Array) -> Array:
    _check(precision, jacobian, counts, targets)

    def one(j: Array, f: Array, a: Array) -> Array:
        return jnp.sum(a * inverse(f + jnp.einsum("c,cvp,cvq->pq", counts, j, j, optimize=True)))

    return jnp.mean(jax.vmap(one)(jacobian, precision, targets))


def optimal(pool: Pool, budget: Budget, starts: list[np.ndarray] | None = None, *, thorough: bool = True) -> np.ndarray:
    """A design of least criterion: greedy and given designs, exchanged, then dropped in part and bought again.

    Args:
      pool: the experiments. budget: what the design may use.
      starts: designs to start from, (C,) counts within the budget; the answer is never worse than any of them.
      thorough: False only improves the given designs by exchange.

    Returns:
      (C,) integer counts.

    Raises:
      ValueError: the budget does not buy the fewest experiments asked for, or nothing at all.

    A straight line on [-1, 1] is measured best at its ends:

    >>> x = np.linspace(-1, 1, 5)
    >>> j = np.stack([np.ones(5), x], -1)[None, :, None, :]
    >>> pool = Pool(j, np.ones(5), np.zeros(5, int), 1e-6 * np.eye(2)[None], np.eye(2)[None])
    >>> optimal(pool, Budget(8.0, 100, np.zeros(1, int))).tolist()
    [4, 0, 0, 0, 4]
    """
    check(pool, budget)
    options = list(starts or [])
    if thorough or not options:
        nothing = np.zeros(len(pool.cost), int)
        options += [grow(pool, budget, nothing, power) for power in (1.0, 0.5)]
    values = [criterion(pool, counts) for counts in options]
    best = swap(pool, budget, options[int(np.argmin(values))])
    value = criterion(pool, best)
    for share, power in ((0.5, 1.0), (0.5, 0.0), (0.25, 0.5)) if thorough else ():
        counts = swap(pool, budget, grow(pool, budget, drop(pool, budget, best, share), power), sweeps=1)
        found = criterion(pool, counts)
        if found < value:
            best, value = counts, found
    return best


def check(pool: Pool, budget: Budget) -> None:
    """Whether a budget buys anything, and the least of every rung.

    Raises:
      ValueError: it does not; the message gives the cost.
    """
    cost = np.asarray(pool.cost, float)
    if not budget.cost >= cost.min():
        raise ValueError(f"a budget of {budget.cost:.3g} buys nothing: the cheapest run costs {cost.min():.3g}")
    if budget.runs < 1:
        raise ValueError(f"a design needs at least one run, got a limit of {budget.runs}")
    least = _cheapest(pool, budget) @ budget.least
    if least > budget.cost * (1 + 1e-12):
        raise ValueError(
            f"a budget of {budget.cost:.3g} does not buy the fewest runs asked for at every size, which cost {least:.3g}"
        )
    if budget.least.sum() > budget.runs:
        raise ValueError(
            f"at most {budget.runs} runs are fewer than the {budget.least.sum()} asked for over all sizes together"
        )


def grow(pool: Pool, budget: Budget, counts: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Buy the experiment of most gain per resource^power until nothing is affordable; minima of the rungs first."""
    counts = counts.copy()
    state = start(pool, jnp.asarray(counts, float))
    resource = (pool.cost / budget.cost + 1.0 / budget.runs) ** power
    cheapest = _cheapest(pool, budget)
    while counts.sum() < budget.runs:
        lacking = np.maximum(budget.least - np.bincount(pool.rung, counts, len(budget.least)), 0)
        left = budget.cost * (1 + 1e-12) - counts @ pool.cost - lacking @ cheapest
        owed = lacking[pool.rung] > 0
        can = (pool.cost - np.where(owed, cheapest[pool.rung], 0.0) <= left) & budget.left(counts)
        if counts.sum() + lacking.sum() >= budget.runs:
            can &= owed
        if not can.any():
            break
        score = np.where(can, np.asarray(gains(state)) / resource, -np.inf)
        best = int(np.argmax(score))
        if not np.isfinite(score[best]):
            break
        counts[best] += 1
        state = change(pool, state, best, 1.0)
    return counts


def swap(pool: Pool, budget: Budget, counts: np.ndarray, sweeps: int = 2) -> np.ndarray:
    """Exchange single runs for better ones that are affordable, until a sweep changes nothing; then spend what is left."""
    counts = counts.copy()
    for _ in range(sweeps):
        state = start(pool, jnp.asarray(counts, float))
        value, moved = _value(pool, state), False
        for c in np.flatnonzero(counts):
            if counts[c] == 0:
                continue
            without = change(pool, state, int(c), -1.0)
            lost = float(gains(state, -1.0)[c])
            room = budget.cost * (1 + 1e-12) - counts @ pool.cost + pool.cost[c]
            can = (pool.cost <= room) & budget.left(counts)
            if np.bincount(pool.rung, counts, len(budget.least))[pool.rung[c]] <= budget.least[pool.rung[c]]:
                can &= pool.rung == pool.rung[c]
            score = np.where(can, np.asarray(gains(without)), -np.inf)
            best = int(np.argmax(score))
            if best != c and score[best] - lost > 1e-7 * value:
                counts[c] -= 1
                counts[best] += 1
                state, moved = change(pool, without, best, 1.0), True
        if not moved:
            break
    return grow(pool, budget, counts)


def drop(pool: Pool, budget: Budget, counts: np.ndarray, share: float) -> np.ndarray:
    """Give back the runs that matter least for their cost until ``share`` of the cost is free; minima are kept."""
    counts = counts.copy()
    state = start(pool, jnp.asarray(counts, float))
    goal = (1 - share) * (counts @ pool.cost)
    while counts @ pool.cost > goal:
        held = np.bincount(pool.rung, counts, len(budget.least)) <= budget.least
        can = (counts > 0) & ~held[pool.rung]
        if not can.any():
            break
        worth = np.where(can, np.asarray(gains(state, -1.0)) / pool.cost, np.inf)
        least = int(np.argmin(worth))
        counts[least] -= 1
        state = change(pool, state, least, -1.0)
    return counts


def order(pool: Pool, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of a design in the order to buy them, most gain per cost first.

    Returns:
      (experiments (n,), criterion after each of them (n,)).
    """
    left, bought, values = counts.copy(), [], []
    state = start(pool, jnp.zeros(len(counts)))
    while left.any():
        score = np.where(left > 0, np.asarray(gains(state)) / pool.cost, -np.inf)
        best = int(np.argmax(score))
        left[best] -= 1
        state = change(pool, state, best, 1.0)
        bought.append(best)
        values.append(_value(pool, state))
    return np.asarray(bought, int), np.asarray(values)


def _value(pool: Pool, state: State) -> float:
    return float(jnp.mean(jnp.sum(pool.targets * state.covariance, axis=(-2, -1))))


def _cheapest(pool: Pool, budget: Budget) -> np.ndarray:
    cheapest = np.full(len(budget.least), np.inf)
    np.minimum.at(cheapest, pool.rung, pool.cost)
    return np.where(budget.least > 0, cheapest, 0.0)
