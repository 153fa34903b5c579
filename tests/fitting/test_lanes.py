"""Lanes: one program for all chunks, and shapes that are refused at its door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitting_problems import KEY, build
from jax.sharding import Mesh
from traces import limit_traces

import camel_jax as cj
from camel_jax.fitting import lanes
from camel_jax.fitting.objective import Robust, as_data
from camel_jax.fitting.plan import Lanes
from camel_jax.laws.law import scale_runs, table_units


def test_starts_resamples_and_back_tests_are_one_program(runs, monkeypatch):
    limit_traces(monkeypatch, lanes, "_solve_chunk", static_argnums=(0, 1, 2))
    law = build("camel")
    cj.fit(law, runs, key=KEY, starts=3, resamples=3)
    cj.fit(law, runs, key=jax.random.key(7), starts=2, resamples=4)


def test_a_second_program_would_be_seen(runs, monkeypatch):
    limit_traces(monkeypatch, lanes, "_solve_chunk", static_argnums=(0, 1, 2))
    law = build("camel")
    cj.fit(law, runs, key=KEY, starts=1, backtests=0)
    with pytest.raises(AssertionError, match="traced > 1 times"):
        cj.fit(law, cj.select(runs, np.arange(len(runs) - 1)), key=KEY, starts=1, backtests=0)


@pytest.mark.parametrize("wrong", ["counts", "which", "raw", "real"])
def test_lanes_that_do_not_fit_together_are_refused(wrong, runs):
    law, scaled = build("dml"), scale_runs(table_units(runs), runs)
    raw = jax.vmap(lambda key: law.init(key, scaled))(jax.random.split(KEY, 2))
    raw = jax.tree.map(lambda x: x[:, :1], raw)
    given = {
        "raw": raw,
        "counts": np.ones((2, len(runs))),
        "which": np.zeros(2, int),
        "real": np.full(1, 2, np.int32),
    }
    given[wrong] = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=-1 if wrong == "counts" else 0), given[wrong])
    mesh, settings = Mesh(np.asarray(jax.local_devices()), ("lanes",)), Lanes(law, "lbfgs", Robust(), None)
    with pytest.raises(AssertionError, match="shape"):
        lanes._solve_chunk(settings, mesh, 1, as_data(scaled), *given.values(), np.array(False))
