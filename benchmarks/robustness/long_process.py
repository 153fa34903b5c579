"""Does a process that fits many tables go on? Tables of different shapes, with its memory maps and resident memory as it goes.

    python benchmarks/robustness/long_process.py [--tables 500] [--law chinchilla] [--ways fit fit_many]

Every shape (runs, domains, sets) has programs of its own, each of which takes memory maps, of which Linux allows a process 65,530.
Each way, ``cj.fit`` one by one and ``cj.fit_many`` for 25 at a time, has a process of its own; the tables are of as many different
shapes as there are tables. Writes benchmarks/results/long_process.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import random
import subprocess
import sys
import time

import camel_jax as cj
from camel_jax.runtime import MAPS, MOST_MAPS, start_engine

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import stored, write

EVERY = 25  # tables between two looks at the process
OPTIONS = {"starts": 1, "resamples": 0}
MIXTURES, DOMAINS, SETS = range(6, 26), range(2, 7), range(1, 6)  # 500 shapes


def look() -> dict[str, int]:
    """Memory maps of this process, and its resident memory in MB."""
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return {"maps": MAPS.read_bytes().count(b"\n"), "resident_mb": resident // 1024}


def fit_all(way: str, law_name: str, count: int) -> None:
    """Fit tables in this process, and print a line of JSON after every few."""
    start_engine()
    import jax

    from camel_jax.evaluation import simulate

    shapes = list(itertools.product(MIXTURES, DOMAINS, SETS))
    random.Random(0).shuffle(shapes)
    law, key, begin, fitted = getattr(cj.laws, law_name)(), jax.random.key(0), time.perf_counter(), 0
    for low in range(0, count, EVERY):
        tables = {}
        for i, (m, k, v) in enumerate(shapes[low : min(low + EVERY, count)], low):
            planted = {"n_mixtures": m, "n_domains": k, "n_sets": v, "checkpoints": 1, "law": cj.laws.chinchilla()}
            tables[str(i)] = simulate.study(jax.random.key(i), **planted)
        if way == "fit":
            fits = [cj.fit(law, table, key=key, **OPTIONS) for table in tables.values()]
        else:
            fits = list(cj.fit_many(law, tables, key=key, **OPTIONS).fits.values())
        fitted += len(fits)
        seconds = round(time.perf_counter() - begin, 1)
        print(json.dumps({"tables": low + len(tables), "fitted": fitted, "seconds": seconds, **look()}), flush=True)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--law", default="chinchilla")
    parser.add_argument("--ways", nargs="+", default=["fit", "fit_many"])
    parser.add_argument("--in-process", action="store_true", help="fit here, the only way that is named")
    args = parser.parse_args()
    if args.in_process:
        return fit_all(args.ways[0], args.law, args.tables)
    path = RESULTS / "long_process.json"
    head = {**provenance("camel_jax.fitting.many"), "allowed_maps": int(MOST_MAPS.read_text()), "options": OPTIONS}
    result = {**head, "ways": stored(path, {}).get("ways", {})}
    for way in args.ways:
        words = ["--in-process", "--law", args.law, "--tables", str(args.tables), "--ways", way]
        command, rows = [sys.executable, __file__, *words], []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                rows.append(json.loads(line))
                print(way, rows[-1], flush=True)
        result["ways"][way] = {"law": args.law, "ended_with": process.returncode, "rows": rows}
        write(path, result)


if __name__ == "__main__":
    main()
