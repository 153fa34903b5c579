"""Result files that lm-evaluation-harness itself writes: its program on its dummy model, compared with the samples that it logs."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from camel_jax.interop.assemble import import_runs
from camel_jax.interop.guess import guess
from camel_jax.interop.sources import open_sources

pytestmark = pytest.mark.slow

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: {text}
doc_to_target: {target}
metric_list: [{metrics}]
"""
# the program, many times over in one process: its entry point reads sys.argv. It reads 14,000 files of tasks each time, for five
# seconds, unless what it found is kept
DRIVER = """
import json, sys
import lm_eval.tasks
from lm_eval.__main__ import cli_evaluate
make, kept = lm_eval.tasks.TaskManager, []
lm_eval.tasks.TaskManager = lambda *args, **kwargs: kept[0] if kept else kept.append(make(*args, **kwargs)) or kept[0]
for arguments in json.load(open(sys.argv[1])):
    sys.argv = ["lm_eval", *arguments]
    cli_evaluate()
"""
RUNS = [f"r{i}" for i in range(20)]


def means(samples):
    """What the samples of one evaluation sum to: accuracies, and bits a byte over all documents."""
    out = {}
    for task, rows in samples.items():
        for metric in ("acc", "acc_norm"):
            if metric in rows[0]:
                out[f"{task}/{metric}"] = float(np.mean([row[metric] for row in rows]))
        if "bits_per_byte" in rows[0]:
            told = np.array([row["bits_per_byte"] for row in rows])  # log likelihood and bytes of a document
            out[f"{task}/bits_per_byte"] = -told[:, 0].sum() / told[:, 1].sum() / math.log(2)
    return out


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    pytest.importorskip("lm_eval")
    folder = tmp_path_factory.mktemp("lm_eval")
    sums = [
        {"text": f"{a}+{b}=", "options": [" 3", " 4", " 5"], "gold": (a + b) % 3} for a in range(4) for b in range(3)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    for name, kind, text, target, metrics in (
        ("sums", "multiple_choice", '"{{text}}"\ndoc_to_choice: options', "gold", "{metric: acc}, {metric: acc_norm}"),
        (
            "text",
            "loglikelihood_rolling",
            '""',
            '"{{text}} is {{gold}}"',
            "{metric: bits_per_byte}, {metric: word_perplexity}",
        ),
    ):
        task = TASK.format(name=name, file=folder / "data.jsonl", kind=kind, text=text, target=target, metrics=metrics)
        (folder / f"{name}.yaml").write_text(task)
    calls = []
    for i, run in enumerate(RUNS):
        steps = [500, 1000] if i == 1 else [1000]  # one with two checkpoints
        for step in steps:
            model = [
                "--model",
                "dummy",
                "--model_args",
                f"pretrained=/models/{run}/step{step}",
                "--seed",
                str(100 * i + step),
            ]
            if i == 2:  # a checkpoint named as Hugging Face's Trainer does
                model[3] = f"pretrained=/models/{run}/checkpoint-{step}"
            where = ["--include_path", str(folder), "--output_path", str(folder / "out"), "--log_samples"]
            calls.append([*model, "--tasks", "sums,text", *where])
    (folder / "calls.json").write_text(json.dumps(calls))
    offline = {name: "1" for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder / "calls.json")],
        env=os.environ | offline | {"HF_HOME": str(folder / "hf"), "CUDA_VISIBLE_DEVICES": ""},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    recipes = folder / "recipes.csv"
    lines = [f"{run},30M,{2e9 + i:.0f},{0.02 * i},{1 - 0.02 * i}" for i, run in reversed(list(enumerate(RUNS)))]
    recipes.write_text("run,size,tokens,mix/web,mix/code\n" + "\n".join(lines) + "\n")
    return folder, recipes


def logged(folder):
    """(run, step) -> what the samples of it give."""
    found = {}
    for path in (folder / "out").rglob("samples_*.jsonl"):
        run, step = path.parent.name.removeprefix("__models__").split("__")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        task = path.name.removeprefix("samples_").rpartition("_")[0]
        found.setdefault((run, int(step.removeprefix("step").removeprefix("checkpoint-"))), {})[task] = rows
    return {key: means(samples) for key, samples in found.items()}


def test_every_cell_is_what_the_samples_say(evaluated):
    folder, recipes = evaluated
    aims = logged(folder)
    assert len(aims) == 21
    found = open_sources([str(recipes), str(folder / "out")])
    assert [f.kind for f in found] == ["table", "evaluation"] and len(found[1].runs) == 20
    for run in found[1].runs:
        for row in run.history:
            aim = aims[run.name, row["step"]]
            for name in ("sums/acc", "sums/acc_norm", "text/bits_per_byte"):
                key = next(k for k in row if k.startswith(name) and k.removeprefix(name) in ("", ",none"))
                assert row[key] == pytest.approx(aim[name], rel=1e-12), (run.name, name)
    mapping = guess(found).mapping
    runs = import_runs(found, mapping).runs
    assert sorted(runs.run_names) == sorted(RUNS) and len(runs) == 20
    assert runs.sets == ("text",) and runs.tasks == ("sums",)
    assert len({loss for loss in runs.losses[:, 0]}) == 20  # the dummy's losses are random: every run has its own
    for k, w, tokens, loss, acc in zip(
        runs.run, runs.recipe.weights, runs.recipe.tokens, runs.losses[:, 0], runs.accuracies[:, 0], strict=True
    ):
        name = runs.run_names[k]
        i = int(name[1:])
        aim = aims[name, 1000]
        assert tokens == 2e9 + i and w[runs.domains.index("web")] == pytest.approx(0.02 * i, abs=1e-12)
        assert acc == aim["sums/acc"] and loss == pytest.approx(aim["text/bits_per_byte"] * math.log(2), rel=1e-12)


def test_an_evaluation_that_is_repeated(evaluated, tmp_path):
    """A second file of one model and step: the later one counts, and that is said."""
    folder, _ = evaluated
    first = next((folder / "out" / "__models__r0__step1000").glob("results_*.json"))
    content = json.loads(first.read_text())
    (tmp_path / "results_2020-01-01T00-00-00.json").write_text(json.dumps(content))
    content["results"]["sums"]["acc,none"] = 0.123
    (tmp_path / "results_2099-01-01T00-00-00.json").write_text(json.dumps(content))
    found = open_sources([str(tmp_path)])[0]
    assert len(found.runs) == 1 and len(found.runs[0].history) == 1
    assert 0.123 in found.runs[0].history[0].values() and any("evaluated before" in note for note in found.notes)
