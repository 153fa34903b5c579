"""Batched least squares: against scipy, structured against generic, many devices against one, and lanes kept apart."""

import json
import os
import pathlib
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import leastsq

import camel_jax
from camel_jax.numerics.batched import fast_log, lower_pairs, solve_packed
from camel_jax.solvers import least_squares as module
from camel_jax.solvers import projected_starts, queue, status
from camel_jax.solvers.discover import discover
from camel_jax.solvers.least_squares import least_squares
from camel_jax.solvers.prior import Prior, quadratic_prior
from camel_jax.solvers.projection import LARGEST, rescale
from camel_jax.solvers.structure import Term, structure

R, K, V, B, S = 40, 3, 3, 4, 3
NAMES = ("exponent", "floor", "mix", "scale", "slope")


def predict(raw, row):
    """DML with a size term: exp(floor) + exp(mix + slope . r) + exp(scale - exp(exponent) n)."""
    mixture, n = row
    return (
        jnp.exp(raw["floor"])
        + jnp.exp(raw["mix"] + raw["slope"] @ mixture)
        + jnp.exp(raw["scale"] - jnp.exp(raw["exponent"]) * n)
    )


def make(seed=0, noise=0.01, n_sets=V, n_resamples=B, n_starts=S):
    rng = np.random.default_rng(seed)
    mixture = rng.dirichlet(np.ones(K), R)
    mixture[::7, 0] = 0.0
    mixture /= mixture.sum(1, keepdims=True)
    n = rng.choice([-2.0, -0.5, 0.5, 2.0], R)
    truth = {
        "exponent": np.log(0.3) + 0.1 * rng.standard_normal(n_sets),
        "floor": 0.5 + 0.1 * rng.standard_normal(n_sets),
        "mix": 0.1 * rng.standard_normal(n_sets),
        "scale": 0.2 + 0.1 * rng.standard_normal(n_sets),
        "slope": rng.standard_normal((n_sets, K)),
    }
    clean = jax.vmap(lambda row: jax.vmap(lambda raw: predict(raw, row))(truth))((mixture, n))
    losses = np.asarray(clean) * np.exp(noise * rng.standard_normal((R, n_sets)))
    starts = {k: v[None] + 0.3 * rng.standard_normal((n_starts, *v.shape)) for k, v in truth.items()}
    counts = rng.multinomial(R, np.ones(R) / R, size=n_resamples).astype(float)
    return (mixture, n), losses, starts, counts, truth


def declare(rows, names=NAMES):
    mixture, n = rows
    terms = [
        Term([{"floor": 1.0}]),
        Term([{"mix": 1.0, "slope": mixture.T}]),
        Term([{"scale": 1.0, "exponent": -n}]),
    ]
    return structure({k: ((K,) if k == "slope" else ()) for k in names}, terms, positive=["exponent"])


PRIOR = Prior(np.zeros(K + 4), np.full(K + 4, 1e-3))


@pytest.fixture(scope="module")
def problem():
    return make()


@pytest.fixture(scope="module")
def structured(problem):
    rows, losses, starts, counts, _ = problem
    return least_squares(declare(rows), starts, losses, weights=counts, prior=PRIOR, rtol=1e-12)


@pytest.fixture(scope="module")
def generic(problem):
    rows, losses, starts, counts, _ = problem
    return least_squares(predict, starts, losses, rows=rows, weights=counts, prior=PRIOR, rtol=1e-12)


def flat(params):
    return np.concatenate([np.asarray(params[k]).reshape(*np.shape(params[k])[:3], -1) for k in sorted(params)], -1)


def objective(x, rows, losses, weights, delta=None, prior=PRIOR):
    """The documented objective, written out in numpy for one lane."""
    mixture, n = rows
    exponent, floor, mix, slope, scale = x[0], x[1], x[2], x[4:], x[3]
    value = np.exp(floor) + np.exp(mix + mixture @ slope) + np.exp(scale - np.exp(exponent) * n)
    e = np.abs(np.log(value) - np.log(losses))
    rho = e**2 if delta is None else np.where(e <= delta, e**2, 2 * delta * e - delta**2)
    rho = np.where(np.isnan(losses), 0, rho)
    d = x - prior.mean
    return 0.5 * np.sum(weights * rho) + 0.5 * np.sum(prior.precision * d**2)


def test_agrees_with_scipy_and_meets_the_optimality_condition(problem, structured):
    rows, losses, starts, counts, _ = problem
    assert np.all(structured.status == 0)
    x = flat(structured.params)
    for b, s, v in [(0, 0, 0), (1, 2, 1), (3, 1, 2)]:
        start = flat({k: a[None] for k, a in starts.items()})[0, s, v]

        def residual(p, b=b, v=v):
            root = np.sqrt(counts[b].astype(float))
            value = np.exp(p[1]) + np.exp(p[2] + rows[0] @ p[4:]) + np.exp(p[3] - np.exp(p[0]) * rows[1])
            return np.concatenate([root * (np.log(value) - np.log(losses[:, v])), np.sqrt(1e-3) * p])

        best = leastsq(residual, start, ftol=1e-14, xtol=1e-14, maxfev=5000)[0]
        assert structured.objective[b, s, v] == pytest.approx(0.5 * np.sum(residual(best) ** 2), rel=1e-7)
        assert objective(x[b, s, v], rows, losses[:, v], counts[b]) == pytest.approx(
            structured.objective[b, s, v], rel=1e-12
        )
        np.testing.assert_allclose(x[b, s, v], best, atol=2e-4)


def test_structure_and_autodiff_find_the_same_points(structured, generic):
    np.testing.assert_allclose(structured.objective, generic.objective, rtol=1e-8)
    np.testing.assert_allclose(flat(structured.params), flat(generic.params), atol=1e-3)


def test_recovers_a_planted_law():
    rows, losses, starts, _, truth = make(seed=3, noise=0.0)
    fit = least_squares(declare(rows), starts, losses, weights=np.ones((B, R)))
    best = fit.objective.min(1)
    assert np.all(best < 1e-16)
    found = np.take_along_axis(fit.params["exponent"], fit.objective.argmin(1)[:, None], 1)[0, 0]
    np.testing.assert_allclose(found, truth["exponent"], atol=1e-5)


@pytest.mark.parametrize("kind", ["structured", "generic"])
def test_huber_matches_its_formula_and_resists_an_outlier(problem, kind):
    rows, losses, starts, counts, _ = problem
    spoiled = losses.copy()
    spoiled[5] *= 3.0
    law, extra = (declare(rows), {}) if kind == "structured" else (predict, {"rows": rows})
    fit = least_squares(law, starts, spoiled, weights=counts, prior=PRIOR, huber=0.01, rtol=1e-10, **extra)
    x = flat(fit.params)
    for b, v in [(0, 0), (2, 1)]:
        s = fit.objective[b, :, v].argmin()
        at = objective(x[b, s, v], rows, spoiled[:, v], counts[b], 0.01)
        assert at == pytest.approx(fit.objective[b, s, v], rel=1e-10)
        for direction in np.random.default_rng(0).standard_normal((20, K + 4)):  # a minimum: no nearby point is lower
            assert objective(x[b, s, v] + 1e-3 * direction, rows, spoiled[:, v], counts[b], 0.01) > at * (1 - 1e-9)


def test_bad_lanes_get_a_status_and_leave_the_others_alone(problem, structured):
    rows, losses, starts, counts, _ = problem
    bad = {k: a.copy() for k, a in starts.items()}
    bad["floor"][1, 0] = np.nan
    targets = losses.copy()
    targets[:, 1] = np.nan  # nothing measured
    targets[3, 2] = np.inf
    weights = counts.astype(float)
    weights[2, 0] = np.nan
    weights[3, :] = 0
    weights[1, 3] = 0  # spares the row whose target is infinite
    weights[0, 3] = 1
    fit = least_squares(declare(rows), bad, targets, weights=weights, prior=PRIOR, rtol=1e-12)
    assert np.all(fit.status[[0, 1, 3], :, 1] == status.NO_DATA) and np.all(fit.status[3] == status.NO_DATA)
    assert np.all(fit.status[2][:, [0, 2]] == status.NON_FINITE)
    assert np.all(fit.status[:2, 1, 0] == status.NON_FINITE) and fit.status[0, 0, 2] == status.NON_FINITE
    assert np.all(np.isinf(fit.objective[2]))
    again = least_squares(declare(rows), starts, losses, weights=np.nan_to_num(weights), prior=PRIOR, rtol=1e-12)
    for s, v in [(0, 0), (2, 0)]:
        assert fit.status[1, s, v] == 0
        np.testing.assert_allclose(fit.objective[1, s, v], again.objective[1, s, v], rtol=1e-12)


def test_masked_rows_are_as_if_absent(problem):
    rows, losses, starts, counts, _ = problem
    gaps = losses.copy()
    gaps[:6] = np.nan
    fit = least_squares(declare(rows), starts, gaps, weights=counts, prior=PRIOR)
    weights = counts.copy()
    weights[:, :6] = 0
    same = least_squares(declare(rows), starts, losses, weights=weights, prior=PRIOR)
    np.testing.assert_allclose(fit.objective, same.objective, rtol=1e-9)


def test_working_set_smaller_than_the_batch_gives_the_same_lanes(problem, structured):
    rows, losses, starts, counts, _ = problem
    few = least_squares(declare(rows), starts, losses, weights=counts, prior=PRIOR, rtol=1e-12, lanes=5)
    np.testing.assert_allclose(few.objective, structured.objective, rtol=1e-10)
    np.testing.assert_array_equal(few.status, structured.status)


def test_second_call_compiles_nothing(problem, structured):
    rows, losses, starts, counts, _ = problem
    program: Any = queue.run_queue  # the types of jax do not tell the number of compiled programs
    with jax.log_compiles(False):
        before = program._cache_size()
        least_squares(declare(rows), starts, losses, weights=counts, prior=PRIOR, rtol=1e-12)
        assert program._cache_size() == before


def test_warm_starts_stay_where_they_are(problem, structured):
    rows, losses, _, counts, _ = problem
    fit = least_squares(
        declare(rows), structured.params, losses, weights=counts, prior=PRIOR, starts_by_resample=True, rtol=1e-9
    )
    assert np.all(fit.steps <= 3)
    np.testing.assert_allclose(fit.objective, structured.objective, rtol=1e-9)


def test_rows_that_depend_on_one_another(problem, generic):
    rows, losses, starts, counts, _ = problem

    def whole(raw, rows):
        return jax.vmap(lambda row: predict(raw, row))(rows)

    fit = least_squares(whole, starts, losses, rows=rows, weights=counts, prior=PRIOR, by_row=False, rtol=1e-12)
    np.testing.assert_allclose(fit.objective, generic.objective, rtol=1e-9)


def sodm(raw, row):
    mixture, n, d, _ = row
    present = mixture > 0
    log_share = jnp.log(jnp.where(present, mixture, 1.0))
    demand = jnp.sum(jnp.where(present, jnp.exp(raw["c"] + jnp.exp(raw["g"]) * log_share), 0.0))
    p = 1.0 + jnp.exp(raw["p"])
    size, data = raw["a"] - jnp.exp(raw["alpha"]) * n, raw["b"] - jnp.exp(raw["beta"]) * d
    return jnp.exp(raw["e"]) + 1.0 / demand + (jnp.exp(p * size) + jnp.exp(p * data)) ** (1.0 / p)


@partial(jax.jit, static_argnums=0)
def normal_equations(model, data, raw, weights, residual):
    value, jacobian = model.evaluate(data, raw)
    return value, *model.normal(data, jacobian, weights, weights * residual)


def check_rescale(law, raw, weights, residual):
    """Rescaled terms are those of the moved parameters, and the move is the step of the normal equations."""
    form, eye = law.form, 0.1 * np.eye(law.form.n_params)
    value, (slopes, chain) = form.evaluate(law.data, raw)
    small = 0.01 * residual  # so that no step is cut
    pull, shares = jnp.zeros_like(raw), form.shares(law.data, (slopes, chain))
    moved = rescale(form.scales, shares, slopes, value, small, weights, pull, eye)
    assert [len(s.moves) for s in form.scales] == [1, K, 1, 1] and np.abs(moved.change).max() < LARGEST
    again, (slopes_again, _) = form.evaluate(law.data, raw + moved.change)
    np.testing.assert_allclose(moved.value, again, rtol=1e-12)
    for mine, direct in zip(moved.slopes, slopes_again, strict=True):
        np.testing.assert_allclose(mine, np.broadcast_to(direct, mine.shape), rtol=1e-11, atol=1e-14)
    ways = np.zeros((4, form.n_params))
    for i, scale in enumerate(form.scales):
        ways[i, [k for k, _ in scale.moves]] = [change for _, change in scale.moves]
    jacobian = np.stack([np.broadcast_to(s, value.shape) for s in shares])
    gram = np.einsum("irl,jrl,rl->lij", jacobian, jacobian, weights) + ways @ eye @ ways.T
    step = -np.linalg.solve(gram, np.einsum("irl,rl->li", jacobian, weights * small)[..., None])[..., 0]
    np.testing.assert_allclose(moved.change, ways.T @ step.T, rtol=1e-6, atol=1e-10)
    far = rescale(form.scales, shares, slopes, value, 100.0 * residual, weights, pull, eye)
    assert np.abs(far.change[0]).max() <= LARGEST * (1 + 1e-12)


def test_inverse_sums_couplings_and_absent_branches_have_the_derivatives_of_autodiff():
    rng = np.random.default_rng(5)
    mixture = rng.dirichlet(np.ones(K), R)
    mixture[::4, 1] = 0.0
    n, d = rng.standard_normal((2, R))
    shapes = {k: ((K,) if k in "cg" else ()) for k in ("c", "g", "e", "a", "alpha", "b", "beta", "p")}
    log_share = np.log(np.where(mixture > 0, mixture, 1.0))
    terms = [
        Term([{"e": 1.0}]),
        Term([{("c", i): 1.0, ("g", i): log_share[:, i]} for i in range(K)], power=-1.0, present=(mixture > 0).T),
        Term([{"a": 1.0, "alpha": -n}, {"b": 1.0, "beta": -d}], coupling="p"),
    ]
    law = structure(shapes, terms, positive=["g", "alpha", "beta"])
    names = sorted(shapes)
    tree = jax.tree.structure(dict.fromkeys(names, 0))
    auto = module.Rowwise(sodm, tree, tuple(shapes[k] for k in names), True)
    raw = 0.5 * rng.standard_normal((auto.n_params, 4))
    weights, residual = rng.uniform(size=(2, R, 4))
    data = (mixture, n, d, np.ones(R))
    added = [Term([{"a": 1.0, "alpha": -n}]), Term([{"b": 1.0, "beta": -d}])]
    apart = structure({k: v for k, v in shapes.items() if k != "p"}, terms[:2] + added, positive=["g", "alpha", "beta"])
    check_rescale(apart, jnp.asarray(raw[:-1]), jnp.asarray(weights), jnp.asarray(residual))
    assert not law.form.scales  # coupled terms keep theirs
    value, matrix, gradient = normal_equations(law.form, law.data, raw, weights, residual)
    value2, matrix2, gradient2 = normal_equations(auto, data, raw, weights, residual)
    np.testing.assert_allclose(value, value2, rtol=1e-12)
    np.testing.assert_allclose(gradient, gradient2, rtol=1e-9, atol=1e-12)
    mine = {frozenset(p): matrix[k] for k, p in enumerate(law.form.pairs)}
    theirs = {frozenset(p): matrix2[k] for k, p in enumerate(auto.pairs)}
    assert mine.keys() == theirs.keys()
    for pair in mine:
        np.testing.assert_allclose(mine[pair], theirs[pair], rtol=1e-9, atol=1e-12)


def test_projection_never_raises_the_error_it_minimises(problem):
    rows, losses, starts, _, _ = problem
    law = declare(rows)
    start = flat({k: a[None] for k, a in starts.items()})
    seen = np.ones_like(losses, bool)
    project = partial(projected_starts.project_starts, law.form, law.data)
    moved = projected_starts.project_all(project, start, losses, seen, np.ones((1, R)))

    def error(x):
        value, _ = law.form.evaluate(law.data, jnp.asarray(x[0].reshape(-1, K + 4).T))
        return np.mean((np.exp(value).T.reshape(S, V, R) / losses.T - 1.0) ** 2, -1)

    assert np.all(error(moved) <= error(start) * (1 + 1e-9))


def test_quadratic_prior_reads_a_log_density():
    def log_prior(raw):
        spread = raw["t"] - jnp.mean(raw["t"])
        return -0.5 * (4.0 * jnp.sum(spread**2) + 2.0 * (raw["a"] - 1.5) ** 2)

    prior = quadratic_prior(log_prior, {"a": jnp.zeros(()), "t": jnp.ones(3)})
    x = np.array([0.3, 1.0, -2.0, 0.5])
    got = 0.5 * (x - prior.mean) @ prior.precision @ (x - prior.mean)
    assert got == pytest.approx(float(-log_prior({"a": x[0], "t": x[1:]})), rel=1e-9)
    with pytest.raises(ValueError, match="not quadratic"):
        quadratic_prior(lambda raw: -jnp.sum(raw**4), jnp.ones(2))
    with pytest.raises(ValueError, match="not concave"):
        quadratic_prior(lambda raw: jnp.sum(raw**2), jnp.ones(2))


def test_wrong_input_is_named(problem):
    rows, losses, starts, counts, _ = problem
    with pytest.raises(ValueError, match="weights have shape"):
        least_squares(predict, starts, losses, rows=rows, weights=counts[:, :-1])
    with pytest.raises(ValueError, match="leading axes"):
        least_squares(predict, starts, losses[:, :2], rows=rows)
    with pytest.raises(ValueError, match="link"):
        least_squares(predict, starts, losses, rows=rows, link="sqrt")
    with pytest.raises(ValueError, match="exactly one branch"):
        structure({"a": (), "b": ()}, [Term([{"a": 1.0}])])


@pytest.mark.parametrize("n", [4, 15])
def test_packed_solve_and_logarithm(n):
    rng = np.random.default_rng(n)
    root = rng.standard_normal((6, n, n + 2))
    full, rhs = root @ root.transpose(0, 2, 1), rng.standard_normal((6, n))
    packed = jnp.stack([full[:, i, j] for i, j in lower_pairs(n)])
    want = np.linalg.solve(full, rhs[..., None])[..., 0]
    np.testing.assert_allclose(
        solve_packed(packed, rhs.T, lower_pairs(n), jnp.zeros((n, 6))).T, want, rtol=1e-7, atol=1e-9
    )
    x = np.concatenate([np.logspace(-300, 300, 20001), np.linspace(0.5, 2.0, 10001)])
    np.testing.assert_allclose(fast_log(jnp.asarray(x)), np.log(x), rtol=1e-15, atol=1e-16)
    np.testing.assert_array_equal(
        fast_log(jnp.array([0.0, -1.0, np.inf, np.nan, 1.0])), [-np.inf, np.nan, np.nan, np.nan, 0.0]
    )


SCRIPT = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, sys.argv[1])
import numpy as np
import test_least_squares as t
rows, losses, starts, counts, _ = t.make()
fit = t.least_squares(t.declare(rows), starts, losses, weights=counts, prior=t.PRIOR, rtol=1e-12)
print(json.dumps([len(jax.devices()), fit.objective.tolist(), t.flat(fit.params).tolist(), fit.steps.tolist()]))
"""


def test_eight_devices_give_the_numbers_of_one(structured):
    env = os.environ | {
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    here = str(pathlib.Path(__file__).parent)
    root = str(pathlib.Path(camel_jax.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, here], env=env, capture_output=True, text=True, check=True, cwd=root
    )
    n_devices, objective, params, _ = json.loads(done.stdout.splitlines()[-1])
    assert n_devices == 8
    near = 1e-10 if jax.default_backend() == "cpu" else 1e-6  # an accelerator rounds otherwise
    np.testing.assert_allclose(objective, structured.objective, rtol=1e-10)
    np.testing.assert_allclose(params, flat(structured.params), rtol=near, atol=near)


MANY = """
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from camel_jax import laws
from camel_jax.solvers.least_squares import least_squares
from camel_jax.evaluation import simulate
RUNS = simulate.study(jax.random.key(0), law=laws.dml(), n_domains=20, n_sets=4, n_mixtures=52, sizes=(1e7, 1e8))
rng = np.random.default_rng(7)
starts = {k: 0.1 * rng.standard_normal((16, 4, *x.shape[1:])) for k, x in laws.dml().init(jax.random.key(0), RUNS).items()}
law = laws.dml().structure({k: x[0] for k, x in starts.items()}, RUNS.recipe)
fit = least_squares(law, starts, RUNS.losses, weights=np.ones((8, len(RUNS))), max_steps=20)
print(len(jax.devices()), fit.objective.size)
"""


def test_two_devices_do_not_wait_for_each_other_over_laws_of_many_parameters():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.split() == ["2", "512"], done.stderr


def test_structure_is_found_in_a_plain_function(problem, structured):
    rows, _, starts, _, _ = problem
    shapes = tuple(np.shape(starts[k])[2:] for k in NAMES)
    model = module.Rowwise(predict, jax.tree.structure(dict.fromkeys(NAMES, 0)), shapes, True)
    points = np.random.default_rng(1).standard_normal((5, model.n_params))
    found = discover(lambda x, row: model.scalar(tuple(x), row), rows, points)
    assert {frozenset(g) for g in found.groups} == {frozenset({1}), frozenset({2, 4, 5, 6}), frozenset({0, 3})}
    assert found.amplitudes == (1, 2, 3)
    assert found.scaled is not None
    owners = [{i for g in groups for i in found.groups[g]} for groups in found.scaled]
    assert owners == [{1}, {2, 4, 5, 6}, {0, 3}]

    def curved(x, row):  # no two slopes are proportional, nothing is an amplitude
        return jnp.sin(x[0] * row) + jnp.cos(x[1] + x[0] * row**2) + 3.0

    alone = discover(curved, np.linspace(0.1, 1.0, 7), points[:, :2])
    assert alone.groups == ((0,), (1,)) and alone.amplitudes == ()
