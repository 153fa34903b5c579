"""Laws of so many parameters a set that their best fit follows noise."""

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax.evaluation import simulate
from camel_jax.fitting.lanes import ask, solve_lanes
from camel_jax.fitting.objective import Robust, as_data, log_predictions
from camel_jax.fitting.plan import Lanes, Request
from camel_jax.fitting.separable import CROWDED_STEPS, is_crowded
from camel_jax.laws.law import scale_runs, table_units
from camel_jax.solvers import status
from camel_jax.solvers.minimize import Solution


@pytest.fixture(scope="module")
def table():
    runs = simulate.study(
        jax.random.key(3), n_domains=22, n_sets=12, n_mixtures=32, sizes=(1e7, 1e8), checkpoints=1, noise=0.004
    )
    return scale_runs(table_units(runs), runs)


def starts(law, table, n):
    return jax.tree.map(np.asarray, jax.vmap(lambda k: law.init(k, table))(jax.random.split(jax.random.key(0), n)))


def few_sets(data, n):
    return data._replace(log_losses=data.log_losses[:, :n], measured=data.measured[:, :n])


def test_a_crowded_fit_starts_at_the_prior_stops_early_and_predicts_better(table):
    law, data, n_sets = cj.laws.sodm(), few_sets(as_data(table), 2), 2
    raw = {name: x[:, :n_sets] for name, x in starts(law, table, 3).items()}
    params = sum(np.size(x) for x in raw.values()) // (3 * n_sets)
    rows = len(table)
    assert is_crowded(params, rows)
    fold = np.arange(rows) % 32 < 6  # the same mixtures at both sizes
    counts = np.stack([np.ones(rows), 1.0 - fold, np.ones(rows)])
    found = solve_lanes(Lanes(law, "least_squares", Robust(), None), data, raw, counts)
    assert (np.asarray(found.status) == status.CONVERGED).all() and np.asarray(found.steps).max() <= CROWDED_STEPS
    by_lane = np.asarray(found.objective).reshape(3, n_sets)
    np.testing.assert_array_equal(by_lane[0], by_lane[2])
    assert (by_lane[0] != by_lane[1]).all()
    best = solve_lanes(Lanes(law, "least_squares", Robust(), 2000), data, raw, counts)
    assert (np.asarray(best.objective).reshape(3, n_sets) <= by_lane * (1 + 1e-9)).all()

    def error(solution):
        one = jax.tree.map(lambda x: np.asarray(x)[1], solution.params)
        return np.abs(np.asarray(log_predictions(law, one, data.recipe)) - np.asarray(data.log_losses))[fold].mean()

    assert error(found) < 1.05 * error(best)


def test_a_part_without_weight_is_not_solved_again(table):
    law, data = cj.laws.blend(skills=2, parts=("camel", "sodm")), as_data(table)
    asked = []
    for share in (0.0, 0.3):
        raw = {name: x.copy() for name, x in starts(law, table, 2).items()}
        raw["share"] = np.full((2, 1), share)
        work = ask(Request(Lanes(law, "parts", Robust(), None), data, raw, None))
        names, request = [], next(work)
        try:
            while True:
                names.append(request.lanes.law.name)
                n = 2 * (12 if request.lanes.law.separable else 1)
                zero = np.zeros(n, np.int32)
                request = work.send(Solution(request.raw, np.zeros(n), zero, zero))
        except StopIteration as end:
            np.testing.assert_array_equal(end.value.params["sodm.floor"][0], raw["sodm.floor"][0])
        asked.append(names)
    assert asked == [["camel"], ["camel", "sodm"]]
