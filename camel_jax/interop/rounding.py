"""Shares as whole counts of a lattice: their sum is exact, limits hold, and no share is farther from its aim than it must be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SLACK = 1e-6  # how far a mixture may break a limit by the tolerance of the search that found it


class Group(NamedTuple):
    """A limit on a sum of shares: its name, the domains' positions, the least and the largest sum."""

    name: str
    members: tuple[int, ...]
    floor: float
    cap: float


def round_shares(
    shares: Sequence[float],
    lattice: int,
    *,
    floors: Sequence[float] | None = None,
    caps: Sequence[float] | None = None,
    groups: Sequence[Group] = (),
    names: Sequence[str] | None = None,
) -> list[int]:
    """Whole counts with the sum ``lattice`` that are nearest to ``lattice * shares`` within the limits.

    Without groups, what is left after rounding down goes to the largest remainders, which is nearest in the sum of absolute
    differences; with groups the same is asked of an integer program.

    Args:
      shares: (K,) on the simplex; a share of zero stays zero.
      lattice: the number of parts, such as 2048.
      floors, caps: (K,) least and largest shares; 0 and 1 if None.
      groups: limits on sums.
      names: of the domains, for messages.

    Returns:
      (K,) counts.

    Raises:
      ValueError: shares that are no mixture or break a limit, or a lattice on which the limits leave nothing.

    >>> round_shares([0.5, 0.3, 0.2], 7)
    [4, 2, 1]
    >>> round_shares([0.5, 0.3, 0.2], 7, caps=[0.5, 1, 1])
    [3, 2, 2]
    """
    aim = np.asarray(shares, float)
    names = list(names) if names is not None else [f"domain {k}" for k in range(len(aim))]
    low = np.zeros(len(aim)) if floors is None else np.asarray(floors, float)
    high = np.ones(len(aim)) if caps is None else np.asarray(caps, float)
    if lattice < 1:
        raise ValueError(f"a lattice of {lattice} parts: give at least 1")
    if not (np.isfinite(aim).all() and (aim >= 0).all() and abs(aim.sum() - 1) <= 1e-3):
        raise ValueError(f"shares must be at least 0 and sum to 1; they sum to {aim.sum():.6g}")
    aim = aim / aim.sum()
    for k, name in enumerate(names):
        if aim[k] < low[k] - SLACK or aim[k] > high[k] + SLACK:
            rule = f"least share {low[k]:.6g}" if aim[k] < low[k] else f"largest share {high[k]:.6g}"
            raise ValueError(f"the mixture gives {name} {aim[k]:.6g}, against its {rule}")
    for group in groups:
        total = aim[list(group.members)].sum()
        if not group.floor - SLACK <= total <= group.cap + SLACK:
            raise ValueError(
                f"the mixture gives {group.name} {total:.6g}, outside {group.floor:.6g} to {group.cap:.6g}"
            )
    least = np.array([_up(lattice * value) for value in low])
    most = np.array([_down(lattice * value) if aim[k] > 0 else 0 for k, value in enumerate(high)])
    if bad := [name for k, name in enumerate(names) if least[k] > most[k]]:
        raise ValueError(f"no multiple of 1/{lattice} lies within the limits of {bad[0]}: take a finer --lattice")
    if not least.sum() <= lattice <= most.sum():
        raise ValueError(f"the limits leave no mixture in parts of 1/{lattice}: take a finer --lattice")
    counts = _nearest(lattice * aim, lattice, least, most)
    if all(_inside(counts, lattice, group) for group in groups):
        return counts.tolist()
    return _program(lattice * aim, lattice, least, most, groups).tolist()


def _up(value: float) -> int:
    return math.ceil(value - 1e-9 * max(1.0, value))


def _down(value: float) -> int:
    return math.floor(value + 1e-9 * max(1.0, value))


def _inside(counts: np.ndarray, lattice: int, group: Group) -> bool:
    total = int(counts[list(group.members)].sum())
    return _up(lattice * group.floor) <= total <= _down(lattice * group.cap)


def _nearest(aim: np.ndarray, lattice: int, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Largest remainders within bounds; a share cut off by its bound gives to those that have room."""
    counts = np.clip(np.floor(aim).astype(np.int64), least, most)
    while (left := int(lattice - counts.sum())) != 0:
        step = 1 if left > 0 else -1
        room = counts < most if left > 0 else counts > least
        gain = np.where(room, step * (aim - counts), -np.inf)
        best = np.argsort(-gain, kind="stable")[: min(abs(left), int(room.sum()))]
        few = abs(left) // max(int(room.sum()), 1)
        if few > 1:  # a bound took much: hand out evenly what is safe, the rest by remainder
            span = (most - counts if left > 0 else counts - least)[best]
            counts[best] += step * np.minimum(span, few)
        else:
            counts[best] += step
    return counts


def _program(aim: np.ndarray, lattice: int, least: np.ndarray, most: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """Whole counts n nearest to the aim, sum |n - aim|, with limits on sums."""
    from scipy import optimize

    Bounds: Any = optimize.Bounds
    LinearConstraint: Any = optimize.LinearConstraint

    K = len(aim)
    base = np.clip(np.floor(aim), least, most)
    rows, lower, upper = [np.r_[np.ones(K), np.zeros(K)]], [lattice - base.sum()], [lattice - base.sum()]
    for group in groups:
        row = np.zeros(2 * K)
        row[list(group.members)] = 1.0
        inside = base[list(group.members)].sum()
        rows.append(row)
        lower.append(_up(lattice * group.floor) - inside)
        upper.append(_down(lattice * group.cap) - inside)
    eye = np.eye(K)
    away = aim - base  # unknowns are the steps from the base, and how far each ends from its aim
    constraints = [
        LinearConstraint(np.array(rows), np.array(lower), np.array(upper)),
        LinearConstraint(np.hstack([eye, -eye]), -np.inf, away),
        LinearConstraint(np.hstack([-eye, -eye]), -np.inf, -away),
    ]
    found = optimize.milp(
        np.r_[np.zeros(K), np.ones(K)],
        constraints=constraints,
        bounds=Bounds(np.r_[least - base, np.zeros(K)], np.r_[most - base, np.full(K, np.inf)]),
        integrality=np.r_[np.ones(K), np.zeros(K)],
    )
    if found.x is None:
        raise ValueError(f"the limits leave no mixture in parts of 1/{lattice}: take a finer --lattice")
    return (base + np.round(found.x[:K])).astype(np.int64)
