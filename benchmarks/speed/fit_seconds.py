"""Wall clock and CPU time of camel-jax fit and mix on the shipped table, as whole processes, beside an earlier commit.

    python benchmarks/speed/fit_seconds.py [--rounds 3] [--laws blend camel sodm] [--before CLONE]

Each law of each round starts with an empty compilation cache ("cold"), and runs the same commands again with that cache ("warm"). With
--before the code in that folder (a clone of commit 82d794c) runs the same commands in turn with this one. Writes
benchmarks/results/fit_seconds.json.
"""

from __future__ import annotations

import argparse
import importlib.resources
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, ROOT, commit, provenance
from common.results import write

LAWS = ("blend", "camel", "sodm")
PROGRAM = "from camel_jax.cli import main; main()"


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--laws", nargs="+", default=LAWS)
    parser.add_argument("--before", type=pathlib.Path, help="a clone of the project at an earlier commit")
    args = parser.parse_args()
    table = str(importlib.resources.files("camel_jax") / "data" / "proxy_runs.csv")
    begun, rounds = commit(), []
    codes = {"now": ROOT} | ({} if args.before is None else {"before": args.before})
    for turn in range(args.rounds):
        for law in args.laws:
            for code in sorted(codes, reverse=turn % 2 == 1):
                rounds += one_round(table, law, code, codes[code])
    summary = summarize(rounds)
    for name, told in summary.items():
        print(name, told)
    # JAX starts here only, so that the processes that are timed have the machine to themselves
    write(RESULTS / "fit_seconds.json", {**provenance(), **begun, "summary": summary, "rounds": rounds})


def one_round(table: str, law: str, code: str, folder_of_code: pathlib.Path) -> list[dict[str, str | float]]:
    """Both commands, cold and warm."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "fit": ["fit", table, "--law", law, "--out", f"{folder}/fit.npz"],
            "mix": ["mix", f"{folder}/fit.npz", "--size", "400K", "--tokens", "2M", "--out", f"{folder}/mixture.json"],
        }
        env = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache", "PYTHONPATH": str(folder_of_code)}
        for name, words in commands.items():
            for start in ("cold", "warm"):
                pathlib.Path(f"{folder}/mixture.json").unlink(missing_ok=True)
                if name == "fit":
                    pathlib.Path(f"{folder}/fit.npz").unlink(missing_ok=True)
                wall, cpu = seconds([sys.executable, "-c", PROGRAM, *words], env, folder)
                row = {"law": law, "code": code, "command": name, "start": start, "seconds": wall, "cpu_seconds": cpu}
                rows.append(row)
                print(row, flush=True)
    return rows


def seconds(command: list[str], env: dict[str, str], folder: str) -> tuple[float, float]:
    """How long a process takes, which must succeed, and its CPU time."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True, cwd=folder)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(wall, 2), round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)


def summarize(rounds: list[dict[str, str | float]]) -> dict[str, dict[str, float]]:
    """Medians over rounds, and the ratio to the earlier code with its smallest and largest."""
    found: dict[str, dict[str, float]] = {}
    keys = dict.fromkeys((row["law"], row["command"], row["start"]) for row in rounds)
    for law, command, start in keys:
        mine = [row for row in rounds if (row["law"], row["command"], row["start"]) == (law, command, start)]
        told = found[f"{law} {command} {start}"] = {}
        for what in ("seconds", "cpu_seconds"):
            now, before = ([float(row[what]) for row in mine if row["code"] == code] for code in ("now", "before"))
            told[what] = statistics.median(now)
            if before:
                ratios = [x / y for x, y in zip(now, before, strict=True)]
                told |= {f"{what}_before": statistics.median(before), f"{what}_ratio": statistics.median(ratios)}
                told |= {f"{what}_ratio_least": min(ratios), f"{what}_ratio_most": max(ratios)}
    return {name: {key: round(x, 3) for key, x in told.items()} for name, told in found.items()}


if __name__ == "__main__":
    main()
