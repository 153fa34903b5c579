"""Which reader a source is for: by its address, or by what lies there."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

from camel_jax.interop.delimited import read_delimited
from camel_jax.interop.lm_eval import is_evaluation, read_evaluation
from camel_jax.interop.mlflow import is_mlflow, read_mlflow, read_mlflow_server
from camel_jax.interop.swarm import is_swarm, read_swarm
from camel_jax.interop.tensorboard import is_tensorboard, read_tensorboard
from camel_jax.interop.tracked import Found
from camel_jax.interop.trainer_state import is_trainer_state, read_trainer_state
from camel_jax.interop.wandb import is_wandb, read_wandb, read_wandb_project

READERS: dict[str, tuple[Callable[[pathlib.Path], bool], Callable[[pathlib.Path], Found]]] = {
    "wandb": (is_wandb, read_wandb),
    "mlflow": (is_mlflow, read_mlflow),
    "tensorboard": (is_tensorboard, read_tensorboard),
    "trainer_state": (is_trainer_state, read_trainer_state),
    "evaluation": (is_evaluation, read_evaluation),
}
_TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".pq")


def open_sources(sources: Sequence[str], kind: str | None = None) -> list[Found]:
    """Read every source; two tables that are a swarm come back as one.

    Args:
      sources: paths; "-" for a table on standard input; ``wandb:entity/project``; ``http://host:port`` of an MLflow server.
      kind: "wandb", "mlflow", "tensorboard", "trainer_state", "evaluation" or "table" where it shall not be guessed.

    Raises:
      ValueError: a source that no reader knows, or one that its reader refuses.
    """
    if not sources:
        raise ValueError("name at least one source")
    if kind is not None and kind not in (*READERS, "table"):
        raise ValueError(f"--kind {kind}: there are {', '.join((*READERS, 'table'))}")
    if len(set(sources)) < len(sources):
        raise ValueError(f"source {next(s for s in sources if sources.count(s) > 1)} is given twice")
    found = [open_source(source, kind) for source in sources]
    if len(found) == 2 and is_swarm(*found):
        return [read_swarm(*found)]
    return found


def open_source(source: str, kind: str | None = None) -> Found:
    """Read one source; arguments and errors are those of ``open_sources``."""
    if source.startswith("wandb:"):
        return read_wandb_project(source.removeprefix("wandb:"))
    if source.startswith(("http://", "https://")):
        return read_mlflow_server(source)
    path = pathlib.Path(source)
    if source == "-" or kind == "table":
        return read_delimited(source)
    if not path.exists():
        raise ValueError(f"{source}: no such file or folder")
    if kind is not None:
        return _filled(READERS[kind][1](path), kind)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    if path.is_file() and suffix in _TABLES:
        return read_delimited(source)
    fitting = [name for name, (is_kind, _) in READERS.items() if is_kind(path)]
    if len(fitting) > 1:
        raise ValueError(f"{source}: holds records of {' and '.join(fitting)}: say which with --kind")
    if not fitting:
        raise ValueError(
            f"{source}: holds no records of {', '.join(READERS)}, and is no table (.csv, .tsv, .jsonl or .parquet)"
        )
    return _filled(READERS[fitting[0]][1](path), fitting[0])


def _filled(found: Found, kind: str) -> Found:
    if not found.runs:
        raise ValueError(f"{found.source}: holds no run of {kind}" + "".join(f"; {note}" for note in found.notes[:1]))
    return found
