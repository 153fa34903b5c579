"""Wall clock, CPU time and memory of camel-jax fit on planted tables of many domains, as whole processes with an empty cache.

python benchmarks/speed/many_domains.py [--tables 100x240x20 200x820x52@one] [--law blend] [--limit 900] [--name many_domains]
python benchmarks/speed/many_domains.py --growth

A table is DOMAINSxRUNSxSETS, with @one all runs of one size and token count, or the path of a run table. Beside what a fit took stands
what was forecast. Rows that were finished by the same commit are kept. Writes benchmarks/results/NAME.json; with ``--growth`` tables of
10 to 576 domains at 240 runs, and a figure of their times, domains_growth.json and docs/figures/domains_growth.png.
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

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, commit, provenance
from common.results import stored, write

TABLES = ["100x240x20", "576x600x50", "200x820x52@one"]
GROWTH = [f"{k}x240x20" for k in (10, 30, 100, 300, 576)]
FORECAST = """
import sys
from camel_jax.runtime import start_engine
start_engine()
from camel_jax.fitting.forecast import affordable, forecast
from camel_jax.laws.by_name import law_by_name
from camel_jax.tables.read import read_runs
runs, law = read_runs(sys.argv[1]), law_by_name(sys.argv[2], None, None)
some, few = affordable(law, runs, None, None)
print(forecast(law, runs, resamples=some, starts=few).seconds, some, few)
"""


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--growth", action="store_true", help="how time grows with the domains, as a figure")
    parser.add_argument("--law", default="blend")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which a fit is given up")
    parser.add_argument("--name")
    args = parser.parse_args()
    tables = args.tables or (GROWTH if args.growth else TABLES)
    path = RESULTS / f"{args.name or ('domains_growth' if args.growth else 'many_domains')}.json"
    head = {**commit(), "cores": len(os.sched_getaffinity(0))}
    known = stored(path, {"rows": []})
    same = known.get("commit") == head["commit"] and not head["dirty"] and not known.get("dirty")
    rows = known["rows"] if same else []
    for table in tables:
        name = pathlib.Path(table).name
        if any((row["table"], row["law"]) == (name, args.law) for row in rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = table if pathlib.Path(table).exists() else make(table, folder)
            row = {"table": name, "law": args.law, **timed(file, args.law, args.limit, folder), **told(file, args.law)}
            rows.append(row)
            print(row, flush=True)
        write(path, {**head, "rows": rows})
    # JAX starts here only, so that the processes that are timed have the machine to themselves
    write(path, {**provenance(), **head, "rows": rows})
    if args.growth:
        draw([row for row in rows if row["table"] in GROWTH and row["law"] == args.law])


def make(table: str, folder: str) -> str:
    """A planted table on disk, made by a process of its own."""
    path = f"{folder}/runs.csv"
    shape, _, kind = table.partition("@")
    domains, runs, sets = shape.split("x")
    program = "from planted_swarm import planted; from camel_jax import write_runs; "
    program += f"write_runs(planted({domains}, {runs}, {sets}, one_size={kind == 'one'}), {path!r})"
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
        subprocess.run(
            [*command, "--out", f"{folder}/fit.npz"], env=env, timeout=limit, capture_output=True, text=True, check=True
        )
    except subprocess.TimeoutExpired:
        done["gave_up_after"] = limit
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    done |= {"seconds": round(time.perf_counter() - begin, 1), "cpu_seconds": round(cpu, 1)}
    return done | {"gigabytes": round(after.ru_maxrss / 2**20, 2)}


def told(path: str, law: str) -> dict[str, float]:
    """The seconds that were forecast, and the resamples and starts that the forecast allows."""
    command = [sys.executable, "-c", FORECAST, path, law]
    out = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout.split()
    return {"forecast_seconds": round(float(out[0]), 1), "resamples": int(out[1]), "starts": int(out[2])}


def draw(rows: list[dict[str, float]]) -> None:
    """Seconds of a core by the number of domains, and the exponent of their growth from 30 domains on."""
    from camel_jax.figures.style import COLORS, given_axes, new_figure

    domains = np.array([int(str(row["table"]).split("x")[0]) for row in rows])
    cpu = np.array([row["cpu_seconds"] for row in rows], float)
    figure = new_figure(5.6, 3.8)
    ax = given_axes(figure.subplots())
    ax.loglog(domains, cpu, "o-", color=COLORS[0])
    large = domains >= 30
    if large.sum() > 1:
        exponent = np.polyfit(np.log(domains[large]), np.log(cpu[large]), 1)[0]
        ax.set_title(f"grows as domains to the power {exponent:.2f} from 30 on", fontsize=9.5, loc="left")
        print(f"exponent from 30 domains on: {exponent:.2f}")
    ax.set_xticks(domains, [str(k) for k in domains])
    ax.minorticks_off()
    ax.set_xlabel("domains (240 runs, 20 sets)")
    ax.set_ylabel("seconds of a core, cold process")
    figure.savefig(RESULTS.parents[1] / "docs" / "figures" / "domains_growth.png")


if __name__ == "__main__":
    main()
