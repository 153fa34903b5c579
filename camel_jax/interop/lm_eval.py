"""Result files of lm-evaluation-harness (``results_*.json``) and of OLMES (``*metrics.json``).

Tested with files that lm-eval 0.4.13 wrote, and with recorded ones in the form of OLMES 0.1, which is on no registry. Files of
lm-eval before 0.4, with metrics without filters, are read too.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from camel_jax.interop.tracked import FINISHED, Found, TrackedRun, flatten, read_json

_STEP = re.compile(r"(?:step|checkpoint|iter|global_step)[-_]?(\d+)(?:-unsharded|-hf)?", re.IGNORECASE)
_SKIP = re.compile(r"(.*_stderr|alias|sample_len|name|sample_count)(,.*)?")


def is_evaluation(path: pathlib.Path) -> bool:
    """Whether a path is a result file, or a folder with some below it."""
    return bool(_files(path))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_file():
        named = path.suffix == ".json" and (path.name.startswith("results") or path.name.endswith("metrics.json"))
        return [path] if named else []
    found = {*path.rglob("results*.json"), *path.rglob("*metrics.json")}
    return sorted(p for p in found if p.is_file() and not p.name.startswith("samples"))


def read_evaluation(path: pathlib.Path) -> Found:
    """Evaluations, one run a model; files of one model and step are put together, the later one first in case of doubt.

    Args:
      path: a result file or a folder. A run is called by the last part of its model's path, leaving out a part such as
        ``step1000`` or ``checkpoint-1000``, which is the step.

    Raises:
      ValueError: a file that is no result of either program.
    """
    runs: dict[str, TrackedRun] = {}
    notes: list[str] = []
    estimators = set()
    for file in _files(path):
        for model, settings, scores, estimator in _results(file):
            estimators.add(estimator)
            name, step = _name_of(model, file)
            run = runs.setdefault(name, TrackedRun(str(file), name, state=FINISHED, told="evaluated"))
            run.config |= {f"config.{key}": value for key, value in settings.items()}
            row = next((row for row in run.history if row.get("step") == step), None)
            if row is None:
                row = {} if step is None else {"step": step}
                run.history.append(row)
            again = [key for key, value in scores.items() if key in row and row[key] != value]
            if again:
                notes.append(
                    f"{file}: run {name}: {again[0]} was evaluated before, as {row[again[0]]}: this one counts"
                )
            row |= scores
    for run in runs.values():  # files are found in the order of their names, in which step 1000 comes before step 500
        run.history.sort(key=lambda row: row.get("step", float("inf")))
    if len(estimators) > 1:
        raise ValueError(
            f"{path}: holds results of lm-eval and of OLMES, which score differently: import them one by one, under two names"
        )
    return Found(str(path), "evaluation", list(runs.values()), notes, next(iter(estimators), ""))


def _results(file: pathlib.Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], str]]:
    """(model, settings, scores, how bits per byte are estimated) of every model in a file."""
    content = read_json(file)
    if isinstance(results := content.get("results"), Mapping):
        config = content.get("config") if isinstance(content.get("config"), Mapping) else {}
        assert isinstance(config, Mapping)
        model = content.get("model_name") or _pretrained(config.get("model_args")) or config.get("model") or ""
        scores = {}
        for task, metrics in results.items():
            if not isinstance(metrics, Mapping):
                raise ValueError(f"{file}: task {task!r} holds no metrics: is it a result of lm-eval?")
            for metric, value in metrics.items():
                if isinstance(value, (int, float)) and not _SKIP.fullmatch(metric):
                    name, _, filters = metric.partition(",")
                    scores[f"{task}/{name}" + (f"/{filters}" if filters not in ("", "none") else "")] = value
        settings = {"n_params": n} if (n := config.get("model_num_parameters")) else {}
        yield str(model), settings, scores, "lm-eval, whole documents"
    elif isinstance(content.get("tasks"), list) or isinstance(content.get("metrics"), Mapping):
        several = "tasks" in content
        scores, model = {}, ""
        for task in content["tasks"] if several else [content]:
            if not isinstance(task, Mapping) or not isinstance(task.get("metrics"), Mapping):
                raise ValueError(f"{file}: a task holds no metrics: is it a result of OLMES?")
            alias = (
                (task.get("task_config") or {}).get("metadata", {}).get("alias")
                or task.get("alias")
                or task.get("task_name")
            )
            about = task.get("model_config") or content.get("model_config") or {}
            model = about.get("model_path") or about.get("model") or model
            if about.get("revision") and not _STEP.search(str(model)):
                model = f"{model}/{about['revision']}"
            for metric, value in flatten(task["metrics"]).items():
                if isinstance(value, (int, float)) and not _SKIP.fullmatch(metric):
                    scores[f"{alias}/{metric}"] = value
        yield str(model), {}, scores, "OLMES, the right answer"
    else:
        raise ValueError(f"{file}: is no result of lm-eval ('results') nor of OLMES ('tasks' or 'metrics')")


def _pretrained(arguments: Any) -> str:
    if isinstance(arguments, Mapping):
        return str(arguments.get("pretrained") or arguments.get("path") or "")
    match = re.search(r"(?:pretrained|path)=([^,]+)", str(arguments or ""))
    return match[1] if match else ""


def _name_of(model: str, file: pathlib.Path) -> tuple[str, int | None]:
    parts = [part for part in model.replace("\\", "/").split("/") if part not in ("", ".", "main")]
    step = None
    while parts and (match := _STEP.fullmatch(parts[-1])):
        step = int(match[1]) if step is None else step
        parts.pop()
    if not parts:
        raise ValueError(f"{file}: names no model: give each model a path whose last part is the run's name")
    name = parts[-1]
    if step is None and (match := re.fullmatch(rf"(.+)[-_]{_STEP.pattern}", name, re.IGNORECASE)):
        name, step = match[1], int(match[2])
    return name, step
