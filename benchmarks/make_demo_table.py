"""Write camel_jax/data/demo_runs.csv: a simulated table of runs, the same bytes every time.

The truth is the exact capacity law: a model splits its parameters over skills so as to minimise its training loss, and
sees a skill as often as the mixture asks for it. Noise is what repeated real runs show: 0.3 to 0.5 %, most of it shared
by all checkpoints and sets of a run.

    python benchmarks/make_demo_table.py [--out PATH] [--check]
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import tables
from camel_jax.laws.allocation import log_allocate
from camel_jax.numerics import safe_log
from camel_jax.runs import Recipe, Runs

SEED = 20260308
TABLE = pathlib.Path(__file__).parents[1] / "camel_jax" / "data" / "demo_runs.csv"

DOMAINS = ("web", "code", "math", "books", "wiki")
SETS = ("web", "code", "math", "books", "wiki", "forum")
TASKS = ("reading", "facts", "arithmetic", "programs")
NATURAL = np.array([0.58, 0.12, 0.06, 0.14, 0.10])  # what the domains hold; random mixtures scatter around it

SIZES = (20e6, 60e6, 160e6, 420e6)
MIXTURES = (20, 20, 18, 16)
TOKENS_PER_PARAMETER = (20.0, 50.0)
CHECKPOINTS = (0.4, 0.7, 1.0)

#                     web   code  math  books wiki  prose reason
DEMAND = np.array([  [0.70, 0.01, 0.01, 0.02, 0.03, 0.20, 0.03],   # web
                     [0.01, 0.78, 0.03, 0.00, 0.00, 0.01, 0.17],   # code
                     [0.01, 0.03, 0.70, 0.00, 0.00, 0.02, 0.24],   # math
                     [0.03, 0.00, 0.00, 0.66, 0.01, 0.28, 0.02],   # books
                     [0.04, 0.00, 0.01, 0.01, 0.72, 0.18, 0.04],   # wiki
])  # fmt: skip
READ = np.concatenate(
    [DEMAND, [[0.42, 0.10, 0.05, 0.06, 0.07, 0.20, 0.10]]]
)  # a set asks like its domain; forum is no domain
ALPHA = np.array([0.19, 0.46, 0.20, 0.17, 0.36, 0.22, 0.16])
BETA = np.array([0.24, 0.42, 0.22, 0.22, 0.34, 0.27, 0.20])
SIZE_TERM = np.array([0.42, 0.26, 0.55, 0.44, 0.40, 0.40, 0.38])  # nats at one seventh of 100M parameters
DATA_TERM = np.array([0.38, 0.26, 0.55, 0.38, 0.38, 0.36, 0.34])  # nats at one seventh of 4B tokens
FLOOR = np.array([1.92, 0.80, 0.72, 2.12, 1.62, 1.84])

RUN_NOISE, SET_NOISE, CHECKPOINT_NOISE = 0.0028, 0.0022, 0.0012
TASK_FLOOR = np.array([0.25, 0.25, 0.0, 0.0])
TASK_CEILING = np.array([0.90, 0.85, 0.80, 0.75])
TASK_SLOPE = np.array([
    [1.2, 0.0, 0.0, 1.2, 0.4, 0.4],
    [0.8, 0.0, 0.0, 0.2, 2.4, 0.2],
    [0.0, 0.6, 3.2, 0.0, 0.0, 0.0],
    [0.0, 3.6, 0.6, 0.0, 0.0, 0.2],
])  # fmt: skip
TASK_MIDDLE = np.array([2.9, 1.45, 1.75, 3.1, 2.55, 2.8])  # losses at which a task is half learnt
TASK_ITEMS = np.array([2000, 2000, 1000, 500])


def true_losses(recipe: Recipe) -> jax.Array:
    """Losses (V,) of one recipe under the planted law, without noise."""
    demand = recipe.weights @ DEMAND
    log_m = log_allocate(safe_log(demand), jnp.log(SIZE_TERM), ALPHA, safe_log(recipe.n_active / 1e8)) + np.log(7.0)
    log_d = safe_log(demand * recipe.tokens / 4e9) + np.log(7.0)
    terms = SIZE_TERM * jnp.exp(-ALPHA * log_m) + DATA_TERM * jnp.exp(-BETA * log_d)
    return FLOOR + READ @ terms


def simulate(seed: int = SEED) -> Runs:
    """The table: every size with its own random mixtures, half of them trained longer."""
    rng = np.random.default_rng(seed)
    sizes, tokens, weights, run, names = [], [], [], [], []
    for size, count in zip(SIZES, MIXTURES, strict=True):
        for i in range(count):
            mixture = rng.dirichlet(7.0 * NATURAL**0.8 / np.sum(NATURAL**0.8))
            mixture = np.where(mixture < 0.01, 0.0, mixture)  # a domain left out is common in practice
            mixture = np.round(mixture / mixture.sum(), 4)
            mixture[0] = np.round(1 - mixture[1:].sum(), 4)
            names.append(f"{size / 1e6:.0f}M-{i:02d}")
            for part in CHECKPOINTS:
                sizes.append(size)
                tokens.append(round(size * TOKENS_PER_PARAMETER[i % 2] * part))
                weights.append(mixture)
                run.append(len(names) - 1)
    size = np.array(sizes)
    recipe = Recipe(size, size, np.array(tokens, float), np.array(weights))
    clean = np.asarray(jax.vmap(true_losses)(recipe))
    index = np.array(run)
    noise = (
        RUN_NOISE * rng.standard_normal((len(names), 1))[index]
        + SET_NOISE * rng.standard_normal((len(names), len(SETS)))[index]
        + CHECKPOINT_NOISE * rng.standard_normal(clean.shape)
    )
    losses = clean * np.exp(noise)
    logit = (TASK_MIDDLE - losses) @ TASK_SLOPE.T
    accuracies = TASK_FLOOR + (TASK_CEILING - TASK_FLOOR) / (1 + np.exp(-logit))
    accuracies = rng.binomial(TASK_ITEMS, accuracies) / TASK_ITEMS
    return Runs(recipe, np.round(losses, 4), accuracies, index, DOMAINS, SETS, TASKS, tuple(names))


def main() -> int:
    """Write the table, or check that the shipped one is what this script makes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=TABLE)
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    text = tables.runs_to_frame(simulate()).to_csv(index=False, lineterminator="\n")
    if args.check:
        same = args.out.read_bytes() == text.encode()
        print("same bytes" if same else f"{args.out} differs from what this script makes")
        return 0 if same else 1
    args.out.write_text(text, newline="\n")
    print(f"wrote {args.out}: {text.count(chr(10)) - 1} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
