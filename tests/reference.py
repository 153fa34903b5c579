"""Slow, obvious versions of what the package does cleverly: numpy and loops, no care for speed."""

import numpy as np


def naive_capacities(demand, amplitude, exponents, capacity):
    """Exact capacity split by plain bisection on log lambda."""
    asked = np.asarray(demand) * amplitude > 0
    e = np.asarray(exponents)[asked]
    price = np.log(np.asarray(demand)[asked]) + np.log(np.asarray(amplitude)[asked]) + np.log(e)
    low, high = -300.0, 300.0
    for _ in range(70):
        middle = 0.5 * (low + high)
        over = np.exp((price - middle) / (1 + e)).sum() > capacity
        low, high = (middle, high) if over else (low, middle)
    capacities = np.zeros(len(asked))
    capacities[asked] = np.exp((price - low) / (1 + e))
    return capacities


def arithmetic_bisection(demand, amplitude, exponents, capacity, steps=60):
    """How public code for a law of this family finds lambda: bisection on [1e-30, 1e30] itself. Kept as a warning."""
    price = np.asarray(demand) * amplitude * exponents
    low, high = 1e-30, 1e30
    for _ in range(steps):
        middle = 0.5 * (low + high)
        over = np.sum((price / middle) ** (1 / (1 + np.asarray(exponents)))) > capacity
        low, high = (middle, high) if over else (low, middle)
    return (price / (0.5 * (low + high))) ** (1 / (1 + np.asarray(exponents)))


def training_loss(capacities, demand, amplitude, exponents):
    """``sum_s q_s A_s m_s^(-alpha_s)`` over the skills that are asked for."""
    terms = zip(capacities, demand, amplitude, exponents, strict=True)
    return sum(q * a * m ** (-e) for m, q, a, e in terms if q > 0)


def gradient(function, x, step=1e-5):
    """Central differences of order four of a function of one vector; the last axis of the result is the input's."""
    x = np.asarray(x, float)
    columns = []
    for i in range(x.size):
        h = np.zeros_like(x)
        h[i] = step
        near = (np.asarray(function(x + h)) - np.asarray(function(x - h))) / (2 * step)
        far = (np.asarray(function(x + 2 * h)) - np.asarray(function(x - 2 * h))) / (4 * step)
        columns.append((4 * near - far) / 3)
    return np.stack(columns, -1)
