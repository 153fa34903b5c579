"""Kinds of long work that can be killed: small commands, when their work begins, and the files that must come out."""

from __future__ import annotations

import csv
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any, NamedTuple

from common.tested_code import ROOT

COUNT = 4  # processes of a distributed job
TABLES = [f"t{i}.csv" for i in range(12)]
RECIPES = "run,size,tokens,mix/math,mix/knowledge\n" + "".join(
    f"{run},6224,100K,{share},{1 - share}\n" for run, share in {"a": 0.25, "b": 0.5, "c": 0.75}.items()
)
ENTRY = """
import importlib, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
from camel_jax import cli
place, module, function, option, value = sys.argv.pop(1).split(":")
home = importlib.import_module("camel_jax.cli." + place)
begin = home.start_engine
def start_engine(**options):
    begin(**options)
    getattr(importlib.import_module(module), function).__kwdefaults__[option] = float(value) if "." in value else int(value)
home.start_engine = start_engine
signal.signal(signal.SIGINT, signal.default_int_handler)
cli.main()
"""
PLAIN = "from camel_jax.cli import main; main()"


class Kind(NamedTuple):
    """One kind of work.

    Attributes:
      arguments: of ``camel-jax``.
      results: files to compare, as patterns.
      modules: of the package that do the work.
      begins: what appears in the folder when the work begins.
      smaller: an option of a function that makes its chunks smaller, as ENTRY reads it; "" for none.
      early: share of the kills that fall before the work begins.
    """

    arguments: tuple[str, ...]
    results: tuple[str, ...]
    modules: tuple[str, ...]
    begins: str = ".kept.lock"
    smaller: str = ""
    early: float = 0.15


KEEP = ("--resume", "kept")
KINDS = {
    "fit": Kind(
        ("fit", "t0.csv", "--law", "camel", "--skills", "2", "--out", "fit.npz", *KEEP),
        ("fit.npz",),
        ("camel_jax.fitting.fit", "camel_jax.cli.output"),
    ),
    "fit_many": Kind(
        ("fit", *TABLES, "--law", "chinchilla", "--starts", "1", "--resamples", "2", "--out-dir", "fits", *KEEP),
        ("fits/*.npz", "fits/fits.csv"),
        ("camel_jax.fitting.many", "camel_jax.cli.fit_many"),
        smaller="fit_many:camel_jax.fitting.many:fit_many:together:4",
    ),
    "sweep": Kind(
        ("sweep", "recipes.csv", "--workers", "1", "--domain-bytes", "20000", "--out", "out.csv", "--curves", "c.csv"),
        ("out.csv", "c.csv"),
        ("camel_jax.cli.sweep", "camel_jax.proxy.worker"),
        ".out.csv.parts.lock",
        "sweep:camel_jax.proxy.sweep:sweep:every:0.2",
    ),
    "bayes": Kind(
        (
            "fit",
            "t0.csv",
            "--law",
            "chinchilla",
            "--bayes",
            "--chains",
            "2",
            "--draws",
            "50",
            "--out",
            "fit.npz",
            *KEEP,
        ),
        ("fit.npz",),
        ("camel_jax.bayes.sampling", "camel_jax.cli.output"),
    ),
    "distributed": Kind(
        ("fit", "t0.csv", "--law", "chinchilla", "--resamples", "8", "--out", "fit.npz", *KEEP, "--distributed"),
        ("fit.npz",),
        ("camel_jax.cli.fit",),
        early=0.05,  # the others wait 45 seconds for one that does not come
    ),
}


class Started(NamedTuple):
    """A process, and the file that has what it says on stderr."""

    process: subprocess.Popen
    file: pathlib.Path

    def said(self) -> str:
        """What it has said so far."""
        return self.file.read_text()


def start(kind: Kind, folder: pathlib.Path, distributed: bool) -> list[Started]:
    """Start the command, or all processes of the job; what they say goes to files in ``folder/said``."""
    said = folder / "said"
    said.mkdir(exist_ok=True)
    more: list[tuple[str, ...]] = [()]
    if distributed:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            job = ("--coordinator", f"127.0.0.1:{free.getsockname()[1]}", "--processes", str(COUNT))
        more = [(*job, "--process-id", str(i)) for i in range(COUNT)]
    elif (folder / "out.csv.parts").is_dir():
        more = [("--resume",)]
    code = [ENTRY, kind.smaller] if kind.smaller else [PLAIN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    jobs = []
    for own in more:
        with (said / f"{len(list(said.iterdir())):03d}").open("w") as file:
            command = [sys.executable, "-c", *code, *kind.arguments, *own]
            options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": file, "start_new_session": True}
            process = subprocess.Popen(command, cwd=folder, env=environment, **options)
            jobs.append(Started(process, pathlib.Path(file.name)))
    return jobs


def make_tables(folder: pathlib.Path) -> None:
    """Write the tables that the commands read."""
    import jax

    from camel_jax.evaluation import simulate
    from camel_jax.tables.write import write_runs

    (folder / "recipes.csv").write_text(RECIPES)
    for i, name in enumerate(TABLES):
        options: dict[str, Any] = {"n_domains": 2 + i % 2, "n_sets": 2, "n_mixtures": 6, "sizes": (1e7, 1e8)}
        write_runs(simulate.study(jax.random.key(i), checkpoints=1, **options), folder / name)


def contents(kind: Kind, folder: pathlib.Path) -> dict[str, bytes]:
    """The results by name; seconds, which differ from run to run, are left out."""
    out = {}
    for path in sorted(path for pattern in kind.results for path in folder.glob(pattern)):
        out[path.name] = path.read_bytes()
        if path.name == "fits.csv":
            rows = list(csv.DictReader(path.read_text().splitlines()))
            out[path.name] = repr([{k: v for k, v in row.items() if k != "seconds"} for row in rows]).encode()
    return out
