"""Wall clock of camel-jax fit on the shipped table, as a whole process: python benchmarks/fit_seconds.py [--rounds 3].

Each law of each round starts with an empty compilation cache ("cold"), and runs the same command again with that cache ("warm"). Writes
benchmarks/results/fit_seconds.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.resources
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

RESULTS = pathlib.Path(__file__).parent / "results"
LAWS = ("blend", "camel", "sodm")


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    table = importlib.resources.files("camel_jax") / "data" / "proxy_runs.csv"
    rounds = []
    for _ in range(args.rounds):
        for law in LAWS:
            with tempfile.TemporaryDirectory() as folder:
                program = "from camel_jax.cli import main; main()"
                command = [sys.executable, "-c", program, "fit", str(table), "--law", law, "--out", f"{folder}/fit.npz"]
                env = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
                rounds.append({"law": law, "cold": seconds(command, env), "warm": seconds(command, env)})
                print(rounds[-1], flush=True)
    result = {
        "rounds": rounds,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jax": importlib.metadata.version("jax"),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fit_seconds.json").write_text(json.dumps(result, indent=1) + "\n")


def seconds(command: list[str], env: dict[str, str]) -> float:
    """How long a process takes, which must succeed."""
    begin = time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True)
    return round(time.perf_counter() - begin, 2)


if __name__ == "__main__":
    main()
