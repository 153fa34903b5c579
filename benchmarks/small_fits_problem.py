"""The problem of the benchmarks of small fits: public runs, one law of nine parameters, resamples and starts."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import numpy as np

HERE = pathlib.Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
N_STARTS, N_PARAMS = 16, 9
LEAVES = ("floor", "mixture_scale", "mixture_slope", "size_exponent", "size_scale")


def load(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Shares (R, 5), centered log sizes (R,), losses (R, 22) and set names, final checkpoints only."""
    import pandas as pd

    frame = pd.read_csv(folder / "pile5.csv")
    frame = frame[frame["tokens"] == frame.groupby("run")["tokens"].transform("max")]
    sets = [c for c in frame if c.startswith("loss/")]
    shares = frame[[c for c in frame if c.startswith("mix/")]].to_numpy(float)
    log_size = np.log(frame["size"].to_numpy(float))
    return shares, log_size - log_size.mean(), frame[sets].to_numpy(float), [c[5:] for c in sets]


def draw_counts(rng: np.random.Generator, n: int, log_size: np.ndarray) -> np.ndarray:
    """(n, R) multiplicities, drawn within each size; int8."""
    out = np.zeros((n, len(log_size)), np.int8)
    for size in np.unique(log_size):
        rows = np.flatnonzero(log_size == size)
        out[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n)
    return out


def draw_starts(rng: np.random.Generator, n: int, n_sets: int, n_domains: int) -> dict[str, np.ndarray]:
    def normal(center: float, spread: float, *shape: int) -> np.ndarray:
        return center + spread * rng.standard_normal((n, n_sets, *shape))

    return {
        "floor": normal(0.3, 0.3),
        "mixture_scale": normal(-0.2, 0.4),
        "mixture_slope": normal(0.0, 0.5, n_domains),
        "size_exponent": normal(np.log(0.12), 0.3),
        "size_scale": normal(-0.6, 0.4),
    }


def flatten(params: dict[str, np.ndarray], lead: int) -> np.ndarray:
    return np.concatenate([params[k].reshape(*params[k].shape[:lead], -1) for k in LEAVES], -1)


def predict(raw, row):
    """The law as a user writes it: one set, one row."""
    import jax.numpy as jnp

    shares, log_size = row
    size = jnp.exp(raw["size_scale"] - jnp.exp(raw["size_exponent"]) * log_size)
    return jnp.exp(raw["floor"]) + jnp.exp(raw["mixture_scale"] + raw["mixture_slope"] @ shares) + size


def declare(shares, log_size):
    """The same law by its structure."""
    from camel_jax.solvers.structure import Term, structure

    return structure(
        {k: ((shares.shape[1],) if k == "mixture_slope" else ()) for k in LEAVES},
        [
            Term([{"floor": 1.0}]),
            Term([{"mixture_scale": 1.0, "mixture_slope": shares.T}]),
            Term([{"size_scale": 1.0, "size_exponent": -log_size}]),
        ],
        positive=["size_exponent"],
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment():
    import jax

    def of(name):
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False)
    commit = asked.stdout.strip()
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if pathlib.Path("/proc/cpuinfo").exists() else []
    cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.processor())
    names = ("jax", "jaxlib", "numpy", "scipy", "optimistix", "torch")
    return {
        "git": commit,
        "python": platform.python_version(),
        **{n: of(n) for n in names},
        "cpu": cpu,
        "cores": usable_cores(),
        "load_at_start": os.getloadavg()[0],
        "devices": [str(d) for d in jax.local_devices()],
        "dtype": "float64",
    }


def arguments(args):
    """What was asked for, as text; of paths only the last name, so that results do not tell folders of a machine."""
    return {k: v.name if isinstance(v, pathlib.Path) else str(v) for k, v in vars(args).items()}


def write(results, path):
    """What there is so far, so that a run that is stopped is not lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
