"""Batched least squares: against scipy, structured against generic, many devices against one, and lanes kept apart."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from dml_problem import PRIOR, B, K, R, declare, flat, make, predict
from scipy.optimize import leastsq
from traces import limit_traces

import camel_jax
from camel_jax.solvers import least_squares as module
from camel_jax.solvers import queue, status
from camel_jax.solvers.least_squares import least_squares
from camel_jax.solvers.structure import Term, structure


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


def test_many_calls_are_one_program(problem, monkeypatch):
    rows, losses, starts, counts, _ = problem
    limit_traces(monkeypatch, module, "run_queue", static_argnums=(0, 1, 2))
    for rtol, factor in ((1e-12, 1.0), (1e-6, 1.1)):
        least_squares(declare(rows), starts, factor * losses, weights=counts, prior=PRIOR, rtol=rtol)


def test_a_batch_that_does_not_fit_together_is_refused(problem):
    rows, losses, starts, counts, _ = problem
    law = declare(rows)
    controls = queue.Controls(np.int32(9), *np.full(4, 0.1))
    start = flat({k: x[None] for k, x in starts.items()})
    packed = np.zeros(len(law.form.pairs))
    good = queue.Batch(start, losses, losses > 0, counts, PRIOR.mean, np.eye(K + 4), packed, controls)
    settings = queue.Settings(16, 4, False)
    queue.run_queue.eval_shape(law.form, settings, None, law.data, good)
    for name in good._fields[:-1]:
        if name != "targets":
            wrong = good._replace(**{name: getattr(good, name)[..., 1:]})
            with pytest.raises((AssertionError, TypeError), match="shape"):
                queue.run_queue.eval_shape(law.form, settings, None, law.data, wrong)


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


SCRIPT = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, sys.argv[1])
import numpy as np
import dml_problem as t
from camel_jax.solvers.least_squares import least_squares
rows, losses, starts, counts, _ = t.make()
fit = least_squares(t.declare(rows), starts, losses, weights=counts, prior=t.PRIOR, rtol=1e-12)
print(json.dumps([len(jax.devices()), fit.objective.tolist(), t.flat(fit.params).tolist(), fit.steps.tolist()]))
"""


def test_eight_devices_give_the_numbers_of_one(structured):
    env = os.environ | {
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    here = str(pathlib.Path(__file__).parents[1])
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
