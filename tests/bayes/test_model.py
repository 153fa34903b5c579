"""The model of a posterior: what it expects before it has seen a loss."""

import jax
import numpy as np
import pytest

from camel_jax import laws
from camel_jax.bayes.model import prior_predictive
from camel_jax.bayes.noise import lay_out
from camel_jax.bayes.priors import layout
from camel_jax.evaluation import simulate
from camel_jax.laws.law import scale_runs, table_units

KEY = jax.random.key(0)


@pytest.mark.slow
def test_prior_predictive_is_wide_and_sane():
    runs = simulate.study(
        KEY, law=laws.dml(), n_domains=2, n_sets=2, n_mixtures=6, sizes=(1e7, 1e8), checkpoints=2, noise=0.01
    )
    law = laws.camel(skills=4)
    scaled = scale_runs(table_units(runs), runs)
    table = lay_out(scaled)
    plan = layout(law, law.init(KEY, scaled), 2, 2)
    logs = np.asarray(prior_predictive(plan, table, KEY))
    assert np.isfinite(logs).all()
    # a table in its units has losses near one; sizes differ by a factor of ten
    assert 0.02 < np.median(np.abs(logs)) < 0.3
    drop = logs[:, 0, -1] - logs[:, 6, -1]  # the same mixture at ten times the size
    assert 0.01 < np.median(drop) < 0.5
    low, high = np.quantile(logs[:, 6:, -1].std(1), [0.05, 0.95])  # over mixtures at one size
    assert low < 0.01 and high > 0.035  # mixtures may hardly matter, or much
