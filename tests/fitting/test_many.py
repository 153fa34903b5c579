from typing import Any

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.many import padded_rows
from camel_jax.tables.runs import select

KEY = jax.random.key(1)
OPTIONS: dict[str, Any] = {"starts": 2, "resamples": 2}


def make(seed, n_mixtures=8, n_domains=3):
    return simulate.study(
        jax.random.key(seed), n_domains=n_domains, n_sets=2, n_mixtures=n_mixtures, sizes=(1e7, 3e7, 9e7), checkpoints=1
    )


@pytest.fixture(scope="module")
def tables():
    few = make(3)
    return {"a": make(0), "b": make(1), "few": select(few, np.arange(4)), "c": make(2, n_mixtures=9)}


@pytest.mark.parametrize(
    "law",
    [laws.sodm(), pytest.param(laws.blend(skills=3), marks=pytest.mark.slow)],
    ids=lambda law: getattr(law, "name", None),
)
def test_many_are_the_same_as_one_by_one(tables, law):
    many = cj.fit_many(law, tables, key=KEY, **OPTIONS)
    assert list(many.fits) == ["a", "b", "c"] and "needs at least 6 runs" in many.errors["few"]
    frame = many.frame()
    assert frame["table"].tolist() == list(tables) and frame["error"].tolist()[0] == ""
    for name, fit in many.fits.items():
        one = cj.fit(law, tables[name], key=KEY, pad_rows=padded_rows(len(tables[name])), **OPTIONS)
        np.testing.assert_allclose(fit.objective, one.objective, rtol=1e-6)
        np.testing.assert_allclose(fit.resampled_objective, one.resampled_objective, rtol=1e-6)
        np.testing.assert_allclose(fit.predict(tables[name].recipe), one.predict(tables[name].recipe), rtol=1e-4)
        assert frame.set_index("table").loc[name, "objective"] == pytest.approx(one.objective.min(), rel=1e-6)


def test_what_is_kept_is_not_fitted_again(tables, tmp_path, monkeypatch):
    some = {name: tables[name] for name in ("a", "b")}
    told = []
    first = cj.fit_many(
        laws.chinchilla(), some, key=KEY, resume=tmp_path, progress=lambda *x: told.append(x), **OPTIONS
    )
    assert told == [(1, 2), (2, 2)] and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("camel_jax.fitting.many.solve_together", lambda requests: [1 / 0 for _ in requests])
    again = cj.fit_many(laws.chinchilla(), some, key=KEY, resume=tmp_path, **OPTIONS)
    np.testing.assert_array_equal(first.fits["b"].objective, again.fits["b"].objective)


def test_the_ladder_of_padded_rows():
    sizes = [padded_rows(n) for n in range(1, 3000)]
    assert all(size >= n for n, size in enumerate(sizes, 1)) and sizes == sorted(sizes)
    assert len(set(sizes)) < 40 and padded_rows(790) < 800
