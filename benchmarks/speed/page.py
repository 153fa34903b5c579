"""How large the page of a decision is, and how long a slider's answer takes in a browser without a window.

    python benchmarks/speed/page.py [FIT ...] [--domains 100] [--sets 50] [--moves 60] [--out PATH]

For every file of a fit, and for a law with random parameters of many domains and sets (32 refits, 128 draws): bytes of the page, and
milliseconds from a slider's event to the numbers that follow from it, median and largest over moves. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import write

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


def page_of(fitted, starts: int) -> str:
    """The page of a decision at ten times the largest size."""
    from camel_jax.reports.decision import tell
    from camel_jax.reports.page import write_page
    from camel_jax.reports.request import Request

    size, tokens = (f"{10 * most[1]:.17g}" for most in (fitted.size_range, fitted.tokens_range))
    return write_page(fitted, tell(fitted, Request(size, tokens, starts=starts)))


def measure(page: str, moves: int) -> dict[str, float]:
    """Bytes and milliseconds of one page."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = pathlib.Path(folder) / "page.html"
        path.write_text(page, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(path.as_uri())
        tab.wait_for_function("window.decisionPage !== undefined")
        told = np.array([tab.evaluate(MOVE, i) for i in range(moves + 5)])[5:]
        browser.close()
    whole, own = told.T
    return {
        "bytes": len(page.encode()),
        "answer_ms_median": float(np.median(whole)),
        "answer_ms_largest": float(whole.max()),
        "computed_ms_median": float(np.median(own)),
        "computed_ms_largest": float(own.max()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits", nargs="*", type=pathlib.Path)
    parser.add_argument("--domains", type=int, default=100)
    parser.add_argument("--sets", type=int, default=50)
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    from camel_jax.fitting.result import load_fit

    result = provenance(*TESTED) | {"pages": []}
    for path in [*args.fits, None]:
        fitted = many_domains(args.domains, args.sets) if path is None else load_fit(path)
        told = {
            "name": "random parameters" if path is None else path.stem,
            "domains": len(fitted.domains),
            "sets": len(fitted.sets),
        }
        told |= measure(page_of(fitted, 16 if path else 2), args.moves)
        result["pages"].append(told)
        write(args.out, result)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
