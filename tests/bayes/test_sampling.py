"""Posteriors: the noise, the coordinates and priors, the sampler, and what decisions get."""

import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

import camel_jax as cj
from camel_jax import laws
from camel_jax.bayes import comparison, convergence, nuts
from camel_jax.bayes.model import potential
from camel_jax.bayes.model import simulate as simulate_model
from camel_jax.bayes.noise import Noise, RunNoise, lay_out
from camel_jax.bayes.nuts import Settings
from camel_jax.bayes.priors import from_raw, layout, to_raw
from camel_jax.bayes.rounds import in_rounds
from camel_jax.bayes.sampling import spread_rows, start_at
from camel_jax.bayes.whitening import whiten
from camel_jax.evaluation import simulate
from camel_jax.laws.law import predict_rows, scale_runs, table_units
from camel_jax.prediction.residual_field import unknown_share
from camel_jax.recipes.recipe import dense

KEY = jax.random.key(0)
QUICK = Settings(warmup=100, depth=(6, 7), thin=1)
planted, potential_at = jax.jit(simulate_model, static_argnums=0), jax.jit(potential, static_argnums=0)


@pytest.fixture(scope="module")
def runs():
    return simulate.study(
        KEY, law=laws.dml(), n_domains=2, n_sets=2, n_mixtures=6, sizes=(1e7, 1e8), checkpoints=2, noise=0.01
    )


@pytest.fixture(scope="module")
def fitted(runs):
    return cj.fit(laws.dml(), runs, key=KEY, starts=1, backtests=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("chains")


@pytest.fixture(scope="module")
def posterior(fitted, runs, folder):
    return cj.sample_posterior(fitted, runs, KEY, chains=2, draws=200, settings=QUICK, resume=folder)


def test_noise_is_the_multivariate_t_it_says():
    noise = Noise(jnp.array([0.01, 0.03]), jnp.asarray(0.3), jnp.asarray(0.6), jnp.asarray(5.0))
    center, wear = jnp.zeros((1, 3, 2)), jnp.array([[2.0, 1.5, 1.0]])
    measured = jnp.array([[[True, True], [True, False], [True, True]]])
    value = 0.02 * jax.random.normal(KEY, center.shape)
    seen = np.asarray(measured).ravel()
    at, of = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    unit = np.asarray(wear)[0, at] * np.asarray(noise.scale)[of]
    cov = 0.3 + 0.7 * 0.6 * (of[:, None] == of) + 0.7 * 0.4 * np.eye(6)
    cov = (cov * np.outer(unit, unit))[np.ix_(seen, seen)]
    expected = stats.multivariate_t(np.zeros(5), cov, df=5).logpdf(np.asarray(value).ravel()[seen])
    law = RunNoise(center, noise, measured, wear)
    np.testing.assert_allclose(law.log_prob(value), expected, rtol=1e-10)
    drawn = np.asarray(law.sample(KEY, (40000,))).reshape(-1, 6)
    np.testing.assert_allclose(np.cov(drawn.T)[np.ix_(seen, seen)], cov * 5 / 3, atol=0.06 * np.max(cov) * 5 / 3)


LAWS = [
    laws.chinchilla(upgraded=False),
    laws.dml(),
    laws.sodm(),
    laws.sodm_joint(),
    laws.camel(skills=3),
    laws.camel(skills=2, exact=True, coupled=False),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_coordinates_and_back(runs, law):
    scaled = scale_runs(table_units(runs), runs)
    table = lay_out(scaled)
    raw = law.init(jax.random.key(3), scaled)
    plan = layout(law, raw, 2, 2)
    z = from_raw(plan, raw, np.array([0.01, 0.02]), table.mean)
    assert {name: np.shape(x) for name, x in z.items()} == plan.sites
    one = dense(1.0, 1.0, table.mean)

    @jax.jit  # one program a law
    def both(raw, z):
        again, noise = to_raw(plan, z, table.mean)
        rows = [predict_rows(law, law.constrain(x), table.recipe) for x in (raw, again)]
        level = law.coordinates.from_raw(raw, table.mean)["level"]
        return again, noise, *rows, level, jnp.log(law.predict(law.constrain(raw), one))

    again, noise, expected, found, level, at_one = both(raw, z)
    assert {name: np.shape(x) for name, x in again.items()} == {name: np.shape(x) for name, x in raw.items()}
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(noise.scale, [0.01, 0.02], rtol=1e-10)
    if law.name != "sodm_joint":  # its level leaves out the terms of size and data
        np.testing.assert_allclose(level, at_one, rtol=1e-9, atol=1e-12)


def test_few_rows_are_spread_over_sizes_and_runs(runs):
    for most, expected in ((30, [12, 12]), (18, [6, 6]), (6, [3, 3])):
        part = cj.select(runs, spread_rows(runs, most))
        assert np.unique(part.recipe.n_active, return_counts=True)[1].tolist() == expected
        if most < 24:
            assert (np.asarray(part.recipe.tokens) == np.max(runs.recipe.tokens)).all()  # the last of every run


def test_a_law_without_coordinates_is_sampled_in_its_raw_parameters(runs):
    law = laws.dml()._replace(name="mine", coordinates=None)
    nested = {"floor": np.ones(2), "net": {"kernel": np.full((3, 4), 0.5)}}
    plan = layout(law, nested, 1, 2)
    assert {name: shape for name, shape, _ in plan.leaves}["net/kernel"] == (3, 4)
    z = from_raw(plan, nested, np.full(2, 0.005), np.ones(2) / 2)
    back, noise = to_raw(plan, z, np.ones(2) / 2)
    np.testing.assert_allclose(back["net"]["kernel"], 0.5)
    np.testing.assert_allclose(noise.scale, 0.005)
    assert z["net/kernel"][0, 0] == pytest.approx(0.25)  # half of a prior of standard deviation 2


def test_unknown_methods_and_blends_are_refused(runs):
    with pytest.raises(ValueError, match="'blend' is several laws"):
        layout(laws.blend(), {}, 1, 2)
    with pytest.raises(ValueError, match="method 'vi'"):
        cj.sample_posterior(laws.dml(), runs, KEY, method="vi")


@pytest.mark.slow
def test_chains_agree_and_the_law_is_near_the_truth(posterior, runs):
    found = posterior.diagnostics
    assert found.r_hat < 1.1 and found.ess > 30 and found.divergences <= 2, posterior.verdict()
    assert posterior.raw["floor"].shape == (2, 200, 2)
    # without the field, which has seen these very losses
    low, high = np.quantile(posterior.sample_losses(runs.recipe, field=False), [0.05, 0.95], axis=0)
    assert 0.8 < np.mean((runs.losses >= low) & (runs.losses <= high)) < 1.0
    inside = posterior.predict(runs.recipe)
    errors = np.log(posterior.sample_losses(runs.recipe, field=False))
    errors -= np.log(posterior.sample_losses(runs.recipe, field=False, noise=False))
    ranked = stats.rankdata(errors.reshape(-1, 2), axis=0)  # what a run does to one set it does to the others
    assert np.corrcoef(ranked.T)[0, 1] == pytest.approx(np.mean(posterior.noise.common), abs=0.1)
    spread = np.median(np.log(inside.high / inside.low)) / 3.29
    assert 0.005 < spread < 0.03  # the noise of the table is 0.01


@pytest.mark.slow
def test_planted_parameters_rank_evenly_among_the_draws(posterior):
    """Simulation-based calibration in small; benchmarks/posterior/calibration.py is the study."""
    plan, table = posterior.plan, posterior.table
    ranks, surprise = [], []
    for number in range(4):
        truth_key, chain_key = jax.random.split(jax.random.fold_in(KEY, number))
        truth, losses = planted(plan, table, truth_key)
        data = table._replace(log_losses=losses)
        target = whiten(plan, data, {name: np.zeros(shape) for name, shape in plan.sites.items()})
        samples, _ = in_rounds(plan, target, chain_key, 2, 200, QUICK)
        draws = samples.z.reshape(-1, samples.z.shape[-1])
        ranks.append(np.mean(draws < ravel_pytree(truth)[0], axis=0))
        surprise.append(np.mean(samples.potential < potential_at(plan, data, truth)))
    ranks = np.array(ranks)
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.abs(ranks - 0.5) > 0.3) == pytest.approx(
        0.4, abs=0.12
    )  # of uniform ones two fifths are so far out
    assert np.mean(surprise) == pytest.approx(0.5, abs=0.35)


@pytest.mark.slow
def test_resumed_chains_give_the_same_numbers(posterior, fitted, runs, folder):
    reports = []
    again = cj.sample_posterior(
        fitted, runs, KEY, chains=2, draws=200, settings=QUICK, resume=folder, progress=lambda *at: reports.append(at)
    )
    np.testing.assert_array_equal(again.z, posterior.z)
    assert not reports  # every chunk was there
    last = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    from camel_jax.storage import read_archive

    header, arrays = read_archive(last, "chunk of a posterior")
    assert header["done"] == 300 and max(arrays.values(), key=np.size).shape[:2] == (2, 200)
    other = folder / "other"
    calls = []

    def stop(done, total):
        calls.append(done)
        if done == total - 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cj.sample_posterior(fitted, runs, KEY, chains=2, draws=200, settings=QUICK, resume=other, progress=stop)
    rest = []
    again = cj.sample_posterior(
        fitted, runs, KEY, chains=2, draws=200, settings=QUICK, resume=other, progress=lambda *at: rest.append(at)
    )
    np.testing.assert_array_equal(again.z, posterior.z)
    assert rest == [(600, 600)]


def test_chains_are_the_same_on_one_core_and_on_two(fitted, runs, posterior, monkeypatch):
    plan, table, start = start_at(fitted, runs)
    target, found = whiten(plan, table, start), []
    for cores in (1, 2):
        monkeypatch.setattr(nuts, "_cores", lambda cores=cores: cores)
        found.append(nuts.run_nuts(plan, target, KEY, np.zeros((2, posterior.z.shape[-1])), 0, QUICK, last=60))
    assert found[0].z.shape == (2, 60, posterior.z.shape[-1])
    np.testing.assert_array_equal(found[0].z, found[1].z)
    assert (found[0].z[0] != found[0].z[1]).any()


@pytest.mark.slow
def test_decisions_read_a_posterior_as_they_read_a_fit(posterior, tmp_path):
    at = posterior.losses_at("1B", "20B")
    best = cj.optimize_mixture(at, starts=4)
    assert np.isfinite([best.gain.low, best.gain.high]).all() and 0.0 <= best.probability_better <= 1.0
    draws = np.asarray(at.draws(best.weights))
    assert draws.shape == (256, 2)
    posterior.save(tmp_path / "p.npz")
    loaded = cj.load_fit(tmp_path / "p.npz")
    assert loaded.check() == posterior.verdict()
    np.testing.assert_allclose(loaded.losses_at("1B", "20B").draws(best.weights), draws, rtol=1e-12)
    wide = cj.predict_interval(loaded, dense(1e9, 2e10, best.weights))
    near = posterior.predict(dense(1e9, 2e10, best.weights))
    np.testing.assert_allclose(np.log(wide.high / wide.low), np.log(near.high / near.low), rtol=0.4)


def test_intervals_grow_with_distance_only_if_asked(posterior):
    d = posterior.fit.discrepancy
    without = d._replace(common_variance=0.0 * d.common_variance, own_variance=0.0 * d.own_variance)
    believed = dataclasses.replace(posterior, fit=dataclasses.replace(posterior.fit, discrepancy=without))
    far = dense(1e10, 1e12, [0.5, 0.5])
    width = [np.log(p.predict(far).high / p.predict(far).low) for p in (believed, posterior)]
    assert (width[1] > width[0]).all()


def test_what_the_field_knows_of_a_run_is_no_longer_open(posterior, runs):
    errors = [
        np.log(posterior.sample_losses(runs.recipe, field=field))
        - np.log(posterior.sample_losses(runs.recipe, field=field, noise=False))
        for field in (True, False)
    ]
    share = unknown_share(posterior.fit.field, runs.recipe)
    assert (share < 0.95).all()  # these very runs were measured
    np.testing.assert_allclose(errors[0], errors[1] * np.sqrt(share), rtol=1e-6, atol=1e-12)


def test_laplace_shows_its_quality(fitted, runs):
    quick = cj.sample_posterior(fitted, runs, KEY, chains=2, draws=200, method="laplace")
    assert quick.diagnostics.method == "laplace" and np.isfinite(quick.diagnostics.k_hat)
    assert "k-hat" in quick.verdict()
    assert quick.diagnostics.converged == (quick.diagnostics.k_hat < 0.7)


@pytest.mark.parametrize("shape", [0.2, 0.9])
def test_k_hat_is_the_shape_of_the_tail(shape):
    drawn = stats.genpareto(shape).rvs(20000, random_state=1)
    assert convergence.smooth(np.log1p(drawn)).k_hat == pytest.approx(shape, abs=0.25)


SMOOTHED = {  # draws, tail: k-hat, the largest log weight and a weighted mean, of this package's own implementation of the paper
    (40, 0.2): (0.5300501963316966, -2.8178847206055853, 0.04298272292254105),
    (40, -0.2): (0.3843599095222462, -3.500126737375721, 0.03852360919618512),
    (100, 0.5): (0.7090549441346966, -2.661318921008372, 0.00791324751918622),
    (100, -0.5): (-0.5843034994841915, -4.231518841142113, -0.008115860878780452),
    (501, 0.6): (0.6810390286352526, -3.0257030944354923, -0.03345846667182973),
    (501, -0.6): (-0.5745056413940265, -5.746304511130344, -0.002002264340463148),
    (4000, 0.9): (1.0060839500124632, -2.4213698993359625, -0.07380033164869397),
    (4000, -0.9): (-0.8676470951876116, -7.646354351392241, -0.005023666191465138),
}


@pytest.mark.parametrize("case", SMOOTHED, ids=str)
def test_smoothed_weights_are_those_of_the_paper(case):
    n, tail = case
    found = convergence.smooth(-tail * np.log(np.random.default_rng(3).uniform(size=n)))
    weights = np.exp(found.log_weights)
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    mean = weights @ np.cos(np.arange(n))
    np.testing.assert_allclose([found.k_hat, found.log_weights.max(), mean], SMOOTHED[case], rtol=1e-6)


def test_weights_without_a_tail_are_left_as_they_are():
    assert convergence.smooth(np.arange(12.0)).k_hat == np.inf  # too few draws
    ties = np.repeat(np.arange(34.0), 3)  # resampled draws: some of the tail are as large as its threshold
    found = convergence.smooth(ties)
    assert found.k_hat == -np.inf
    np.testing.assert_allclose(found.log_weights, ties - np.log(np.exp(ties).sum()))


def test_importance_weights_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_stats.base", None)  # not installed
    with pytest.raises(ImportError, match=r"camel-jax\[bayes\]"):
        convergence.smooth(np.zeros(100))


def test_smoothed_weights_give_the_mean_of_the_target():
    z = np.random.default_rng(0).standard_t(5, size=8000)
    good = convergence.smooth(stats.norm.logpdf(z, 0.3, 0.9) - stats.t.logpdf(z, 5))
    assert good.k_hat < 0.5
    assert np.exp(good.log_weights) @ z == pytest.approx(0.3, abs=0.03)
    narrow = convergence.smooth(stats.t.logpdf(0.5 * z, 3) - stats.norm.logpdf(0.5 * z, 0, 0.5))
    assert narrow.k_hat > 0.7


def test_r_hat_and_ess_see_what_is_wrong():
    good = np.random.default_rng(0).normal(size=(4, 500, 2))
    assert convergence.r_hat(good).max() < 1.01
    bulk, tail = convergence.ess(good)
    assert bulk.min() > 1500 and tail.min() > 1000
    apart = good.copy()
    apart[0, :, 1] += 1.0
    assert convergence.r_hat(apart)[0] < 1.01 < 1.05 < convergence.r_hat(apart)[1]
    wider = good.copy()
    wider[0, :, 0] *= 3.0  # the same mean, another spread
    assert convergence.r_hat(wider)[0] > 1.03
    slow = np.cumsum(good, axis=1)
    assert convergence.ess(slow)[0].max() < 100
    told = convergence.diagnose({"a": apart}, np.zeros((4, 500)), np.zeros((4, 500)))
    assert not told.converged and "do not agree on a" in told.verdict()
    assert "stuck" in told._replace(restarted=2).verdict() and "stuck" not in told.verdict()
    assert convergence.diagnose({"a": good}, np.zeros((4, 500)), np.zeros((4, 500))).converged


def test_leaving_runs_out_is_the_exact_answer_where_it_is_known():
    # normal data of known variance: the density of a left-out value is known
    rng = np.random.default_rng(0)
    y, n = rng.normal(0.5, 1.0, 30), 30
    mu = rng.normal(y.sum() / (n + 1), np.sqrt(1 / (n + 1)), 4000)
    for i in (0, 7, 20):
        log = stats.norm.logpdf(y[i], mu)
        weights = convergence.smooth(-log)
        rest = np.delete(y, i)
        exact = stats.norm.logpdf(y[i], rest.sum() / n, np.sqrt(1 + 1 / n))
        assert np.log(np.exp(weights.log_weights + log).sum()) == pytest.approx(exact, abs=0.02)


def test_comparison_prefers_the_draws_of_the_posterior(posterior, runs):
    score = comparison.leave_run_out(posterior)
    assert score.by_run.shape == (12,) and np.isfinite(score.total)
    noisy = dataclasses.replace(posterior, z=posterior.z + 0.3)
    rows = comparison.compare_posteriors({"shifted": noisy, "sampled": posterior})
    assert [row.name for row in rows] == ["sampled", "shifted"]
    assert rows[0].behind == 0.0 and rows[1].behind > 0
    found = comparison.score_at(posterior, runs)
    assert 0.8 < found.coverage <= 1.0 and 0 < found.crps < found.width


def test_the_largest_scale_is_left_out(posterior, runs, monkeypatch):
    asked = []
    monkeypatch.setattr(comparison, "sample_posterior", lambda *given, **options: asked.append(given) or posterior)
    found = comparison.leave_scale_out(laws.dml(), runs, KEY)
    below, held = cj.split_by_scale(runs)
    np.testing.assert_array_equal(asked[0][1].losses, below.losses)
    assert found == comparison.score_at(posterior, held)


def test_arviz_gets_chains_by_draws(posterior, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_base", None)  # not installed
    with pytest.raises(ImportError, match=r"camel-jax\[bayes\]"):
        posterior.to_arviz()
    monkeypatch.setitem(sys.modules, "arviz_base", types.SimpleNamespace(from_dict=lambda groups: groups))
    groups = posterior.to_arviz()
    assert {np.shape(x)[:2] for group in groups.values() for x in group.values()} == {(2, 200)}
    assert {"floor", "noise_scale", "noise_common"} <= set(groups["posterior"])


def test_crps_is_the_mean_over_pairs():
    x, y = np.random.default_rng(0).normal(size=(2, 40))
    expected = np.abs(x - y[0]).mean() - 0.5 * np.abs(x[:, None] - x[None]).mean()
    assert float(comparison.crps(x, y[0])) == pytest.approx(expected, rel=1e-12)


def test_probability_best_counts_draws():
    losses = lambda w: 2.0 + jnp.array([[0.1], [0.2], [-0.1], [0.0]]) * (w[0] - w[1])  # noqa: E731
    told = cj.probability_best(losses, {"a": [1, 0], "b": [0, 1]}, domains=["x", "y"])
    assert told == pytest.approx({"a": 0.375, "b": 0.625})
    with pytest.raises(ValueError, match="two or more"):
        cj.probability_best(losses, {"a": [1, 0]}, domains=["x", "y"])
    with pytest.raises(ValueError, match="no draws"):
        cj.probability_best(lambda w: 1.0 + w, {"a": [1, 0], "b": [0, 1]}, domains=["x", "y"])
