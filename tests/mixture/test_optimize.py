"""Recommended mixtures: known optima, exact limits, risk, flat objectives, near-optimal sets, fronts and paths."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from traces import limit_traces

from camel_jax.mixture import barrier, objectives, search
from camel_jax.mixture.feasibility import InfeasibleError
from camel_jax.mixture.limits import parse_limits, violation
from camel_jax.mixture.near_optimal import near_optimal
from camel_jax.mixture.objectives import custom, mean_accuracy, mean_loss, single_set, weighted_sum
from camel_jax.mixture.optimize import optimize_mixture
from camel_jax.mixture.pareto import pareto_front
from camel_jax.mixture.path import optimum_path
from camel_jax.recipes.outcome import Outcome
from camel_jax.recipes.simplex import lattice

NAMES = ["web", "code", "books", "wiki", "math"]
OFFSET = 0.02


def power_law(scale, weights):
    """Two sets; the mean is separable, so that its optimum is known: w + offset in proportion to scale^(1 / 1.3)."""
    terms = scale * (weights + OFFSET) ** -0.3
    return jnp.stack([jnp.sum(terms) + 0.2 * weights[0], jnp.sum(terms) - 0.2 * weights[0]])


def at(scale):
    return jax.tree_util.Partial(power_law, jnp.asarray(scale))


def filled(scale, lower, upper):
    """The optimum of the power law within floors and caps, by bisection on its level."""
    pull = np.asarray(scale) ** (1 / 1.3)
    low, high, level = 1e-9, 1e9, 1.0
    for _ in range(300):
        level = np.sqrt(low * high)
        low, high = (level, high) if np.clip(level * pull - OFFSET, lower, upper).sum() < 1 else (low, level)
    return np.clip(level * pull - OFFSET, lower, upper)


def scales(n, seed):
    return np.exp(0.8 * np.random.default_rng(seed).normal(size=n))


@pytest.mark.parametrize("n", [2, 5, 17])
def test_known_optimum_with_floors_and_caps(n):
    scale = scales(n, n)
    domains = [f"d{i}" for i in range(n)]
    plain = filled(scale, 0.0, 1.0)
    for bounds, starts in ({}, 8), ({"d0": (plain[0] + 0.05, None), "d1": (None, 0.7 * plain[1])}, 8):
        lower, upper = np.zeros(n), np.ones(n)
        if bounds:
            lower[0], upper[1] = bounds["d0"][0], bounds["d1"][1]
        if (np.minimum(upper, 1).sum() < 1) or lower.sum() > 1 or (n == 2 and lower[0] + upper[1] > 1):
            continue
        if n == 2 and bounds:
            bounds, lower, upper = {"d0": (0.6, None)}, np.array([0.6, 0]), np.ones(2)
        best = optimize_mixture(at(scale), domains=domains, bounds=bounds, starts=starts)
        np.testing.assert_allclose(best.weights, filled(scale, lower, upper), atol=1e-5)
        assert best.weights.sum() == pytest.approx(1, abs=1e-15)
        assert (best.weights >= lower).all() and (best.weights <= upper).all()
        assert best.violation <= 1e-15
        assert best.status == "converged" and best.certificate.convex and best.certificate.gap < 1e-5
        for limit in best.limits:
            assert limit.slack >= 0


def test_multipliers_are_the_gains_of_relaxing():
    scale = scales(5, 0)
    limits: dict[str, Any] = {"bounds": {"web": (0.35, None), "code": (None, 0.05)}}
    best = optimize_mixture(at(scale), domains=NAMES, starts=8, **limits)
    assert all(limit.binds and limit.multiplier > 0 for limit in best.limits)
    for name, moved, limit in (
        ("web", (0.35 - 1e-4, None), best.limits[0]),
        ("code", (None, 0.05 + 1e-4), best.limits[1]),
    ):
        looser: dict[str, Any] = {"bounds": {**limits["bounds"], name: moved}}
        relaxed = optimize_mixture(at(scale), domains=NAMES, starts=8, **looser)
        gain = (best.value.point - relaxed.value.point) / 1e-4
        assert gain == pytest.approx(limit.multiplier, rel=1e-2)


@pytest.mark.parametrize(
    "limits",
    [
        {"groups": {"g": (["web", "code"], None, 0.2)}},
        {"cost": ([1.0, 2.0, 3.0, 4.0, 5.0], 2.1), "fixed": {"wiki": 0.15}},
        {"kl": ([0.1, 0.1, 0.1, 0.1, 0.6], 0.05)},
        {"distance": ([0.1, 0.1, 0.1, 0.1, 0.6], 0.1), "bounds": {"math": (None, 0.55)}},
    ],
)
def test_limits_agree_with_slsqp(limits):
    scale = scales(5, 1)
    best = optimize_mixture(at(scale), domains=NAMES, starts=8, **limits)
    assert best.violation <= 1e-12 and best.status == "converged"
    cons = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    if "groups" in limits:
        cons.append({"type": "ineq", "fun": lambda w: 0.2 - w[0] - w[1]})
    if "cost" in limits:
        cons.append({"type": "ineq", "fun": lambda w: 2.1 - w @ np.arange(1.0, 6)})
        cons.append({"type": "eq", "fun": lambda w: w[3] - 0.15})
    prior = np.array([0.1, 0.1, 0.1, 0.1, 0.6])
    if "kl" in limits:
        cons.append({"type": "ineq", "fun": lambda w: 0.05 - np.sum(w * np.log(np.maximum(w, 1e-300) / prior))})
    if "distance" in limits:
        cons.append({"type": "ineq", "fun": lambda w: 0.1**2 - np.sum((w - prior) ** 2)})
    found = minimize(
        lambda w: np.sum(scale * (w + OFFSET) ** -0.3),
        prior,
        jac=lambda w: -0.3 * scale * (w + OFFSET) ** -1.3,
        bounds=[(0, 0.55 if "distance" in limits and i == 4 else 1) for i in range(5)],
        constraints=cons,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert best.value.point == pytest.approx(found.fun, abs=1e-6)
    assert best.certificate.gap < 1e-5


def test_corners_are_exact_zeros():
    scale = np.array([5.0, 4.0, 1e-4, 1e-4, 1e-4])
    best = optimize_mixture(at(scale), domains=NAMES, starts=8)
    assert best.weights[2:].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(best.weights, filled(scale, 0, 1), atol=1e-6)


def test_at_most_two_domains_is_the_best_pair():
    scale = scales(5, 2)
    best = optimize_mixture(at(scale), domains=NAMES, max_domains=2, starts=8)
    pairs = []
    for i in range(5):
        for j in range(i):
            upper = np.isin(np.arange(5), [i, j]) * 1.0
            w = filled(scale, 0.0, upper)
            pairs.append(np.sum(scale * (w + OFFSET) ** -0.3))
    assert np.count_nonzero(best.weights) == 2
    assert best.value.point == pytest.approx(min(pairs), abs=1e-6)


@pytest.mark.slow
def test_permuted_domains_permute_the_answer():
    scale, order = scales(5, 3), [3, 0, 4, 1, 2]

    def swapped(w):
        return power_law(jnp.asarray(scale), w[jnp.argsort(jnp.asarray(order))])

    limits = {"bounds": {"code": (None, 0.1)}, "groups": {"g": (["web", "math"], 0.5, None)}}
    one = optimize_mixture(at(scale), domains=NAMES, objective=single_set(0), starts=8, **limits)
    two = optimize_mixture(swapped, domains=[NAMES[i] for i in order], objective=single_set(0), starts=8, **limits)
    np.testing.assert_allclose(two.weights, one.weights[order], atol=1e-6)
    assert two.value.point == pytest.approx(one.value.point, abs=1e-9)


def test_a_bumpy_function_agrees_with_a_fine_lattice():
    def bumpy(w):
        return jnp.asarray([2.0 + jnp.sin(9 * w[0]) * jnp.cos(7 * w[1]) + 0.5 * jnp.sum(w**2)])

    best = optimize_mixture(bumpy, domains=["a", "b", "c"], starts=64)
    grid = np.asarray(jax.jit(jax.vmap(bumpy))(lattice(3, 200)))[:, 0]
    assert best.value.point <= grid.min() + 1e-12
    assert best.value.point == pytest.approx(grid.min(), abs=5e-3)
    assert not best.certificate.convex


def test_a_flat_objective_gives_some_feasible_mixture():
    best = optimize_mixture(
        lambda w: jnp.asarray([2.0 + 0.0 * w.sum()]), domains=NAMES, bounds={"web": (0.5, None)}, starts=4
    )
    assert best.violation <= 1e-15 and best.gain.point == 0.0 and np.isfinite(best.weights).all()


def test_everything_fixed_leaves_nothing_to_choose():
    fixed = {"web": 0.5, "code": 0.5, "books": 0.0, "wiki": 0.0}
    best = optimize_mixture(at(scales(5, 0)), domains=NAMES, fixed=fixed, starts=2)
    assert best.weights.tolist() == [0.5, 0.5, 0.0, 0.0, 0.0]


def test_awful_starts_reach_the_same_optimum():
    scale = jnp.asarray(scales(5, 4))
    region = barrier.simplex_region(5)

    def cost(w, args, smoothing):
        return jnp.mean(power_law(args, w))

    corner = jnp.full(5, 1e-12).at[2].set(1 - 4e-12)
    starts = jnp.stack([corner, jnp.roll(corner, 1), jnp.ones(5) / 5, jnp.full(5, 1e-3).at[0].set(0.996)])
    found = jax.jit(
        jax.vmap(lambda w: barrier.interior_finish(cost, barrier.nothing_inside, w, region, scale, jnp.asarray(1.0)))
    )(starts)
    assert (found.status == barrier.CONVERGED).all()
    np.testing.assert_allclose(found.weights, np.tile(filled(scale, 0, 1), (4, 1)), atol=1e-6)
    outside = barrier.interior_finish(
        cost, barrier.nothing_inside, jnp.array([1.5, -0.5, 0, 0, 0]), region, scale, jnp.asarray(1.0)
    )
    assert int(outside.status) == barrier.NOT_FINITE


RNG = np.random.default_rng(0)
SLOPES = RNG.normal(size=(20, 4))


class Linear:
    """Twenty draws of a linear law, so that risks are linear programs."""

    domains = ("a", "b", "c", "d")
    sets = ("one",)

    def __call__(self, w):
        return 3.0 + jnp.asarray(SLOPES).mean(0)[None] @ w

    def draws(self, w):
        return (3.0 + jnp.asarray(SLOPES) @ w)[:, None]


@pytest.mark.parametrize("risk", ["cvar", "worst"])
def test_risk_agrees_with_a_linear_program(risk):
    best = optimize_mixture(Linear(), risk=risk, tail=0.25, starts=8)
    m, tail = len(SLOPES), 0.25 if risk == "cvar" else 1 / len(SLOPES)
    # min t + sum s / (tail m), s >= 3 + A w - t
    cost = np.concatenate([np.zeros(4), [1.0], np.full(m, 1 / (tail * m))])
    table = np.concatenate([SLOPES, -np.ones((m, 1)), -np.eye(m)], 1)
    found = linprog(
        cost,
        table,
        np.full(m, -3.0),
        np.concatenate([np.ones(4), np.zeros(m + 1)])[None],
        [1.0],
        bounds=[(0, 1)] * 4 + [(None, None)] + [(0, None)] * m,
    )
    assert best.value.point == pytest.approx(found.fun, abs=1e-5)
    assert best.violation <= 1e-15
    np.testing.assert_allclose(best.weights, found.x[:4], atol=1e-3)


def test_intervals_and_probability_come_from_the_draws():
    best = optimize_mixture(Linear(), starts=4)
    drawn = 3.0 + SLOPES @ best.weights
    other = 3.0 + SLOPES @ best.reference
    assert best.weights[np.argmin(SLOPES.mean(0))] == 1.0
    np.testing.assert_allclose([best.losses.low[0], best.losses.high[0]], np.quantile(drawn, [0.05, 0.95]))
    np.testing.assert_allclose([best.gain.low, best.gain.high], np.quantile(other - drawn, [0.05, 0.95]))
    assert best.probability_better == np.mean(drawn < other)
    told = json.loads(json.dumps(best.to_dict(), allow_nan=False))
    assert told["weights"].keys() == set(Linear.domains) and told["gain"]["point"] > 0
    assert "  gain " in best.summary() and "reference" in best.summary()


def test_smooth_cvar_and_its_derivatives():
    costs = jnp.asarray(np.random.default_rng(1).normal(size=12))
    exact = np.sort(costs)[-3:].mean()
    assert float(objectives.smooth_cvar(costs, 1e-9, 0.25)) == pytest.approx(exact, abs=1e-7)

    value = jax.jit(lambda c: objectives.smooth_cvar(c, 0.3, 0.25))
    slope = jax.jit(jax.grad(value))
    step = 1e-5 * np.eye(12)
    np.testing.assert_allclose(slope(costs), [(value(costs + e) - value(costs - e)) / 2e-5 for e in step], atol=1e-8)
    curve = jax.jit(jax.jacfwd(slope))(costs)
    np.testing.assert_allclose(curve, [(slope(costs + e) - slope(costs - e)) / 2e-5 for e in step], atol=1e-8)
    assert float(slope(costs).sum()) == pytest.approx(1.0)


def test_objectives_say_what_they_mean():
    outcome = Outcome(jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, 0.7]))
    sets, tasks = ("x", "y", "z"), ("qa", "math")
    values = [
        (mean_loss(), 7 / 3),
        (mean_loss({"z": 1.0, "x": 3.0}), 1.75),
        (single_set("y"), 2.0),
        (single_set(2), 4.0),
        (mean_accuracy(), 0.6),
        (mean_accuracy({"math": 2.0}), 0.7),
        (custom(lambda out: out.losses[0] * jnp.asarray(out.accuracies)[1]), 0.7),
        (weighted_sum([(single_set("x"), 2.0), (mean_accuracy(), 10.0)]), 2.0 - 6.0),
    ]
    for objective, value in values:
        assert float(objective.bind(sets, tasks).value(outcome)) == pytest.approx(value), objective.label
    assert hash(mean_loss({"x": 1.0})) == hash(mean_loss({"x": 2.0}))
    with pytest.raises(ValueError, match=r"did you mean|unknown validation set"):
        single_set("w").bind(sets, tasks)
    with pytest.raises(ValueError, match="unknown task"):
        mean_accuracy({"y": 1.0}).bind(sets, tasks)
    with pytest.raises(ValueError, match="not negative"):
        mean_loss([1.0, -1.0])
    with pytest.raises(ValueError, match="all be zero"):
        mean_loss([0.0, 0.0])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"risk": "median"}, "risk must be"),
        ({"risk": "worst"}, "needs draws"),
        ({"tail": 0.0}, "tail"),
        ({"starts": 0}, "starts"),
        ({"reference": [0.5, 0.6, 0.0, 0.0, 0.0]}, "reference"),
        ({"objective": mean_accuracy()}, "needs benchmark accuracies"),
        ({"objective": custom(lambda out: out.losses)}, "one number"),
        ({"domains": None}, "domains are not known"),
    ],
)
def test_bad_options_are_refused(options, words):
    given: dict[str, Any] = {"domains": NAMES, **options}
    with pytest.raises(ValueError, match=words):
        optimize_mixture(at(scales(5, 0)), **given)


def test_contradictions_reach_the_caller():
    with pytest.raises(InfeasibleError, match=r"cap web <= 0.1 \+ cap code"):
        optimize_mixture(at(scales(5, 0)), domains=NAMES, bounds={name: (None, 0.1) for name in NAMES})


def test_near_optimal_set_of_a_bowl():
    def bowl(w):  # the third share does not matter beyond what the sum leaves it
        return 2.0 + jnp.array([[1.0, 1.0, 0.0]]) @ (w - 0.3) ** 2

    near = near_optimal(bowl, 0.01, domains=["a", "b", "c"], samples=64, starts=8)
    radius = np.sqrt(0.02)
    np.testing.assert_allclose(near.low[:2], 0.3 - radius, atol=1e-3)
    np.testing.assert_allclose(near.high[:2], 0.3 + radius, atol=1e-3)
    np.testing.assert_allclose([near.low[2], near.high[2]], 0.4 + np.array([-1, 1]) * np.sqrt(2) * radius, atol=1e-3)
    costs = 2.0 + np.sum((near.samples[:, :2] - 0.3) ** 2, 1)
    assert costs.max() <= near.level + 1e-12
    np.testing.assert_allclose(near.samples.sum(1), 1.0, atol=1e-12)
    assert near.samples.std(0).min() > 0.2 * radius  # spread out, not stuck at the start


def test_an_unidentified_direction_has_a_wide_range():
    def blind(w):  # web and code are interchangeable
        return jnp.asarray([2.0 + (w[0] + w[1] - 0.6) ** 2 + (w[2] - 0.4) ** 2])

    near = near_optimal(blind, 1e-4, domains=["web", "code", "wiki"], samples=32, starts=8)
    assert near.low[0] < 0.02 and near.high[0] > 0.58
    assert near.high[2] - near.low[2] < 0.05


def test_pareto_front_runs_between_the_two_optima():
    one, two = jnp.array([1.0, 0, 0]), jnp.array([0, 1.0, 0])

    def pull(w):
        return jnp.stack([2 + jnp.sum((w - one) ** 2), 2 + jnp.sum((w - two) ** 2)])

    front = pareto_front(pull, single_set(0), single_set(1), 5, domains=["a", "b", "c"], starts=8)
    # between two corners the front is their edge: distances sqrt(2) t and sqrt(2) (1 - t)
    t = np.sqrt((front.first - 2) / 2)
    np.testing.assert_allclose(np.sqrt((front.second - 2) / 2), 1 - t, atol=1e-5)
    assert len(t) == 5 and (np.diff(t) > 0.05).all() and t[0] == 0.0 and t[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(front.weights[:, 2], 0.0, atol=1e-4)  # its multiplier is zero: weakly active


def test_path_follows_the_optimum():
    def law(size, tokens):
        return at(np.array([1.0, float(size), 1.0, 1.0, 1.0]))

    path = optimum_path(law, [1.0, 2.0, 4.0], "1B", domains=NAMES, starts=8, supply={"web": 1e8})
    for size, w in zip([1.0, 2.0, 4.0], path.weights, strict=True):
        np.testing.assert_allclose(
            w, filled(np.array([1.0, size, 1, 1, 1]), 0.0, np.array([0.1, 1, 1, 1, 1])), atol=1e-6
        )
    with pytest.raises(ValueError, match="as many token counts"):
        optimum_path(law, [1.0, 2.0], [1e9, 2e9, 3e9])


def test_same_key_same_answer_and_nothing_new_compiles(monkeypatch):
    limit_traces(monkeypatch, search, "_search", static_argnames=("still", "goal", "n_starts", "finishers"))
    optimize_mixture(at(scales(5, 7)), domains=NAMES, starts=8)
    one = optimize_mixture(at(scales(5, 8)), domains=NAMES, starts=8, bounds={"web": (0.1, 0.4)})
    two = optimize_mixture(at(scales(5, 8)), domains=NAMES, starts=8, bounds={"web": (0.1, 0.4)})
    assert one.to_dict() == two.to_dict()


def test_violation_counts_every_kind_of_limit():
    from camel_jax.mixture.limits import parse_limits

    limits = parse_limits(NAMES, bounds={"web": (0.3, None)}, max_domains=2)
    assert violation(limits, np.array([0.1, 0.9, 0, 0, 0])) == pytest.approx(0.2)
    assert violation(limits, np.array([0.4, 0.4, 0.2, 0, 0])) == 1.0
    assert violation(limits, np.array([0.4, 0.6, 0, 0, 0])) == 0.0


def test_limits_are_made_once_and_serve_many_decisions():
    losses = lambda w: (2.0 + jnp.array([0.1, 0.2, 0.1]) @ (w + 0.05) ** -0.5)[None]  # noqa: E731
    names = ["web", "code", "wiki"]
    made = parse_limits(names, bounds={"code": (None, 0.3)})
    one = optimize_mixture(losses, domains=names, limits=made, starts=4)
    two = optimize_mixture(losses, domains=names, bounds={"code": (None, 0.3)}, starts=4)
    np.testing.assert_array_equal(one.weights, two.weights)
    with pytest.raises(ValueError, match="not both"):
        optimize_mixture(losses, domains=names, limits=made, bounds={"code": (None, 0.3)})
    with pytest.raises(ValueError, match="limits are for web, code, wiki"):
        optimize_mixture(losses, domains=["a", "b", "c"], limits=made)
