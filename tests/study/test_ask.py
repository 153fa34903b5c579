"""What a study asks for: within its limits and budget, new mixtures, what is under way counted, names of their own."""

import multiprocessing
from typing import Any

import jax
import numpy as np
import pytest
from planted_runs import DOMAINS, measured

import camel_jax as cj
from camel_jax.mixture.limits import parse_limits, violation
from camel_jax.study import ask as asking
from camel_jax.study.mixtures import SAME, every_run_its_own, feasible_mixtures, is_new
from camel_jax.study.store import Store
from camel_jax.tables.read import read_recipes

SETTINGS: dict[str, Any] = {"domains": DOMAINS, "target": "1B", "ladder": ["10M", "30M", "100M"], "law": "dml"}


def apart(mixtures):
    """The least distance between any two mixtures, as the largest difference of a share."""
    n = len(mixtures)
    return min(np.abs(mixtures[i] - mixtures[j]).max() for i in range(n) for j in range(i))


@pytest.fixture(scope="module")
def two_asks(tmp_path_factory):
    """A study with limits after two asks of which the first was told, and both proposals."""
    path = tmp_path_factory.mktemp("study") / "study.db"
    limits: dict[str, Any] = {"bounds": {"books": (0.1, 0.4)}, "groups": {"text": (["web", "books"], None, 0.8)}}
    study = cj.Study(path, **SETTINGS, **limits)
    first = study.ask(5e18, max_runs=14)
    for run in first.runs:
        study.tell(run.run, measured(run))
    return study, first, study.ask(5e18, max_runs=14)


def test_runs_are_new_and_within_budget_and_limits(two_asks):
    study, first, second = two_asks
    limits = study.settings.named_limits()
    for proposal in (first, second):
        assert 0 < proposal.total_cost <= 5e18 and len(proposal) <= 14
        assert max(violation(limits, np.array(run.weights)) for run in proposal.runs) < 1e-9
    runs = [*first.runs, *second.runs]
    assert apart(np.array([run.weights for run in runs])) > SAME
    assert len({run.run for run in runs}) == len(runs) and {run.ask for run in second.runs} == {2}
    assert {run.n_active for run in first.runs} == {1e7, 3e7, 1e8}  # a study sees every size that it can pay for
    assert study.states() == {"finished": len(first), "under way": len(second), "dropped": 0}


def test_what_is_asked_is_a_table_of_recipes(two_asks, tmp_path):
    study, _, second = two_asks
    second.save(tmp_path / "next.csv")
    recipe, names = read_recipes(tmp_path / "next.csv", domains=DOMAINS)
    assert list(names) == [run.run for run in second.runs]
    np.testing.assert_allclose(recipe.weights, [run.weights for run in second.runs], atol=1e-6)
    assert [run.run for run in study.under_way().runs] == list(names)
    frame = study.history()
    assert frame["state"].tolist().count("under way") == len(second) and frame["loss/web"].notna().sum() > 0
    assert (frame.loc[frame["state"] == "under way", "told"] == "").all()


def test_runs_under_way_are_counted(two_asks):
    study, _, second = two_asks
    now = study._store.read()
    s, table = study.settings, asking.table_of(now, study.settings)
    assert table is not None
    fitted = asking.fit_table(s, table)
    target = cj.target_region("1B", None, np.full((1, 3), 1 / 3))
    with_them = asking.knowledge_of(now, s, s.rungs(), target, fitted, table)
    gone = now._replace(runs=tuple(run for run in now.runs if run.run not in {one.run for one in second.runs}))
    without = asking.knowledge_of(gone, s, s.rungs(), target, fitted, table)
    difference = np.asarray(with_them.precision - without.precision)
    waiting = asking.waiting_recipe(now)
    assert waiting is not None
    slopes = np.asarray(without.slopes(waiting))
    np.testing.assert_allclose(difference, np.einsum("mrvp,mrvq->mpq", slopes, slopes), rtol=1e-6, atol=1e-6)
    assert asking.waiting_recipe(gone) is None


def test_replicates_are_named_and_have_seeds_of_their_own(two_asks, tmp_path):
    study, first, _ = two_asks
    again = study.ask(1e18, max_runs=0, replicates=3)
    originals = {run.run: run for run in first.runs}
    for run in again.runs:
        assert run.run == f"{run.replicates}-again-2" and run.weights == originals[run.replicates].weights
    assert again.to_columns()["seed"] == [1, 1, 1]
    cheapest = sorted(first.runs, key=lambda run: (run.cost, run.run))[:3]
    assert {run.replicates for run in again.runs} == {run.run for run in cheapest}
    with pytest.raises(ValueError, match="does not pay for 3 replicates"):
        study.ask(1e10, max_runs=0, replicates=3)
    study.drop(*(run.run for run in again.runs))


def test_asks_that_make_no_sense(tmp_path):
    study = cj.Study(tmp_path / "study.db", **SETTINGS)
    for budget, more, rule in (
        (0.0, {}, "must be above zero"),
        (float("nan"), {}, "must be above zero"),
        (1e9, {}, "too small: the fewest runs cost"),
        (1e18, {"replicates": 1}, "no finished run to replicate"),
        (1e18, {"max_runs": 0}, "nor both 0"),
    ):
        with pytest.raises(ValueError, match=rule):
            study.ask(budget, **more)
    assert not len(study.history())
    with pytest.raises(cj.StudyError, match="no result was told yet"):
        study.recommend()


def test_an_ask_that_another_overtook_is_made_again(tmp_path, monkeypatch):
    study = cj.Study(tmp_path / "study.db", **SETTINGS)
    calls = []
    real = asking.design_next

    def overtaken(now, *rest):
        calls.append(now.asks)
        if len(calls) == 1:
            cj.Study(tmp_path / "study.db").ask(1e17, max_runs=3)
        return real(now, *rest)

    monkeypatch.setattr("camel_jax.study.study.design_next", overtaken)
    proposal = study.ask(1e17, max_runs=3)
    assert calls == [0, 0, 1] and {run.ask for run in proposal.runs} == {2}
    runs = study._store.read().runs
    assert len(runs) == 6 and apart(np.array([run.weights for run in runs])) > SAME


@pytest.mark.parametrize(
    "limits",
    [
        {"bounds": {"a": (0.3, 0.5), "b": (None, 0.01)}},
        {"fixed": {"c": 0.2}, "kl": ([0.25, 0.25, 0.25, 0.25], 0.1)},
        {"groups": {"g": (["a", "b"], 0.6, 0.6)}, "distance": ([0.3, 0.3, 0.2, 0.2], 0.2)},
        {"max_domains": 2},
        {"supply": {"a": 1e9, "b": 2e9}, "tokens": 2e10, "cost": ({"c": 2.0}, 1.0)},
    ],
)
def test_candidates_meet_limits_of_every_kind(limits):
    named = parse_limits(["a", "b", "c", "d"], **limits)
    found = feasible_mixtures(named, jax.random.key(1), 64)
    assert max(violation(named, w) for w in found) < 1e-9
    assert apart(found) > 0 and found.std(0).max() > 0.02
    if limits != {"max_domains": 2}:
        near = feasible_mixtures(named, jax.random.key(2), 64, found[0], 50.0)
        assert np.abs(near - found[0]).sum(1).mean() < np.abs(found - found[0]).sum(1).mean()


def test_a_mixture_that_comes_twice_gives_way_to_the_nearest():
    spare = np.array([[0.5, 0.5], [0.2, 0.8], [0.45, 0.55]])
    wanted = np.array([[0.5, 0.5], [0.2, 0.8], [0.5, 0.5]])
    out = every_run_its_own(wanted, spare)
    assert out.tolist() == [[0.5, 0.5], [0.2, 0.8], [0.45, 0.55]] and is_new(out, np.zeros((0, 2))).all()
    with pytest.raises(ValueError, match="fewer than 3 different mixtures"):
        every_run_its_own(wanted, spare[:2])


def _ask_often(path, number, out):
    jax.config.update("jax_enable_x64", True)
    study = cj.Study(path)
    out.put([run.run for _ in range(2) for run in study.ask(1e17, max_runs=2).runs])


@pytest.mark.slow
def test_processes_that_ask_at_once_get_different_runs(tmp_path):
    cj.Study(tmp_path / "study.db", **SETTINGS)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_ask_often, args=(tmp_path / "study.db", i, queue)) for i in range(3)]
    for worker in workers:
        worker.start()
    names = [name for _ in workers for name in queue.get(timeout=300)]
    for worker in workers:
        worker.join(60)
    runs = Store(tmp_path / "study.db", "study").read().runs
    assert sorted(names) == sorted(run.run for run in runs) and len(set(names)) == len(names) == 12
    assert apart(np.array([run.weights for run in runs])) > SAME
