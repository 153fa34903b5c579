"""Where mixtures may lie: the linear limits as polytopes with a strictly inner point, one for every set of domains allowed."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np

from camel_jax.mixture.barrier import NO_CAP, Region
from camel_jax.mixture.feasibility import (
    TOLERANCE,
    InfeasibleError,
    can_be_met,
    find_conflicts,
    linear_program,
    nearest,
)
from camel_jax.mixture.limits import Limit, Limits, curved_value
from camel_jax.mixture.newton_step import MANY


def feasible_region(limits: Limits, support: np.ndarray | None = None) -> Region:
    """The region of the linear limits with a strictly inner point; curved limits must be checked by the caller.

    Args:
      limits: parsed limits. support: boolean (K,), domains allowed above zero, or None for all.

    Raises:
      InfeasibleError: naming every minimal contradiction found.
    """
    items = list(limits.items)
    if support is None and not can_be_met(limits, items):
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
    if (lower > upper + TOLERANCE).any():
        raise InfeasibleError([("floors above caps",)])
    norm = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    rows, values = rows / norm[:, None], values / norm
    table = np.concatenate([-np.eye(size), np.eye(size), rows])
    bound = np.concatenate([-lower, upper, values])
    points, room = [], np.full(len(bound), np.inf)
    if size > MANY and (middle := _roomy_point(lower, upper, rows, values)) is not None:
        points, room = [middle], bound - table @ middle
    for i in range(len(bound) if not points else 0):
        if size <= i < 2 * size and upper[i - size] >= 1.0:
            continue
        found = linear_program(table[i], table, bound)  # least value of the left side: most room
        if found is None:
            raise InfeasibleError([("the limits together",)])
        points.append(found)
        room[i] = bound[i] - table[i] @ found
    center = np.mean(points, axis=0)
    tight = room <= TOLERANCE
    free = ~(tight[:size] | tight[size : 2 * size])
    center = np.where(tight[:size], lower, np.where(tight[size : 2 * size], upper, center))
    if free.any():
        equal = np.concatenate([np.ones((1, size)), rows[tight[2 * size :]]]) * free
        goal = np.concatenate([[1.0], values[tight[2 * size :]]])
        goal -= np.concatenate([np.ones((1, size)), rows[tight[2 * size :]]]) @ np.where(free, 0.0, center)
        center = center + np.linalg.pinv(equal) @ (goal - equal @ center) * free
    loose = ~tight[2 * size :]
    # padded to a power of two, so that problems with as many limits or nearly so share a compiled program
    padding = (1 << max(len(rows) - 1, 0).bit_length()) - len(rows)
    keep_rows = np.concatenate([np.where(loose[:, None], rows, 0.0), np.zeros((padding, size))])
    keep_values = np.concatenate([np.where(loose, values, 1.0), np.ones(padding)])
    equal = np.concatenate([np.ones((1, size)), np.where(loose[:, None], 0.0, rows)])
    return Region(lower, upper, free, keep_rows, keep_values, _independent(equal, free), center)


def _roomy_point(lower: np.ndarray, upper: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray | None:
    """A mixture with room to every limit, (K,), by one linear program; None if some limit leaves none to any mixture.

    Room is in shares of what a domain may have, at most 1 / K; domains whose floor is their cap are left out.
    """
    size = len(lower)
    own = np.minimum(np.minimum(upper, 1.0) - lower, 1.0 / size)
    live = own > TOLERANCE
    own = np.where(live, own, 0.0)
    fixed = np.where(live, 0.0, lower)
    most = np.where(live, np.minimum(upper, 1.0), 0.0)[live]
    n = int(live.sum())
    if n == 0:
        return None
    # shares and the room t: lower + t own <= w <= upper - t own where there is a cap, rows @ w <= values - t / K
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix, diags, hstack, vstack

    capped = most < 1.0
    eye = diags(np.ones(n)).tocsr()
    below = hstack([-eye, csr_matrix(own[live][:, None])])
    above = hstack([eye, csr_matrix(own[live][:, None])]).tocsr()[np.flatnonzero(capped)]
    other = np.concatenate([rows[:, live], np.full((len(rows), 1), 1.0 / size)], 1)
    solved = linprog(
        np.append(np.zeros(n), -1.0),
        vstack([below, above, csr_matrix(other)]).tocsr(),
        np.concatenate([-lower[live], most[capped], values - rows @ fixed]),
        np.append(np.ones(n), 0.0)[None],
        [1.0 - fixed.sum()],
        bounds=[*zip(lower[live], most, strict=True), (0.0, 1.0)],
        method="highs",
    )
    if solved.status != 0 or solved.x[-1] <= 1e-6:
        return None
    point = fixed
    point[live] = solved.x[:-1]
    return point


def _independent(equal: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Orthonormal rows with the span of the equality rows over the free domains, (rank, K)."""
    _, s, vt = np.linalg.svd(equal * free, full_matrices=False)
    rank = int((s > 1e-10 * max(s.max(initial=0.0), 1e-300)).sum())
    return vt[:rank] if rank else np.zeros((1, equal.shape[1]))
