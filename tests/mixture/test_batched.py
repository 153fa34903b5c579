"""Many mixture problems at once: against scipy one by one, in valleys, and where nothing is feasible."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from camel_jax.mixture.barrier import CONVERGED, NO_CAP, NOT_FINITE
from camel_jax.mixture.batched import Problems, inner_points, solve_many
from camel_jax.mixture.search import random_starts

K, S, P = 4, 3, 24


def cost(readings, args):
    """Power laws of two skills and a wave along the third reading."""
    terms = args["scale"] * jnp.exp(-args["power"] * jnp.log(readings[:2] + 0.01))
    return terms.sum(0) + args["wave"] * jnp.sin(readings[2])


@pytest.fixture(scope="module")
def batch():
    """Feasible problems of up to four domains; every other one is not convex, every third has a domain less."""
    rng = np.random.default_rng(3)
    skills = rng.dirichlet(np.full(2, 0.4), (K, P)).transpose(2, 0, 1)
    readings = np.concatenate([skills, 4 * rng.normal(size=(1, K, P))])
    live = np.ones((K, P), bool)
    live[3, ::3] = False
    middle = np.where(live, rng.dirichlet(np.ones(K), P).T + 0.05, 0.0)
    middle /= middle.sum(0)
    lower = np.where(live & (rng.random((K, P)) < 0.4), 0.5 * middle, 0.0)
    upper = np.where(live, np.where(rng.random((K, P)) < 0.4, middle + 0.15, NO_CAP), 0.0)
    rows = np.stack([live * rng.random((K, P)), np.zeros((K, P))])
    limits = np.stack([(rows[0] * middle).sum(0) + 0.02, np.ones(P)])
    args = {
        "scale": rng.uniform(0.2, 1.0, (2, P)),
        "power": rng.uniform(0.1, 0.5, (2, P)),
        "wave": np.where(np.arange(P) % 2, 0.2, 0.0),
    }
    return Problems(lower, upper, rows, limits, readings), args


@pytest.fixture(scope="module")
def solver():
    return jax.jit(functools.partial(solve_many, cost))


POINTS = np.asarray(random_starts(jax.random.key(0), 12, K))


def by_scipy(problems, args, p):
    """Best of SLSQP from the same starts."""
    pick = jax.tree.map(lambda leaf: np.asarray(leaf)[..., p], (problems, args))
    (lower, upper, rows, limits, readings), own = pick

    def f(w):
        q = readings @ w
        return float((own["scale"] * (q[:2] + 0.01) ** -own["power"]).sum() + own["wave"] * np.sin(q[2]))

    best = np.inf
    for start in POINTS:
        limited = [{"type": "eq", "fun": lambda w: w.sum() - 1}, {"type": "ineq", "fun": lambda w: limits - rows @ w}]
        bounds = list(zip(lower, np.minimum(upper, 1), strict=True))
        found = minimize(f, np.clip(start, lower, np.minimum(upper, 1)), bounds=bounds, constraints=limited,
                         method="SLSQP", options={"ftol": 1e-13})  # fmt: skip
        if found.success and (rows @ found.x <= limits + 1e-9).all() and abs(found.x.sum() - 1) < 1e-9:
            best = min(best, found.fun)
    return best


def test_agrees_with_slsqp_and_stays_inside(batch, solver):
    problems, args = batch
    best = jax.tree.map(np.asarray, solver(problems, args, POINTS))
    assert (best.status == CONVERGED).all()
    np.testing.assert_allclose(best.value, [by_scipy(problems, args, p) for p in range(P)], atol=1e-6)
    np.testing.assert_allclose(best.weights.sum(0), 1.0, atol=1e-12)
    assert (best.weights >= problems.lower).all() and (best.weights <= np.minimum(problems.upper, 1.0)).all()
    assert ((problems.rows * best.weights).sum(1) <= problems.limits).all()


def test_a_problem_has_the_same_answer_in_any_company(batch, solver):
    problems, args = batch
    turned = jax.tree.map(lambda leaf: np.asarray(leaf)[..., ::-1], (problems, args))
    one, two = solver(problems, args, POINTS), solver(*turned, POINTS)
    np.testing.assert_allclose(one.value, two.value[::-1], atol=1e-9)


def test_what_cannot_be_met_is_a_status(batch, solver):
    problems, args = batch
    floor = np.array(problems.lower)
    floor[:, 5] = [0.5, 0.4, 0.3, 0.0]
    limits = np.array(problems.limits)
    limits[0, 7] = -0.1
    best = solver(problems._replace(lower=floor, limits=limits), args, POINTS)
    wrong = np.isin(np.arange(P), [5, 7])
    assert (np.asarray(best.status)[wrong] == NOT_FINITE).all() and np.isinf(np.asarray(best.value)[wrong]).all()
    np.testing.assert_allclose(best.value[~wrong], solver(problems, args, POINTS).value[~wrong], atol=1e-9)


def test_inner_points_are_inside_narrow_regions(batch):
    problems, _ = batch
    limits = np.array(problems.limits)
    limits[0] -= 0.019  # leaves a thousandth above a mixture that is known to be inside
    center, inside = inner_points(problems._replace(limits=limits))
    assert np.asarray(inside).all()
    assert ((problems.rows * np.asarray(center)).sum(1) < limits).all()
