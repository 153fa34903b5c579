"""Limits: reading them, naming contradictions, finding an inner point, settling on those that bind."""

import numpy as np
import pytest

from camel_jax.mixture.feasibility import InfeasibleError, find_conflicts
from camel_jax.mixture.limits import parse_limits, violation
from camel_jax.mixture.optimality import multipliers, settle
from camel_jax.mixture.regions import feasible_region, regions

ABCD = ["web", "code", "books", "wiki"]


def conflicts(**limits):
    with pytest.raises(InfeasibleError) as info:
        feasible_region(parse_limits(ABCD, **limits))
    for names in info.value.conflicts:
        for name in names:
            assert name in str(info.value)
    return [set(names) for names in info.value.conflicts]


@pytest.mark.parametrize(
    "limits, words",
    [
        ({"bounds": {"cod": (0.1, 0.2)}}, "did you mean 'code'"),
        ({"bounds": {"code": (10, 20)}}, "floor of code: 10 is not a share"),
        ({"bounds": {"code": (float("nan"), None)}}, "not a share"),
        ({"bounds": {"code": ("a", None)}}, "not a number"),
        ({"bounds": {"code": 0.3}}, r"give \(floor, cap\)"),
        ({"groups": {"g": ("web", 0, 1)}}, "group g"),
        ({"groups": {"g": (["web", "x"], 0, 1)}}, "group g: unknown domain 'x'"),
        ({"fixed": {"code": -0.1}}, "fixed share of code"),
        ({"supply": {"code": 1e9}}, "training tokens"),
        ({"supply": {"code": -1.0}, "tokens": 1e9}, "negative"),
        ({"supply": {"code": 1e9}, "tokens": 1e9, "max_epochs": 0}, "max_epochs"),
        ({"kl": ([0.5, 0.5, 0.5, 0.5], 0.1)}, "sum to 1"),
        ({"kl": ([0.25] * 4, 0.0)}, "above zero"),
        ({"kl": ([0.5, 0.5], 0.1)}, "4 numbers"),
        ({"cost": ({"web": np.inf}, 1.0)}, "finite"),
        ({"max_domains": 0}, "max_domains"),
        ({"max_domains": 1.5}, "max_domains"),
    ],
)
def test_nonsense_is_refused_with_its_name(limits, words):
    with pytest.raises(ValueError, match=words):
        parse_limits(ABCD, **limits)


def test_three_contradictions_are_all_named():
    found = conflicts(
        bounds={"web": (0.4, 0.3), "code": (None, 0.2)},
        groups={"text": (["books", "wiki"], 0.35, 0.3)},
        fixed={"code": 0.25},
    )
    assert {"floor web >= 0.4", "cap web <= 0.3"} in found
    assert {"cap code <= 0.2", "fixed code = 0.25"} in found
    assert {"floor group text >= 0.35", "cap group text <= 0.3"} in found


def test_caps_below_one_and_floors_above_one():
    assert conflicts(bounds={name: (None, 0.2) for name in ABCD}) == [{f"cap {name} <= 0.2" for name in ABCD}]
    found = conflicts(bounds={"web": (0.6, None), "code": (0.5, None), "books": (0.0, 0.9)})
    assert found == [{"floor web >= 0.6", "floor code >= 0.5"}]


def test_conflicts_are_minimal():
    limits = parse_limits(
        ABCD, bounds={"web": (0.5, None), "code": (0.3, None), "wiki": (0.05, 0.5)}, cost=([4, 3, 1, 1], 2.0)
    )
    found, complete = find_conflicts(limits)
    assert complete
    for names in found:
        for dropped in names:
            kept = [item for item in limits.items if item.name in names and item.name != dropped]
            region = feasible_region(type(limits)(limits.domains, tuple(kept)))
            assert violation(type(limits)(limits.domains, tuple(kept)), region.center) < 1e-9


def test_supply_kl_distance_and_count_take_part():
    assert any(
        "supply" in name
        for names in conflicts(bounds={"code": (0.3, None)}, supply={"code": 1e9}, tokens=1e11, max_epochs=4)
        for name in names
    )
    assert conflicts(kl=([0.1, 0.3, 0.3, 0.3], 0.01), fixed={"web": 0.5}) == [
        {"KL to the prior <= 0.01", "fixed web = 0.5"}
    ]
    assert conflicts(kl=([0, 0.4, 0.3, 0.3], 1.0), fixed={"web": 0.5}) == [{"KL to the prior <= 1", "fixed web = 0.5"}]
    assert conflicts(distance=([0.1, 0.3, 0.3, 0.3], 0.1), fixed={"web": 0.5}) == [
        {"distance <= 0.1", "fixed web = 0.5"}
    ]
    found = conflicts(max_domains=2, bounds={name: (None, 0.4) for name in ABCD})
    assert {"at most 2 domains", *(f"cap {name} <= 0.4" for name in ABCD)} in found
    assert conflicts(max_domains=2, bounds={name: (0.1, None) for name in ABCD[:3]}) == [
        {"at most 2 domains", *(f"floor {name} >= 0.1" for name in ABCD[:3])}
    ]


def test_supply_becomes_a_cap():
    limits = parse_limits(ABCD, supply={"code": "20B", "web": np.inf}, tokens="1T", max_epochs=4)
    (limit,) = limits.items
    assert limit.value == pytest.approx(0.08)
    assert parse_limits(ABCD, supply={"code": 0.0}, tokens=1e9).items[0].value == 0.0


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"bounds": {"web": (0.1, 0.1 + 1e-7)}},
        {"fixed": {"web": 0.3, "wiki": 0.0}},
        {"bounds": {"web": (None, 0.3), "code": (None, 0.3)}, "groups": {"g": (["web", "code"], 0.6, None)}},
        {"groups": {"g": (["web", "code"], 0.5, 0.5), "h": (["code", "books"], 0.2, 0.4)}},
        {"kl": ([0.7, 0.1, 0.1, 0.1], 0.02), "bounds": {"web": (None, 0.65)}},
        {"kl": ([0.7, 0.3, 0.0, 0.0], 0.1), "distance": ([0.6, 0.4, 0.0, 0.0], 0.2)},
        {"cost": ([1, 5, 2, 2], 1.5)},
        {"fixed": {"web": 0.25, "code": 0.25, "books": 0.25}},
    ],
)
def test_the_inner_point_is_strictly_inside(limits):
    named = parse_limits(ABCD, **limits)
    region = feasible_region(named)
    assert violation(named, region.center) < 1e-12
    free = region.free
    assert (region.center[free] > region.lower[free]).all() and (region.center[free] < region.upper[free]).all()
    assert (region.rows @ region.center < region.limits).all()
    np.testing.assert_allclose(region.equal @ region.equal.T, np.eye(len(region.equal)) * free.any(), atol=1e-12)


def test_implied_equalities_are_recognised():
    region = feasible_region(
        parse_limits(ABCD, bounds={"web": (None, 0.3), "code": (None, 0.3)}, groups={"g": (["web", "code"], 0.6, None)})
    )
    assert region.free.tolist() == [False, False, True, True]
    np.testing.assert_allclose(region.center[:2], 0.3, atol=1e-12)


def test_one_region_per_choice_of_domains():
    found = regions(parse_limits(ABCD, max_domains=2, bounds={"web": (0.1, None)}))
    assert len(found) == 3  # web must be one of the two
    assert all((region.center > 0).sum() == 2 and region.center[0] >= 0.1 for region in found)


def test_settling_is_exact():
    limits = parse_limits(ABCD, bounds={"web": (0.1, 0.3)}, groups={"g": (["code", "books"], None, 1 / 3)})
    region = feasible_region(limits)
    rough = np.array([0.3 - 1e-8, 0.1, 1 / 3 - 0.1 - 1e-8, 0.3666666866666])
    upper = np.array([True, False, False, False])
    w = settle(rough, region, limits, ~upper & False, upper, [0])
    assert w[0] == 0.3
    assert w[1] + w[2] == pytest.approx(1 / 3, abs=1e-15)
    assert violation(limits, w) <= 1e-16


def test_multipliers_of_a_linear_cost():
    limits = parse_limits(ABCD, bounds={"web": (None, 0.4), "wiki": (0.1, None)})
    slope = np.array([1.0, 2.0, 3.0, 4.0])
    weights = np.array([0.4, 0.5, 0.0, 0.1])
    bindings, residual, gap = multipliers(limits, weights, slope)
    assert [(b[0], b[2]) for b in bindings] == [("cap web <= 0.4", True), ("floor wiki >= 0.1", True)]
    np.testing.assert_allclose([b[3] for b in bindings], [1.0, 2.0], atol=1e-12)
    assert residual < 1e-12 and gap < 1e-12
    worse = multipliers(limits, np.array([0.3, 0.6, 0.0, 0.1]), slope)
    assert worse[2] == pytest.approx(0.1)
