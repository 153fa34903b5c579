"""Which runs to buy: known optima, updates against dense inverses, never worse than fixed shapes, clear refusals, a round trip."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import call, own_flags, refused  # noqa: F401
from scipy.stats import norm

from camel_jax import laws
from camel_jax.design import exchange
from camel_jax.design.candidates import lattice_mixtures, mixtures_around, target_region
from camel_jax.design.exchange import Budget, Pool
from camel_jax.design.information import prior_precision, sensitivities, table_information
from camel_jax.design.knowledge import SPREAD, know_nothing, know_runs
from camel_jax.design.ladder import SHAPES, make_ladder, shape_counts, shape_weights
from camel_jax.design.propose import compare_shapes, propose_runs
from camel_jax.design.value_of_runs import expected_regret, worth
from camel_jax.evaluation import simulate
from camel_jax.fitting.fit import fit
from camel_jax.laws.law import Law, scale_recipe
from camel_jax.tables.read import read_recipes
from camel_jax.tables.write import write_runs

LINE = np.linspace(0.05, 0.95, 9)
MIXTURES = np.stack([LINE, 1 - LINE], 1)[[4, 0, 8, 2, 6, 1, 7, 3, 5]]
LADDER = make_ladder(["10M", "40M", "160M"])
TARGET = target_region("1B", None, MIXTURES[:3])
DOMAINS = ("web", "code")


def random_pool(seed=0, draws=2, n=12, sets=2, params=5):
    rng = np.random.default_rng(seed)
    j, t = rng.normal(size=(draws, n, sets, params)), rng.normal(size=(draws, 4, params))
    cost = rng.uniform(0.5, 2.0, n)
    targets = np.einsum("mqp,mqr->mpr", t, t)
    return Pool(
        jnp.asarray(j), cost, np.arange(n) % 3, jnp.asarray(0.3 * np.eye(params) + np.zeros((draws, 1, 1))), targets
    )


def dense_criterion(pool, counts):
    values = []
    for j, f, a in zip(pool.jacobian, pool.precision, pool.targets, strict=True):
        information = sum(n * j[c].T @ j[c] for c, n in enumerate(counts))
        values.append(np.trace(a @ np.linalg.inv(f + information)))
    return np.mean(values)


@pytest.mark.parametrize(("budget", "ends"), [(8.0, [4, 4]), (3.0, [2, 1])])
def test_a_straight_line_is_measured_at_its_ends(budget, ends):
    x = np.linspace(-1, 1, 7)
    j = np.stack([np.ones(7), x], -1)[None, :, None, :]
    pool = Pool(j, np.ones(7), np.zeros(7, int), 1e-6 * np.eye(2)[None], np.eye(2)[None])
    counts = exchange.optimal(pool, Budget(budget, 100, np.zeros(1, int)))
    assert sorted(counts[[0, -1]].tolist(), reverse=True) == ends and counts.sum() == budget
    once = exchange.optimal(pool, Budget(4.0, 100, np.zeros(1, int), most=1))
    assert once.tolist() == [1, 1, 0, 0, 0, 1, 1]


def test_updates_equal_dense_inverses():
    pool = random_pool()
    counts = np.array([2, 0, 1, 0, 0, 3, 0, 0, 0, 0, 0, 1])
    more = counts + (np.arange(12) == 7)
    state, after = (exchange.start(pool, n.astype(float)) for n in (counts, more))
    change = dense_criterion(pool, counts) - dense_criterion(pool, more)
    assert exchange.criterion(pool, counts) == pytest.approx(dense_criterion(pool, counts))
    assert exchange.gains(state)[7] == pytest.approx(change) == exchange.gains(after, -1.0)[7]
    for there, found in ((after, exchange.change(pool, state, 7, 1.0)), (state, exchange.change(pool, after, 7, -1.0))):
        chex.assert_trees_all_close(found, there, rtol=1e-7, atol=1e-9)
    with pytest.raises(AssertionError, match="shape"):
        exchange.start(pool, np.ones(3))
    order, values = exchange.order(pool, counts)
    assert sorted(order) == [0, 0, 2, 5, 5, 5, 11] and values[-1] == pytest.approx(dense_criterion(pool, counts))
    assert np.all(np.diff(values) < 0)


def test_small_designs_are_nearly_the_best_of_all():
    """Every multiset of 3 runs of equal cost, by brute force."""
    pool = random_pool(3)._replace(cost=np.ones(12))
    best = min(
        dense_criterion(pool, np.bincount(chosen, minlength=12))
        for chosen in ([a, b, c] for a in range(12) for b in range(a, 12) for c in range(b, 12))
    )
    found = exchange.optimal(pool, Budget(3.0, 10, np.zeros(3, int)))
    assert dense_criterion(pool, found) <= 1.01 * best


def test_gradient_by_the_counts_is_that_of_finite_differences():
    """Counts as real numbers: automatic differentiation, central differences, and what buying a little of each would gain."""
    pool = random_pool(2)
    counts = jnp.asarray(np.random.default_rng(5).uniform(0.1, 2.0, 12))

    def value(n):
        return exchange._criterion(pool.jacobian, pool.precision, pool.targets, n)

    slopes = jax.grad(value)(counts)
    step = 1e-5 * jnp.eye(12)
    central = [(value(counts + e) - value(counts - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(slopes, central, rtol=1e-7)
    cross = exchange.start(pool, counts).cross
    np.testing.assert_allclose(slopes, -jnp.mean(jnp.trace(cross, axis1=-2, axis2=-1), 0), rtol=1e-9)


def test_a_power_law_is_measured_where_theory_says():
    """log L = a - b log N has its c-optimal design at two sizes, runs in proportion to |l_i| / sqrt(c_i) (Elfving 1952)."""
    law = Law(
        "power",
        lambda key, runs: {"scale": jnp.zeros(()), "exponent": jnp.asarray(0.3)},
        lambda p, r: jnp.exp(p["scale"] - p["exponent"] * jnp.log(r.n_active))[None],
        lambda raw: raw,
        lambda raw: jnp.zeros(()),
    )
    one = np.ones((1, 1))
    ladder = make_ladder(["10M", "20M", "40M", "80M", "160M"], tokens="1B")
    target = target_region("400M", "1B", one)
    knows = know_nothing(law, ladder, target, ["web"], key=jax.random.key(0), draws=1, noise=0.01, prior=1e-6)
    budget = 40 * ladder.cost[-1]
    found = propose_runs(knows, ladder, budget, target, one, max_runs=300)
    x, z = np.log(ladder.n_active), np.log(4e8)

    def two(i, j):
        slopes = np.abs([(z - x[j]) / (x[i] - x[j]), (z - x[i]) / (x[j] - x[i])])
        roots = np.sqrt(ladder.cost[[i, j]])
        total = slopes @ roots
        return total**2 / budget, budget * slopes / roots / total

    pairs = {(i, j): two(i, j) for i in range(5) for j in range(i + 1, 5)}
    pair = min(pairs, key=lambda p: pairs[p][0])
    value, counts = pairs[pair]
    bought = np.asarray(list(found.runs_per_size().values()))
    assert bought[list(pair)].sum() >= bought.sum() - 2
    assert np.all(np.abs(bought[list(pair)] - counts) * ladder.cost[list(pair)] <= ladder.cost[-1])  # whole runs
    assert (found.error_after / 0.01) ** 2 == pytest.approx(value, rel=0.01)


def test_regret_of_two_mixtures_is_known():
    """Normal errors, gap d: s phi(d/s) - d Phi(-d/s) of the difference; a batch takes off the same of what it will say."""

    def gain(gap, spread):
        return spread * norm.pdf(gap / spread) - gap * norm.cdf(-gap / spread)

    gap, before, after = 0.3, np.array([[1.0, 0.2], [0.2, 0.8]]), np.array([[0.3, 0.1], [0.1, 0.2]])
    spread = [np.sqrt(c[0, 0] + c[1, 1] - 2 * c[0, 1]) for c in (before, before - after)]
    now, then = expected_regret(np.array([[2.0, 2.0 + gap]]), before[None], after[None])
    assert now == pytest.approx(gain(gap, spread[0]), rel=0.05)
    assert then == pytest.approx(gain(gap, spread[0]) - gain(gap, spread[1]), rel=0.08)
    idle = expected_regret(np.zeros((1, 2)), before[None], before[None])  # a batch that says nothing
    assert idle[0] == idle[1] == pytest.approx(gain(0.0, spread[0]), rel=0.05)


def test_limits_of_a_design_hold():
    pool = random_pool(1)
    counts = exchange.optimal(pool, Budget(9.0, 6, np.array([1, 2, 1])))
    assert counts @ pool.cost <= 9.0 + 1e-9 and counts.sum() <= 6
    assert np.all(np.bincount(pool.rung, counts) >= [1, 2, 1])
    with pytest.raises(ValueError, match="does not buy the fewest"):
        exchange.optimal(pool, Budget(2.0, 50, np.array([3, 3, 3])))
    with pytest.raises(ValueError, match="buys nothing"):
        exchange.optimal(pool, Budget(0.1, 50, np.zeros(3, int)))


def test_information_is_that_of_finite_differences():
    law = laws.sodm()
    runs = simulate.study(jax.random.key(0), law=law, n_domains=2, n_mixtures=4, sizes=(1e7, 1e8), checkpoints=1)
    ladder, target = make_ladder(["10M", "100M"]), TARGET
    known = know_nothing(law, ladder, target, runs.domains, key=jax.random.key(1), draws=2)
    raw = jax.tree.map(lambda x: x[1], known.raw)
    row = jax.tree.map(lambda x: jnp.asarray(x)[3], runs.recipe)
    slopes = sensitivities(law, known.units, known.raw, jax.tree.map(lambda x: jnp.asarray(x)[3:4], runs.recipe))[1, 0]
    at = 0
    log_losses = jax.jit(lambda r: jnp.log(law.predict(law.constrain(r), scale_recipe(known.units, row))))
    for name in sorted(raw):
        for i in np.ndindex(raw[name].shape):
            step = {**raw, name: raw[name].at[i].add(1e-5)}, {**raw, name: raw[name].at[i].add(-1e-5)}
            up, down = (log_losses(r) for r in step)
            np.testing.assert_allclose(slopes[:, at], (up - down) / 2e-5, atol=1e-8)
            at += 1
    assert at == slopes.shape[1]
    noise = np.array([0.01, 0.02])
    all_slopes = sensitivities(law, known.units, known.raw, runs.recipe) / noise[:, None]
    added = table_information(law, known.units, known.raw, runs, noise)
    np.testing.assert_allclose(added, jnp.einsum("mrvp,mrvq->mpq", all_slopes, all_slopes), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(known.precision, prior_precision(law, known.raw) / SPREAD**2)


@pytest.fixture(scope="module")
def known():
    return know_nothing(laws.dml(), LADDER, TARGET, DOMAINS, key=jax.random.key(0), draws=2)


@pytest.mark.parametrize("criterion", ["mean", "worst"])
def test_never_worse_than_a_fixed_shape(known, criterion):
    found = compare_shapes(known, LADDER, 2e19, TARGET, MIXTURES, criterion=criterion, max_runs=30)
    score = {one.shape: one.worst_after if criterion == "worst" else one.error_after for one in found}
    assert set(score) == {"optimal", *SHAPES}
    assert score["optimal"] < 0.98 * min(score[shape] for shape in SHAPES)
    for one in found:
        assert one.total_cost <= 2e19 * (1 + 1e-12) and one.counts.sum() <= 30 and one.error_after < one.error_before
        assert one.curve_error[-1] == pytest.approx(one.error_after) and one.curve_cost[-1] == pytest.approx(
            one.total_cost
        )
    told = worth(found[0], 0.9)
    assert told.after == pytest.approx(1.6449 * found[0].error_after, rel=1e-4)
    assert (
        told.saved == pytest.approx(0.5 * told.cost * (told.first_half + told.last_half))
        and told.first_half > told.last_half
    )
    assert told.regret_saved == pytest.approx(told.regret_before - told.regret_after) and told.regret_saved > 0
    assert told.tokens_saved > 0 and told.go_on == (told.regret_saved > told.tokens_saved)
    again = compare_shapes(known, LADDER, 2e19, TARGET, MIXTURES, criterion=criterion, max_runs=30)[0]
    assert all(
        np.array_equal(a, b) for a, b in zip(again.to_columns().values(), found[0].to_columns().values(), strict=True)
    )


def test_runs_that_are_there_count(tmp_path):
    runs = simulate.study(jax.random.key(0), law=laws.dml(), n_domains=2, n_mixtures=6, sizes=(1e7, 4e7), checkpoints=2)
    fitted = fit(laws.dml(), runs, key=jax.random.key(1), starts=1, backtests=0)
    knows = know_runs(fitted, runs, LADDER, TARGET, noise=0.003)
    believed = knows.precision - table_information(knows.law, knows.units, knows.raw, runs, knows.noise)
    np.testing.assert_allclose(believed, prior_precision(knows.law, knows.raw) / SPREAD**2, atol=1e-6)
    assert knows.runs == 12 and knows.largest == (4e7, pytest.approx(6e8, rel=0.01))
    next_runs = propose_runs(knows, LADDER, 5e18, TARGET, MIXTURES, shape="uniform", max_runs=20)
    assert next_runs.error_after < next_runs.error_before < 0.5
    assert next_runs.law_error_after < next_runs.law_error_before  # a size above those of the table
    assert "the law's own error there stays near" in worth(next_runs).sentence
    write_runs(runs, tmp_path / "runs.csv")
    fitted.save(tmp_path / "fit.npz")
    options = ["--budget", "5e18", "--target-size", "1B", "--shapes", "uniform", "--mixtures", "9", "--max-runs", "20"]
    code, out, err = call("design", tmp_path / "runs.csv", "--fit", tmp_path / "fit.npz", *options)
    assert code == 0 and "fitting" not in err and "the law's own error" in out
    assert "--fit belongs to a table" in refused(
        "design", "--fit", tmp_path / "fit.npz", "--domains", "a,b", *options[:4]
    )


def test_one_size_and_near_targets_are_answered(known):
    single = make_ladder(["40M"], tokens_per_parameter=[10, 40])
    designs = compare_shapes(known, single, 1e18, TARGET, MIXTURES, shapes=("uniform", "hourglass"), max_runs=20)
    assert np.array_equal(designs[0].counts, designs[1].counts)
    assert any("one size" in note for note in designs[0].notes)
    near = target_region("20M", "400M", MIXTURES)
    below = know_nothing(laws.dml(), LADDER, near, DOMAINS, key=jax.random.key(0), draws=1)
    assert "nothing is extrapolated" in propose_runs(below, LADDER, 5e18, near, MIXTURES, shape="small").notes[0]


def test_shapes():
    assert shape_weights("hourglass", 5).tolist() == pytest.approx([4 / 14, 2.5 / 14, 1 / 14, 2.5 / 14, 4 / 14])
    for shape in SHAPES:
        for by in ("runs", "cost"):
            counts = shape_counts(LADDER, shape_weights(shape, 3), 4e19, by=by, max_runs=50, min_runs=1)
            assert counts @ LADDER.cost <= 4e19 and 3 <= counts.sum() <= 50 and counts.min() >= 1
    by_cost = shape_counts(LADDER, shape_weights("uniform", 3), 4e19, by="cost", max_runs=10_000)
    assert np.ptp(by_cost * LADDER.cost) <= 2 * LADDER.cost.max()
    assert make_ladder(["1B-A100M", "50M"]).n_total.tolist() == [5e7, 1e9]
    with pytest.raises(ValueError, match="too small"):
        shape_counts(LADDER, shape_weights("uniform", 3), 1e15)


def test_clear_refusals(known):
    for options, words in (
        ({"budget": 1e10}, "too small|buys nothing"),
        ({"shape": "pear"}, "'pear' is not one of uniform, small, large, hourglass, optimal"),
        ({"criterion": "best"}, "not one of mean, worst"),
        ({"mixtures": [[0.5, 0.6]]}, "sum to 1"),
        ({"mixtures": np.ones((2, 3)) / 3}, "3 shares for 2 domains"),
        ({"max_runs": 0}, "max_runs"),
    ):
        given: dict[str, Any] = {"budget": 1e19, "mixtures": MIXTURES} | options
        with pytest.raises(ValueError, match=words):
            propose_runs(known, LADDER, given.pop("budget"), TARGET, given.pop("mixtures"), **given)
    with pytest.raises(ValueError, match="entirely open"):
        know_nothing(laws.dml(), LADDER, TARGET, DOMAINS, key=jax.random.key(0), prior=0.0)
    with pytest.raises(ValueError, match="twice"):
        make_ladder(["10M", "1e7"])
    assert mixtures_around(jax.random.key(0), 5, np.array([0.2, 0.8]))[0].tolist() == [0.2, 0.8]
    grid = lattice_mixtures(jax.random.key(0), 20, 3, lower=[0.2, 0.0, 0.0])
    assert 10 <= len(grid) <= 20 and grid[:, 0].min() >= 0.2 and np.allclose(grid.sum(1), 1)
    assert len(np.unique(grid.round(9), axis=0)) == len(grid)
    capped = mixtures_around(jax.random.key(0), 30, np.array([0.2, 0.8]), upper=[1.0, 0.85])
    assert capped[:, 1].max() <= 0.85 + 1e-12 and np.allclose(capped.sum(1), 1) and np.ptp(capped[:, 0]) > 0.3
    with pytest.raises(ValueError, match="no lattice"):
        lattice_mixtures(jax.random.key(0), 2, 3)


def test_command_writes_runs_that_can_be_read(tmp_path):
    options = [
        "--domains",
        "web,code",
        "--law",
        "dml",
        "--budget",
        "3e18",
        "--target-size",
        "500M",
        "--ladder",
        "10M,40M",
    ]
    options += ["--mixtures", "12", "--max-runs", "12", "--shapes", "uniform,optimal"]
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    code, out, _ = call("design", *options, "--out", one)
    assert code == 0 and "optimal" in out and "uniform" in out and "90 % interval" in out and "expected regret" in out
    assert call("design", *options, "--out", two, "--figure", tmp_path / "d.png")[0] == 0
    assert one.read_bytes() == two.read_bytes() and (tmp_path / "d.png").stat().st_size > 5000
    recipe, ids = read_recipes(one, domains=DOMAINS)
    assert len(set(ids)) == len(ids) <= 12 and set(recipe.n_active) <= {1e7, 4e7}
    assert np.sum(6 * recipe.n_active * recipe.tokens) <= 3e18
    assert call("design", *options, "--candidates", "lattice", "--out", two)[0] == 0
    shares = read_recipes(two, domains=DOMAINS)[0].weights[:, 0] * 11  # the finest lattice of at most 12 mixtures
    np.testing.assert_allclose(shares, np.round(shares), atol=1e-9)
    assert "dirichlet or lattice" in refused("design", *options, "--candidates", "random")
    options[options.index("--budget") + 1] = "1e9"
    assert "1e+09 is too small" in refused("design", *options)
    assert "--ladder is needed" in refused("design", *options[:8])
    assert "give a table of runs" in refused("design", *options[4:])
