import jax.numpy as jnp
import numpy as np

from camel_jax.solvers import status, wide
from camel_jax.solvers.least_squares import least_squares
from camel_jax.solvers.prior import Prior
from camel_jax.solvers.wide import wide_least_squares

WIDTH = 12


def predict(raw, row):
    return jnp.exp(raw["floor"]) + jnp.exp(raw["slopes"] @ row)


def problem(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    rows = 0.5 * rng.standard_normal((n_rows, WIDTH))
    slopes = 0.6 * rng.standard_normal((2, WIDTH))
    targets = (1.0 + np.exp(rows @ slopes.T)) * np.exp(0.01 * rng.standard_t(2, (n_rows, 2)))
    starts = {"floor": np.zeros((3, 2)), "slopes": 0.1 * rng.standard_normal((3, 2, WIDTH))}
    weights = np.concatenate([np.ones((1, n_rows)), rng.poisson(1.0, (1, n_rows)), np.zeros((1, n_rows))]) * 1e5
    return rows, targets, starts, weights


def test_it_finds_what_the_queue_finds_with_few_rows_and_with_many():
    prior = Prior(np.zeros(WIDTH + 1), np.full(WIDTH + 1, 0.5))
    for n_rows in (8, 60):  # the first by the system of the rows
        rows, targets, starts, weights = problem(n_rows)
        targets[3, 0] = np.nan
        ours = wide_least_squares(predict, starts, targets, rows=rows, weights=weights, prior=prior, huber=1e-3)
        lanes = {name: x[:, None] for name, x in starts.items()}
        more = {"rows": rows, "weights": weights, "prior": prior, "huber": 1e-3, "starts_by_resample": True}
        theirs = least_squares(predict, lanes, targets, max_steps=3000, **more)
        assert (ours.status[:2] == status.CONVERGED).all() and (ours.status[2] == status.NO_DATA).all()
        np.testing.assert_allclose(ours.objective[:2], theirs.objective[:2, 0], rtol=2e-3)
        assert ours.steps[:2].max() < 200


def test_a_full_prior_and_a_broken_start():
    rows, targets, starts, weights = problem(8)
    starts["floor"][0, 0] = np.nan
    square = np.eye(WIDTH + 1) + 0.1
    prior = Prior(np.zeros(WIDTH + 1), square)
    fit = wide_least_squares(predict, starts, targets, rows=rows, weights=weights, prior=prior, huber=1e-3)
    assert fit.status[0, 0] == status.NON_FINITE and fit.status[0, 1] == status.CONVERGED
    assert np.isinf(fit.objective[0, 0])


def test_a_system_of_many_rows_is_solved_as_well_in_float32(monkeypatch):
    rows, targets, starts, weights = problem(8)
    prior = Prior(np.zeros(WIDTH + 1), np.full(WIDTH + 1, 0.5))
    given = {"rows": rows, "weights": weights, "prior": prior, "huber": 1e-3}
    exact = wide_least_squares(predict, starts, targets, **given)
    monkeypatch.setattr(wide, "SINGLE", 4)
    rough = wide_least_squares(predict, starts, targets, **given)
    np.testing.assert_allclose(rough.objective[:2], exact.objective[:2], rtol=2e-3)
    assert not np.array_equal(rough.params["slopes"][:2], exact.params["slopes"][:2])  # by another path
