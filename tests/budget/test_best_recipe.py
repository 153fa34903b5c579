"""Costs and the best recipe for a budget: closed forms, edges, and clear refusals."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax.budget.best_recipe import best_recipe, budget_path, iso_cost
from camel_jax.figures.compute import budget_page
from camel_jax.recipes import costs
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.sizes import parse_size

E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28


def hoffmann(n, d):
    """A Chinchilla law whose mixture term is least at shares 0.7 and 0.3."""
    return lambda w: (E + A * n**-ALPHA + B * d**-BETA + (w[0] - 0.7) ** 2)[None]


def closed_form(budget):
    g = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    return g * (budget / 6) ** (BETA / (ALPHA + BETA)), (budget / 6) ** (ALPHA / (ALPHA + BETA)) / g


OPTIONS: dict[str, Any] = {"sizes": ("1M", "10T"), "domains": ["web", "code"], "starts": 1, "grid": 6}


def test_closed_form_optimum_and_exponents():
    path = budget_path(hoffmann, [1e20, 1e23], **OPTIONS)
    for result in path.results:
        n, d = closed_form(result.budget)
        assert result.n_active == pytest.approx(n, rel=1e-3) and result.tokens == pytest.approx(d, rel=1e-3)
        assert result.cost == pytest.approx(result.budget, rel=1e-9)
        assert result.weights == pytest.approx([0.7, 0.3], abs=1e-4)
        low, high = result.sizes_within
        assert low < result.n_active < high and result.warnings == ()
        best = E + A * n**-ALPHA + B * d**-BETA
        edge = [E + A * m**-ALPHA + B * (result.budget / 6 / m) ** -BETA for m in (low, high)]
        assert edge == pytest.approx([1.001 * best] * 2, rel=1e-4)
    assert path.size_exponent == pytest.approx(BETA / (ALPHA + BETA), abs=1e-3)
    assert path.tokens_exponent == pytest.approx(ALPHA / (ALPHA + BETA), abs=1e-3)


def test_limits_decide_and_say_so():
    result = best_recipe(hoffmann, 1e23, **dict(OPTIONS, sizes=("1M", "1B")), bounds={"web": (None, 0.5)})
    assert result.n_active == pytest.approx(1e9, rel=1e-4) and "largest allowed, 1B" in result.warnings[0]
    assert result.weights == pytest.approx([0.5, 0.5])
    # a domain of which there are 1e12 tokens: its share falls with the tokens of a size, and the optimum moves to larger models
    free = best_recipe(hoffmann, 1e23, **OPTIONS)
    short = best_recipe(hoffmann, 1e23, **OPTIONS, supply={"web": 0.2 * free.tokens})
    assert short.n_active > 1.05 * free.n_active
    assert short.weights[0] * short.tokens == pytest.approx(0.2 * free.tokens, rel=1e-6)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sparse:
    """Outcomes that are a pytree, as those of a fit are."""

    n_active: jax.Array
    tokens: jax.Array

    def __call__(self, w):
        return hoffmann(self.n_active, self.tokens)(w)


def test_sparse_models_cost_their_active_size():
    seen = []

    def at(size, tokens):
        seen.append(size)
        return Sparse(jnp.asarray(parse_size(size)[1]), jnp.asarray(tokens))

    result = best_recipe(at, 1e23, sparsity=8.0, **OPTIONS)
    assert result.n_active == pytest.approx(closed_form(1e23)[0], rel=1e-3)
    assert result.n_total == pytest.approx(8 * result.n_active) and all("-A" in size for size in seen)


@pytest.mark.parametrize(
    ("budget", "options", "words"),
    [
        (1e8, {"tokens": ("1M", "1T")}, "too small: 1M parameters on 1M tokens, the least allowed, cost 6e\\+12"),
        (1e30, {"tokens": ("1M", "1T")}, "too large"),
        (-1.0, {}, "must be above zero"),
        (1e20, {"sizes": ("1B", "1M")}, "1B is above 1M"),
        (1e20, {"sizes": "1B"}, "give \\(smallest, largest\\)"),
        (1e20, {"sparsity": 0.5}, "at least 1"),
        (1e20, {"within": 0.0}, "within"),
        (1e20, {"cost": lambda recipe: np.nan}, "finite costs"),
    ],
)
def test_clear_refusals(budget, options, words):
    with pytest.raises(ValueError, match=words):
        best_recipe(hoffmann, budget, **OPTIONS | options)


def test_iso_cost_has_its_minimum_at_the_best_size():
    curve = iso_cost(hoffmann, [1e21], [0.7, 0.3], sizes=("100M", "100B"), domains=["web", "code"], points=25)
    n = closed_form(1e21)[0]
    assert abs(np.log(curve.n_active[0, np.argmin(curve.objective[0])] / n)) < np.log(1000) / 24
    assert curve.objective[0, 3] == pytest.approx(
        E + A * curve.n_active[0, 3] ** -ALPHA + B * curve.tokens[0, 3] ** -BETA
    )


def test_figure_of_budgets(tmp_path):
    path = budget_path(hoffmann, [1e20, 1e22], **OPTIONS)
    curves = [
        iso_cost(hoffmann, [r.budget], r.weights, sizes=("100M", "10B"), domains=["web", "code"], points=7)
        for r in path.results
    ]
    page = budget_page(path, curves)
    left, right = page.axes
    page.savefig(tmp_path / "budgets.png")
    assert left.get_lines()[1].get_xdata()[0] == path.n_active[0]  # the dot of the first budget
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata(), path.weights[:, 0])


def test_costs():
    recipe = Recipe(*np.array([[8e9, 7e9], [1e9, 7e9], [2e10, 1e11]]), weights=np.ones((2, 1)))
    assert costs.flops(recipe).tolist() == [1.2e20, 4.2e21]
    more = costs.transformer_flops(layers=lambda n: 24 * (n / 1e9) ** (1 / 3), width=2048, context=4096, vocabulary=5e4)
    per_token = more(recipe)[0] / 2e10
    assert per_token == pytest.approx(6e9 + 12 * 24 * 2048 * 4096 + 6 * 2048 * 5e4)
    price = costs.Price(3.0, peak=1e15, utilization=0.5)
    assert price.gpu_hours(1.8e18) == pytest.approx(1.0) and price.buys(price.of(1e21)) == pytest.approx(1e21)
    for wrong, words in (
        (lambda: costs.Price(0.0), "per_gpu_hour"),
        (lambda: costs.Price(1.0, utilization=1.2), "utilization"),
        (lambda: costs.transformer_flops(context=2048), "attention"),
        (lambda: costs.transformer_flops(vocabulary=100), "width"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()


def test_costs_that_are_not_linear_in_the_tokens():
    """A fixed overhead a run: the tokens it leaves are found by bisection."""

    def cost(recipe):
        return 6 * recipe.n_active * recipe.tokens + 5e19

    result = best_recipe(hoffmann, 1e20, **OPTIONS, cost=cost)
    assert result.n_active == pytest.approx(closed_form(5e19)[0], rel=1e-3)
    assert 6 * result.n_active * result.tokens == pytest.approx(5e19, rel=1e-9)
