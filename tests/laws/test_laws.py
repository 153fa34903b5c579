"""Every law: its limits, its symmetries, its derivatives at the edge, and its structure against its predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.objective import Robust, as_data, objective
from camel_jax.laws.camel import skill_losses
from camel_jax.laws.law import in_units, predict_rows, scale_runs, table_units
from camel_jax.laws.repetition import effective_tokens
from camel_jax.recipes.recipe import Recipe, dense

ALL = [(name, upgraded) for name in ("chinchilla", "dml", "sodm", "sodm_joint") for upgraded in (True, False)]
IDS = [f"{name}{'' if upgraded else '-published'}" for name, upgraded in ALL]


def build(name, upgraded=True):
    return laws.camel(skills=4) if name == "camel" else laws.CONSTRUCTORS[name](upgraded=upgraded)


@pytest.fixture(scope="module")
def runs():
    return simulate.study(jax.random.key(0), n_domains=3, n_sets=4, n_mixtures=6, checkpoints=2)


@pytest.fixture(scope="module")
def scaled(runs):
    return scale_runs(table_units(runs), runs)


def params_of(law, scaled, seed=1):
    return law.constrain(law.init(jax.random.key(seed), scaled))


EVERY = [("camel", True), *ALL]


@pytest.mark.parametrize(("name", "upgraded"), EVERY, ids=["camel", *IDS])
def test_losses_fall_with_size_and_with_tokens(name, upgraded, scaled):
    law = build(name, upgraded)
    params = params_of(law, scaled)
    mixture = jnp.array([0.2, 0.3, 0.5])
    sizes = jnp.geomspace(0.1, 100.0, 8)
    by_size = jax.vmap(lambda n: law.predict(params, dense(n, 1.0, mixture)))(sizes)
    by_tokens = jax.vmap(lambda d: law.predict(params, dense(1.0, d, mixture)))(sizes)
    assert (np.diff(by_size, axis=0) < 0).all()
    assert (np.diff(by_tokens, axis=0) < 0).all()
    assert (by_size > params.floors if name == "camel" else by_size > params["floor"]).all()


@pytest.mark.parametrize(("name", "upgraded"), EVERY, ids=["camel", *IDS])
def test_a_pure_mixture_has_finite_losses_and_derivatives(name, upgraded, scaled):
    law = build(name, upgraded)
    raw = law.init(jax.random.key(2), scaled)
    pure = jnp.array([1.0, 0.0, 0.0])

    def total(raw, weights):
        return law.predict(law.constrain(raw), dense(1.0, 1.0, weights)).sum()

    @jax.jit
    def value_and_derivatives(raw, weights):
        return jax.value_and_grad(total, argnums=(0, 1))(raw, weights), jax.hessian(total, argnums=1)(raw, weights)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value_and_derivatives(raw, pure)))


@pytest.mark.parametrize("name", ["camel", "dml", "sodm", "sodm_joint"])
def test_relabelled_domains_give_the_same_losses(name, scaled):
    law = build(name)
    raw = law.init(jax.random.key(3), scaled)
    order = jnp.array([2, 0, 1])
    by_domain = {
        "transfer": 0,
        "mixture_slope": 1,
        "mixture_scale": 1,
        "mixture_exponent": 1,
        "size_mixture": 1,
        "data_mixture": 1,
    }
    moved = {k: jnp.take(x, order, axis=by_domain[k]) if k in by_domain and x.ndim == 2 else x for k, x in raw.items()}
    weights = jnp.array([0.6, 0.3, 0.1])
    here = law.predict(law.constrain(raw), dense(2.0, 3.0, weights))
    there = law.predict(law.constrain(moved), dense(2.0, 3.0, weights[order]))
    np.testing.assert_allclose(there, here, rtol=1e-13)


def test_chinchilla_does_not_see_the_mixture(scaled):
    law = build("chinchilla")
    params = params_of(law, scaled)
    one, other = (law.predict(params, dense(1.0, 1.0, w)) for w in ([1.0, 0.0, 0.0], [0.1, 0.1, 0.8]))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["chinchilla", "dml", "sodm", "sodm_joint"])
def test_published_forms_match_their_formulas(name, scaled):
    law = build(name, upgraded=False)
    p = jax.tree.map(np.asarray, params_of(law, scaled))
    r, n, d = np.array([0.5, 0.0, 0.5]), 2.0, 3.0
    got = law.predict(jax.tree.map(jnp.asarray, p), dense(n, d, r))
    for v in range(4):
        size = p["size_scale"][v] if "size_scale" in p else (0.2 * p["size_mixture"][v] @ r) ** p["size_power"][v]
        data = p["data_scale"][v] if "data_scale" in p else (0.2 * p["data_mixture"][v] @ r) ** p["data_power"][v]
        loss = p["floor"][v] + size * n ** -p["size_exponent"][v] + data * d ** -p["data_exponent"][v]
        if name == "dml":
            loss += p["mixture_scale"][v] * np.exp(p["mixture_slope"][v] @ r)
        elif name.startswith("sodm"):
            seen = r > 0
            loss += 1 / (p["mixture_scale"][v] * np.where(seen, r, 1.0) ** p["mixture_exponent"][v])[seen].sum()
        np.testing.assert_allclose(got[v], loss, rtol=1e-12)


@pytest.mark.parametrize(("name", "upgraded"), ALL[:6], ids=IDS[:6])
def test_structure_and_prediction_agree_row_by_row(name, upgraded, scaled):
    law = build(name, upgraded)
    raw = law.init(jax.random.key(4), scaled)
    assert law.structure is not None
    shape = law.structure(raw, scaled.recipe)
    assert shape is not None

    @jax.jit
    def both(raw):
        flat = jnp.concatenate([raw[k].reshape(4, -1) for k in sorted(raw)], axis=1).T
        from_structure = sum(shape.form.scaled_terms(shape.data, flat))
        return from_structure, predict_rows(law, law.constrain(raw), scaled.recipe)

    np.testing.assert_allclose(*both(raw), rtol=1e-10)


def test_units_change_nothing_that_is_seen_from_outside(runs):
    units = table_units(runs)
    law = build("camel")
    raw = law.init(jax.random.key(5), scale_runs(units, runs))
    outside = in_units(law, units)
    one = jax.tree.map(lambda x: jnp.asarray(x)[0], runs.recipe)
    scaled_one = jax.tree.map(lambda x: jnp.asarray(x)[0], scale_runs(units, runs).recipe)
    np.testing.assert_allclose(
        outside.predict(law.constrain(raw), one), law.predict(law.constrain(raw), scaled_one) * units.losses, rtol=1e-14
    )
    assert np.exp(np.log(runs.losses / units.losses).mean(0)) == pytest.approx(1.0)


def test_camel_with_equal_exponents_is_the_same_exact_and_closed(scaled):
    params = params_of(build("camel"), scaled)._replace(capacity_exponents=jnp.full(4, 0.2))
    recipe = dense(3.0, 2.0, [0.1, 0.2, 0.7])
    np.testing.assert_allclose(
        skill_losses(params, recipe, exact=True), skill_losses(params, recipe, exact=False), rtol=1e-10
    )


def test_camel_one_cause_alone_is_a_power_law(scaled):
    params = params_of(build("camel"), scaled)._replace(capacity_exponents=jnp.full(4, 0.2), couplings=jnp.full(4, 1.5))
    mixture = jnp.array([0.1, 0.2, 0.7])
    # With endless data only capacity is left, and every skill falls as M^-alpha.
    big, bigger = (skill_losses(params, dense(n, 1e200, mixture)) for n in (1.0, 10.0))
    np.testing.assert_allclose((bigger - big) / np.log(10.0), -0.2, rtol=1e-6)
    more, most = (skill_losses(params, dense(1e200, d, mixture)) for d in (1.0, 10.0))
    np.testing.assert_allclose((most - more) / np.log(10.0), -params.data_exponents, rtol=1e-6)


def test_sparsity_enters_through_one_share(scaled):
    params = params_of(build("camel"), scaled)._replace(active_share=jnp.asarray(0.25))
    mixture = jnp.array([0.1, 0.2, 0.7])
    sparse = skill_losses(params, Recipe(jnp.asarray(16.0), jnp.asarray(1.0), jnp.asarray(2.0), mixture))
    equal = skill_losses(params, dense(16.0**0.75, 2.0, mixture))
    np.testing.assert_allclose(sparse, equal, rtol=1e-12)


def test_repeated_tokens_are_worth_less_and_never_more(scaled):
    supply = jnp.array([1.0, 1.0, jnp.inf])
    tokens = jnp.array([1.0, 8.0, 100.0])
    worth = effective_tokens(tokens, supply, jnp.asarray(5.0))
    np.testing.assert_allclose(worth, [1.0, 1.0 + 5.0 * (1.0 - np.exp(-7.0 / 5.0)), 100.0])
    grads = jax.vmap(jax.grad(lambda t: effective_tokens(t, 1.0, 5.0)))(jnp.array([0.5, 0.999999, 1.000001, 50.0]))
    np.testing.assert_allclose(grads[:3], 1.0, atol=1e-5)
    assert 0 < grads[3] < 1e-3
    params = params_of(build("camel"), scaled)
    mixture = jnp.array([0.4, 0.3, 0.3])
    plain = dense(1.0, 10.0, mixture)
    short = Recipe(plain.n_total, plain.n_active, plain.tokens, mixture, jnp.array([0.1, 1e9, 1e9]))
    plenty = Recipe(plain.n_total, plain.n_active, plain.tokens, mixture, jnp.full(3, 1e9))
    law = build("camel")
    np.testing.assert_allclose(law.predict(params, plenty), law.predict(params, plain), rtol=1e-12)
    assert (law.predict(params, short) > law.predict(params, plain)).all()


@pytest.mark.parametrize("name", ["camel", "dml"])
def test_objective_gradient_agrees_with_finite_differences(name, scaled):
    law = build(name)
    value = objective(law, as_data(scaled), Robust(delta=0.05, noise=0.05))
    raw = law.init(jax.random.key(6), scaled)
    flat, unravel = ravel_pytree(raw)
    along = jax.random.normal(jax.random.key(7), flat.shape)
    slope = jax.grad(lambda t: value(unravel(flat + t * along)))(0.0)
    step = 1e-5
    numeric = (value(unravel(flat + step * along)) - value(unravel(flat - step * along))) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6)


def test_constructors_return_the_same_object_for_the_same_settings():
    assert laws.camel(skills=4) is laws.camel(skills=4)
    assert laws.dml() is laws.dml()
