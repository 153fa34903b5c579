"""Tables that cannot tell a law, and what is said of them."""

import dataclasses

import jax
import numpy as np
import pytest
from fitting_problems import KEY, build

import camel_jax as cj
from camel_jax.evaluation import simulate
from camel_jax.fitting.identifiability import check_table
from camel_jax.tables.runs import final_rows, scales, select


def test_tables_that_cannot_tell_say_so(runs):
    few = select(runs, np.asarray(runs.run) < 3)
    with pytest.raises(cj.FitError, match="needs at least 5 runs"):
        cj.fit(build("camel"), few, key=KEY)
    one_size = select(runs, np.asarray(runs.recipe.n_active) == scales(runs)[0])
    fitted = cj.fit(build("dml"), one_size, key=KEY, starts=2, backtests=0)
    assert "size_scale" not in fitted.raw
    assert any("one model size" in note for note in fitted.notes)
    one_count = select(runs, final_rows(runs))
    fitted = cj.fit(build("sodm"), one_count, key=KEY, starts=2, backtests=0)
    assert "data_scale" not in fitted.raw
    assert any("one token count" in note for note in fitted.notes)
    unmeasured = dataclasses.replace(runs, losses=np.where(np.arange(2) == 1, np.nan, runs.losses))
    with pytest.raises(cj.FitError, match="loss/v1 is measured in 0 runs"):
        cj.fit(build("dml"), unmeasured, key=KEY)


def test_what_sparsity_or_tokens_cannot_tell_is_said():
    table = simulate.study(jax.random.key(4), n_domains=2, n_mixtures=6, checkpoints=1)

    def notes(sparsity, tokens):
        size = np.asarray(table.recipe.n_active)
        recipe = dataclasses.replace(table.recipe, n_total=size * sparsity(size), tokens=tokens(size))
        return " ".join(check_table(build("camel"), dataclasses.replace(table, recipe=recipe)))

    def dense(size):
        return np.ones_like(size)

    def cycled(size):
        return 10.0 ** (np.arange(len(size)) % 3)

    assert notes(dense, lambda size: 1e9 * cycled(size)) == ""
    assert notes(cycled, lambda size: 1e9 * cycled(size)) == ""
    assert "one sparsity" in notes(lambda size: dense(size) * 8, cycled)
    assert "sparsity changes only with model size" in notes(lambda size: (size / 1e6) ** 0.5, cycled)
    assert "tokens change only with model size" in notes(dense, lambda size: 20 * size)
    assert "one token count" in notes(dense, dense)


def test_few_mixtures_are_told_where_a_simpler_law_does_better():
    def notes(law, n_mixtures):
        runs = simulate.study(jax.random.key(4), n_domains=3, n_mixtures=n_mixtures, checkpoints=2)
        return [note for note in check_table(build(law), runs) if "few for camel" in note]

    assert notes("camel", 7) == notes("sodm", 6) == []
    (note,) = notes("camel", 6)
    assert note.startswith("6 mixtures of 3 domains") and "try the law blend" in note


def test_more_domains_than_runs_are_held_together_by_the_prior_and_told():
    runs = simulate.study(jax.random.key(5), n_domains=48, n_mixtures=20, sizes=(1e7, 1e8), checkpoints=1)
    assert len(np.unique(np.asarray(runs.run))) < 48
    for law in ("camel", "sodm", "blend"):
        assert any("span 19 of 47 directions" in note for note in check_table(build(law), runs))
    with pytest.raises(cj.FitError, match="dml needs at least 51 runs"):
        check_table(build("dml"), runs)
