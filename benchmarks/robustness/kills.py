"""Does long work lose anything when it is killed? Commands are killed and started again, and must end with the same files.

    python benchmarks/robustness/kills.py [--kinds fit fit_many sweep bayes distributed] [--kills 100]

A trial starts a command in a folder of its own and kills it, at a moment drawn uniformly from its usual time, as often as a coin
says (once at least); the last start goes on to the end, and its files are compared byte for byte with those of a run that nobody
disturbed. Half of the kills are SIGKILL; the others are SIGTERM, or SIGINT to the whole process group, as a terminal sends it.
Of a distributed job one process of four is killed, and the others must end within a minute in one line each. Trials go on where
an earlier call of the same code stopped. So that seconds of work have something to lose, ``fit_many`` solves 4 tables together in
place of 64, and ``sweep`` keeps trainings under way every 0.2 s in place of every minute. Writes benchmarks/results/kills.json.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import same_code, stored, write
from robustness.kinds import COUNT, KINDS, Kind, Started, contents, make_tables, start

MOST = 60.0  # seconds in which what should end ends
AGAIN = 0.75  # probability that a start after a kill is killed, too
COUNTED = ("kills", "trials", "identical", "half_written", "tracebacks", "hangs", "ignored", "others_unclear")


def finish(jobs: list[Started], seconds: float) -> bool:
    """Whether all end in time; those that do not are killed."""
    deadline = time.monotonic() + seconds
    late = False
    for job in jobs:
        try:
            job.process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            late = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()
    return not late


def half_written(kind: Kind, folder: pathlib.Path, reference: dict[str, bytes]) -> list[str]:
    """Files under their own names that are not whole; archives carry a digest of every byte."""
    from camel_jax.storage import ArchiveError, read_archive

    bad = [name for name, raw in contents(kind, folder).items() if raw != reference[name]]
    for path in folder.rglob("*"):
        if path.suffix in (".npz", ".safetensors", ".row", ".training") and not path.name.startswith("."):
            try:
                read_archive(path, "any")
            except ArchiveError as error:
                bad += [] if "it is a " in str(error) else [str(error)]
            except FileNotFoundError:
                continue  # removed by a worker whose sweep has been killed
    return bad


def trial(
    name: str, tables: pathlib.Path, number: int, usual: tuple[float, float], reference: dict[str, bytes]
) -> dict[str, Any]:
    """Counts of one trial, and what went wrong.

    Args:
      name: of the kind of work. tables: folder with the tables that it reads. number: of the trial.
      usual: seconds after which the work usually begins and ends. reference: results of a run that nobody disturbed.
    """
    kind = KINDS[name]
    rng, count, problems = random.Random(f"{name} {number}"), Counter(), []
    distributed = name == "distributed"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder, every = pathlib.Path(shutil.copytree(tables, place, dirs_exist_ok=True)), []
        while True:
            spare = count["kills"] and rng.random() > AGAIN
            jobs = start(kind, folder, distributed)
            every += jobs
            early = rng.random() < kind.early
            moment = rng.uniform(0, usual[0]) if early else rng.uniform(*usual)
            sent = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            victim = rng.choice(jobs)
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.process.wait(MOST + usual[1] if spare else moment)
            if victim.process.poll() is not None or spare:
                break
            (os.killpg if sent == signal.SIGINT else os.kill)(victim.process.pid, sent)
            count.update({"kills": 1, sent.name: 1, "before_work": int(early)})
            began = time.monotonic()
            if not finish([victim], MOST) or not finish([job for job in jobs if job is not victim], MOST):
                count["hangs"] += 1
                problems.append(f"{sent.name} after {moment:.2f} s: a process did not end within {MOST:.0f} s")
            count["slowest_end"] = max(count["slowest_end"], round(time.monotonic() - began, 1))
            tell_ends(jobs, victim, sent, count, problems, moment)
            if bad := half_written(kind, folder, reference):
                count["half_written"] += 1
                problems += bad
        if not finish(jobs, MOST + usual[1]):
            count["hangs"] += 1
        found = contents(kind, folder) if all(job.process.returncode == 0 for job in jobs) else None
        count.update({"trials": 1, "identical": int(found == reference)})
        if found != reference:
            problems.append(f"trial {number}: " + " | ".join(job.said()[-300:] for job in jobs))
        count["left_behind"] += sum(p.name.startswith(".") and p.suffix != ".lock" for p in folder.rglob("*"))
        wait_for_workers(every)
        for said in (job.said() for job in every):
            if "Traceback" in said:
                count["tracebacks"] += 1
                problems.append(said[-1000:])
    return {**count, "problems": problems}


def tell_ends(
    jobs: list[Started], victim: Started, sent: signal.Signals, count: Counter, problems: list[str], moment: float
) -> None:
    """Count how the killed process ended, and how the others of its job did."""
    lines = victim.said().splitlines()
    if sent != signal.SIGKILL:
        wrote = any(line.startswith("wrote ") for line in lines)  # and Python was about to exit
        clear = "one_line" if lines and lines[-1].startswith("interrupted") else "silent_at_start"
        count["ignored" if victim.process.returncode == 0 and not wrote else "after_writing" if wrote else clear] += 1
    for i, job in enumerate(jobs):
        if job is victim:
            continue
        errors = [line for line in job.said().splitlines() if line.startswith("error: ")]
        if job.process.returncode == 0:
            count["others_done"] += 1
        elif job.process.returncode == 2 and len(errors) == 1:
            count["others_one_line"] += 1
        else:
            count["others_unclear"] += 1
            said = f"{sent.name} to process {jobs.index(victim)} after {moment:.2f} s"
            problems.append(f"{said}: process {i} ended with {job.process.returncode}: {job.said()[-300:]}")


def wait_for_workers(jobs: list[Started]) -> None:
    """Wait until nothing that the commands started is left, for at most a minute."""
    deadline = time.monotonic() + MOST
    for job in jobs:
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(job.process.pid, 0)
                time.sleep(0.05)


def undisturbed(name: str, tables: pathlib.Path) -> tuple[tuple[float, float], dict[str, bytes]]:
    """When the work of a run begins and ends, and its results; of a second run, whose programs are compiled."""
    kind, found = KINDS[name], []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(shutil.copytree(tables, place, dirs_exist_ok=True))
            began, at = time.monotonic(), 0.0
            jobs = start(kind, folder, name == "distributed")
            while jobs[0].process.poll() is None:
                at = at or (time.monotonic() - began if (folder / kind.begins).exists() else 0.0)
                time.sleep(0.01)
            finish(jobs, MOST)
            if any(job.process.returncode for job in jobs):
                raise RuntimeError(jobs[0].said())
            found.append(((at, time.monotonic() - began), contents(kind, folder)))
    if found[0][1] != found[1][1]:
        raise RuntimeError(f"{name}: two runs that nobody disturbed differ")
    return found[1]


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--kills", type=int, default=100)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us with & has it ignored
    from camel_jax.runtime import start_engine

    start_engine()
    path = RESULTS / "kills.json"
    result = stored(path, {"kinds": {}})
    with tempfile.TemporaryDirectory() as tables:
        make_tables(pathlib.Path(tables))
        for name in args.kinds:
            head = {**provenance(*KINDS[name].modules), "settings": {"processes": COUNT, "again": AGAIN}}
            known: dict[str, Any] = result["kinds"].get(name, {})
            if not same_code(known, head):
                known = head | dict.fromkeys(COUNTED, 0) | {"problems": []}
            result["kinds"][name] = known
            if known["kills"] >= args.kills:
                continue
            usual, reference = undisturbed(name, pathlib.Path(tables))
            known |= {"work_begins": round(usual[0], 2), "work_ends": round(usual[1], 2)}
            while known["kills"] < args.kills:
                found = trial(name, pathlib.Path(tables), known["trials"], usual, reference)
                for what, value in found.items():
                    old = known.get(what, [] if what == "problems" else 0)
                    known[what] = max(old, value) if what == "slowest_end" else old + value
                write(path, result)
            print(
                name,
                {k: v for k, v in known.items() if k not in {*head, "problems"}},
                *known["problems"],
                sep="\n",
                flush=True,
            )


if __name__ == "__main__":
    main()
