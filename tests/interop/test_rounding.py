"""Rounding to a lattice: sums are exact, limits hold, and nothing nearer was possible."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camel_jax.interop.options import Options
from camel_jax.interop.plan import Mixture, make_plan, read_mixture
from camel_jax.interop.rounding import Group, round_shares
from camel_jax.interop.targets import TARGETS, find_target


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=40), st.sampled_from([7, 100, 2048, 10**6, 10**12]))
@settings(max_examples=100, deadline=None)
def test_sum_is_exact_and_no_share_is_off_by_a_part(raw, lattice):
    shares = np.array(raw) / np.sum(raw)
    counts = np.array(round_shares(shares, lattice))
    assert counts.sum() == lattice and (counts >= 0).all()
    assert np.abs(counts - lattice * shares).max() < 1 + 1e-9 * lattice


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_nearest_of_all_that_limits_allow(seed):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(3))
    lattice = int(rng.integers(6, 15))
    caps = np.minimum(1, shares + rng.uniform(0, 0.3, 3))
    floors = np.maximum(0, shares - rng.uniform(0, 0.3, 3))
    total = shares[0] + shares[1]
    groups = [Group("a+b", (0, 1), max(0.0, total - 0.2), min(1.0, total + 0.05))]
    best = np.inf
    for a, b in itertools.product(range(lattice + 1), repeat=2):
        counts = np.array([a, b, lattice - a - b])
        inside = (counts >= np.ceil(lattice * floors - 1e-9)).all() and (
            counts <= np.floor(lattice * caps + 1e-9)
        ).all()
        group = np.ceil(lattice * groups[0].floor - 1e-9) <= a + b <= np.floor(lattice * groups[0].cap + 1e-9)
        if inside and group:
            best = min(best, np.abs(counts - lattice * shares).sum())
    limits: dict[str, Any] = {"floors": floors.tolist(), "caps": caps.tolist(), "groups": groups}
    if np.isinf(best):
        with pytest.raises(ValueError, match="finer --lattice"):
            round_shares(shares.tolist(), lattice, **limits)
    else:
        counts = np.array(round_shares(shares.tolist(), lattice, **limits))
        assert counts.sum() == lattice
        np.testing.assert_allclose(np.abs(counts - lattice * shares).sum(), best, atol=1e-6)


def test_naive_rounding_breaks_the_cap_where_this_does_not():
    shares, cap = [0.30000, 0.70000], 0.3
    assert round(2048 * 0.3) / 2048 <= cap
    shares = [0.2999, 0.7001]
    naive = round(10 * shares[0]) / 10
    assert naive > 0.2999
    counts = round_shares(shares, 10, caps=[0.2999, 1])
    assert counts == [2, 8]


def test_supply_is_never_exceeded():
    rng = np.random.default_rng(1)
    for _ in range(200):
        weights = rng.dirichlet(np.ones(5))
        tokens = float(rng.uniform(1e10, 1e12))
        supply = {f"d{k}": weights[k] * tokens for k in range(4)}  # the search stood at every limit
        mixture = Mixture({f"d{k}": float(w) for k, w in enumerate(weights)}, tokens, supply=supply, max_epochs=1.0)
        plan = make_plan(mixture, 2048)
        assert sum(plan.counts) == 2048
        for name in set(supply) & set(plan.domains):
            assert plan.tokens_of(name) <= supply[name] * (1 + 1e-9)


def test_random_draws_stay_below_supply():
    mixture = Mixture({"a": 0.5, "b": 0.5}, 1e9, supply={"a": 5e8}, max_epochs=1.0)
    plan = make_plan(mixture, 10**6, random_sequences=100_000)
    assert any("lowered" in warning for warning in plan.warnings)
    drawn = np.random.default_rng(0).binomial(100_000, plan.shares["a"], 2000)
    assert (drawn <= 50_000).mean() > 0.999  # half of such trainings would run over with a share of 0.5
    assert (np.random.default_rng(0).binomial(100_000, 0.5, 2000) > 50_000).mean() > 0.4


def test_refusals():
    with pytest.raises(ValueError, match=r"2 epochs.*--max-epochs"):
        make_plan(Mixture({"a": 1.0}, 1e9, supply={"a": 5e8}, max_epochs=1.0), 2048)
    with pytest.raises(ValueError, match="give --tokens"):
        make_plan(Mixture({"a": 1.0}, supply={"a": 5e8}), 2048)
    with pytest.raises(ValueError, match=r"a 0\.5, against its largest share 0\.4"):
        make_plan(Mixture({"a": 0.5, "b": 0.5}, caps={"a": 0.4}), 2048)
    with pytest.raises(ValueError, match="finer --lattice"):
        round_shares([0.101, 0.899], 10, floors=[0.101, 0], caps=[0.15, 1])
    with pytest.raises(ValueError, match="there are olmo-core"):
        find_target("word")


def test_warnings_where_rounding_matters():
    plan = make_plan(Mixture({"a": 0.9998, "b": 0.0002}), 2048)
    assert plan.domains == ("a",) and "b is lost" in plan.warnings[0]
    plan = make_plan(Mixture({"a": 0.98, "b": 0.02}), 64)
    assert "b goes from 0.02 to 0.01562 (-21.9%)" in plan.warnings[0]
    plan = make_plan(Mixture({"a": 0.5, "b": 0.5}, 1e9, supply={"a": 4.95e8}), 2048)
    assert "a runs a little into another epoch (1.01)" in plan.warnings[0]
    assert not make_plan(Mixture({"a": 0.5, "b": 0.5}), 2048).warnings


def test_limits_of_the_search_are_read_from_its_file(tmp_path):
    from camel_jax.mixture.limits import parse_limits

    limits = parse_limits(
        ["web", "code", "books"],
        bounds={"code": (0.05, 0.3)},
        groups={"web+books": (["web", "books"], 0.2, 0.9)},
        supply={"books": 1.23456789e10},
        tokens=1e11,
        max_epochs=2.0,
    )
    names = ", ".join(f'{{"name": "{item.name}"}}' for item in limits.items)
    path = tmp_path / "mixture.json"
    share = 2 * 1.23456789e10 / 1e11
    path.write_text(
        f'{{"tokens": 1e11, "weights": {{"web": {0.7 - share}, "code": 0.3, "books": {share}}}, "limits": [{names}]}}'
    )
    mixture = read_mixture(path)
    assert mixture.caps == {"code": 0.3} and mixture.floors == {"code": 0.05} and mixture.max_epochs == 2.0
    assert [group[1:] for group in mixture.groups] == [(("web", "books"), 0.2, 1.0), (("web", "books"), 0.0, 0.9)]
    plan = make_plan(mixture, 2048)
    assert plan.shares["code"] <= 0.3 and plan.tokens_of("books") <= 2 * 1.23456789e10


@pytest.mark.parametrize("name", TARGETS)
def test_every_format_is_written(name):
    target = TARGETS[name]
    mixture = Mixture({"a b": 0.5, "ü/:#": 0.3, "yes": 0.2}, 1e9, supply={"a b": 4e8, "ü/:#": 1e9, "yes": 1e9})
    paths = {"a b": ("x",), "ü/:#": ("y",), "yes": ("z",)}
    options = Options(paths, documents={"a b": 10, "ü/:#": 10, "yes": 10})
    text = target.write(make_plan(mixture, target.lattice), options)
    assert text.endswith("\n")
    if target.suffix == ".yaml":
        yaml = pytest.importorskip("yaml")
        assert isinstance(yaml.safe_load(text), dict)
