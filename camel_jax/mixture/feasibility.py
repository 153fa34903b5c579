"""Can the limits be met, where, and what do they cost: regions with an inner point, contradictions, multipliers.

Host code on small arrays; linear programs go to HiGHS through scipy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.mixture.limits import Limit, Limits, curved_value

TOLERANCE = 1e-9  # shares that differ by less are equal when asking whether limits can be met


class InfeasibleError(ValueError):
    """No mixture meets all limits.

    Attributes:
      conflicts: minimal sets of limits that exclude each other, as tuples of their names.
      complete: whether ``conflicts`` are all there are; the message says so otherwise.

    >>> import numpy as np
    >>> import camel_jax as cj
    >>> floors = {"web": (0.7, None), "code": (0.4, None)}
    >>> cj.optimize_mixture(lambda w: w @ w + np.zeros(1), domains=["web", "code"], bounds=floors)
    Traceback (most recent call last):
        ...
    camel_jax.mixture.feasibility.InfeasibleError: no mixture meets all limits, contradiction: (1) floor web >= 0.7 + floor code >= 0.4
    """

    def __init__(self, conflicts: list[tuple[str, ...]], complete: bool = True):
        self.conflicts = conflicts
        lines = "; ".join(f"({i}) {' + '.join(names)}" for i, names in enumerate(conflicts, 1))
        more = "" if complete else "; there may be more"
        many = "contradiction" if len(conflicts) == 1 else f"{len(conflicts)} contradictions"
        super().__init__(f"no mixture meets all limits, {many}: {lines}{more}")


def linear_program(cost: np.ndarray, table: np.ndarray, bound: np.ndarray) -> np.ndarray | None:
    """The mixture of least cost with ``table @ w <= bound``, or None if there is none."""
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
        return linear_program(cost, rows, values)
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


def can_be_met(limits: Limits, items: Sequence[Limit]) -> bool:
    """Whether a mixture meets all of some limits, with room to spare under the curved ones."""
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
    alone = [i for i in everything if not can_be_met(limits, [limits.items[i]])]
    found = [frozenset([i]) for i in alone]
    others = [i for i in everything if i not in alone]
    if len(others) <= 30:  # the contradictions people write are mostly between two limits: find all of those
        pairs = itertools.combinations(others, 2)
        found += [frozenset(pair) for pair in pairs if not can_be_met(limits, [limits.items[i] for i in pair])]
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
    if can_be_met(limits, [limits.items[i] for i in indices]):
        return None
    kept = list(indices)
    # broad limits go first, so that the short contradictions between limits on one domain are found first
    for i in sorted(indices, key=lambda i: (limits.items[i].domain >= 0, limits.items[i].domain)):
        rest = [j for j in kept if j != i]
        if not can_be_met(limits, [limits.items[j] for j in rest]):
            kept = rest
    return frozenset(kept)
