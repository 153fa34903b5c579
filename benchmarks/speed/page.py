"""How large the page of a decision is, and how long a slider's answer takes in a browser without a window.

    python benchmarks/speed/page.py FIT [FIT ...] [--planted 100x240x50 ...] [--domains 100] [--sets 50] [--moves 60] [--out PATH]

For every file of a fit, and for fits of planted tables of DOMAINSxRUNSxSETS (one start, four refits): bytes of its page, and
milliseconds from a slider's event to the second frame after it, of which two frames are waiting, and of the computing alone; median
and largest over moves. For a law with random parameters of many domains and sets (32 refits, 128 draws), the bytes of its numbers and
the computing alone, in the page before it. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import write
from speed.planted_swarm import planted

RESULT = RESULTS / "page.json"
TESTED = "camel_jax.reports.page", "camel_jax.reports.export_laws"
MOVE = """(i) => {
  const play = decisionPage;
  const input = play.rows[i % play.rows.length].input;
  input.value = (137 * i) % 600;
  const began = performance.now();
  input.dispatchEvent(new Event("input"));
  const drawn = (done) => done([performance.now() - began, play.milliseconds]);
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => drawn(done))));
}"""

COMPUTE = """([told, moves]) => {
  const { Outlook, unpackAll } = decisionPage.tools;
  const outlook = new Outlook(unpackAll(told));
  const recipe = (i) => {
    const raw = told.domains.map((_, k) => 1 + Math.sin(k * (i + 1)) ** 2);
    const sum = raw.reduce((a, b) => a + b, 0);
    return { total: 1e9, active: 1e9, tokens: 3e10, weights: Float64Array.from(raw, (x) => x / sum), supply: null };
  };
  const other = outlook.seen(recipe(-2));
  return Array.from({ length: moves }, (_, i) => {
    const began = performance.now();
    outlook.compare(outlook.seen(recipe(i)), other);
    return [0, performance.now() - began];
  });
}"""


def many_domains(domains: int, sets: int):
    """A fit of the default law with random parameters: what a page of it weighs and how fast it is does not depend on them."""
    import jax

    import camel_jax as cj
    from camel_jax.evaluation import simulate
    from camel_jax.laws.law import in_units, scale_runs

    runs = simulate.study(
        jax.random.key(0), n_domains=domains, n_sets=sets, n_mixtures=120, sizes=(1e7, 1e8), checkpoints=1
    )
    fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    law, inside = cj.laws.blend(), scale_runs(fitted.units, runs)

    def some(first: int, count: int):
        drawn = [law.init(jax.random.key(first + i), inside) for i in range(count)]
        return jax.tree.map(lambda *x: np.stack([np.asarray(one) for one in x]), *drawn)

    lanes = {name: np.zeros(4, getattr(fitted, name).dtype) for name in ("objective", "status", "steps")}
    again = {"resampled": some(10, 32), "resampled_objective": np.zeros(32), "resampled_status": np.zeros(32, int)}
    return dataclasses.replace(fitted, law=in_units(law, fitted.units), inner_law=law, raw=some(0, 4), **lanes, **again)


def planted_fit(shape: str):
    """The default law fitted to a planted table, DOMAINSxRUNSxSETS, with one start and few refits."""
    import jax

    import camel_jax as cj

    domains, rows, sets = (int(part) for part in shape.split("x"))
    runs = planted(domains, rows, sets)
    families = ("web", "code", "books", "wiki", "news", "math", "forum")
    names = tuple(f"{families[k % len(families)]}/topic {k:03d}" for k in range(len(runs.domains)))
    runs = dataclasses.replace(runs, domains=names)
    return cj.fit(cj.laws.blend(), runs, key=jax.random.key(0), starts=1, resamples=4, backtests=0)


def page_of(fitted, starts: int) -> str:
    """The page of a decision at ten times the largest size."""
    from camel_jax.reports.decision import tell
    from camel_jax.reports.page import write_page
    from camel_jax.reports.request import Request

    size, tokens = (f"{10 * most[1]:.17g}" for most in (fitted.size_range, fitted.tokens_range))
    return write_page(fitted, tell(fitted, Request(size, tokens, starts=starts)))


def measure(page: str, moves: int, other: dict[str, Any] | None = None) -> dict[str, float]:
    """Bytes and milliseconds of one page, or of the numbers of another fit in it."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = pathlib.Path(folder) / "page.html"
        path.write_text(page, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(path.as_uri())
        tab.wait_for_function("window.decisionPage !== undefined")
        if other is None:
            told = np.array([tab.evaluate(MOVE, i) for i in range(moves + 5)])[5:]
        else:
            told = np.array(tab.evaluate(COMPUTE, [other, moves + 5]))[5:]
        browser.close()
    whole, own = told.T
    out = {"bytes": len(page.encode()) if other is None else len(json.dumps(other))}
    if other is None:
        out |= {"answer_ms_median": float(np.median(whole)), "answer_ms_largest": float(whole.max())}
    return out | {"computed_ms_median": float(np.median(own)), "computed_ms_largest": float(own.max())}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits", nargs="+", type=pathlib.Path)
    parser.add_argument("--domains", type=int, default=100)
    parser.add_argument("--sets", type=int, default=50)
    parser.add_argument(
        "--planted", nargs="*", default=[], metavar="DOMAINSxRUNSxSETS", help="pages of fits of planted tables, too"
    )
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    from camel_jax.fitting.result import load_fit
    from camel_jax.mixture.objectives import mean_loss
    from camel_jax.reports.export_laws import export_fit

    result: dict[str, Any] = provenance(*TESTED) | {"pages": []}
    page = ""

    def tell(name: str, fitted, other: dict[str, Any] | None = None) -> None:
        told = {"name": name, "domains": len(fitted.domains), "sets": len(fitted.sets)}
        result["pages"].append(told | measure(page, args.moves, other))
        write(args.out, result)
        print(json.dumps(result["pages"][-1]), flush=True)

    for path in args.fits:
        fitted = load_fit(path)
        page = page_of(fitted, 16)
        tell(path.stem, fitted)
    fitted = many_domains(args.domains, args.sets)
    tell("random parameters", fitted, export_fit(fitted, mean_loss()))
    for shape in args.planted:
        fitted = planted_fit(shape)
        page = page_of(fitted, 2)
        tell(f"planted {shape}", fitted)


if __name__ == "__main__":
    main()
