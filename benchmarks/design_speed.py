"""How long an optimal design takes, and how much memory: python benchmarks/design_speed.py [--large 16667].

One process a measurement: 1,000 candidate mixtures at 6 sizes for CAMEL (16 skills) and SODM, from the prior, at most 100 runs, first
with an empty compilation cache, then with a warm one; seconds from after the imports to the finished design, compilation included.
Then ``--large`` mixtures (100,000 candidates). Peak memory is that of the whole process, imports included; load is the machine's load
average at the end. Rows measured before stay in the JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

RESULTS = pathlib.Path(__file__).parent / "results" / "design_speed.json"
SIZES = ["20M", "60M", "100M", "200M", "400M", "1B"]


def measure(name: str, mixtures: int) -> dict:
    """One design in this process."""
    from camel_jax.runtime import start_engine

    start_engine(quick=False)
    import jax
    import numpy as np

    from camel_jax import laws
    from camel_jax.design.candidates import mixtures_around, target_region
    from camel_jax.design.knowledge import know_nothing
    from camel_jax.design.ladder import make_ladder
    from camel_jax.design.propose import propose_runs

    jax.block_until_ready(jax.numpy.zeros(1) + 1)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, cpu = time.perf_counter(), time.process_time()
    center = np.full(3, 1 / 3)
    ladder = make_ladder(SIZES)
    target = target_region("7B", None, mixtures_around(jax.random.key(1), 32, center, 2.0))
    candidates = mixtures_around(jax.random.key(2), mixtures, center)
    known = know_nothing(laws.CONSTRUCTORS[name](), ladder, target, ("a", "b", "c"), key=jax.random.key(0), draws=3)
    found = propose_runs(known, ladder, 1e21, target, candidates)
    return {
        "law": name,
        "mixtures": mixtures,
        "candidates": mixtures * len(SIZES),
        "parameters": int(known.precision.shape[-1]),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "imports_MB": idle,
        "load": os.getloadavg()[0],
        "runs": int(found.counts.sum()),
        "error_after": found.error_after,
        "jax": jax.__version__,
        "device": f"{jax.devices()[0].device_kind}, {jax.device_count()}",
    }


def main() -> None:
    """Measure in processes of their own, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=16_667, help="mixtures of the memory test")
    parser.add_argument("--laws", default="camel,sodm")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args.child[0], int(args.child[1]))))
        return
    asked = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    with tempfile.TemporaryDirectory() as cache:
        names = args.laws.split(",")
        plan = [(name, 1000, state) for name in names for state in ("cold", "warm")]
        for name, mixtures, state in plan + [(name, args.large, "warm") for name in names if args.large]:
            command = [sys.executable, __file__, "--child", name, str(mixtures)]
            began = time.perf_counter()
            out = subprocess.run(
                command,
                env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
                check=True,
                capture_output=True,
                text=True,
            )
            row = json.loads(out.stdout.splitlines()[-1]) | {
                "cache": state,
                "process_seconds": time.perf_counter() - began,
            }
            key = ("law", "mixtures", "cache")
            rows = [old for old in rows if any(old[k] != row[k] for k in key)] + [row | {"commit": commit}]
            print(row, flush=True)
            cores = len(os.sched_getaffinity(0))
            told = {
                "commit": commit,
                "python": platform.python_version(),
                "cores": cores,
                "dtype": "float64",
                "rows": rows,
            }
            RESULTS.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
