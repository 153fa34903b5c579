"""Results of evaluators, states of the Trainer, and exports of Weights & Biases, from files recorded here."""

import itertools
import json

import numpy as np
import pytest

from camel_jax.interop.assemble import import_runs
from camel_jax.interop.guess import guess, read_metric
from camel_jax.interop.lm_eval import read_evaluation
from camel_jax.interop.mapping import ColumnMapping, expand
from camel_jax.interop.sources import open_sources
from camel_jax.interop.trainer_state import read_trainer_state
from camel_jax.interop.wandb import read_wandb_project


def recipes(folder, names, tokens="2B"):
    """A table of recipes and losses of runs, to which evaluations are joined."""
    path = folder / "recipes.csv"
    rows = [f"{name},70M,{tokens},0.{i}5,0.{9 - i}5,{3 + i / 100}" for i, name in enumerate(names)]
    path.write_text("run,size,tokens,mix/a,mix/b,loss/web\n" + "".join(f"{row}\n" for row in rows))
    return path


def brought_in(*sources, columns=None, **options):
    found = open_sources([str(source) for source in sources])
    mapping = guess(found).mapping
    mapping.columns |= columns or {}
    return import_runs(found, mapping, **options)


def lm_eval_file(path, model, **metrics):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {"results": {"arc_easy": {"alias": "arc_easy"} | metrics}, "model_name": model, "config": {"model": "hf"}}
        )
    )


def test_recorded_lm_eval(tmp_path):
    for i, name in enumerate("xyz"):
        values = {"acc,none": 0.5 + i / 10, "acc_stderr,none": 0.01, "acc_norm,none": 0.6, "bits_per_byte,none": 1.0}
        lm_eval_file(tmp_path / "out" / name / "results_2026-01-01T00-00-00.json", f"org/{name}-step2000", **values)
    result = brought_in(recipes(tmp_path, "zxy"), tmp_path / "out")
    assert {result.runs.run_names[k]: a[0] for k, a in zip(result.runs.run, result.runs.accuracies, strict=True)} == {
        "x": 0.5,
        "y": 0.6,
        "z": 0.7,
    }
    lm_eval_file(tmp_path / "out" / "x" / "results_2026-02-01T00-00-00.json", "org/x-step2000", **{"acc,none": 0.9})
    result = brought_in(recipes(tmp_path, "zxy"), tmp_path / "out")
    assert any("evaluated before, as 0.5" in note for note in result.notes) and 0.9 in result.runs.accuracies
    (tmp_path / "out" / "x" / "results_3.json").write_text('{"results": {"arc": 3}}')
    with pytest.raises(ValueError, match="'arc' holds no metrics"):
        brought_in(tmp_path / "out")


def test_recorded_olmes(tmp_path):
    for i, name in enumerate("xy"):
        folder = tmp_path / "out" / name
        folder.mkdir(parents=True)
        content = {
            "task_name": "arc_easy", "model_config": {"model": f"/runs/{name}", "revision": "step500"},
            "task_config": {"primary_metric": "acc_per_char"},
            "metrics": {"acc_raw": 0.3, "acc_per_char": 0.4, "primary_score": 0.4 + i / 10, "bits_per_byte_corr": 1.1},
        }  # fmt: skip
        (folder / "task-000-arc_easy-metrics.json").write_text(json.dumps(content))
    found = read_evaluation(tmp_path / "out")
    assert [run.name for run in found.runs] == ["x", "y"] and found.runs[0].history[0]["step"] == 500
    result = brought_in(recipes(tmp_path, "xy"), tmp_path / "out")
    assert result.runs.accuracies[:, 0].tolist() == [0.4, 0.5]
    lm_eval_file(tmp_path / "out" / "results_1.json", "x", **{"acc,none": 0.5})
    with pytest.raises(ValueError, match="score differently"):
        brought_in(tmp_path / "out")


def test_two_estimators_are_not_mixed(tmp_path):
    lm_eval_file(tmp_path / "results_1.json", "x", **{"bits_per_byte,none": 1.0})
    table = tmp_path / "t.csv"
    table.write_text("run,size,tokens,mix/a,mix/b,arc_easy/bpb\ny,70M,2B,1,0,1.1\nx,70M,2B,1,0,\n")
    with pytest.raises(ValueError, match="two estimators differ by as much as a mixture's effect"):
        brought_in(table, tmp_path / "results_1.json")


def trainer_state(folder, steps, planned, seen=None):
    folder.mkdir(parents=True, exist_ok=True)
    history = []
    for step in steps:
        history.append({"step": step, "epoch": 0.1, "loss": 5.0, "num_input_tokens_seen": step * 1_000_000})
        history.append(
            {
                "step": step,
                "epoch": 0.1,
                "eval_web_loss": 4 - step / 1e4,
                "eval_code_loss": 3 - step / 1e4,
                "eval_web_runtime": 2,
            }
        )
    state = {"global_step": steps[-1], "max_steps": planned, "log_history": history}
    (folder / "trainer_state.json").write_text(json.dumps(state))


def test_recorded_trainer_states(tmp_path):
    for name, share in (("a", 0.25), ("b", 0.5)):
        trainer_state(tmp_path / name / "checkpoint-1000", [1000], 3000)
        trainer_state(tmp_path / name / "checkpoint-3000", [1000, 2000, 3000], 3000)
        (tmp_path / name / "params.json").write_text(
            json.dumps({"n_params": 70_000_000, "mixture": {"web": share, "code": 1 - share}})
        )
    trainer_state(tmp_path / "c" / "checkpoint-1000", [1000], 3000)  # stopped early
    result = brought_in(tmp_path)
    assert result.runs.run_names == ("a", "b") and any("step 1000 of 3000" in note for note in result.notes)
    assert result.runs.recipe.tokens.tolist() == [3e9, 3e9]
    np.testing.assert_allclose(result.runs.losses[:, list(result.runs.sets).index("web")], 3.7)
    assert read_trainer_state(tmp_path / "a").runs[0].state == "finished"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "trainer_state.json").write_text('{"global_step": 3}')
    with pytest.raises(ValueError, match="no list 'log_history'"):
        brought_in(tmp_path)


def test_each_source_counts_tokens_in_its_own_way(tmp_path):
    """Recipes with planned tokens, and trainers that log those they saw: the latter count, and runs are joined by name."""
    for name in "xy":
        trainer_state(tmp_path / "out" / name, [1000, 2000], 2000)
    recipe = tmp_path / "recipes.csv"
    recipe.write_text("run,size,tokens,mix/a,mix/b\ny,70M,2B,0.5,0.5\nx,70M,2B,1,0\n")
    found = open_sources([str(recipe), str(tmp_path / "out")])
    mapping = guess(found).mapping
    mapping.checkpoints = "all"
    runs = import_runs(found, mapping).runs
    got = sorted(
        (runs.run_names[k], t, w[0]) for k, t, w in zip(runs.run, runs.recipe.tokens, runs.recipe.weights, strict=True)
    )
    assert got == [("x", 1e9, 1.0), ("x", 2e9, 1.0), ("y", 1e9, 0.5), ("y", 2e9, 0.5)]
    scores = tmp_path / "scores.csv"
    scores.write_text("Name,tokens_seen,arc_easy/acc\nx,2000000000,0.5\ny,2000000000,0.25\n")
    recipe.write_text("run,size,tokens,mix/a,mix/b,loss/web\ny,70M,2B,0.5,0.5,3.1\nx,70M,2B,1,0,3.2\n")
    result = brought_in(recipe, scores)
    assert len(result.runs) == 2
    assert {result.runs.run_names[k]: a[0] for k, a in zip(result.runs.run, result.runs.accuracies, strict=True)} == {
        "x": 0.5,
        "y": 0.25,
    }


def test_rounds_of_a_loop_in_any_order(tmp_path):
    """A table of earlier runs, two tables of recipes and what was trained of both: one result, however they are named."""
    for name in "vwxy":
        trainer_state(tmp_path / "out" / name, [1000, 2000], 2000)
    (tmp_path / "one.csv").write_text("run,size,tokens,mix/a,mix/b\nw,70M,2B,0.4,0.6\nv,70M,1500000000,1,0\n")
    (tmp_path / "two.csv").write_text("run,size,tokens,mix/a,mix/b\ny,30M,2B,0.5,0.5\nx,30M,3B,0.9,0.1\n")
    old = "run,size,tokens,mix/a,mix/b,eval_web_loss,eval_code_loss\nq,70M,2B,0.3,0.7,3.3,3.1\n"
    (tmp_path / "old.csv").write_text(old)
    seen = set()
    for names in itertools.permutations(["one.csv", "two.csv", "old.csv", "out"]):
        found = open_sources([str(tmp_path / name) for name in names])
        mapping = guess(found).mapping
        mapping.checkpoints = "all"
        runs = import_runs(found, mapping).runs
        a, web = runs.domains.index("a"), runs.sets.index("web")
        rows = zip(runs.run, runs.recipe.n_active, runs.recipe.tokens, runs.recipe.weights, runs.losses, strict=True)
        seen.add(tuple(sorted((runs.run_names[k], n, t, w[a], loss[web]) for k, n, t, w, loss in rows)))
    (rows,) = seen
    assert [row[0] for row in rows] == ["q", "v", "v", "w", "w", "x", "x", "y", "y"]
    assert [row[3] for row in rows] == [0.3, 1.0, 1.0, 0.4, 0.4, 0.9, 0.9, 0.5, 0.5]
    assert [row[2] for row in rows] == [2e9, *[1e9, 2e9] * 4] and [row[1] for row in rows] == [70e6] * 5 + [30e6] * 4
    assert {row[4] for row in rows} == {3.3, 3.9, 3.8}


def test_a_charts_table(tmp_path):
    chart = tmp_path / "chart.csv"
    lines = ['"Step","y - eval/web/loss","y - eval/web/loss__MIN","y - eval/web/loss__MAX","x - eval/web/loss"']
    lines += ['"1000","3.5","3.5","3.5","3.6"', '"2000","3.2","3.2","3.2",""']
    chart.write_text("\n".join(lines) + "\n")
    recipe = tmp_path / "recipes.csv"
    recipe.write_text("run,size,mix/a,mix/b\nx,70M,1,0\ny,70M,0.5,0.5\n")
    found = open_sources([str(recipe), str(chart)])
    mapping = guess(found).mapping
    mapping.tokens_per_step, mapping.checkpoints = 1e6, "all"
    runs = import_runs(found, mapping).runs
    got = {
        (runs.run_names[k], t): (loss[0], w[0])
        for k, t, loss, w in zip(runs.run, runs.recipe.tokens, runs.losses, runs.recipe.weights, strict=True)
    }
    assert got == {("y", 1e9): (3.5, 0.5), ("y", 2e9): (3.2, 0.5), ("x", 1e9): (3.6, 1.0)}


def test_a_project_on_a_server():
    class Run:
        def __init__(self, name, state):
            self.name, self.id, self.state = name, f"id-{name}", state
            self.config = {"n_params": 7e7, "mix": {"a": 1.0, "b": 0.0}, "_wandb": {}}
            self.summary = {"tokens": 2e9, "eval/web/loss": 3.0}

        def scan_history(self):
            yield {"_step": 0, "tokens": 1e9, "eval/web/loss": 3.5}
            yield {"_step": 1, "tokens": 2e9, "eval/web/loss": 3.0}

    class Api:
        def runs(self, address):
            if address != "lab/swarm":
                raise RuntimeError("could not find project\nhints")
            return [Run("x", "finished"), Run("y", "crashed")]

    found = read_wandb_project("lab/swarm", Api())
    mapping = guess([found]).mapping
    mapping.checkpoints = "all"
    runs = import_runs([found], mapping).runs
    assert runs.run_names == ("x",) and runs.losses[:, 0].tolist() == [3.5, 3.0]
    with pytest.raises(ValueError, match=r"^wandb:lab/none: could not find project$"):
        read_wandb_project("lab/none", Api())


@pytest.mark.parametrize(
    ("column", "kind", "unit", "name"),
    [
        ("eval/lm/c4_en-validation/CE loss", "loss", "nats per token", "c4_en-validation"),
        ("eval/downstream/arc_easy_test_rc_5shot (accuracy)", "acc", "", "arc_easy_test_rc_5shot"),
        ("eval/downstream_bpb/piqa (BPB v2)", "loss", "bits per byte", "downstream_bpb/piqa"),
        ("eval_loss", "loss", "nats per token", ""),
        ("validation_loss", "loss", "nats per token", ""),
        ("val/books/ppl", "loss", "perplexity", "books"),
        ("eval/paloma/wiki/bpb", "loss", "bits per byte", "paloma/wiki"),
        ("lm loss validation", None, "", ""),
        ("train/cross_entropy", None, "", ""),
        ("wikitext/word_perplexity", None, "", ""),
        ("eval/web/loss_std", None, "", ""),
    ],
)
def test_names_of_metrics(column, kind, unit, name):
    metric = read_metric(column)
    assert (metric and (metric.kind, metric.unit, metric.name)) == (kind and (kind, unit, name))


def test_mappings_are_checked():
    with pytest.raises(ValueError, match="'params'"):
        expand({"n": "params"}, ["n"])
    with pytest.raises(ValueError, match=r"more '\*'"):
        expand({"n": "loss/*"}, ["n"])
    with pytest.raises(ValueError, match="mapped twice"):
        expand({"a*": "loss/*", "*b": "mix/*"}, ["axb"])
    assert expand({"a": "", "a*": "loss/*"}, ["a", "ab"]) == {"ab": "loss/b"}
    assert ColumnMapping().checkpoints == "last"
