"""Where measured mixtures lie: hull and bounds against slow obvious forms, and decisions that keep to them."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize

import camel_jax as cj
from camel_jax.prediction.measured import away_from, none_mix, thin, within_measured


def slow_hull_distance(known, w):
    """The nearest point of a hull by a general solver on the simplex of its corners."""
    start = np.full(len(known), 1 / len(known))
    found = minimize(
        lambda a: np.sum((a @ known - w) ** 2),
        start,
        bounds=[(0, 1)] * len(known),
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return np.sqrt(found.fun)


@pytest.mark.parametrize(("domains", "count"), [(3, 4), (5, 8)])
def test_hull_distance_agrees_with_a_general_solver(domains, count):
    rng = np.random.default_rng(0)
    known, others = rng.dirichlet(np.full(domains, 3.0), count), rng.dirichlet(np.full(domains, 0.5), 6)
    away = away_from(known, others)
    slow = [slow_hull_distance(known, w) for w in others]
    np.testing.assert_allclose(away.hull, slow, atol=1e-5)
    assert (away.hull > 1e-3).any()
    np.testing.assert_allclose(away.nearest, [min(np.linalg.norm(m - w) for m in known) for w in others])


def test_mixtures_of_measured_ones_are_inside_and_measured_ones_are_at_no_distance():
    rng = np.random.default_rng(1)
    known = rng.dirichlet(np.ones(4), 7)
    inside = rng.dirichlet(np.ones(7), 5) @ known
    assert away_from(known, inside).hull.max() < 1e-9
    assert away_from(known, known).nearest.max() == 0.0 == away_from(known, known).hull.max()
    one = away_from(known[:1], known[1])
    assert one.hull[0] == pytest.approx(one.nearest[0]) == pytest.approx(np.linalg.norm(known[0] - known[1]))


def test_thinned_mixtures_keep_the_smallest_and_largest_shares():
    known = np.random.default_rng(2).dirichlet(np.ones(5), 80)
    few = thin(known, 30)
    assert len(np.unique(few, axis=0)) == len(few) == 30
    np.testing.assert_array_equal(few.min(0), known.min(0))
    np.testing.assert_array_equal(few.max(0), known.max(0))
    np.testing.assert_array_equal(thin(known, 80), known)
    assert len(thin(known, 4)) == 4  # fewer than there are ends


def test_a_table_mixes_unless_all_its_runs_have_one_domain():
    assert none_mix(np.eye(3)) and not none_mix([[0.4, 0.6], [1.0, 0.0]])
    assert not none_mix(np.ones((4, 1)))  # of one domain there is nothing to mix


def test_bounds_keep_a_decision_to_what_was_measured_and_a_contradiction_names_both():
    known = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.4, 0.4, 0.2], [0.4, 0.2, 0.4]])
    names = ("web", "code", "wiki")
    measured = within_measured(SimpleNamespace(domains=names, discrepancy=SimpleNamespace(mixtures=known)))
    assert measured == {"web": (0.2, 0.5), "code": (0.2, 0.6), "wiki": (0.2, 0.4)}
    limits = cj.parse_limits(names, measured=measured)
    assert [limit.name for limit in limits.items][:2] == [
        "smallest measured share of web >= 0.2",
        "largest measured share of web <= 0.5",
    ]
    code_helps = lambda w: (2.0 - w[1])[None]  # noqa: E731
    best = cj.optimize_mixture(code_helps, domains=names, measured=measured, starts=2)
    np.testing.assert_allclose(best.weights, [0.2, 0.6, 0.2], atol=1e-6)
    both = cj.optimize_mixture(code_helps, domains=names, measured=measured, bounds={"code": (None, 0.5)}, starts=2)
    assert both.weights[1] == pytest.approx(0.5, abs=1e-6) and both.weights[0] <= 0.5 + 1e-9
    with pytest.raises(cj.InfeasibleError) as refused:
        cj.optimize_mixture(code_helps, domains=names, measured=measured, bounds={"wiki": (0.5, None)}, starts=2)
    assert "floor wiki >= 0.5" in str(refused.value)
    assert "largest measured share of wiki <= 0.4" in str(refused.value)


def test_a_share_that_never_changed_stays_and_bounds_of_nothing_are_left_out():
    names = ("web", "code")
    assert not cj.parse_limits(names, measured={"web": (0.0, 1.0)}).items
    fixed = {"web": (0.4, 0.4), "code": (0.6, 0.6)}
    best = cj.optimize_mixture(lambda w: w[:1], domains=names, measured=fixed, starts=2)
    np.testing.assert_allclose(best.weights, [0.4, 0.6], atol=1e-9)
    with pytest.raises(ValueError, match="measured share of web"):
        cj.parse_limits(names, measured={"web": (0.1, 1.2)})
    with pytest.raises(ValueError, match="unknown domain 'news'"):
        cj.parse_limits(names, measured={"news": (0.1, 0.2)})
