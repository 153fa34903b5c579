"""Seconds a table of cj.fit_many against a warm Python loop of cj.fit, on simulated tables; and how long a process lives.

python benchmarks/speed/many_tables.py [--tables 24] [--loop 6] [--laws camel sodm] [--shapes 0]

The loop is warm: its programs are compiled by the tables before. ``--shapes N``: in place of that, N tables of different shapes in one
process, with the number of memory maps. Writes benchmarks/results/many_tables.json or many_shapes.json.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np

import camel_jax as cj
from camel_jax.runtime import start_engine

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import write

OPTIONS = {"resamples": 8}
MAPS = pathlib.Path("/proc/self/maps")


def table(seed: int, n_mixtures: int = 20, n_domains: int = 5, n_sets: int = 4) -> cj.Runs:
    """60 runs of 20 mixtures at three sizes, by default."""
    import jax

    from camel_jax.evaluation import simulate

    return simulate.study(
        jax.random.key(seed), n_domains=n_domains, n_sets=n_sets, n_mixtures=n_mixtures, checkpoints=1
    )


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=24)
    parser.add_argument("--loop", type=int, default=6)
    parser.add_argument("--laws", nargs="+", default=["camel", "sodm"])
    parser.add_argument("--shapes", type=int, default=0)
    args = parser.parse_args()
    start_engine()
    import jax

    begun = provenance()
    if args.shapes:
        write(RESULTS / "many_shapes.json", {**begun, "rows": shapes(args.shapes)})
        return
    tables, rows = [table(i) for i in range(args.tables)], []
    for name in args.laws:
        law = getattr(cj.laws, name)()
        cj.fit(law, tables[-1], key=jax.random.key(0), **OPTIONS)
        alone = [
            clock(lambda one=one, law=law: cj.fit(law, one, key=jax.random.key(0), **OPTIONS))
            for one in tables[: args.loop]
        ]
        run = lambda law=law: cj.fit_many(law, tables, key=jax.random.key(0), **OPTIONS)  # noqa: E731
        cold, warm = clock(run), clock(run)
        row = {"law": name, "tables": args.tables, "loop_seconds_a_table": float(np.mean(alone))}
        row |= {"cold_seconds_a_table": cold / args.tables, "warm_seconds_a_table": warm / args.tables}
        rows.append(row | {"ratio": row["loop_seconds_a_table"] / row["warm_seconds_a_table"]})
        print(rows[-1], flush=True)
    write(RESULTS / "many_tables.json", {**begun, "options": OPTIONS, "rows": rows})


def shapes(n: int) -> list[dict[str, float]]:
    """Tables of different numbers of runs, domains and sets, fitted one by one in this process."""
    import jax

    rng, rows = np.random.default_rng(0), []
    begin = time.perf_counter()
    for i in range(n):
        k, v, m = int(rng.integers(2, 7)), int(rng.integers(1, 6)), int(rng.integers(10, 40))
        cj.fit(cj.laws.sodm(), table(i, m, k, v), key=jax.random.key(0), starts=2, resamples=2)
        if i % 10 == 9:
            maps = MAPS.read_bytes().count(b"\n") if MAPS.exists() else 0
            rows.append({"tables": i + 1, "seconds": round(time.perf_counter() - begin, 1), "maps": maps})
            print(rows[-1], flush=True)
    return rows


def clock(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
