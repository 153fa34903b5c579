"""What relaxing a limit gains: against solving again by other means, where limits overlap, and where domains are counted."""

import importlib.util
import itertools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from camel_jax.mixture.limits import parse_limits
from camel_jax.mixture.objectives import mean_loss, single_set
from camel_jax.mixture.optimality import multipliers
from camel_jax.mixture.optimize import optimize_mixture
from camel_jax.mixture.pareto import pareto_front
from camel_jax.mixture.relaxing import relaxed_limits
from camel_jax.reports.card import bound, certificate_text

NAMES = ["web", "code", "books", "wiki", "math"]
OFFSET = 0.02
SCALE = np.exp(0.8 * np.random.default_rng(5).normal(size=5))


def losses(scale, weights):
    """Separable, so that optima within floors and caps are known in closed form."""
    return jnp.sum(scale * (weights + OFFSET) ** -0.3)[None]


def at(scale):
    return jax.tree_util.Partial(losses, jnp.asarray(scale))


def least(scale, lower, upper):
    """The least loss within floors and caps, by bisection on the level of the slopes."""
    pull = scale ** (1 / 1.3)
    low, high, level = 1e-9, 1e9, 1.0
    for _ in range(200):
        low, high = (level, high) if np.clip(level * pull - OFFSET, lower, upper).sum() < 1 else (low, level)
        level = np.sqrt(low * high)
    w = np.clip(level * pull - OFFSET, lower, upper)
    return np.sum(scale * (w + OFFSET) ** -0.3)


def best_support(scale, k):
    """The least loss on any k domains."""
    sets = itertools.combinations(range(len(scale)), k)
    return min(least(scale, 0.0, np.isin(np.arange(len(scale)), one) * 1.0) for one in sets)


def by_name(result):
    return {limit.name: limit for limit in result.limits}


def test_gains_are_those_of_solving_again_and_multipliers_those_of_small_steps():
    best = optimize_mixture(at(SCALE), domains=NAMES, bounds={"web": (0.35, None), "code": (None, 0.02)}, starts=8)
    lower, upper = np.array([0.35, 0, 0, 0, 0]), np.array([1, 0.02, 1, 1, 1])
    now = least(SCALE, lower, upper)
    for name, sides, sign in (("floor web >= 0.35", lower, -1.0), ("cap code <= 0.02", upper, 1.0)):
        index, limit = (0 if sign < 0 else 1), by_name(best)[name]
        for step, said in ((0.01, limit.gain), (1e-4, 1e-4 * limit.multiplier)):
            moved = sides.copy()
            moved[index] += sign * step
            again = least(SCALE, *((moved, upper) if sign < 0 else (lower, moved)))
            assert said == pytest.approx(now - again, rel=0.02)
        assert limit.step == pytest.approx(0.01) and not limit.at_least
        assert f"{limit.gain:.3g}" in limit.relaxing()


def test_limits_that_overlap_gain_nothing_alone():
    limits = {
        "bounds": {"web": (None, 0.03)},
        "groups": {"g": (["web"], None, 0.03), "h": (["code", "books"], 0.6, 0.6)},
    }
    best = by_name(optimize_mixture(at(SCALE), domains=NAMES, starts=8, **limits))
    for name in ("cap web <= 0.03", "cap group g <= 0.03"):
        assert best[name].binds and best[name].multiplier == pytest.approx(0.0, abs=1e-6)
        assert best[name].gain == pytest.approx(0.0, abs=1e-7)
    sides = best["floor group h >= 0.6"], best["cap group h <= 0.6"]
    assert min(side.gain for side in sides) == 0.0 and max(side.gain for side in sides) > 1e-3
    assert min(side.multiplier for side in sides) == pytest.approx(0.0, abs=1e-6)


def test_a_limit_on_the_number_of_domains_has_a_gain_and_leaves_the_others_theirs():
    best = optimize_mixture(at(SCALE), domains=NAMES, max_domains=2, bounds={"web": (0.4, None)}, starts=8)
    found = by_name(best)
    used = np.flatnonzero(best.weights)
    allowed = np.isin(np.arange(5), used) * 1.0
    floor = np.array([0.4, 0, 0, 0, 0])
    now = least(SCALE, floor, allowed)
    assert best.value.point == pytest.approx(now, abs=1e-7)
    again = least(SCALE, np.array([0.39, 0, 0, 0, 0]), allowed)
    limit = found["floor web >= 0.4"]
    assert limit.gain == pytest.approx(max(now - again, 0.0), rel=0.01, abs=1e-7)
    count = found["at most 2 domains"]
    more = [least(SCALE, floor, np.maximum(allowed, np.eye(5)[j])) for j in range(5) if j not in used]
    assert count.binds and count.at_least and count.step == 1.0
    assert count.gain == pytest.approx(now - min(more), rel=0.01)
    assert "nan" not in best.summary() and "with one more, mean loss improves by at least" in best.summary()
    assert best.certificate.exhaustive and best.certificate.gap < 1e-6


@pytest.mark.slow
def test_more_sets_of_domains_than_can_be_tried():
    scale = np.exp(0.8 * np.random.default_rng(8).normal(size=10))
    names = [f"d{i}" for i in range(10)]
    best = optimize_mixture(at(scale), domains=names, max_domains=4, starts=8, relax=0.0)
    assert np.count_nonzero(best.weights) == 4 and best.violation < 1e-12  # of 210 sets
    assert best.value.point == pytest.approx(best_support(scale, 4), rel=1e-6)
    assert not best.certificate.exhaustive
    assert "nothing is proved about the others" in certificate_text(best.certificate, float(best.gain.point))


def test_a_fixed_share_gains_to_its_better_side():
    best = optimize_mixture(at(SCALE), domains=NAMES, fixed={"web": 0.5}, starts=8)
    (limit,) = best.limits

    def fixed(share):
        side = np.array([share, 0, 0, 0, 0]), np.array([share, 1, 1, 1, 1])
        return least(SCALE, *side)

    gain = fixed(0.5) - min(fixed(0.49), fixed(0.51))
    assert limit.gain == pytest.approx(gain, rel=0.01)
    assert limit.multiplier == pytest.approx((fixed(0.5) - min(fixed(0.4999), fixed(0.5001))) / 1e-4, rel=0.01)


def test_nothing_is_solved_again_unless_asked():
    best = optimize_mixture(at(SCALE), domains=NAMES, bounds={"web": (0.35, None)}, starts=8, relax=0.0)
    assert np.isnan(best.limits[0].gain) and best.limits[0].relaxing() == ""
    (line,) = [line.split() for line in best.summary().splitlines() if "floor web >= 0.35" in line]
    assert line[-1] == "-"
    with pytest.raises(ValueError, match="relax must not be negative"):
        optimize_mixture(at(SCALE), domains=NAMES, starts=8, relax=-1.0)


def test_a_domain_that_is_shut_may_have_any_slope():
    limits = parse_limits(NAMES, max_domains=2, bounds={"web": (0.6, None)})
    weights = np.array([0.6, 0.4, 0.0, 0.0, 0.0])
    slope = np.array([-1.0, -2.0, -9.0, -9.0, 3.0])  # books and wiki would be better, and may not be used
    found = multipliers(limits, weights, slope, weights == 0)
    assert found.bindings[0][3] == pytest.approx(1.0) and found.residual < 1e-12 and found.gap < 1e-12
    assert found.bindings[1][2] and np.isnan(found.bindings[1][3])


@pytest.mark.parametrize(
    "limits, value, step",
    [
        ({"bounds": {"web": (0.005, None)}}, 0.0, 0.005),
        ({"bounds": {"web": (None, 0.2)}}, 0.21, 0.01),
        ({"bounds": {"web": (None, 1.0)}}, 1.0, 0.0),
        ({"groups": {"g": (["web", "code"], 0.3, None)}}, -0.29, 0.01),
        ({"cost": ([1, 2, 3, 4, 5], 2.0)}, 2.01, 0.01),
        ({"kl": ([0.2] * 5, 0.1)}, 0.11, 0.01),
        ({"max_domains": 3}, 4.0, 1.0),
    ],
)
def test_relaxed_limits(limits, value, step):
    new, moved = relaxed_limits(parse_limits(NAMES, **limits), 0, 0.01)
    assert new.items[0].value == pytest.approx(value) and moved == pytest.approx(step)


def test_all_domains_but_one_becomes_all_domains():
    assert relaxed_limits(parse_limits(NAMES, max_domains=4), 0, 0.01)[0].items == ()


def test_a_bound_larger_than_the_gain_is_said_to_prove_nothing():
    assert "proves nothing" in bound(0.1, 0.001)
    assert "1.5 times" in bound(0.0005, 0.001)
    assert "0.1 % of the gain" in bound(1e-6, 0.001)


def test_a_law_that_is_steep_at_zero_has_its_multipliers_and_its_certificate():
    size = np.array([1.0, 0.8, 0.5, 3e-5, 1e-5])  # the last two shares are next to nothing, and the slope there is huge

    def steep(w):
        return (3.0 - jnp.sum(jnp.asarray(size) * jnp.sqrt(w + 1e-14)))[None]

    best = optimize_mixture(steep, domains=NAMES, bounds={"web": (None, 0.3)}, starts=8)
    cap = best.limits[0]

    def least(cap):
        return 3.0 - size[0] * np.sqrt(cap) - np.sqrt((1 - cap) * np.sum(size[1:] ** 2))

    assert best.value.point == pytest.approx(least(0.3), abs=1e-6)
    assert cap.gain == pytest.approx(least(0.3) - least(0.31), rel=0.02)
    assert cap.multiplier == pytest.approx((least(0.3) - least(0.3001)) / 1e-4, rel=0.02)
    assert best.certificate.gap < 1e-5


@pytest.mark.slow
def test_random_limits_on_planted_laws():
    path = pathlib.Path(__file__).parents[2] / "benchmarks" / "decisions" / "multipliers.py"
    spec = importlib.util.spec_from_file_location("multipliers_study", path)
    assert spec is not None and spec.loader is not None
    study = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(study)
    finally:
        sys.path[:] = before
    files = [study.judge(seed, 8) for seed in range(1, 36, 3)]  # those on SODM
    told = [row for file in files for row in file["told"]]
    assert len(told) > 10
    assert [row for row in told if not row["right"]] == []
    assert study.summarize(files)["violated"] == 0


def test_a_front_over_more_sets_of_domains_than_can_be_tried_is_refused():
    with pytest.raises(ValueError, match="a front needs one set of domains"):
        pareto_front(
            at(np.ones(10)), single_set(0), mean_loss(), 3, domains=[f"d{i}" for i in range(10)], max_domains=4
        )
