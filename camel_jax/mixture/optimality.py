"""Whether a mixture is the best: put exactly onto the limits that bind, with their multipliers and what is left of the conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from camel_jax.mixture.barrier import Region
from camel_jax.mixture.feasibility import minimum_over
from camel_jax.mixture.limits import Limits, curved_value, slack

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


def multipliers(
    limits: Limits,
    weights: np.ndarray,
    slope: np.ndarray,
    own: Sequence[tuple[str, float, np.ndarray]] = (),
) -> tuple[list[tuple[str, float, bool, float]], float, float]:
    """Which limits bind and what relaxing them gains, from the optimality conditions at the answer.

    Non-negative least squares of ``slope = level - sum_j multiplier_j row_j + (non-negative on shares at zero)``.

    Args:
      weights: (K,). slope: gradient of the cost, (K,).
      own: name, room and gradient of the room (K,) of limits of one's own.

    Returns:
      ([(name, slack, binds, multiplier)], residual relative to the slope, Frank-Wolfe gap).
    """
    from scipy.optimize import nnls

    size = len(weights)
    columns = [np.ones(size), -np.ones(size)]
    columns += list(np.eye(size)[weights <= 1e-12])
    owners: list[int | None] = [None] * len(columns)
    rooms = [slack(limits, limit, weights) for limit in limits.items]
    curve = np.zeros(size)
    for j, (limit, room) in enumerate(zip(limits.items, rooms, strict=True)):
        if limit.kind == "count" or room > 1e-6 * max(1.0, abs(limit.value)):
            continue
        if limit.row is not None:
            row = limit.row
        elif limit.kind == "kl":
            assert limits.prior is not None
            live = (weights > 0) & (limits.prior > 0)
            row = np.where(live, np.log(np.where(live, weights, 1.0) / np.where(live, limits.prior, 1.0)) + 1.0, 0.0)
        else:
            row = (weights - limits.anchor) / max(curved_value(limits, "distance", weights), 1e-300)
        for sign in (1.0, -1.0) if limit.kind == "fixed" else (1.0,):
            columns.append(-sign * row)
            owners.append(j)
    named = [limit.name for limit in limits.items] + [name for name, _, _ in own]
    rooms += [room for _, room, _ in own]
    for j, (_, room, gradient) in enumerate(own, len(limits.items)):
        if room <= NEAR * max(1.0, float(np.abs(gradient).max())):
            columns.append(gradient)
            owners.append(j)
    if not np.isfinite(slope).all():
        return (
            [(name, room, False, math.nan) for name, room in zip(named, rooms, strict=True)],
            math.inf,
            math.inf,
        )
    scale = max(float(np.abs(slope).max()), 1e-300)
    found, residual = nnls(np.stack(columns, 1), slope / scale)
    gains = np.zeros(len(named))
    for value, owner in zip(found * scale, owners, strict=True):
        if owner is not None:
            gains[owner] += value
    count = limits.find("count")
    shut = weights <= 1e-12
    bent = [j for j, limit in enumerate(limits.items) if limit.kind in ("kl", "distance")]
    bent += range(len(limits.items), len(named))
    for j in bent:
        if gains[j] > 0:
            at = owners.index(j)
            curve = curve - gains[j] * columns[at]
    leaning = slope + curve
    slackness = sum(gains[j] * max(rooms[j], 0.0) for j in bent)
    gap = float(leaning @ weights - minimum_over(limits, leaning, shut if count is not None else None) + slackness)
    binding = [
        (
            limit.name,
            room,
            bool(room <= 1e-6 * max(1.0, abs(limit.value)) if limit is not count else room <= 0 and shut.any()),
            float(gains[j]) if limit is not count else math.nan,
        )
        for j, (limit, room) in enumerate(zip(limits.items, rooms, strict=False))
    ]
    binding += [
        (name, room, bool(room <= NEAR * max(1.0, float(np.abs(gradient).max()))), float(gains[j]))
        for j, (name, room, gradient) in enumerate(own, len(limits.items))
    ]
    return binding, float(residual), max(gap, 0.0)
