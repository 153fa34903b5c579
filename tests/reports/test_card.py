"""The evidence card: what it says of back-tests, of mixtures and of targets, each where it holds and not where it does not."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting.backtest import BackTest
from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.reports.card import UNSURE, better_in_draws, evidence_card

KEY = jax.random.key(0)
KNOWN = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.4, 0.4, 0.2]])


def fit_of(backtests=(), mixtures=KNOWN, diagnostics=None):
    """What a card reads of a fit."""
    return SimpleNamespace(
        backtests=backtests,
        discrepancy=SimpleNamespace(mixtures=np.asarray(mixtures)),
        diagnostics=diagnostics,
        domains=("web", "code", "wiki"),
        size_range=(1e7, 1e8),
        tokens_range=(1e9, 2e9),
    )


def told(*arguments, **options):
    return "\n".join(evidence_card(*arguments, **options))


def test_back_tests_are_told_with_coverage_and_what_a_blind_law_gets():
    seen = BackTest(1e8, 0.012, 0.87, 0.02, blind_error=0.031)
    card = told(fit_of((BackTest(3e7, 0.02, 0.95, 0.03), seen)))
    assert "fitted below 100M" in card and "off by 1.20 %" in card and "87 % of the losses" in card
    assert "30M (2.00 %, 95 % inside)" in card
    assert "off by 3.10 %" in card and "does not show" not in card


def test_a_law_no_better_than_blind_is_said_to_have_shown_nothing():
    card = told(fit_of((BackTest(1e8, 0.012, 0.87, 0.02, blind_error=0.011),)))
    assert "this table does not show that the law sees mixtures" in card and "1.10 %" in card
    assert "does not show" in told(fit_of((BackTest(1e8, 0.012, 0.87, 0.02),)))


def test_without_back_tests_the_reason_stands_there():
    card = told(fit_of())
    assert "fewer than three sizes" in card and "other tables" in card
    assert "nothing was measured" in told(fit_of((BackTest(1e8),)))


def test_unmixed_tables_and_tables_of_one_mixture_say_so():
    seen = (BackTest(1e8, 0.012, 0.87, 0.02, blind_error=0.031),)
    assert "no run of the table mixes domains" in told(fit_of(seen, np.eye(3)))
    assert "the table has one" in told(fit_of(seen, KNOWN[:1]))
    assert better_in_draws(float("nan")) == UNSURE and better_in_draws(1.0) == "better in 100 % of draws"


def test_targets_are_told_in_units_of_the_table():
    assert "target" not in told(fit_of())
    far = told(fit_of(), "1B", "4B")
    assert "10 times the largest fitted size, 100M" in far and "2 times the most fitted tokens, 2B" in far
    assert "little tested" in far and "little tested" not in told(fit_of(), 2e8, 2e9)
    assert "size within what was fitted; tokens within what was fitted" in told(fit_of(), "50M", "1B")
    assert "1/10 of the smallest fitted size, 10M" in told(fit_of(), "1M")


def test_shares_beyond_the_measured_and_distances_are_told():
    inside = told(fit_of(), weights=KNOWN.mean(0))
    assert "the mixture lies inside the hull of 3 measured mixtures" in inside and "shares beyond" not in inside
    outside = told(fit_of(), weights=[0.1, 0.8, 0.1])
    assert "code 80.0 % (at most 60.0 % was measured)" in outside
    assert "web 10.0 % (at least 20.0 % was measured)" in outside
    assert (
        f"{np.linalg.norm([0.1, 0.2, 0.1]):.2g} outside the hull" in outside
    )  # web, code and wiki to the second mixture
    several = told(fit_of(), weights=[[0.4, 0.4, 0.2], [0.1, 0.8, 0.1]])
    assert "the farthest mixture lies" in several and "code 80.0 %" in several
    assert "the mixture is one of the 3 measured mixtures" in told(fit_of(), weights=KNOWN[1])
    assert "from the one measured mixture" in told(fit_of(mixtures=KNOWN[:1]), weights=KNOWN[1])


def test_the_posterior_and_certificates_are_told():
    assert "posterior: 2 chains x 50 draws" in told(fit_of(diagnostics=Diagnostics("nuts", 2, 50)))
    losses = lambda w: (2.0 + 0.1 * (w + 0.05) ** -0.5).sum()[None]  # noqa: E731
    best = cj.optimize_mixture(losses, domains=["web", "code", "wiki"], reference=[0.6, 0.2, 0.2], starts=2)
    card = evidence_card(fit_of(), results=[best])
    assert card[-1].startswith("optimum: ") and "of the gain" in card[-1]
    assert "lies" in card[-2]  # the mixture of the result
    worse = dataclasses.replace(best, certificate=best.certificate._replace(gap=10.0))
    assert "proves nothing" in evidence_card(fit_of(), results=[best, worse])[-1]
    assert "the weakest certificate of 2 optima" in evidence_card(fit_of(), results=[best, worse])[-1]


@pytest.mark.slow
def test_draws_of_a_fit_without_mixed_runs_say_nothing_of_mixtures():
    table = simulate.study(KEY, n_domains=2, n_mixtures=4, sizes=(1e7, 1e8), checkpoints=2)
    mixed = cj.fit(laws.dml(), table, key=KEY, starts=1, backtests=0)
    shares = np.eye(2)[np.asarray(table.run) % 2]
    apart = dataclasses.replace(table, recipe=dataclasses.replace(table.recipe, weights=shares))
    unmixed = cj.fit(laws.dml(), apart, key=KEY, starts=1, backtests=0)
    one, other = (cj.optimize_mixture(f.losses_at("1B", "10B"), starts=2, relax=0.0) for f in (mixed, unmixed))
    assert 0 <= one.probability_better <= 1 and "of draws" in one.summary()
    assert np.isnan(other.probability_better) and "of draws" not in other.summary()
    assert other.to_dict()["probability_better"] is None
    assert any("mixes domains" in line for line in evidence_card(unmixed, "1B", "10B", results=[other]))
    assert other.gain.low == pytest.approx(other.gain.low)  # the interval stays


@pytest.mark.slow
def test_no_mixture_is_called_the_best_where_no_run_mixes_domains():
    """Runs of one domain each: draws that agree on a mixture agree on what the law assumes, not on what was measured."""
    runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=4, sizes=(1e7, 1e8), checkpoints=1)
    weights = np.eye(2)[np.arange(len(runs)) % 2]
    pure = dataclasses.replace(runs, recipe=dataclasses.replace(runs.recipe, weights=weights))
    given = {"a": [0.5, 0.5], "b": [0.9, 0.1]}
    for table, unknown in ((pure, True), (runs, False)):
        fitted = cj.fit(cj.laws.chinchilla(), table, key=jax.random.key(1), starts=1, resamples=8, backtests=0)
        at = fitted.losses_at("200M", "4B")
        best = cj.optimize_mixture(at, starts=2)
        told = cj.probability_best(at, given)
        assert np.isnan(best.probability_better) == unknown and np.isnan(list(told.values())).all() == unknown
        assert unknown or sum(told.values()) == 1.0
