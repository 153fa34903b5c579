"""The problem of the benchmarks of small fits: public runs, one law of nine parameters, resamples and starts."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import DATA, RESULTS, provenance, usable_cores, versions

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


def parse(doc: str, out: str, more) -> argparse.Namespace:
    """The arguments of a benchmark of small fits; ``more`` adds its own to the parser."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / out)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--seed", type=int, default=7)
    more(parser)
    return parser.parse_args()


def one_device_a_core() -> None:
    """Ask XLA for a virtual device a core, unless its flags say how many; before JAX is imported."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={usable_cores()}".strip()


def environment():
    """What made a result, the load before it, and the rivals' versions."""
    import jax

    extra = {"load_at_start": os.getloadavg()[0], "devices": [str(d) for d in jax.local_devices()]}
    return provenance() | versions("optimistix", "torch") | extra


def arguments(args):
    """What was asked for, as text; of paths only the last name, so that results do not tell folders of a machine."""
    return {k: v.name if isinstance(v, pathlib.Path) else str(v) for k, v in vars(args).items()}
