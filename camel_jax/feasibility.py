"""Can the limits be met, where, and what do they cost: regions with an inner point, contradictions, multipliers.

Host code on small arrays; linear programs go to HiGHS through scipy.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.constraints import Limit, Limits, curved_value, slack
from camel_jax.interior import NO_CAP, Region

_TOLERANCE = 1e-9  # shares that differ by less are equal when asking whether limits can be met


class InfeasibleError(ValueError):
    """No mixture meets all limits; ``conflicts`` lists minimal sets of limits that exclude each other."""

    def __init__(self, conflicts: list[tuple[str, ...]], complete: bool = True):
        self.conflicts = conflicts
        lines = "; ".join(f"({i}) {' + '.join(names)}" for i, names in enumerate(conflicts, 1))
        more = "" if complete else "; there may be more"
        many = "contradiction" if len(conflicts) == 1 else f"{len(conflicts)} contradictions"
        super().__init__(f"no mixture meets all limits, {many}: {lines}{more}")


def feasible_region(limits: Limits, support: np.ndarray | None = None) -> Region:
    """The region of the linear limits with a strictly inner point; curved limits must be checked by the caller.

    Args:
      limits: parsed limits. support: boolean (K,), domains allowed above zero, or None for all.

    Raises:
      InfeasibleError: naming every minimal contradiction found.
    """
    items = list(limits.items)
    if support is None and not _possible(limits, items):
        raise InfeasibleError(*find_conflicts(limits))
    size = len(limits.domains)
    lower, upper = np.zeros(size), np.full(size, NO_CAP)
    rows: list[np.ndarray] = []
    values: list[float] = []
    for limit in items:
        if limit.row is None:
            continue
        if limit.domain >= 0:
            if limit.kind == "fixed":
                lower[limit.domain] = max(lower[limit.domain], limit.value)
                upper[limit.domain] = min(upper[limit.domain], limit.value)
            elif limit.row[limit.domain] < 0:
                lower[limit.domain] = max(lower[limit.domain], -limit.value)
            else:
                upper[limit.domain] = min(upper[limit.domain], limit.value)
        else:
            rows.append(limit.row)
            values.append(limit.value)
    if limits.prior is not None:
        upper = np.where(limits.prior > 0, upper, 0.0)
    if support is not None:
        upper = np.where(support, upper, 0.0)
    region = _with_inner_point(lower, upper, np.reshape(rows, (-1, size)), np.asarray(values, float))
    curved = [limit for limit in items if limit.kind in ("kl", "distance")]
    if not curved:
        return region
    shut = [Limit("", "cap", row, 0.0) for row in np.eye(size)[~support]] if support is not None else []
    near, reach = nearest(limits, [limit for limit in items if limit.kind != "count"] + shut)
    if reach >= 1.0:
        raise InfeasibleError([tuple(limit.name for limit in curved)])
    # between the nearest mixture, inside the curved limits, and the inner point, inside the linear ones
    for t in 0.5 ** np.arange(1, 60):
        center = np.where(region.free, near + t * (region.center - near), region.center)
        center = center + np.linalg.pinv(region.equal * region.free) @ (region.equal @ (region.center - center))
        if all(curved_value(limits, c.kind, center) <= (0.25 + 0.75 * max(reach, 0.0)) * c.value for c in curved):
            return region._replace(center=center)
    raise InfeasibleError([tuple(limit.name for limit in curved)])


def regions(limits: Limits, most: int = 64) -> tuple[Region, ...]:
    """One region per set of domains that may be above zero; a single one where their number is not limited.

    With more than ``most`` such sets the one region leaves the number of domains open.

    Raises:
      InfeasibleError: no mixture meets all limits.
    """
    count = limits.find("count")
    whole = feasible_region(limits)
    if count is None:
        return (whole,)
    size, k = len(limits.domains), int(count.value)
    if math.comb(size, k) > most:
        return (whole,)
    out = []
    for members in itertools.combinations(range(size), k):
        support = np.isin(np.arange(size), members)
        with contextlib.suppress(InfeasibleError):
            out.append(feasible_region(limits, support))
    if not out:
        raise InfeasibleError([tuple(limit.name for limit in limits.items)], complete=False)
    return tuple(out)


def _with_inner_point(lower: np.ndarray, upper: np.ndarray, rows: np.ndarray, values: np.ndarray) -> Region:
    """Split limits into those with room and those that hold with equality everywhere, and find a point between."""
    size = len(lower)
    if (lower > upper + _TOLERANCE).any():
        raise InfeasibleError([("floors above caps",)])
    norm = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    rows, values = rows / norm[:, None], values / norm
    table = np.concatenate([-np.eye(size), np.eye(size), rows])
    bound = np.concatenate([-lower, upper, values])
    points, room = [], np.full(len(bound), np.inf)
    for i in range(len(bound)):
        if size <= i < 2 * size and upper[i - size] >= 1.0:
            continue
        found = _linear_program(table[i], table, bound)  # least value of the left side: most room
        if found is None:
            raise InfeasibleError([("the limits together",)])
        points.append(found)
        room[i] = bound[i] - table[i] @ found
    center = np.mean(points, axis=0)
    tight = room <= _TOLERANCE
    free = ~(tight[:size] | tight[size : 2 * size])
    center = np.where(tight[:size], lower, np.where(tight[size : 2 * size], upper, center))
    if free.any():
        equal = np.concatenate([np.ones((1, size)), rows[tight[2 * size :]]]) * free
        goal = np.concatenate([[1.0], values[tight[2 * size :]]])
        goal -= np.concatenate([np.ones((1, size)), rows[tight[2 * size :]]]) @ np.where(free, 0.0, center)
        center = center + np.linalg.pinv(equal) @ (goal - equal @ center) * free
    loose = ~tight[2 * size :]
    keep_rows = np.where(loose[:, None], rows, 0.0)
    keep_values = np.where(loose, values, 1.0)
    if not len(rows):
        keep_rows, keep_values = np.zeros((1, size)), np.ones(1)
    equal = np.concatenate([np.ones((1, size)), np.where(loose[:, None], 0.0, rows)])
    return Region(lower, upper, free, keep_rows, keep_values, _independent(equal, free), center)


def _independent(equal: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Orthonormal rows with the span of the equality rows over the free domains, (rank, K)."""
    _, s, vt = np.linalg.svd(equal * free, full_matrices=False)
    rank = int((s > 1e-10 * max(s.max(initial=0.0), 1e-300)).sum())
    return vt[:rank] if rank else np.zeros((1, equal.shape[1]))


def _linear_program(cost: np.ndarray, table: np.ndarray, bound: np.ndarray) -> np.ndarray | None:
    from scipy.optimize import linprog

    size = table.shape[1]
    result = linprog(
        cost,
        table,
        bound,
        np.ones((1, size)),
        [1.0],
        bounds=[(0.0, 1.0)] * size,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return result.x if result.status == 0 else None


def minimum_over(limits: Limits, cost: np.ndarray, shut: np.ndarray | None = None) -> float:
    """Least value of ``cost @ w`` over the linear limits, without the domains that are shut (boolean (K,))."""
    items = [limit for limit in limits.items if limit.row is not None]
    if shut is not None:
        items += [Limit("", "cap", row, 0.0) for row in np.eye(len(shut))[shut]]
    point = _solve(limits, items, cost)
    return -np.inf if point is None else float(cost @ point)


def _solve(limits: Limits, items: Sequence[Limit], cost: np.ndarray | None = None) -> np.ndarray | None:
    """A mixture that meets the linear and counting limits, of least cost, or None."""
    size = len(limits.domains)
    cost = np.zeros(size) if cost is None else cost
    linear = [limit for limit in items if limit.row is not None]
    table = [limit.row / max(np.linalg.norm(limit.row), 1e-300) for limit in linear if limit.row is not None]
    bound = [limit.value / max(np.linalg.norm(limit.row), 1e-300) for limit in linear if limit.row is not None]
    for limit in linear:
        if limit.kind == "fixed" and limit.row is not None:
            table.append(-limit.row)
            bound.append(-limit.value)
    if any(limit.kind == "kl" for limit in items) and limits.prior is not None:
        for index in np.flatnonzero(limits.prior <= 0):
            table.append(np.eye(size)[index])
            bound.append(0.0)
    count = next((limit for limit in items if limit.kind == "count"), None)
    rows, values = np.reshape(table, (-1, size)), np.asarray(bound, float)
    upper: Any = values  # the stubs of scipy know only scalars
    if count is None:
        return _linear_program(cost, rows, values)
    from scipy.optimize import Bounds, LinearConstraint, milp

    on = np.concatenate([np.eye(size), -np.eye(size)], 1)  # w_i <= y_i, y_i in {0, 1}
    constraints = [
        LinearConstraint(np.concatenate([np.ones(size), np.zeros(size)])[None], 1.0, 1.0),
        LinearConstraint(on, -np.inf, 0.0),
        LinearConstraint(np.concatenate([np.zeros(size), np.ones(size)])[None], -np.inf, count.value),
    ]
    if len(values):
        constraints.append(LinearConstraint(np.concatenate([rows, np.zeros_like(rows)], 1), -np.inf, upper))
    result = milp(
        np.concatenate([cost, np.zeros(size)]),
        constraints=constraints,
        integrality=np.concatenate([np.zeros(size), np.ones(size)]),
        bounds=Bounds(0.0, 1.0),
    )
    return result.x[:size] if result.status == 0 else None


def _possible(limits: Limits, items: Sequence[Limit]) -> bool:
    if _solve(limits, items) is None:
        return False
    return not any(limit.kind in ("kl", "distance") for limit in items) or nearest(limits, items)[1] < 1.0 - 1e-9


def nearest(limits: Limits, items: Sequence[Limit]) -> tuple[np.ndarray, float]:
    """The mixture that uses the least of its curved limits under the linear ones, and the share of them it uses.

    Minimises t with ``KL <= t x limit`` and ``distance^2 <= t^2 limit^2`` by SLSQP; both are convex.
    """
    from scipy.optimize import minimize

    curved = [limit for limit in items if limit.kind in ("kl", "distance")]
    start = _solve(limits, [limit for limit in items if limit.kind != "count"])
    if start is None:
        return np.full(len(limits.domains), np.nan), np.inf
    size = len(start)
    prior = limits.prior if any(limit.kind == "kl" for limit in curved) else None
    live = np.ones(size, bool) if prior is None else prior > 0
    pull = prior if prior is not None else limits.anchor
    constraints: list[dict[str, Any]] = [{"type": "eq", "fun": lambda x: x[:-1].sum() - 1.0}]
    for limit in items:
        if limit.row is not None:
            sort = "eq" if limit.kind == "fixed" else "ineq"
            constraints.append({"type": sort, "fun": lambda x, r=limit.row, b=limit.value: b - r @ x[:-1]})
    for limit in curved:
        unit = limit.value

        def room(x: np.ndarray, kind: str = limit.kind, unit: float = unit) -> float:
            w = np.where(live, np.maximum(x[:-1], 0.0), 0.0)
            if kind == "kl":
                return x[-1] - curved_value(limits, "kl", w) / unit
            return x[-1] - (curved_value(limits, "distance", w) / unit) ** 2

        constraints.append({"type": "ineq", "fun": room})
    first = np.where(live, 0.5 * start + 0.5 * np.asarray(pull), 0.0)
    use = max(curved_value(limits, limit.kind, first) / limit.value for limit in curved)
    result = minimize(
        lambda x: x[-1],
        np.append(first, use),
        jac=lambda x: np.append(np.zeros(size), 1.0),
        bounds=[(0.0, 1.0) if keep else (0.0, 0.0) for keep in live] + [(0.0, None)],
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-12},
    )
    w = np.where(live, np.maximum(result.x[:-1], 0.0), 0.0)
    broken = max([0.0, *(limit.row @ w - limit.value for limit in items if limit.row is not None)])
    if not np.isfinite(w).all() or broken > 1e-6 or abs(w.sum() - 1.0) > 1e-6:
        w = start
    return w, max(curved_value(limits, limit.kind, w) / limit.value for limit in curved)


def find_conflicts(limits: Limits, most: int = 8, tries: int = 60) -> tuple[list[tuple[str, ...]], bool]:
    """Minimal sets of limits that exclude each other, shortest first (deletion filter over Reiter's hitting sets).

    Args:
      limits: limits that cannot all be met. most: stop after this many. tries: how many sub-problems to open.

    Returns:
      (conflicts as names, whether all of them were found).
    """
    everything = range(len(limits.items))
    alone = [i for i in everything if not _possible(limits, [limits.items[i]])]
    found = [frozenset([i]) for i in alone]
    others = [i for i in everything if i not in alone]
    if len(others) <= 30:  # the contradictions people write are mostly between two limits: find all of those
        pairs = itertools.combinations(others, 2)
        found += [frozenset(pair) for pair in pairs if not _possible(limits, [limits.items[i] for i in pair])]
    most = max(most, len(found))
    queue: list[frozenset[int]] = [frozenset()]
    seen = {frozenset()}
    opened = 0
    while queue and len(found) < most and opened < tries:
        dropped = queue.pop(0)
        if all(conflict & dropped for conflict in found) or not found:
            opened += 1
            conflict = _one_conflict(limits, [i for i in everything if i not in dropped])
            if conflict is None:
                continue
            found.append(conflict)
        else:
            conflict = next(conflict for conflict in found if not conflict & dropped)
        for i in sorted(conflict):
            child = dropped | {i}
            if child not in seen:
                seen.add(child)
                queue.append(child)
    complete = not queue
    found = sorted(found, key=lambda conflict: (len(conflict), sorted(conflict)))
    return [tuple(limits.items[i].name for i in sorted(conflict)) for conflict in found], complete


def _one_conflict(limits: Limits, indices: list[int]) -> frozenset[int] | None:
    """Drop limits one by one as long as what is left still cannot be met."""
    if _possible(limits, [limits.items[i] for i in indices]):
        return None
    kept = list(indices)
    # broad limits go first, so that the short contradictions between limits on one domain are found first
    for i in sorted(indices, key=lambda i: (limits.items[i].domain >= 0, limits.items[i].domain)):
        rest = [j for j in kept if j != i]
        if not _possible(limits, [limits.items[j] for j in rest]):
            kept = rest
    return frozenset(kept)


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
    limits: Limits, weights: np.ndarray, slope: np.ndarray
) -> tuple[list[tuple[str, float, bool, float]], float, float]:
    """Which limits bind and what relaxing them gains, from the optimality conditions at the answer.

    Non-negative least squares of ``slope = level - sum_j multiplier_j row_j + (non-negative on shares at zero)``.

    Args:
      weights: (K,). slope: gradient of the cost, (K,).

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
    if not np.isfinite(slope).all():
        return (
            [(limit.name, room, False, math.nan) for limit, room in zip(limits.items, rooms, strict=True)],
            math.inf,
            math.inf,
        )
    scale = max(float(np.abs(slope).max()), 1e-300)
    found, residual = nnls(np.stack(columns, 1), slope / scale)
    gains = np.zeros(len(limits.items))
    for value, owner in zip(found * scale, owners, strict=True):
        if owner is not None:
            gains[owner] += value
    count = limits.find("count")
    shut = weights <= 1e-12
    for j, limit in enumerate(limits.items):
        if limit.kind in ("kl", "distance") and gains[j] > 0:
            at = owners.index(j)
            curve = curve - gains[j] * columns[at]
    leaning = slope + curve
    slackness = sum(gains[j] * max(rooms[j], 0.0) for j, limit in enumerate(limits.items) if limit.row is None)
    gap = float(leaning @ weights - minimum_over(limits, leaning, shut if count is not None else None) + slackness)
    binding = [
        (
            limit.name,
            room,
            bool(room <= 1e-6 * max(1.0, abs(limit.value)) if limit is not count else room <= 0 and shut.any()),
            float(gains[j]) if limit is not count else math.nan,
        )
        for j, (limit, room) in enumerate(zip(limits.items, rooms, strict=True))
    ]
    return binding, float(residual), max(gap, 0.0)
