"""Seconds a table of cj.fit_many against a warm Python loop of cj.fit, on simulated tables.

python benchmarks/speed/many_tables.py [--tables 24] [--loop 6] [--laws camel sodm]

The loop is warm: its programs are compiled by the tables before. Writes benchmarks/results/many_tables.json.
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


def table(seed: int) -> cj.Runs:
    """60 runs of 20 mixtures of 5 domains at three sizes, on 4 sets."""
    import jax

    from camel_jax.evaluation import simulate

    return simulate.study(jax.random.key(seed), n_domains=5, n_sets=4, n_mixtures=20, checkpoints=1)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=24)
    parser.add_argument("--loop", type=int, default=6)
    parser.add_argument("--laws", nargs="+", default=["camel", "sodm"])
    args = parser.parse_args()
    start_engine()
    import jax

    begun = provenance()
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


def clock(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
