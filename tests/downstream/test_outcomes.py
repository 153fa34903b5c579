"""Losses and accuracies together: from tables through the commands, and the errors of both laws in every interval."""

import csv
import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import call, own_flags, put, refused  # noqa: F401

from camel_jax import load_fit, read_runs
from camel_jax.cli.downstream import add_benchmarks, read_benchmark_table
from camel_jax.downstream.result import AccuracyDraws
from camel_jax.fitting.intervals import accuracy_interval
from camel_jax.mixture.objectives import mean_accuracy, parse_objective
from camel_jax.reports.recommend import tasks_to_predict
from camel_jax.storage import ArchiveError

ITEMS = {"facts": 4000, "coding": 3000, "guess": 2000}


def losses_of(size, w):
    """Planted losses on sets web and code of a mixture (web, code, wiki)."""
    scale = (size / 1e8) ** -0.2
    return 1.8 + 0.9 * scale * (w[0] + 0.1) ** -0.15, 0.7 + 0.6 * scale * (w[1] + 0.05) ** -0.25


def accuracies_of(web, code):
    """Planted accuracies: facts reads both sets, coding mostly code, and guess nothing."""
    rise = 1 / (1 + np.exp(3 * (web - 2.8) + 1.0 * (code - 1.6)))
    return {"facts": 0.25 + 0.6 * rise, "coding": 0.7 / (1 + np.exp(4 * (code - 1.6))), "guess": 0.5 + 0 * web}


def mixture(rng):
    w = np.round(rng.dirichlet([4, 2, 2]), 3)
    return np.array([round(1 - w[1] - w[2], 3), w[1], w[2]])


def tables(folder):
    """runs.csv (mixtures and losses), bench.csv (losses and accuracies, no mixtures, sets turned) and tasks.csv."""
    rng = np.random.default_rng(7)
    lines = ["run,size,tokens,mix/web,mix/code,mix/wiki,loss/web,loss/code"]
    bench = ["run,size,tokens,loss/code,loss/web,acc/guess,acc/facts,acc/coding"]
    for i in range(36):
        # two sizes of runs leave nothing to back-test, which saves a compilation
        size, w = (2e7, 3e8)[i % 2] if i < 12 else (2e7, 8e7, 3e8)[i % 3], mixture(rng)
        web, code = np.array(losses_of(size, w)) * (1 + 0.002 * rng.standard_normal(2))
        measured = {t: rng.binomial(ITEMS[t], p) / ITEMS[t] for t, p in accuracies_of(web, code).items()}
        if i < 12:
            lines.append(f"r{i},{size:.0f},{20 * size:.0f},{w[0]},{w[1]},{w[2]},{web},{code}")
        else:
            bench.append(
                f"b{i},{size:.0f},{20 * size:.0f},{code},{web},"
                + ",".join(str(measured[t]) for t in ("guess", "facts", "coding"))
            )
    put(folder, "runs.csv", "\n".join(lines) + "\n")
    put(folder, "bench.csv", "\n".join(bench) + "\n")
    put(folder, "tasks.csv", "task,chance,n_items\nfacts,0.25,4000\ncoding,0,3000\nguess,0.5,2000\n")


EXTREME = "tiny,1000,1000,0,1,0\nhuge,1e18,1e19,0,0,1\n"


def next_table():
    rng = np.random.default_rng(11)
    rows = ["run,size,tokens,mix/web,mix/code,mix/wiki"]
    rows += [f"n{i},600M,12B,{','.join(map(str, mixture(rng)))}" for i in range(10)]
    return "\n".join(rows) + "\n" + EXTREME


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder with tables, next.csv, fit.npz and the summary fit.json."""
    folder = tmp_path_factory.mktemp("outcomes")
    tables(folder)
    put(folder, "next.csv", next_table())
    code, out, err = call(*command(folder, "fit.npz"), "--json")
    assert code == 0, err
    put(folder, "fit.json", out)
    return folder


def command(folder, name):
    options = ("--law", "sodm", "--starts", 1, "--resamples", 4, "--tasks", folder / "tasks.csv")
    return ("fit", folder / "runs.csv", "--benchmarks", folder / "bench.csv", "--out", folder / name, *options)


@pytest.fixture(scope="module")
def fitted(study):
    jax.config.update("jax_enable_x64", True)
    return load_fit(study / "fit.npz")


def test_fit_names_flagged_tasks_and_repeats(study):
    told = json.loads((study / "fit.json").read_text())["benchmarks"]
    assert set(told["in_sample_error_points"]) == {"facts", "coding"} and told["rows"] == 24
    assert max(told["in_sample_error_points"].values()) < 2
    assert told["flagged"]["guess"]["flag"] == "at chance" and "rise" in told["flagged"]["guess"]["reason"]
    code, out, _ = call(*command(study, "again.npz"))
    assert code == 0 and "2 of 3 tasks usable" in out and "at chance" in out
    assert (study / "again.npz").read_bytes() == (study / "fit.npz").read_bytes()


def test_predict_covers_the_planted_accuracies(study, fitted):
    arguments = ("predict", study / "fit.npz", "--recipes", study / "next.csv")
    code, out, err = call(*arguments)
    assert code == 0 and "flagged tasks" in err and "guess" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    inside = []
    for row in rows:
        w = mixture_of(study, row["run"])
        for task in fitted.benchmarks.tasks:
            low, point, high = (float(row[f"{name}/{task}"]) for name in ("acc_low", "acc", "acc_high"))
            assert 0 <= low <= point <= high <= 1
            if row["run"].startswith("n") and task != "guess":
                assert low < point < high
                inside.append(low <= accuracies_of(*losses_of(6e8, w))[task] <= high)
    assert len(inside) == 20 and np.mean(inside) >= 0.75
    told = json.loads(call(*arguments, "--json")[1])
    assert told["flagged_tasks"] == {"guess": "at chance"}
    assert told["predictions"][0]["acc/facts"] == pytest.approx(float(rows[0]["acc/facts"]), rel=1e-6)
    assert call(*arguments)[1] == out


def mixture_of(study, run):
    rows = csv.DictReader(io.StringIO((study / "next.csv").read_text()))
    row = next(row for row in rows if row["run"] == run)
    return [float(row[f"mix/{domain}"]) for domain in ("web", "code", "wiki")]


@pytest.mark.slow
def test_mix_for_accuracy_beats_the_reference_and_repeats(study):
    arguments = ("mix", study / "fit.npz", "--size", "600M", "--tokens", "12B", "--starts", 4, "--near", 0)
    arguments += ("--objective", "accuracy")
    code, out, _ = call(*arguments, "--json", "--out", study / "mixture.json")
    told = json.loads(out)
    assert code == 0 and told["status"] == "converged" and told["maximize"] is True
    assert set(told["tasks"]) == {"facts", "coding"} and told["flagged_tasks"] == {"guess": "at chance"}
    assert told["value"]["point"] == pytest.approx(np.mean(told["accuracies"]["point"]), rel=1e-6)
    assert told["gain"]["point"] == pytest.approx(np.mean(told["accuracy_difference"]["point"]), abs=1e-8)
    assert told["gain"]["low"] < told["gain"]["point"] < told["gain"]["high"] and told["gain"]["point"] > 0
    apart = np.subtract(told["accuracies"]["point"], told["reference_accuracies"])
    np.testing.assert_allclose(apart, told["accuracy_difference"]["point"], atol=1e-8)
    code, text, _ = call(*arguments)
    assert code == 0 and "Predicted benchmark accuracies" in text and "mean accuracy" in text
    assert json.loads((study / "mixture.json").read_text()) == told


@pytest.mark.slow
def test_front_and_path_are_tables_and_figures(study):
    target = ("--tokens", "12B", "--size", "600M", "--starts", 4, "--max", "wiki=0.5")
    figure, table = study / "front.png", study / "front.csv"
    trade = ("front", study / "fit.npz", *target, "--first", "web", "--second", "code")
    code, text, err = call(*trade, "--points", 4, "--out", table, "--figure", figure)
    assert code == 0 and figure.read_bytes().startswith(b"\x89PNG") and "Best trade-offs" in text, err
    assert "- the farthest mixture lies" in text and "- target: 2" in text
    rows = [{k: float(x) for k, x in row.items()} for row in csv.DictReader(io.StringIO(table.read_text()))]
    assert len(rows) >= 3 and all(row["mix/wiki"] <= 0.5 for row in rows)
    assert (np.diff([row["first"] for row in rows]) > 0).all() and (np.diff([row["second"] for row in rows]) < 0).all()
    figure, table = study / "path.svg", study / "path.csv"
    path = ("path", study / "fit.npz", *target, "--objective", "accuracy", "--steps", 2)
    code, text, err = call(*path, "--out", table, "--figure", figure)
    assert code == 0 and b"<svg" in figure.read_bytes() and "staying" in text, err
    assert "the weakest certificate of 2 optima" in text
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [float(row["size"]) for row in rows] == pytest.approx([2e7, 6e8])
    assert [float(row["tokens"]) for row in rows] == pytest.approx([4e8, 1.2e10])
    assert float(rows[0]["lost_by_staying"]) == 0 and float(rows[1]["lost_by_staying"]) >= -1e-9
    assert "must end in .csv" in refused(*path, "--out", study / "path.txt")


def test_flagged_tasks_count_only_when_named(fitted):
    law = fitted.benchmarks
    usable = {"facts", "coding"}
    assert set(tasks_to_predict(law, parse_objective("accuracy"))) == usable
    assert set(tasks_to_predict(law, parse_objective("mean-loss"))) == usable
    assert set(tasks_to_predict(law, parse_objective("acc/guess=2,acc/facts"))) == {*usable, "guess"}
    hopeless = dataclasses.replace(law, flags=dict.fromkeys(law.tasks, "at chance"))
    assert tasks_to_predict(hopeless, parse_objective("mean-loss")) == ()
    with pytest.raises(ValueError, match="every task is flagged"):
        tasks_to_predict(hopeless, parse_objective("accuracy"))
    with pytest.raises(ValueError, match="all 3 tasks of the benchmark law are flagged"):
        fitted.with_benchmarks(hopeless).outcomes_at("600M", "12B")
    assert set(fitted.outcomes_at("600M", "12B").tasks) == usable
    assert fitted.outcomes_at("600M", "12B", tasks=["guess"]).tasks == ("guess",)


def test_draws_carry_both_laws(fitted):
    """Wider than the losses' draws through a certain benchmark law, and than that law's draws at certain losses."""
    at = fitted.outcomes_at("600M", "12B")
    weights = jnp.array([0.5, 0.3, 0.2])
    both = at.draws(weights)
    losses = both.losses[:, at.columns]
    certain_law = np.asarray(at.law.point(losses))
    certain_losses = np.asarray(at.law.predict(jnp.tile(at(weights).losses[at.columns], (len(losses), 1))))
    assert both.accuracies.shape == certain_law.shape == certain_losses.shape == (len(losses), 2)
    assert np.isfinite(both.losses).all() and (certain_law.std(0) > 1e-4).all() and (certain_losses.std(0) > 1e-4).all()
    spread = np.asarray(both.accuracies).std(0)
    assert (spread > certain_law.std(0)).all() and (spread > certain_losses.std(0)).all()
    interval = accuracy_interval(fitted, at.recipe(weights))
    order = np.array([fitted.benchmarks.tasks.index(task) for task in at.tasks])
    width = np.asarray(interval.high - interval.low)[order]
    for alone in (certain_law, certain_losses):
        assert (width > np.diff(np.quantile(alone, [0.05, 0.95], axis=0), axis=0)[0]).all()


def test_sets_are_matched_by_name(study, fitted):
    """The benchmark table lists code before web, the runs web before code."""
    law = fitted.benchmarks
    assert law.sets == ("code", "web") and fitted.sets == ("web", "code")
    at, weights = fitted.outcomes_at("600M", "12B", tasks=law.tasks), jnp.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(at(weights).accuracies, law.predict(at(weights).losses[::-1]), rtol=1e-12)


def test_gradient_agrees_with_finite_differences(fitted):
    at, goal = fitted.outcomes_at("600M", "12B"), mean_accuracy({"facts": 1.0})
    bound = goal.bind(at.sets, at.tasks)
    value = jax.jit(lambda w: bound.value(at(w)))
    weights, step = jnp.array([0.5, 0.3, 0.2]), 1e-6
    gradient = jax.jit(jax.grad(value))(weights)
    assert np.abs(gradient).max() > 1e-3
    for i in range(3):
        move = jnp.zeros(3).at[i].set(step)
        np.testing.assert_allclose(gradient[i], (value(weights + move) - value(weights - move)) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("loss", [0.0, 1e-300, 1e300, np.inf])
def test_draws_are_finite_at_any_loss(fitted, loss):
    sampled = fitted.benchmarks.sample(jax.random.key(0), 16)
    drawn = np.asarray(sampled.predict(jnp.full((16, 2), loss)))
    assert np.isfinite(drawn).all() and (drawn >= 0).all() and (drawn <= 1).all()


def test_a_task_has_the_same_draws_in_any_company(fitted):
    law, key = fitted.benchmarks, jax.random.key(3)
    alone, all_tasks = law.sample(key, 8, ["facts"]), law.sample(key, 8)
    assert isinstance(alone, AccuracyDraws) and alone.error.shape == (8, 1)
    at = law.tasks.index("facts")
    np.testing.assert_array_equal(alone.error[:, 0], all_tasks.error[:, at])
    np.testing.assert_array_equal(alone.refits.weights[:, 0], all_tasks.refits.weights[:, at])
    with pytest.raises(ValueError, match="the benchmark law does not have acc/none"):
        law.sample(key, 8, ["none"])


def test_what_does_not_fit_together_is_refused(study, fitted):
    runs, bench, out = study / "runs.csv", study / "bench.csv", study / "none.npz"
    odd = put(study, "odd.csv", bench.read_text().replace("loss/code", "loss/news"))
    line = refused("fit", runs, "--benchmarks", odd, "--out", out)
    assert "no loss/news" in line and "loss/web, loss/code" in line and "--map-benchmarks" in line
    assert "no accuracies" in refused("fit", runs, "--benchmarks", runs, "--out", out)
    assert "no such file" in refused("fit", runs, "--benchmarks", study / "no.csv", "--out", out)
    assert "no accuracies" in refused("fit", runs, "--tasks", study / "tasks.csv", "--out", out)
    assert "--benchmarks" in refused("fit", runs, "--map-benchmarks", "a=b", "--out", out)
    named = ("mix", study / "fit.npz", "--size", "1B", "--tokens", "20B", "--objective", "acc/news=1")
    assert "unknown task 'news'" in refused(*named)
    with pytest.raises(ValueError, match="does not have loss/news"):
        fitted.with_benchmarks(dataclasses.replace(fitted.benchmarks, sets=("news", "web")))
    table, known = read_benchmark_table(read_runs(runs), odd, study / "tasks.csv", ["loss/news="])
    assert table.sets == ("web",) and known["facts"].n_items == 4000


def test_a_damaged_benchmark_law_is_said(fitted):
    cut = {name: x for name, x in fitted.attached.items() if name != "accuracy/spread"}
    with pytest.raises(ArchiveError, match="benchmark law of this fit is damaged"):
        _ = dataclasses.replace(fitted, attached=cut).benchmarks
    bare = dataclasses.replace(fitted, attached={"other": np.zeros(2)})
    assert bare.benchmarks is None and set(bare.with_benchmarks(fitted.benchmarks).attached) > {"other"}
    with pytest.raises(ValueError, match="no benchmark law"):
        bare.outcomes_at("600M", "12B")
    with pytest.raises(ValueError, match="no benchmark law"):
        accuracy_interval(bare, fitted.outcomes_at("600M", "12B").recipe(np.ones(3) / 3))


def test_accuracies_in_the_runs_themselves(study, fitted, capsys):
    """They are fitted without being asked for; too few of them are a note, or an error where their table was named."""
    table = read_runs(study / "bench.csv", need_mixtures=False)
    assert read_benchmark_table(table, None, None, None)[0] is table
    few = dataclasses.replace(table, losses=np.where(np.arange(24)[:, None] < 3, table.losses, np.nan))
    bare = dataclasses.replace(fitted, attached={})
    assert add_benchmarks(bare, few, {}, given=False, seed=0, resamples=0) is bare
    assert "note: no benchmark law" in capsys.readouterr().err
    with pytest.raises(ValueError, match="rows need all of their losses"):
        add_benchmarks(bare, few, {}, given=True, seed=0, resamples=0)
    with_law = add_benchmarks(bare, table, {}, given=False, seed=0, resamples=2)
    assert with_law.benchmarks.tasks == table.tasks
