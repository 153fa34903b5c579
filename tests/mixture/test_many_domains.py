"""Decisions between many domains: the same answers as between few, without arrays that grow with the cube of their number."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from camel_jax.mixture import search
from camel_jax.mixture.limits import parse_limits
from camel_jax.mixture.narrow import narrowed
from camel_jax.mixture.newton_step import MANY, curvature, modified_cholesky_solve, shifted_solve
from camel_jax.mixture.objectives import single_set
from camel_jax.mixture.optimize import optimize_mixture
from camel_jax.mixture.pareto import pareto_front
from camel_jax.mixture.problem import make_problem, split_function
from camel_jax.mixture.regions import feasible_region

NUMBER, SETS = 96, 40
near_optimal = importlib.import_module("camel_jax.mixture.near_optimal")


def powers(n_domains: int = NUMBER, n_sets: int = SETS, seed: int = 0):
    """Losses with a term for each domain and set, whose mean is least where ``scale w^-1.5`` is the same for all domains."""
    scale = jnp.asarray(np.random.default_rng(seed).uniform(0.01, 1.0, (n_sets, n_domains)))
    return (lambda w: jnp.sum(scale * (w + 1e-9) ** -0.5, axis=-1)), np.asarray(scale)


def test_the_optimum_of_many_domains_is_the_closed_form():
    losses, scale = powers()
    best = optimize_mixture(losses, domains=[f"d{k}" for k in range(NUMBER)], starts=4, relax=0.0)
    exact = scale.mean(0) ** (2 / 3)
    np.testing.assert_allclose(best.weights, exact / exact.sum(), atol=1e-7)
    assert best.status == "converged" and best.certificate.gap < 1e-6 * best.value.point


def tilted(prior: np.ndarray, slopes: np.ndarray, distance: float) -> np.ndarray:
    """The mixture of least ``slopes @ w`` within a KL divergence of a prior: the prior times ``exp(-rate slopes)``."""

    def at(rate: float) -> np.ndarray:
        w = prior * np.exp(-rate * (slopes - slopes.min()))
        return w / w.sum()

    def beyond(rate: float) -> float:
        return float(at(rate) @ np.log(np.maximum(at(rate), 1e-300) / prior)) - distance

    return at(optimize.root_scalar(beyond, bracket=(0.0, 50.0)).root)


def test_a_limit_that_curves_is_followed_between_many_domains():
    rng = np.random.default_rng(3)
    prior, slopes = rng.dirichlet(np.full(NUMBER, 0.5)) + 1e-5, rng.standard_normal(NUMBER)
    prior /= prior.sum()
    names = [f"d{k}" for k in range(NUMBER)]
    best = optimize_mixture(lambda w: (3.0 + slopes @ w)[None], domains=names, kl=(prior, 1.0), starts=2, relax=0.0)
    assert best.status == "converged"
    np.testing.assert_allclose(best.weights, tilted(prior, slopes, 1.0), atol=1e-6)


def test_a_front_between_many_domains_is_the_closed_form():
    rng = np.random.default_rng(4)
    prior, slopes = rng.dirichlet(np.full(NUMBER, 0.5)) + 1e-5, jnp.asarray(rng.standard_normal(NUMBER))
    prior /= prior.sum()

    def losses(w):
        return jnp.stack([3.0 + slopes @ w, 1.0 + jnp.sum(w * jnp.log(jnp.maximum(w, 1e-300) / prior))])

    names = [f"d{k}" for k in range(NUMBER)]
    front = pareto_front(losses, single_set(0), single_set(1), 4, domains=names, starts=2)
    assert len(front.weights) == 4
    for weights, second in zip(front.weights[1:-1], front.second[1:-1], strict=True):
        np.testing.assert_allclose(weights, tilted(prior, np.asarray(slopes), second - 1.0), atol=1e-5)


@pytest.mark.parametrize("size", [MANY, MANY + 1])
def test_second_derivatives_by_columns_are_those_of_jax(size):
    losses, _ = powers(size, 3)
    w = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(size)))
    function = lambda v: jnp.log(jnp.sum(losses(v))) + v[0] * v[-1]  # noqa: E731
    hessian, gradient, value = curvature(function, w)
    np.testing.assert_allclose(hessian, jax.hessian(function)(w), rtol=1e-9, atol=1e-9 * float(jnp.abs(hessian).max()))
    np.testing.assert_allclose(gradient, jax.grad(function)(w), rtol=1e-12)
    assert float(value) == pytest.approx(float(function(w)), rel=1e-14)


@pytest.mark.parametrize("least", [0.1, -0.5])
def test_systems_of_many_domains_are_shifted_only_where_they_must_be(least):
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.standard_normal((NUMBER, NUMBER)))[0]
    matrix = jnp.asarray(turn * np.linspace(least, 1.0, NUMBER) @ turn.T)
    right = jnp.asarray(rng.standard_normal((NUMBER, 2)))
    found = shifted_solve(matrix, right)
    assert np.all(np.sum(np.asarray(right * found), 0) > 0)  # downhill whatever the curvature
    if least > 0:
        np.testing.assert_allclose(found, jnp.linalg.solve(matrix, right), rtol=1e-9)
    else:
        np.testing.assert_array_equal(found, modified_cholesky_solve(matrix, right))


@pytest.mark.slow
def test_memory_grows_with_the_square_of_the_number_of_domains():
    """Each program, compiled for twice as many domains, needs no more than about four times the memory."""

    def memory(n_domains: int) -> np.ndarray:
        losses, _ = powers(n_domains)
        problem = make_problem(losses, domains=[f"d{k}" for k in range(n_domains)])
        (region,) = problem.regions
        same = (*split_function(losses), problem.goal, region, None, problem.curved)
        inner, level, key = np.asarray(region.center), jnp.asarray(1.0), jax.random.key(0)
        programs = (
            search._search.lower(*same, key, 4, 2),
            near_optimal._extremes.lower(*same, inner, level),
            near_optimal._spread.lower(*same, inner, level, key, 8),
        )
        told = [one.compile().memory_analysis() for one in programs]
        assert all(one is not None for one in told)
        return np.array([one.temp_size_in_bytes for one in told if one is not None])

    small, large = memory(80), memory(160)
    assert np.all(large <= 4.8 * small)
    assert np.all(large < 20 * 32 * SETS * 160 * 8)  # a few arrays of some columns, sets and domains


@pytest.mark.slow
def test_a_region_of_few_domains_out_of_many_is_solved_in_these_alone():
    losses, _ = powers()
    names = [f"d{k}" for k in range(NUMBER)]
    limits = parse_limits(names, bounds={"d3": (0.1, None), "d5": (None, 0.05)}, fixed={"d7": 0.2})
    support = np.arange(NUMBER) < 12
    problem = make_problem(losses, domains=names, limits=limits)
    region = feasible_region(limits, support)
    small, narrow = narrowed(region)
    assert narrow is not None and small.center.shape == (32,)
    found = search.solve_region(problem, region, jax.random.key(0), 4, 2)
    part = make_problem(
        lambda w: losses(jnp.zeros(NUMBER).at[:12].set(w)),
        domains=names[:12],
        limits=parse_limits(names[:12], bounds={"d3": (0.1, None), "d5": (None, 0.05)}, fixed={"d7": 0.2}),
    )
    alone = search.solve_region(part, part.regions[0], jax.random.key(0), 4, 7)
    np.testing.assert_allclose(found.weights[:12], alone.weights, atol=1e-6)
    assert found.cost == pytest.approx(alone.cost, rel=1e-9)
    assert not found.weights[12:].any() and found.weights[7] == 0.2


@pytest.mark.slow
def test_at_most_a_few_of_many_domains():
    losses = lambda w: jnp.sum((w - target) ** 2)[None]  # noqa: E731
    target = np.where(np.arange(200) % 10 == 0, 0.05, 0.0) + 1e-4 * (np.arange(200) % 7)
    names = [f"d{k}" for k in range(200)]
    best = optimize_mixture(losses, domains=names, max_domains=5, bounds={"d3": (0.02, None)}, starts=2)
    used = np.flatnonzero(best.weights > 0)
    assert len(used) == 5 and 3 in used and np.all(np.isin(used, [3, *range(0, 200, 10)]))
    assert best.violation <= 1e-9


def test_an_inner_point_of_many_domains_has_room_to_every_limit():
    rng = np.random.default_rng(3)
    names = [f"d{k}" for k in range(NUMBER)]
    caps = {name: (None, float(cap)) for name, cap in zip(names, rng.uniform(0.002, 0.1, NUMBER), strict=True)}
    limits = parse_limits(names, bounds=caps | {"d0": (0.001, None)}, fixed={"d1": 0.01})
    region = feasible_region(limits)
    w, free = np.asarray(region.center), np.asarray(region.free)
    assert abs(w.sum() - 1.0) < 1e-12 and not free[1]
    assert np.all((w - region.lower)[free] > 1e-4) and np.all((region.upper - w)[free] > 1e-4)


@pytest.mark.slow
def test_parts_of_a_law_without_weight_are_left_out():
    import camel_jax as cj
    from camel_jax.evaluation import simulate

    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=12, sizes=(1e7, 1e8))
    fitted = cj.fit(
        cj.laws.blend(4, ("chinchilla", "dml")), runs, key=jax.random.key(1), starts=1, resamples=2, backtests=0
    )
    idle = dataclasses.replace(
        fitted,
        raw=fitted.raw | {"share": np.zeros_like(fitted.raw["share"])},
        resampled=fitted.resampled | {"share": np.zeros_like(fitted.resampled["share"])},
    )
    at = idle.losses_at("300M", "10B")
    assert at.source.law.name == "chinchilla" and fitted.losses_at("300M", "10B").source.law.name == "blend"
    draws, w = idle.draws(), np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(at(w), draws.point(at.recipe(w)), rtol=1e-12)
    np.testing.assert_allclose(at.draws(w), draws.predict(at.recipe(w)), rtol=1e-12)


def test_ranges_along_lines_lie_in_the_set_and_are_most_of_it(monkeypatch):
    rng = np.random.default_rng(4)
    bend, best = rng.uniform(0.5, 2.0, NUMBER), rng.dirichlet(np.full(NUMBER, 20.0))
    losses = lambda w: (2.0 + jnp.sum(bend * (w - best) ** 2))[None]  # noqa: E731
    near = dict(domains=[f"d{k}" for k in range(NUMBER)], samples=16, starts=2)
    monkeypatch.setattr(near_optimal, "MOST_SEARCHED", 0)
    found = near_optimal.near_optimal(losses, 1e-6, **near)  # so near that no share comes to zero
    # of the ellipsoid sum bend d^2 <= level with sum d = 0, the half-width of a share is known
    half = np.sqrt(2e-6 * (1 / bend - (1 / bend) ** 2 / np.sum(1 / bend)))
    np.testing.assert_array_less(found.high - found.best, 1.0001 * half)
    np.testing.assert_array_less(0.9 * half, found.high - found.best)
    np.testing.assert_array_less(0.9 * half, found.best - found.low)
