"""Wall clock, CPU time and memory of camel-jax fit on planted tables of many domains, as whole processes with an empty cache.

python benchmarks/speed/many_domains.py [--tables 30x240x20 100x240x20] [--law blend] [--limit 600] [--name many_domains]

A table is DOMAINSxRUNSxSETS, or the path of a run table. Writes benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, commit, provenance
from common.results import write


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", default=["10x240x20", "30x240x20", "100x240x20"])
    parser.add_argument("--law", default="blend")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which a fit is given up")
    parser.add_argument("--one-size", action="store_true", help="all runs of one size and token count")
    parser.add_argument("--name", default="many_domains")
    args = parser.parse_args()
    begun, rows = commit(), []
    for table in args.tables:
        with tempfile.TemporaryDirectory() as folder:
            path = table if pathlib.Path(table).exists() else make(table, args.one_size, folder)
            rows.append(
                {"table": pathlib.Path(table).name, "law": args.law, **timed(path, args.law, args.limit, folder)}
            )
            print(rows[-1], flush=True)
    write(RESULTS / f"{args.name}.json", {**provenance(), **begun, "cores": len(os.sched_getaffinity(0)), "rows": rows})


def make(table: str, one_size: bool, folder: str) -> str:
    """A planted table on disk, made by a process of its own."""
    path = f"{folder}/runs.csv"
    domains, runs, sets = table.split("x")
    program = "from planted_swarm import planted; from camel_jax import write_runs; "
    program += f"write_runs(planted({domains}, {runs}, {sets}, one_size={one_size}), {path!r})"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=pathlib.Path(__file__).parent, env=environment())
    return path


def environment(**more: str) -> dict[str, str]:
    """Of a process that finds the package."""
    root = str(pathlib.Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])} | more


def timed(path: str, law: str, limit: float, folder: str) -> dict[str, float | str]:
    """Seconds of a cold process, its CPU time and its largest memory (of all processes so far)."""
    command = [sys.executable, "-c", "from camel_jax.cli import main; main()", "fit", path, "--law", law]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done: dict[str, float | str] = {}
    try:
        env = environment(JAX_COMPILATION_CACHE_DIR=f"{folder}/cache")
        out = subprocess.run(
            [*command, "--out", f"{folder}/fit.npz"], env=env, timeout=limit, capture_output=True, text=True, check=True
        )
        done["said"] = next((line for line in out.stderr.splitlines() if "will take" in line), "")
    except subprocess.TimeoutExpired:
        done["gave_up_after"] = limit
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    done |= {"seconds": round(time.perf_counter() - begin, 1), "cpu_seconds": round(cpu, 1)}
    return done | {"gigabytes": round(after.ru_maxrss / 2**20, 2)}


if __name__ == "__main__":
    main()
