"""Whether a mixture is the best: put exactly onto the limits that bind, with their multipliers and what is left of the conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from camel_jax.mixture.barrier import Region
from camel_jax.mixture.feasibility import minimum_over
from camel_jax.mixture.limits import Limit, Limits, curved_value, slack

NEAR = 1e-6  # room below which a limit of one's own binds, over its largest slope where that is above 1


def settle(
    weights: np.ndarray,
    region: Region,
    limits: Limits,
    on_lower: np.ndarray,
    on_upper: np.ndarray,
    on_rows: Sequence[int] = (),
) -> np.ndarray:
    """Move a nearly optimal mixture exactly onto the limits that bind, with a sum of exactly 1.

    Args:
      weights: (K,), strictly inside the region. limits: the named limits, for a last correction of rounding errors.
      on_lower, on_upper: boolean (K,), shares to put on their bound. on_rows: rows of the region to hold with equality.
    """
    w = np.where(region.free, weights, region.center)
    w = np.where(on_lower, region.lower, np.where(on_upper, region.upper, w))
    loose = np.asarray(region.free & ~on_lower & ~on_upper)
    table = np.concatenate([np.ones((1, len(w))), region.equal, region.rows[list(on_rows)]])
    goal = np.concatenate([[1.0], region.equal @ region.center, region.limits[list(on_rows)]])
    for _ in range(3):  # the repeats only mop up round-off
        w = w + np.linalg.pinv(table * loose) @ (goal - table @ w) * loose
    if not loose.any():
        return w
    for _ in range(8):
        big = int(np.argmax(np.where(loose, w, -1.0)))
        off = 1.0 - math.fsum(w)
        if off != 0.0:
            w[big] += off
        over = [
            (slack(limits, limit, w), limit) for limit in limits.items if limit.row is not None and limit.domain < 0
        ]
        worst, limit = min(over, default=(0.0, None), key=lambda pair: pair[0])
        if limit is None or worst >= 0.0 or worst < -1e-9:
            break
        row = np.asarray(limit.row)
        high = int(np.argmax(np.where(loose, row, -np.inf)))
        low = int(np.argmin(np.where(loose, row, np.inf)))
        if not row[high] > row[low]:
            break
        step = max(-2.0 * worst / (row[high] - row[low]), 1.2e-16)
        w[high] -= step
        w[low] += step
    return w


class OwnRoom(NamedTuple):
    """A limit of one's own at a mixture.

    Attributes:
      name: of the limit.
      room: how far the mixture is from it.
      inner: the same where slopes are taken.
      slope: gradient (K,) of the room there.
    """

    name: str
    room: float
    inner: float
    slope: np.ndarray

    @property
    def binds(self) -> bool:
        """Whether it is reached."""
        return self.room <= NEAR * max(1.0, float(np.abs(self.slope).max()))


class Conditions(NamedTuple):
    """The optimality conditions at a mixture.

    Attributes:
      bindings: (name, slack, binds, multiplier) of every limit, those of one's own last; NaN as the multiplier of a limit on the number
        of domains.
      residual: what the conditions leave of the slope, relative to it.
      gap: Frank-Wolfe gap where the slope was taken, over the domains that are not shut.
    """

    bindings: list[tuple[str, float, bool, float]]
    residual: float
    gap: float


def multipliers(
    limits: Limits,
    weights: np.ndarray,
    slope: np.ndarray,
    shut: np.ndarray | None = None,
    inner: np.ndarray | None = None,
    own: Sequence[OwnRoom] = (),
) -> Conditions:
    """Which limits bind and what relaxing them gains at first, from the optimality conditions at the answer.

    Non-negative least squares of ``slope = level - sum_j multiplier_j row_j + (non-negative on shares at zero)``. Where limits overlap
    the multipliers are not unique; that of a limit is then the least there is, which is what relaxing it alone gains at first.

    Args:
      weights: (K,). slope: gradient of the cost, (K,).
      shut: boolean (K,), domains kept at zero by a limit on their number, along which the slope may point anywhere.
      inner: (K,), where the slope was taken, if not at ``weights``: just inside the limits, where laws that are steep at a share of
        zero still have a slope.
      own: limits of one's own.
    """
    from scipy.optimize import nnls

    size = len(weights)
    where = weights if inner is None else inner
    shut = np.zeros(size, bool) if shut is None else shut
    columns = [np.ones(size), -np.ones(size)]
    columns += list(np.eye(size)[weights <= 1e-12])
    columns += list(-np.eye(size)[shut])
    owners: list[int | None] = [None] * len(columns)
    rooms = [slack(limits, limit, weights) for limit in limits.items]
    binds = [
        room <= 1e-6 * max(1.0, abs(limit.value)) if limit.kind != "count" else room <= 0 and bool(shut.any())
        for limit, room in zip(limits.items, rooms, strict=True)
    ]
    for j, limit in enumerate(limits.items):
        if limit.kind == "count" or not binds[j]:
            continue
        row = _normal(limits, limit, where)
        for sign in (1.0, -1.0) if limit.kind == "fixed" else (1.0,):
            columns.append(-sign * row)
            owners.append(j)
    names = [limit.name for limit in limits.items] + [limit.name for limit in own]
    rooms += [limit.room for limit in own]
    binds += [limit.binds for limit in own]
    for j, limit in enumerate(own, len(limits.items)):
        if limit.binds:
            columns.append(limit.slope)
            owners.append(j)
    if not np.isfinite(slope).all():
        nothing = [math.nan] * len(names)
        return Conditions(list(zip(names, rooms, [False] * len(names), nothing, strict=True)), math.inf, math.inf)
    scale = max(float(np.abs(slope).max()), 1e-300)
    # along a domain that is shut everything is explained, so its row and its columns say nothing
    at_zero = np.flatnonzero(weights <= 1e-12)
    kept = np.ones(len(columns), bool)
    kept[2 : 2 + len(at_zero)] = ~shut[at_zero]
    kept[2 + len(at_zero) : 2 + len(at_zero) + int(shut.sum())] = False
    columns = [column for column, keep in zip(columns, kept, strict=True) if keep]
    owners = [owner for owner, keep in zip(owners, kept, strict=True) if keep]
    table = np.stack(columns, 1)[~shut]
    found, residual = nnls(table, slope[~shut] / scale)
    leaning = slope.copy()
    slackness = 0.0
    bent = [
        (j, slack(limits, limit, where)) for j, limit in enumerate(limits.items) if limit.kind in ("kl", "distance")
    ]
    bent += [(j, limit.inner) for j, limit in enumerate(own, len(limits.items))]
    for j, room in bent:
        if j in owners:
            at = owners.index(j)
            leaning = leaning - found[at] * scale * columns[at]
            slackness += found[at] * scale * max(room, 0.0)
    least = minimum_over(limits, leaning, shut if shut.any() else None)
    gap = max(float(leaning @ where - least + slackness), 0.0)
    gains = [math.nan if limit.kind == "count" else 0.0 for limit in limits.items] + [0.0] * len(own)
    for j in {j for j in owners if j is not None}:
        mine = np.array([owner == j for owner in owners])
        if found[mine].any():
            gains[j] = scale * _least_of(table, found, mine)
    return Conditions(list(zip(names, rooms, binds, gains, strict=True)), float(residual), gap)


def _normal(limits: Limits, limit: Limit, weights: np.ndarray) -> np.ndarray:
    """Gradient (K,) of a limit's left side at a mixture."""
    if limit.row is not None:
        return limit.row
    if limit.kind == "kl":
        assert limits.prior is not None
        live = (weights > 0) & (limits.prior > 0)
        return np.where(live, np.log(np.where(live, weights, 1.0) / np.where(live, limits.prior, 1.0)) + 1.0, 0.0)
    assert limits.anchor is not None
    return (weights - limits.anchor) / max(curved_value(limits, "distance", weights), 1e-300)


def _least_of(table: np.ndarray, found: np.ndarray, mine: np.ndarray) -> float:
    """Least weight of some columns among all non-negative combinations that are the same vector.

    Args:
      table: (K, n) columns. found: (n,) one combination. mine: boolean (n,), the columns of one limit; two of opposite sign count by
        their difference, to either side.
    """
    from scipy.optimize import linprog

    signs = np.where(mine, 1.0, 0.0)
    at = np.flatnonzero(mine)
    tries = [signs] if len(at) == 1 else []
    if len(at) == 2:
        signs[at[1]] = -1.0
        tries = [signs, -signs]
    best = 0.0
    for cost in tries:
        solved = linprog(cost, A_eq=table, b_eq=table @ found, bounds=(0.0, None), method="highs")
        if solved.status == 3:  # there is a combination with as little as one likes
            continue
        best = max(best, float(solved.fun) if solved.status == 0 else float(cost @ found))
    return best
