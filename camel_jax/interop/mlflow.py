"""MLflow: a local store (folder ``mlruns`` or a SQLite file, read without the client) and a server, through the client.

Tested with stores and a server of MLflow 3.17 and 3.18.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import pathlib
import sqlite3
from collections.abc import Iterable
from typing import Any

from camel_jax.interop.tracked import FINISHED, UNFINISHED, Found, TrackedRun

_STATES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_SQLITE = b"SQLite format 3\0"
_INFINITE = 1.797e308  # a SQL store holds its largest number where infinity was logged


def is_mlflow(path: pathlib.Path) -> bool:
    """Whether a path is a folder of experiments, of one experiment, or a SQLite store."""
    if path.is_file():
        with path.open("rb") as file:
            return path.suffix in (".db", ".sqlite", ".sqlite3") or file.read(16) == _SQLITE
    return any(path.glob("meta.yaml")) or any(path.glob("*/meta.yaml")) or any(path.glob("mlruns/*/meta.yaml"))


def read_mlflow(path: pathlib.Path) -> Found:
    """Runs of a local store; runs that were deleted stay out.

    Args:
      path: the folder ``mlruns`` or the one it stands in, one experiment's folder, or a SQLite file.

    Raises:
      ValueError: the store is damaged, or of an unknown version.
    """
    if path.is_file():
        return _read_sqlite(path)
    root = path / "mlruns" if (path / "mlruns").is_dir() else path
    alone = (root / "meta.yaml").exists()
    experiments = [root] if alone else sorted(meta.parent for meta in root.glob("*/meta.yaml"))
    runs, notes = [], []
    for experiment in experiments:
        about = _meta(experiment / "meta.yaml")
        if "run_id" in about or "run_uuid" in about:
            folders, project = [experiment], ""
        else:
            folders = sorted(meta.parent for meta in experiment.glob("*/meta.yaml"))
            project = about.get("name", experiment.name)
        for folder in folders:
            run = _read_folder(folder, project, notes)
            if run is not None:
                runs.append(run)
    return Found(str(path), "mlflow", runs, notes)


def _meta(path: pathlib.Path) -> dict[str, str]:
    """The plain ``name: value`` lines of a store's YAML."""
    out = {}
    for line in _text(path).splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "-", "#")):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            out[name.strip()] = value[1:-1].replace("''", "'") if quoted else value
    return out


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None


def _read_folder(folder: pathlib.Path, project: str, notes: list[str]) -> TrackedRun | None:
    about = _meta(folder / "meta.yaml")
    run_id = about.get("run_id") or about.get("run_uuid")
    if not run_id or about.get("lifecycle_stage") == "deleted":
        return None
    word = about.get("status", "")
    word = _STATES.get(int(word), word) if word.isdecimal() else word
    params, tags = _small_files(folder / "params"), _small_files(folder / "tags")
    entries = []
    if (folder / "metrics").is_dir():
        for path in sorted(p for p in (folder / "metrics").rglob("*") if p.is_file()):
            key = path.relative_to(folder / "metrics").as_posix()
            for number, line in enumerate(_text(path).splitlines(), 1):
                parts = line.split(" ")
                try:
                    entries.append((int(parts[2]) if len(parts) > 2 else 0, int(parts[0]), key, float(parts[1])))
                except (ValueError, IndexError):
                    raise ValueError(f"{path}: line {number}: is no metric of MLflow (time, value, step)") from None
    name = tags.get("mlflow.runName") or about.get("run_name") or run_id
    return _run(str(folder), name, run_id, project, word, params, tags, entries)


def _small_files(folder: pathlib.Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    return {p.relative_to(folder).as_posix(): _text(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def _run(
    place: str,
    name: str,
    run_id: str,
    project: str,
    word: str,
    params: dict[str, Any],
    tags: dict[str, Any],
    entries: Iterable[tuple[int, int, str, float]],
) -> TrackedRun:
    """A run from entries (step, milliseconds, metric, value); the one logged last counts within a step."""
    state = FINISHED if word.upper() == "FINISHED" else UNFINISHED
    config = {f"params.{key}": value for key, value in params.items()}
    config |= {f"tags.{key}": value for key, value in tags.items() if not key.startswith("mlflow.")}
    rows: dict[int, dict[str, Any]] = {}
    for step, _, key, value in sorted(entries, key=lambda entry: entry[:2]):
        finite = abs(value) < _INFINITE or value != value
        rows.setdefault(step, {"step": step})[key] = value if finite else math.copysign(math.inf, value)
    return TrackedRun(place, name, run_id, project, state, word, config, list(rows.values()))


def _read_sqlite(path: pathlib.Path) -> Found:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            lacking = {"runs", "metrics", "params", "tags", "experiments"} - names
            if lacking:
                raise ValueError(f"{path}: is no store of MLflow: it has no table {', '.join(sorted(lacking))}")
            projects = dict(db.execute("SELECT experiment_id, name FROM experiments"))
            about = list(db.execute("SELECT run_uuid, name, status, experiment_id, lifecycle_stage FROM runs"))
            params = _by_run(db.execute("SELECT run_uuid, key, value FROM params"))
            tags = _by_run(db.execute("SELECT run_uuid, key, value FROM tags"))
            entries: dict[str, list[tuple[int, int, str, float]]] = {}
            for run_id, step, time, key, value, is_nan in db.execute(
                "SELECT run_uuid, step, timestamp, key, value, is_nan FROM metrics"
            ):
                entries.setdefault(run_id, []).append((step, time, key, float("nan") if is_nan else value))
    except sqlite3.Error as error:
        raise ValueError(f"{path}: cannot be read as a store of MLflow ({error})") from None
    runs = []
    for run_id, name, status, experiment, stage in about:
        if stage != "deleted":
            tag = tags.get(run_id, {})
            name = tag.get("mlflow.runName") or name or run_id
            found = (params.get(run_id, {}), tag, entries.get(run_id, []))
            runs.append(_run(f"{path} run {run_id}", name, run_id, projects.get(experiment, ""), status or "", *found))
    return Found(str(path), "mlflow", runs)


def _by_run(rows: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    out: dict[str, dict[str, str]] = {}
    for run_id, key, value in rows:
        out.setdefault(run_id, {})[key] = value
    return out


def read_mlflow_server(address: str, client: Any = None) -> Found:
    """Runs of all experiments of a server, or of one.

    Args:
      address: ``http://host:port``, with ``#experiment`` behind it to read one experiment alone.
      client: an ``MlflowClient``; one for the address if None.

    Raises:
      ValueError: the client is not installed, or the server does not answer.
    """
    server, _, wanted = address.partition("#")
    if client is None:
        try:
            mlflow = importlib.import_module("mlflow")
        except ImportError:
            raise ValueError(f"{address}: needs MLflow's client: pip install 'camel-jax[mlflow]'") from None
        client = mlflow.MlflowClient(tracking_uri=server)
    runs = []
    try:
        experiments = [e for e in _pages(client.search_experiments) if not wanted or e.name == wanted]
        for experiment in experiments:
            for one in _pages(client.search_runs, [experiment.experiment_id]):
                entries = [
                    (m.step, m.timestamp, m.key, m.value)
                    for key in one.data.metrics
                    for m in client.get_metric_history(one.info.run_id, key)
                ]
                tags = dict(one.data.tags)
                name = tags.get("mlflow.runName") or one.info.run_name or one.info.run_id
                place = f"{server} run {one.info.run_id}"
                found = (dict(one.data.params), tags, entries)
                runs.append(_run(place, name, one.info.run_id, experiment.name, one.info.status, *found))
    except Exception as error:  # the client raises many kinds
        raise ValueError(f"{server}: {(str(error).splitlines() or [''])[0][:200]}") from None
    if wanted and not experiments:
        raise ValueError(f"{server}: has no experiment {wanted!r}")
    return Found(address, "mlflow", runs)


def _pages(search: Any, *arguments: Any) -> Iterable[Any]:
    token = None
    while True:
        page = search(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
