"""Launch folders: every run's configuration says what the table of recipes says, and an import finds the runs again."""

import json
from typing import Any

import numpy as np
import pytest
from commands import call, refused

from camel_jax.design.result import Design
from camel_jax.interop.assemble import import_runs
from camel_jax.interop.guess import guess
from camel_jax.interop.launch import check_template, fill, in_parts, placeholders, write_launch
from camel_jax.interop.sources import open_sources
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.read import read_recipes

TEMPLATE = """\
name: ${run}
model: {n_params: ${size}, text: "${size_text}"}
tokens: ${tokens}
steps: ${steps}
mixture: ${mixture}
odd: ${mix/web-crawl é}
script: $HOME/$(date) $$ $${SLURM_JOB_ID}
"""
DOMAINS = ["web-crawl é", "code", "books"]


@pytest.fixture
def columns():
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    table = {"run": [f"next-{i + 1:03d}-30M" for i in range(20)], "size": np.full(20, 30e6), "tokens": np.full(20, 6e8)}
    return in_parts(table | {f"mix/{name}": weights[:, k] for k, name in enumerate(DOMAINS)})


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(TEMPLATE, encoding="utf-8")
    return path


def test_configurations_and_recipes_agree(columns, template, tmp_path):
    yaml = pytest.importorskip("yaml")
    files = write_launch(tmp_path / "launch", columns, template, 4e6)
    assert len(files) == 21 and sorted(p.name for p in (tmp_path / "launch").iterdir()) == sorted(files)
    recipe, names = read_recipes(tmp_path / "launch" / "recipes.csv")
    for i, name in enumerate(names):
        config = yaml.safe_load((tmp_path / "launch" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert config["name"] == name and config["steps"] == 150
        assert config["model"] == {"n_params": recipe.n_active[i], "text": "30M"}
        assert config["tokens"] == recipe.tokens[i]
        assert list(config["mixture"]) == DOMAINS and list(config["mixture"].values()) == recipe.weights[i].tolist()
        assert abs(sum(config["mixture"].values()) - 1) < 1e-12 and config["odd"] == recipe.weights[i, 0]
        assert config["script"] == "$HOME/$(date) $$ ${SLURM_JOB_ID}"


@pytest.mark.parametrize("logs_recipe", [True, False])
def test_import_finds_the_runs_again(columns, template, tmp_path, logs_recipe):
    """What a trainer logs under the run's name is joined, whether or not it logs its configuration; tokens are those it saw."""
    yaml = pytest.importorskip("yaml")
    write_launch(tmp_path / "launch", columns, template, 4e6)
    lines, losses = [], {}
    for path in sorted((tmp_path / "launch").glob("*.yaml"), reverse=True):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        losses[config["name"]] = 3.0 + config["mixture"]["code"]
        row = {"run": config["name"], "tokens": 599_998_464, "eval/web/loss": losses[config["name"]]}
        if logs_recipe:
            row |= {f"mix/{name}": share for name, share in config["mixture"].items()} | {"size": 30_000_000}
        lines.append(json.dumps(row))
    log = tmp_path / "logged.jsonl"
    log.write_text("\n".join(lines))
    found = open_sources([str(tmp_path / "launch" / "recipes.csv"), str(log)])
    runs = import_runs(found, guess(found).mapping).runs
    assert sorted(runs.run_names) == sorted(columns["run"]) and set(runs.recipe.tokens) == {599_998_464.0}
    code = runs.domains.index("code")
    for k, weights, loss in zip(runs.run, runs.recipe.weights, runs.losses[:, 0], strict=True):
        assert loss == losses[runs.run_names[k]] == 3.0 + weights[code]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("${run} ${mixture} ${seed}", "line 1: no value for ${seed}; there are run, index"),
        ("${run}\n${mixture}\n${steps}", "line 3: no value for ${steps}: give --batch-tokens"),
        ("${run} ${mixture ", "line 1: '${' has no '}'"),
        ("$run ${mixture}", "does not use ${run}"),
        ("$${run} ${mixture}", "does not use ${run}"),
        ("${run} ${mix/web}", "does not use ${mix/code}"),
        ("${run} ${ mixture}", "no value for ${ mixture}"),
        ("", "does not use ${run}"),
        (b"\xff\xfe", "text in UTF-8"),
    ],
)
def test_templates_are_refused(text, fragment, tmp_path):
    path = tmp_path / "t.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as error:
        check_template(path, ["web", "code"])
    assert str(error.value).startswith(str(path)) and fragment in str(error.value)


def test_nothing_is_substituted_twice():
    assert fill("${mixture}", {"mixture": '{"${run}": 1}'}) == '{"${run}": 1}'
    values = placeholders({"run": ["a"], "size": [1e6], "size_total": [8e6], "tokens": [1e9], "mix/a": [1e-6]})[0]
    assert values["mix/a"] == "0.000001" and values["size_total"] == "8000000" and "steps" not in values


def test_folders_are_whole_or_not_at_all(columns, template, tmp_path):
    folder = tmp_path / "launch"
    folder.mkdir()
    write_launch(folder, columns, template, 4e6)  # an empty folder is taken
    with pytest.raises(ValueError, match="is not empty"):
        write_launch(folder, columns, template, 4e6)
    with pytest.raises(ValueError, match="no name of a file"):
        write_launch(tmp_path / "other", dict(columns) | {"run": ["../x", *columns["run"][1:]]}, template, 4e6)
    with pytest.raises(ValueError, match="would have one name"):
        write_launch(tmp_path / "other", dict(columns) | {"run": ["x"] * 20}, template, 4e6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["launch", "run.yaml"]


def test_a_second_design_gives_new_names():
    recipe = Recipe(np.array([1e7]), np.array([1e7]), np.array([2e8]), np.array([[0.5, 0.5]]))
    blank: dict[str, Any] = dict.fromkeys(
        [f for f in Design.__dataclass_fields__ if f not in ("recipe", "counts", "domains")]
    )
    design = Design(**blank, recipe=recipe, counts=np.array([2]), domains=("web", "code"))
    assert design.to_columns()["run"] == ["next-001-10M", "next-002-10M"]
    again = design.to_columns(["next-002-10M", "next-007-30M", "next-1000000000000", "mine-9"])["run"]
    assert again == ["next-008-10M", "next-009-10M"]


def test_the_command(tmp_path):
    template = tmp_path / "run.sh"
    template.write_text("train --name ${run} --tokens ${tokens} --size ${size} --mix '${mixture}' --log $LOG\n")
    asked = [
        "design",
        "--domains",
        "web,code",
        "--law",
        "dml",
        "--ladder",
        "10M,30M",
        "--budget",
        "1e17",
        "--target-size",
        "1B",
    ]
    asked += ["--mixtures", 5, "--shapes", "uniform", "--max-runs", 6]
    launch, out = tmp_path / "launch", tmp_path / "next.csv"
    code, _, err = call(*asked, "--template", template, "--launch", launch, "--out", out)
    assert code == 0 and "configurations and recipes.csv" in err
    assert (launch / "recipes.csv").read_bytes() == out.read_bytes()
    _, names = read_recipes(out)
    assert sorted(p.stem for p in launch.glob("*.sh")) == sorted(names)
    line = (launch / f"{names[0]}.sh").read_text()
    assert line.startswith(f"train --name {names[0]} --tokens ") and line.endswith("--log $LOG\n")
    assert "is not empty" in refused(*asked, "--template", template, "--launch", launch)
    assert "belong together" in refused(*asked, "--template", template)
    template.write_text("${run} ${web} ${mixture}")
    assert "line 1: no value for ${web}" in refused(*asked, "--template", template, "--launch", tmp_path / "l2")
