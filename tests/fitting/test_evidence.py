"""Ridge by evidence: against the marginal likelihood written out, and lane by lane."""

import dataclasses

import jax
import numpy as np
import pytest

from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting import evidence
from camel_jax.fitting.evidence import STRENGTHS, by_evidence
from camel_jax.fitting.objective import as_data
from camel_jax.laws.law import Law, LogLinear, scale_runs, table_units
from camel_jax.solvers.status import CONVERGED

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def scaled():
    """Forty runs of one size; a strong effect of the mixture on the first set, none on the second."""
    rng = np.random.default_rng(3)
    table = simulate.study(KEY, n_domains=6, n_sets=2, n_mixtures=40, sizes=(3e7,), checkpoints=1)
    weights = rng.dirichlet(np.full(6, 0.5), 40)
    slopes = np.array([0.3, 0.0])[:, None] * rng.standard_normal((2, 6))
    losses = np.exp(1.0 + np.sqrt(weights) @ slopes.T + 0.03 * rng.standard_normal((40, 2)))
    table = dataclasses.replace(table, recipe=dataclasses.replace(table.recipe, weights=weights), losses=losses)
    return scale_runs(table_units(table), table)


def form_of(law: Law) -> LogLinear:
    assert law.loglinear is not None
    return law.loglinear


def starts(law, scaled, lanes):
    return jax.vmap(lambda k: law.init(k, scaled))(jax.random.split(KEY, lanes))


@pytest.mark.slow
def test_the_strength_maximises_the_marginal_likelihood(scaled, monkeypatch):
    monkeypatch.setattr(evidence, "HUBER", 1e6)  # Gaussian noise, as the formula has it
    jax.clear_caches()
    law = laws.concave()
    found = by_evidence(form_of(law), as_data(scaled), starts(law, scaled, 1), None).params
    jax.clear_caches()
    power = np.exp(found["power"][0, 0])
    features = np.asarray(form_of(law).features(np.asarray(scaled.recipe.weights), power))
    n = len(scaled)
    center = np.eye(n) - 1 / n  # a level of which nothing is known: what is left of it has n - 1 dimensions
    basis = np.linalg.svd(center)[0][:, : n - 1]
    x = basis.T @ features
    unit = np.mean(np.linalg.eigvalsh(x.T @ x))
    for v in range(2):
        y = basis.T @ np.log(np.asarray(scaled.losses)[:, v])
        tried = []
        for strength in STRENGTHS * unit:
            cov = np.eye(n - 1) + x @ x.T / strength
            quad = y @ np.linalg.solve(cov, y)
            tried.append(-0.5 * (n - 1) * np.log(quad) - 0.5 * np.linalg.slogdet(cov)[1])
        strength = (STRENGTHS * unit)[int(np.argmax(tried))]
        slope = np.linalg.solve(x.T @ x + strength * np.eye(6), x.T @ y)
        np.testing.assert_allclose(found["slope"][0, v], slope, rtol=1e-3, atol=3e-4)
    assert np.abs(found["slope"][0, 1]).max() < 0.2 * np.abs(found["slope"][0, 0]).max()


def test_lanes_do_not_depend_on_one_another_and_left_out_rows_say_nothing(scaled):
    law = laws.concave()
    data = as_data(scaled)
    counts = np.ones((3, len(scaled)))
    counts[1, :10] = 0.0
    together = by_evidence(form_of(law), data, starts(law, scaled, 3), counts)
    alone = by_evidence(form_of(law), data, starts(law, scaled, 1), counts[1:2])
    for name, leaf in alone.params.items():
        np.testing.assert_allclose(together.params[name][1], leaf[0], rtol=1e-6, atol=1e-8)
    spoilt = data._replace(log_losses=data.log_losses.at[:10].add(3.0))
    again = by_evidence(form_of(law), spoilt, starts(law, scaled, 1), counts[1:2])
    np.testing.assert_allclose(again.params["slope"], alone.params["slope"], rtol=1e-6, atol=1e-8)
    assert together.status.shape == (6,) and (together.status == CONVERGED).all()


def test_a_set_that_is_not_measured_ends_with_a_status_and_hurts_no_other(scaled):
    law = laws.concave()
    losses = np.array(scaled.losses)
    losses[:, 1] = np.nan
    found = by_evidence(form_of(law), as_data(dataclasses.replace(scaled, losses=losses)), starts(law, scaled, 1), None)
    whole = by_evidence(form_of(law), as_data(scaled), starts(law, scaled, 1), None)
    assert np.isfinite(found.params["slope"][0, 0]).all()
    np.testing.assert_allclose(found.params["slope"][0, 0], whole.params["slope"][0, 0], rtol=0.2, atol=0.02)
