"""The benchmark law: planted laws come back, extremes stay finite, gaps are masked, and nothing depends on order."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax.downstream import law, sigmoid_fits
from camel_jax.downstream.fit import DEFAULT_PRIOR, fit_accuracies
from camel_jax.downstream.result import AT_CHANCE, DROWNED, LATE, NO_DATA, NORMAL, OK, AccuracyFit
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, select
from camel_jax.tables.tasks import Task, read_tasks

SIZES = (1e7, 5e7, 2e8)
N_SETS = 4
TASKS = {
    "steep": Task(0.25, 5000),
    "gentle": Task(0.0, 5000),
    "guessed": Task(0.5, 2000),
    "tiny": Task(0.5, 40),
    "late": Task(0.0, 20000),
}
NAMES = tuple(TASKS)
TRUE = law.AccuracyParams(
    floor=np.array([0.25, 0.01, 0.5, 0.5, 0.001]),
    ceiling=np.array([0.9, 0.8, 0.95, 0.75, 0.8]),
    bias=np.array([-1.0, -0.5, -20.0, -0.6, -7.5]),
    weights=np.array([[0.5, 0.9, 0.4, 0.5], [0.4, 0.2, 0.3, 0.4], [0, 0, 0, 0], [0.15] * 4, [0.6] * 4]),
    center=np.full(N_SETS, 3.5),
    scale=np.full(N_SETS, 0.7),
)

JACOBIAN = jax.jit(jax.jacobian(law.predict_accuracy, argnums=(0, 1)))


def simulate(seed=0, noise=True, sizes=SIZES, per_size=14):
    rng = np.random.default_rng(seed)
    size = np.repeat(sizes, per_size)
    tokens = size * np.tile(np.geomspace(2, 200, per_size), len(sizes))
    common = 1.5 + 350 * size**-0.34 + 300 * tokens**-0.28
    losses = common[:, None] * np.array([1.0, 1.1, 0.9, 1.2]) * np.exp(0.05 * rng.normal(size=(len(size), N_SETS)))
    accuracies = np.asarray(law.predict_accuracy(TRUE, losses))
    if noise:
        items = np.array([TASKS[t].n_items for t in NAMES])
        accuracies = rng.binomial(items.astype(int), accuracies) / items
    recipe = Recipe(size, size, tokens, np.ones((len(size), 1)))
    sets = tuple(f"set{v}" for v in range(N_SETS))
    return Runs(recipe, losses, accuracies, np.arange(len(size)), ("web",), sets, NAMES, ())


def fit(runs, **options):
    options = {"resamples": 4, "starts": 2, "choice": "ridge 0.4"} | options
    return fit_accuracies(runs, TASKS, key=jax.random.key(0), **options)


@pytest.fixture(scope="module")
def runs():
    return simulate()


@pytest.fixture(scope="module")
def fitted(runs):
    return fit(runs, choice=None, resamples=8)


def test_a_planted_law_is_recovered_at_a_larger_scale(runs, fitted):
    train = select(runs, runs.recipe.n_active < SIZES[-1])
    held = select(simulate(noise=False), runs.recipe.n_active == SIZES[-1])
    error = np.asarray(fit(train, choice=None).predict(held.losses)) - held.accuracies
    assert np.abs(error[:, :2]).mean() < 0.02
    inside = np.asarray(fitted.predict(runs.losses)) - simulate(noise=False).accuracies
    assert np.abs(inside[:, :2]).mean() < 0.006
    assert np.abs(fitted.params.floor[:2] - TRUE.floor[:2]).max() < 0.03


def test_flags_name_the_reason(fitted):
    assert fitted.flags == {
        "steep": OK,
        "gentle": OK,
        "guessed": AT_CHANCE,
        "tiny": DROWNED,
        "late": LATE,
    }
    assert fitted.usable.tolist() == [True, True, False, False, False]
    assert "noise" in fitted.reasons["tiny"]


def test_the_mean_is_the_average_of_usable_predictions(runs, fitted):
    predicted = np.asarray(fitted.predict(runs.losses))
    np.testing.assert_allclose(fitted.mean(runs.losses), predicted[:, :2].mean(1))
    flagged = dataclasses.replace(fitted, flags=dict.fromkeys(NAMES, AT_CHANCE))
    with pytest.raises(ValueError, match="no task is usable"):
        flagged.mean(runs.losses)


@pytest.mark.parametrize("loss", [0.0, -1e300, 1e300, np.inf, -np.inf, 1e-300])
def test_values_and_derivatives_are_finite_at_any_loss(fitted, loss):
    losses = jnp.full(N_SETS, loss)
    values, (of_params, gradient) = fitted.predict(losses), JACOBIAN(fitted.params, losses)
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    assert (values >= fitted.params.floor).all() and (values <= fitted.params.ceiling).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(of_params))
    assert np.isfinite(fitted.predict(losses.at[0].set(-loss))).all()


def test_the_unguarded_formula_fails_where_ours_does_not(fitted):
    losses = np.array([np.inf, -np.inf, 3.0, 3.0])
    z = (losses - fitted.params.center) / fitted.params.scale
    with np.errstate(invalid="ignore"):
        assert np.isnan(fitted.params.weights @ z).any()
    assert np.isfinite(fitted.predict(losses)).all()


def test_gradient_agrees_with_finite_differences(fitted):
    losses = jnp.array([3.0, 3.4, 2.7, 3.6])
    gradient = JACOBIAN(fitted.params, losses)[1]
    step = 1e-5
    for v in range(N_SETS):
        up, down = fitted.predict(losses.at[v].add(step)), fitted.predict(losses.at[v].add(-step))
        np.testing.assert_allclose(gradient[:, v], (up - down) / (2 * step), atol=1e-8)


def test_missing_values_are_masked(runs):
    rng = np.random.default_rng(3)
    accuracies, losses = runs.accuracies.copy(), runs.losses.copy()
    accuracies[rng.random(accuracies.shape) < 0.2] = np.nan
    losses[[2, 20], 1] = np.nan
    gappy = fit(dataclasses.replace(runs, accuracies=accuracies, losses=losses))
    whole = fit(runs)
    assert np.abs(np.asarray(gappy.predict(runs.losses) - whole.predict(runs.losses)))[:, :2].max() < 0.03
    # What stands in a masked place cannot matter: the same rows, cut out, give the same law.
    cut = np.ones(len(runs), bool)
    cut[[2, 20]] = False
    removed = fit(select(dataclasses.replace(runs, accuracies=accuracies, losses=losses), cut))
    np.testing.assert_allclose(removed.params.weights, gappy.params.weights, rtol=1e-4, atol=1e-5)


def test_a_set_that_is_mostly_missing_is_not_read(runs):
    losses = runs.losses.copy()
    losses[5:, 2] = np.nan
    partial = fit(dataclasses.replace(runs, losses=losses))
    assert (partial.params.weights[:, 2] == 0).all()
    assert np.isfinite(partial.predict(losses)).all()
    assert np.isfinite(JACOBIAN(partial.params, jnp.asarray(losses[10]))[1]).all()
    assert np.isnan(partial.predict(np.array([np.nan, 3, 3, 3]))).all()


def test_a_task_without_data_is_flagged(runs):
    accuracies = runs.accuracies.copy()
    accuracies[6:, 0] = np.nan
    result = fit(dataclasses.replace(runs, accuracies=accuracies))
    assert result.flags["steep"] == NO_DATA
    assert np.isfinite(result.predict(runs.losses)).all()


def test_order_of_sets_and_tasks_does_not_matter(runs):
    sets, tasks = np.array([2, 0, 3, 1]), np.array([4, 2, 0, 3, 1])
    turned = dataclasses.replace(
        runs,
        losses=runs.losses[:, sets],
        accuracies=runs.accuracies[:, tasks],
        sets=tuple(runs.sets[v] for v in sets),
        tasks=tuple(NAMES[t] for t in tasks),
    )
    one, other = fit(runs, resamples=0, starts=1), fit(turned, resamples=0, starts=1)
    np.testing.assert_allclose(other.predict(turned.losses), one.predict(runs.losses)[:, tasks], atol=1e-5)
    assert one.flags == other.flags


def test_vmapped_is_looped(runs):
    """All tasks in one batch give what each task gives alone."""
    together = fit(runs, resamples=0)
    for t, name in enumerate(NAMES[:2]):
        alone = fit(dataclasses.replace(runs, accuracies=runs.accuracies[:, [t]], tasks=(name,)), resamples=0)
        np.testing.assert_allclose(alone.params.weights[0], together.params.weights[t], rtol=1e-6, atol=1e-8)


def test_fits_are_least_squares_optima(runs):
    """scipy, from the same prior, finds no better point."""
    from scipy.optimize import minimize

    table = sigmoid_fits.prepare(runs, TASKS, np.ones(len(runs), bool))
    assert table is not None
    basis = law.ridge_basis(N_SETS, 0.4)
    bases = jax.tree.map(lambda leaf: np.asarray(leaf)[None], basis)
    misfit = np.full((1, len(NAMES)), 0.01**2)
    precision = sigmoid_fits.precision_of(table, np.ones((1, len(runs))), misfit)
    starts = sigmoid_fits.random_starts(jax.random.key(0), 1, len(NAMES), 2, N_SETS + 4)
    ours = sigmoid_fits.fit_all(table, precision, bases, starts)
    assert ours.done.all()
    for t in range(2):

        def cost(x, t=t):
            raw = law.RawAccuracy(x[0], x[1], x[2], x[3:])
            r = law.residuals(raw, table.z, table.accuracy[:, t], precision[0, :, t], table.chance[t], basis)
            return 0.5 * jnp.sum(r**2)

        theirs = minimize(jax.jit(jax.value_and_grad(cost)), starts[0, t, 0], jac=True, options={"gtol": 1e-8})
        assert cost(ours.raw[0, t]) <= theirs.fun + 1e-5


def test_saved_and_loaded_is_identical(runs, fitted, tmp_path):
    np.savez(tmp_path / "fit.npz", **fitted.to_arrays())
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as arrays:
        loaded = AccuracyFit.from_arrays(arrays)
    np.testing.assert_array_equal(loaded.predict(runs.losses), fitted.predict(runs.losses))
    draws = (f.draws(np.broadcast_to(runs.losses[:3], (10, 3, N_SETS)), jax.random.key(1)) for f in (loaded, fitted))
    np.testing.assert_array_equal(*draws)
    assert loaded.flags == fitted.flags and loaded.choice == fitted.choice and loaded.tasks == fitted.tasks
    with pytest.raises(ValueError, match="no benchmark law"):
        AccuracyFit.from_arrays({})


def test_draws_carry_both_uncertainties(runs, fitted):
    key = jax.random.key(2)
    losses = np.broadcast_to(runs.losses[-1], (400, N_SETS))
    certain = np.asarray(fitted.draws(losses, key))
    unsure = np.asarray(fitted.draws(losses * np.exp(0.05 * np.random.default_rng(0).normal(size=(400, 1))), key))
    assert certain.shape == (400, len(NAMES))
    assert (certain >= 0).all() and (certain <= 1).all()
    assert (certain[:, :2].std(0) > 0.5 * fitted.spread[:2]).all()
    assert (unsure[:, :2].std(0) > certain[:, :2].std(0)).all()
    noisy = np.asarray(fitted.draws(losses, key, measured=True))
    assert (noisy[:, 3].std() > certain[:, 3].std()) and fitted.noise[3] > 0.05
    # Two identical recipes get identical accuracies in every draw.
    twice = np.asarray(fitted.draws(np.repeat(losses[:, None], 2, 1), key))
    np.testing.assert_array_equal(twice[:, 0], twice[:, 1])


def test_errors_at_the_next_scale_have_the_tails_of_few_looks(fitted):
    """Student t with one factor a draw; a file without its degrees of freedom is read as before."""
    assert 2.0 <= fitted.freedom <= 2 * len(fitted.tasks)
    few = dataclasses.replace(fitted, freedom=5.0).sample(jax.random.key(0), 4000).error
    many = dataclasses.replace(fitted, freedom=NORMAL).sample(jax.random.key(0), 4000).error
    wide, plain = (np.quantile(np.abs(e), 0.9, axis=0) / fitted.spread for e in (few, many))
    np.testing.assert_allclose(wide, 2.015, rtol=0.1)
    np.testing.assert_allclose(plain, 1.645, rtol=0.1)
    np.testing.assert_allclose(few / many, np.broadcast_to((few / many)[:, :1], few.shape), rtol=1e-9)
    arrays = fitted.to_arrays()
    header = json.loads(bytes(arrays["accuracy/header"]))
    del header["freedom"]
    arrays["accuracy/header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    assert AccuracyFit.from_arrays(arrays).freedom == NORMAL


def test_intervals_cover_an_unseen_scale():
    """90 % intervals at the next scale, over simulated tables."""
    hits = []
    for seed in range(4):
        table = simulate(seed, sizes=(1e7, 3e7, 1e8, 3e8))
        below = select(table, table.recipe.n_active < 3e8)
        held = select(table, table.recipe.n_active == 3e8)
        drawn = fit(below, resamples=8, choice=None).draws(np.tile(held.losses, (200, 1, 1)), jax.random.key(seed))
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        hits.append(((held.accuracies >= low) & (held.accuracies <= high))[:, :2])
    assert 0.75 <= np.mean(hits) <= 1.0


def test_a_task_without_forward_skill_is_flagged(runs):
    """Noise that rises once and then wanders is not a signal, whatever its item count says."""
    rng = np.random.default_rng(0)
    size = runs.recipe.n_active
    jumpy = np.where(size == SIZES[0], 0.3, np.where(size == SIZES[1], 0.6, 0.52)) + 0.03 * rng.normal(size=len(size))
    result = fit(dataclasses.replace(runs, accuracies=np.c_[runs.accuracies[:, :1], jumpy], tasks=("steep", "jumpy")))
    assert result.flags == {"steep": OK, "jumpy": DROWNED}
    assert result.objective_weights() == {"steep": 1.0}


def test_one_scale_still_fits(runs):
    single = fit(select(runs, runs.recipe.n_active == SIZES[1]), choice=None)
    assert single.choice == DEFAULT_PRIOR and single.scores == {}


def test_bad_input_is_refused(runs):
    empty = dataclasses.replace(runs, accuracies=np.zeros((len(runs), 0)), tasks=())
    with pytest.raises(ValueError, match="no accuracies"):
        fit(empty)
    with pytest.raises(ValueError, match="rows need all of their losses"):
        fit(dataclasses.replace(runs, losses=np.full_like(runs.losses, np.nan)))
    with pytest.raises(ValueError, match="unknown prior"):
        fit(runs, choice="magic")


def test_tasks_are_read_and_checked(tmp_path):
    path = tmp_path / "tasks.csv"
    path.write_text("task,n_choices,n_items\na,4,100\nb,,\n")
    tasks = read_tasks(path)
    assert tasks["a"] == Task(0.25, 100.0)
    assert np.isnan(tasks["b"].chance) and np.isnan(tasks["b"].n_items)
    for text, message in (
        ("name\na\n", "column 'task'"),
        ("task,chance\na,0.2\na,0.3\n", "listed twice"),
        ("task,chance\na,half\n", "line 2, column chance: 'half' is not a number"),
        ("task,chance\na,1.5\n", "chance must lie"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_tasks(path)


@pytest.mark.parametrize("chance", [0.25, np.nan])
def test_normal_equations_are_those_of_the_residuals(chance):
    rng = np.random.default_rng(0)
    z, x = rng.standard_normal((30, 4)), 0.5 * rng.standard_normal(8)
    table = z, rng.uniform(0.2, 0.9, 30), rng.uniform(0.0, 100.0, 30), chance, law.ridge_basis(4, 0.3)

    def apart(x):
        return law.RawAccuracy(x[0], x[1], x[2], x[3:])

    residuals = law.residuals(apart(x), *table)
    jacobian = jax.jacfwd(lambda x: law.residuals(apart(x), *table))(x)
    cost, matrix, gradient = law.normal_equations(apart(x), *table)
    np.testing.assert_allclose(cost, 0.5 * residuals @ residuals, rtol=1e-12)
    np.testing.assert_allclose(matrix, jacobian.T @ jacobian, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradient, jacobian.T @ residuals, rtol=1e-10, atol=1e-10)
