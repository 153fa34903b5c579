"""Folders of Hugging Face's Trainer: ``trainer_state.json`` of every run, with the settings that stand beside it.

Tested with recorded states, not with runs of transformers.
"""

from __future__ import annotations

import pathlib
import re
from typing import Any

from camel_jax.interop.tracked import (
    FINISHED,
    UNFINISHED,
    UNKNOWN,
    Found,
    TrackedRun,
    plain,
    read_json,
    settings_beside,
)

NAME = "trainer_state.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def is_trainer_state(path: pathlib.Path) -> bool:
    """Whether a path is a ``trainer_state.json``, or a folder with some below it."""
    return path.name == NAME if path.is_file() else any(True for _ in path.rglob(NAME))


def read_trainer_state(path: pathlib.Path) -> Found:
    """Runs of a folder; of a run's checkpoints the one that went furthest counts, since its state holds all that was logged.

    Args:
      path: a ``trainer_state.json``, or a folder; a run is called by its folder, relative to this one.

    Raises:
      ValueError: a file that is no state of the Trainer.
    """
    files = [path] if path.is_file() else sorted(path.rglob(NAME))
    furthest: dict[pathlib.Path, tuple[float, pathlib.Path, dict[str, Any]]] = {}
    for file in files:
        state = read_json(file)
        history = state.get("log_history")
        if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
            raise ValueError(f"{file}: is no state of Hugging Face's Trainer: it has no list 'log_history'")
        folder = file.parent.parent if _CHECKPOINT.fullmatch(file.parent.name) else file.parent
        step = _count(state.get("global_step"))
        if folder not in furthest or step >= furthest[folder][0]:
            furthest[folder] = (step, file, state)
    runs = []
    for folder, (step, file, state) in sorted(furthest.items()):
        inside = path.is_dir() and folder != path and path in folder.parents
        name = folder.relative_to(path).as_posix() if inside else folder.resolve().name
        planned = _count(state.get("max_steps"))
        done = FINISHED if planned and step >= planned else UNFINISHED if planned else UNKNOWN
        run = TrackedRun(str(file), name, state=done, told=f"step {step:.0f} of {planned:.0f}")
        run.config = settings_beside(folder)
        if planned:
            run.config["max_steps"] = planned
        rows: dict[Any, dict[str, Any]] = {}
        for number, entry in enumerate(state["log_history"]):
            key = entry.get("step", f"entry {number}")
            rows.setdefault(key, {}).update({str(k): plain(v) for k, v in entry.items()})
        run.history = list(rows.values())
        seen = state.get("num_input_tokens_seen")
        if run.history and seen and not any("num_input_tokens_seen" in row for row in run.history):
            run.history[-1]["num_input_tokens_seen"] = seen
        runs.append(run)
    return Found(str(path), "trainer_state", runs)


def _count(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
