"""What a fit will take, from the shapes of its table: which step is quicker, and how long it is.

The seconds are those of one core of a server, fitted to timings of both steps on tables of 24 and 100 domains; ``forecast`` scales them
to the machine at hand.
"""

from __future__ import annotations

from typing import NamedTuple

SMALL = 400  # shared parameters up to which their matrix is always used
PRODUCTS = 32  # with the matrix, in a step without it


class Shape(NamedTuple):
    """What the cost of a step depends on: shared parameters P, rows R, domains K, sets V, terms of a loss Q."""

    shared: int
    rows: int
    domains: int
    sets: int
    terms: int


def dense_step(shape: Shape) -> float:
    """Seconds of a step by the matrix of the shared parameters."""
    p, rows, _, sets, terms = shape
    return 2e-3 + 3e-10 * p**3 + 8e-11 * sets * terms * p**2 + 5e-11 * rows * p**2


def free_step(shape: Shape, products: int = PRODUCTS) -> float:
    """Seconds of a step without it."""
    _, rows, domains, sets, terms = shape
    work = 8.0 * rows * domains * terms + 6.0 * sets * rows * terms
    return 5e-3 + products * (1e-4 + 1.5e-10 * work)


def dense_is_quicker(shape: Shape) -> bool:
    """Whether a step by the matrix takes less time; always on small tables."""
    return shape.shared <= SMALL or dense_step(shape) <= free_step(shape)


def wide_step(params: int, rows: int) -> float:
    """Seconds of a step of one set of a separable law with many parameters."""
    small, large = min(params, rows), max(params, rows)
    product = (3e-11 if small > 300 else 1e-10) * small**2 * large
    return 2e-4 + product + 3e-11 * small**3 + 1.2e-8 * rows * params
