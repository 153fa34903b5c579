import jax
import numpy as np
import pytest

from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.cost import Shape, dense_is_quicker, dense_step, free_step, wide_step
from camel_jax.fitting.forecast import FEWER, affordable, forecast
from camel_jax.tables.runs import Runs


def table(n_domains, n_runs, n_sets):
    """A table of which only the shapes count."""
    few = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=2, sizes=(1e7,), checkpoints=1)
    rng = np.random.default_rng(0)
    recipe = jax.tree.map(lambda x: np.resize(np.asarray(x), (n_runs, *np.shape(x)[1:])), few.recipe)
    recipe = type(recipe)(recipe.n_total, recipe.n_active, recipe.tokens, rng.dirichlet(np.ones(n_domains), n_runs))
    names = tuple(map(str, range(n_domains))), tuple(map(str, range(n_sets)))
    return Runs(recipe, np.ones((n_runs, n_sets)), np.zeros((n_runs, 0)), np.arange(n_runs), *names)


def test_the_cost_of_a_step_grows_as_it_should():
    """Linear in domains, rows and sets without the matrix; the matrix is never given up on small tables."""
    small, large = Shape(180, 100_000, 5, 8, 17), Shape(1680, 240, 100, 20, 17)
    assert dense_is_quicker(small) and not dense_is_quicker(large)
    twice = free_step(large._replace(rows=480)) / free_step(large)
    assert 1.0 < twice < 2.0 and free_step(large._replace(domains=1000, shared=16_080)) < 10.0 * free_step(large)
    assert dense_step(large._replace(shared=3360)) > 6.0 * dense_step(large)
    assert wide_step(206, 240) < wide_step(1158, 600)


@pytest.mark.parametrize("law", [laws.camel(), laws.blend(), laws.sodm(), laws.chinchilla()], ids=lambda law: law.name)
def test_a_huge_table_gets_fewer_resamples_and_says_so(law):
    small, huge = table(4, 40, 3), table(500, 600, 50)
    assert affordable(law, small, None, None) == FEWER[0] and affordable(law, huge, 7, 5) == (7, 5)
    assert affordable(law, huge, None, None) == FEWER[0 if law.name == "chinchilla" else -1]
    assert str(forecast(law, huge, resamples=8)).startswith("about")
    one, more = (forecast(law, huge, resamples=n, slow=1.0).seconds for n in (8, 16))
    assert one < more < 2.0 * one
