"""Do writers that are killed lose or double anything? Processes tell a study at once, and are killed at random.

    python benchmarks/design/study_kills.py [--url postgresql://...] [--writers 8] [--kills 100] [--results 150]

Every writer tells results of its own, one after another, and notes each in a file of its own before (intent) and after (done) the
call; a result that was killed between the two may be there or not, and is told again by the writer that takes the place of the
killed one. In the end every result must be there once, with the loss that was told. Prints counts, and ends with an error if one is
lost, doubled or altered. Without ``--url`` the study is an SQLite file in a folder of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pathlib
import random
import signal
import tempfile
import time

import camel_jax as cj

SETTINGS = {"domains": ["web", "code"], "target": "1B", "ladder": ["10M", "30M"], "law": "dml"}


def loss_of(writer: int, number: int) -> float:
    """The loss of one result: a number that no other has."""
    return 2.0 + writer / 8 + number / 65536


def write(place: str, writer: int, count: int, notes: str, name: str) -> None:
    """Tell the results of one writer, from the last that is noted as done."""
    study = cj.Study(place, name=name)
    done = pathlib.Path(notes) / f"{writer}.done"
    start = len(done.read_text().splitlines()) if done.exists() else 0
    with done.open("a") as file:
        for number in range(start, count):
            shares = {"web": 0.25 + number / (4 * count), "code": 0.75 - number / (4 * count)}
            recipe = {"size": "10M", "tokens": 2e8, "mixture": shares}
            study.tell(f"w{writer}-{number}", {"web": loss_of(writer, number)}, **recipe)
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())


def torture(
    place: str, *, writers: int = 8, kills: int = 100, results: int = 150, seed: int = 0, name: str = "study"
) -> dict:
    """Counts of what was told, what is there, and how often a writer was killed."""
    cj.Study(place, name=name, **SETTINGS)
    rng, context, killed = random.Random(seed), multiprocessing.get_context("forkserver"), 0
    context.set_forkserver_preload(["camel_jax.study.study"])  # so that a writer starts in milliseconds
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as notes:

        def start(writer: int):
            process = context.Process(target=write, args=(place, writer, results, notes, name), daemon=True)
            process.start()
            return process

        def told(writer: int) -> int:
            done = pathlib.Path(notes) / f"{writer}.done"
            return len(done.read_text().splitlines()) if done.exists() else 0

        running, seen = {w: start(w) for w in range(writers)}, {}
        while any(told(w) < results for w in range(writers)):
            time.sleep(rng.uniform(0.0, 0.05))
            # only writers that have told something since they started, so that the kill falls among transactions
            ready = [w for w, p in running.items() if p.is_alive() and seen.get(w, -1) < told(w) < results]
            if killed < kills and ready:
                w = rng.choice(ready)
                os.kill(running[w].pid, signal.SIGKILL)
                running[w].join()
                killed += 1
                seen[w] = told(w)
                running[w] = start(w)
            for w, p in running.items():
                if not p.is_alive() and told(w) < results:
                    if p.exitcode != -signal.SIGKILL:
                        raise RuntimeError(f"writer {w} ended by itself, with code {p.exitcode}")
                    seen[w] = told(w)
                    running[w] = start(w)
        for p in running.values():
            p.join()
    history = cj.Study(place, name=name).history()
    wanted = {f"w{w}-{n}": loss_of(w, n) for w in range(writers) for n in range(results)}
    found = list(zip(history["run"], history["loss/web"], strict=True))
    return {
        "place": "postgresql" if "://" in place else "sqlite",
        "writers": writers,
        "kills": killed,
        "told": len(wanted),
        "there": len(found),
        "lost": len(wanted.keys() - {run for run, _ in found}),
        "doubled": len(found) - len({run for run, _ in found}),
        "altered": sum(wanted.get(run) != loss for run, loss in found),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    for option, default in (("--writers", 8), ("--kills", 100), ("--results", 150)):
        parser.add_argument(option, type=int, default=default)
    given = vars(parser.parse_args())
    url = given.pop("url")
    with tempfile.TemporaryDirectory() as folder:
        counts = torture(url or f"{folder}/study.db", name=f"kills {os.getpid()}", **given)
    print(json.dumps(counts))
    if counts["lost"] or counts["doubled"] or counts["altered"]:
        raise SystemExit("a result is lost, doubled or altered")


if __name__ == "__main__":
    main()
