"""Train the models of camel_jax/data/proxy_runs.csv: python benchmarks/make_proxy_table.py [--workers 1].

241 runs on the built-in corpus: the same 25 mixtures at four sizes, 20 of them at the largest; a second token budget for the three
smallest; three seeds of five mixtures there; and mixture-of-experts at two sparsities. About an hour on one core. It can be
stopped at any time and goes on where it was. Writes the table, and proxy_runs.json with where its numbers come from.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
from typing import NamedTuple

import jax
import numpy as np

from camel_jax.proxy.corpus import BUILT_IN, Corpus, build_corpus
from camel_jax.proxy.model import LADDER, Shape
from camel_jax.proxy.sweep import sweep
from camel_jax.proxy.train import Settings
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.simplex import dirichlet_design
from camel_jax.storage import replacing
from camel_jax.tables.write import runs_to_frame, write_frame

ROOT = pathlib.Path(__file__).parents[1]
TABLE = ROOT / "camel_jax" / "data" / "proxy_runs.csv"
SIZES = LADDER[:4]
LARGEST = LADDER[4]  # held out from every fit
TOKENS, FEWER_TOKENS = 1_250_304, 500_224
MIXTURES, MIXTURES_LARGEST = 25, 20
SEEDED, SEEDS = 5, (1, 2)  # mixtures trained with these seeds too
EXPERTS, SPARSE_MIXTURES = (4, 8), 4
LOW = 0.05


class Row(NamedTuple):
    """One recipe of the table."""

    run: str
    shape: Shape
    tokens: int
    mixture: int
    seed: int


def make_mixtures(corpus: Corpus) -> np.ndarray:
    """Uniform, then shares as the domains have distinct text, then random ones evenly from the simplex, (25, K).

    The first draw that leaves each domain at least three mixtures with a share below 5 % is taken.
    """
    count = len(corpus.domains)
    uniform = np.full(count, 1 / count)
    natural = np.array([corpus.record["domains"][name]["distinct_bytes"] for name in corpus.domains], float)
    for draw in range(1000):
        random = np.asarray(dirichlet_design(jax.random.key(draw), MIXTURES - 2, uniform), float)
        if np.all((random < LOW).sum(0) >= 3):
            found = np.round(np.stack([uniform, natural / natural.sum(), *random]), 4)
            found[:, -1] = np.round(1 - found[:, :-1].sum(1), 4)
            return np.abs(found)
    raise RuntimeError("no draw has enough low shares")


def mixture_name(index: int) -> str:
    """How runs name a mixture."""
    return ("uniform", "natural")[index] if index < 2 else f"m{index:02d}"


def make_rows() -> list[Row]:
    """All recipes, smallest sizes first."""
    rows = []
    for shape in (*SIZES, LARGEST):
        name, small = f"{shape.n_active / 1e3:.1f}k", shape in SIZES[:3]
        for i in range(MIXTURES_LARGEST if shape == LARGEST else MIXTURES):
            rows.append(Row(f"{name}-{mixture_name(i)}", shape, TOKENS, i, 0))
            if small:
                rows.append(Row(f"{name}-{mixture_name(i)}-short", shape, FEWER_TOKENS, i, 0))
                if i < SEEDED:
                    rows += [Row(f"{name}-{mixture_name(i)}-s{seed}", shape, TOKENS, i, seed) for seed in SEEDS]
    for base in (SIZES[0], SIZES[2]):
        for experts in EXPERTS:
            shape = Shape(base.width, base.layers, base.heads, experts)
            name = f"{shape.n_total / 1e3:.1f}k-a{shape.n_active / 1e3:.1f}k"
            rows += [Row(f"{name}-{mixture_name(i)}", shape, TOKENS, i, 0) for i in range(SPARSE_MIXTURES)]
    return rows


def make_recipe(rows: list[Row], mixtures: np.ndarray) -> Recipe:
    """The recipes as the sweep takes them."""
    total, active = (np.array([getattr(row.shape, field) for row in rows], float) for field in ("n_total", "n_active"))
    return Recipe(total, active, np.array([row.tokens for row in rows], float), mixtures[[row.mixture for row in rows]])


def current_commit() -> str:
    """The commit of the code that runs; asked before it does."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Train what is missing, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "proxy_table", help="finished rows")
    parser.add_argument("--workers", type=int, default=None, help="processes on a CPU; one a core")
    args = parser.parse_args()
    note = args.folder / "commit.txt"
    if not note.exists():  # rows of one folder are of one version: a resumed table keeps the commit it began with
        args.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(current_commit())
    commit = note.read_text()
    corpus = build_corpus(BUILT_IN)
    mixtures, rows = make_mixtures(corpus), make_rows()
    result = sweep(
        make_recipe(rows, mixtures),
        [row.run for row in rows],
        corpus,
        args.folder / "rows",
        seeds=[row.seed for row in rows],
        settings=Settings(),
        resume=True,
        workers=args.workers,
        tell=lambda line: print(line, flush=True),
    )
    frame = runs_to_frame(result.runs)
    frame["seed"] = result.seeds
    write_frame(frame, TABLE)
    runs = result.record.pop("runs")
    head = json.dumps({"commit": commit, **result.record}, indent=1)[:-2]
    body = ",\n".join("  " + json.dumps(run) for run in runs)
    with replacing(TABLE.with_suffix(".json")) as part:
        part.write_text(f'{head},\n "runs": [\n{body}\n ]\n}}\n')
    print(f"wrote {TABLE}: {len(rows)} rows")


if __name__ == "__main__":
    main()
