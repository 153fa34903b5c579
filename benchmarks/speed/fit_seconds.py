"""Wall clock of camel-jax fit on the shipped table, as a whole process: python benchmarks/speed/fit_seconds.py [--rounds 3].

Each law of each round starts with an empty compilation cache ("cold"), and runs the same command again with that cache ("warm"). Writes
benchmarks/results/fit_seconds.json.
"""

from __future__ import annotations

import argparse
import importlib.resources
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, commit, provenance
from common.results import write

LAWS = ("blend", "camel", "sodm")


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    table = importlib.resources.files("camel_jax") / "data" / "proxy_runs.csv"
    begun, rounds = commit(), []
    for _ in range(args.rounds):
        for law in LAWS:
            with tempfile.TemporaryDirectory() as folder:
                program = "from camel_jax.cli import main; main()"
                command = [sys.executable, "-c", program, "fit", str(table), "--law", law, "--out", f"{folder}/fit.npz"]
                env = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
                rounds.append({"law": law, "cold": seconds(command, env), "warm": seconds(command, env)})
                print(rounds[-1], flush=True)
    # JAX starts here only, so that the processes that are timed have the machine to themselves
    write(RESULTS / "fit_seconds.json", {**provenance(), **begun, "rounds": rounds})


def seconds(command: list[str], env: dict[str, str]) -> float:
    """How long a process takes, which must succeed."""
    begin = time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True)
    return round(time.perf_counter() - begin, 2)


if __name__ == "__main__":
    main()
