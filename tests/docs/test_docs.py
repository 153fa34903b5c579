"""The README and the pages of docs/: their blocks run, their links lead somewhere, and the reference has every public name.

Blocks fenced as ```bash and ```python are run, page by page, in one folder: first the quickstart's, whose tables and fit the
how-to pages read. A block after a comment ``<!-- not run: reason -->`` is left out. Other fences and indented
blocks are not run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import camel_jax as cj

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "notebooks" not in page.parts)
LINK = re.compile(r"(?<!`)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
# runs the blocks of a page in the folder it is started in; Python blocks of a page share their names
DRIVER = """
import json, subprocess, sys
names = {"__name__": "__main__"}
for kind, place, code in json.load(open(sys.argv[1])):
    print(f"--- {place}", flush=True)
    if kind == "bash":
        if subprocess.run(["bash", "-euo", "pipefail", "-c", code]).returncode:
            sys.exit(f"{place} failed")
    else:
        exec(compile(code, place, "exec"), names)
"""


class Block(NamedTuple):
    """A fenced block of a page: what it is, where, its text, and the reason why it is not run, or ""."""

    kind: str
    place: str
    code: str
    reason: str


def blocks(page: pathlib.Path) -> list[Block]:
    """The bash and Python blocks of a page, in order."""
    found, lines = [], page.read_text().split("\n")
    start, kind, reason = None, "", ""
    for number, line in enumerate(lines, 1):
        if start is None and line.startswith("```"):
            start, kind = number, line[3:].strip()
        elif start is not None and line == "```":
            if kind in ("bash", "python"):
                where = f"{page.relative_to(ROOT)}:{start}"
                found.append(Block(kind, where, "\n".join(lines[start : number - 1]), reason))
            start, reason = None, ""
        elif start is None and (comment := re.fullmatch(r"<!-- not run: (.+) -->", line)):
            reason = comment[1]
        elif start is None and line.strip():
            reason = ""
    assert start is None, f"{page}: a fence is not closed"
    return found


def run(page: pathlib.Path, folder: pathlib.Path) -> str:
    """Run the blocks of a page in a folder, in order; what they print."""
    wanted = [(b.kind, b.place, b.code) for b in blocks(page) if not b.reason]
    script, plan = folder / "driver.py", folder / "blocks.json"
    script.write_text(DRIVER)
    plan.write_text(json.dumps(wanted))
    here = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    environment = os.environ | {"PATH": here, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    command = [sys.executable, script.name, plan.name]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def worked(tmp_path_factory) -> pathlib.Path:
    """A folder in which the quickstart has been followed."""
    folder = tmp_path_factory.mktemp("quickstart")
    run(DOCS / "quickstart.md", folder)
    return folder


@pytest.mark.slow
@pytest.mark.pages
def test_quickstart_runs(worked):
    made = ("fit.npz", "mixture.json", "predictions.csv", "report.html", "leaderboard.csv")
    assert all((worked / name).stat().st_size > 100 for name in made)


@pytest.mark.slow
@pytest.mark.pages
def test_readme_runs(tmp_path):
    assert "\n  gain " in run(ROOT / "README.md", tmp_path)


HOW_TO = [page for page in PAGES if page.name != "quickstart.md" and any(not b.reason for b in blocks(page))]


@pytest.mark.slow
@pytest.mark.pages
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_how_to_pages_run_after_the_quickstart(page, worked):
    run(page, worked)


def test_fences_are_of_known_kinds():
    kinds = re.compile(r"^```(.*)$", re.MULTILINE)
    for page in (ROOT / "README.md", DOCS / "quickstart.md", *(DOCS / "guide").glob("*.md")):
        opened = kinds.findall(page.read_text())[::2]
        assert set(opened) <= {"bash", "python", "toml"}, page


def test_readme_is_a_front_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    code = [
        line for b in blocks(ROOT / "README.md") if b.kind == "python" for line in b.code.split("\n") if line.strip()
    ]
    assert len(code) <= 10


def anchors(page: pathlib.Path) -> set[str]:
    """Ids that the headings of a page get, as GitHub and mkdocs make them, and those of the reference."""
    text = page.read_text()
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", title.lower()).strip() for title in titles)
    return {re.sub(r"[-\s]+", "-", title) for title in plain} | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def test_relative_links_resolve():
    seen, broken = 0, []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES):
        for link in (link for link in LINK.findall(page.read_text()) if "://" not in link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            good = target.exists() and (not anchor or anchor in anchors(target))
            seen, broken = seen + 1, broken if good else [*broken, f"{page.relative_to(ROOT)}: {link}"]
    assert not broken
    assert seen > 100


def test_reference_has_every_public_name():
    text = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    shown = set(re.findall(r"^      heading: cj\.(\S+)$", text, re.MULTILINE))
    missing = {name for name in cj.__all__ if name not in shown and not any(s.startswith(f"{name}.") for s in shown)}
    assert not missing - {"__version__"}


def test_reference_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location("api_pages", DOCS / "api_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {page.name: page.read_text() for page in (DOCS / "api").glob("*.md")}
    assert found == module.pages(), "run: python docs/api_pages.py"


def test_pages_name_no_script_that_is_not_there():
    named = re.compile(r"benchmarks/[\w/]+\.(?:py|json)")
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES):
        for path in named.findall(page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def commits(found: object) -> Iterator[str]:
    """The commits that a file of results says it was measured at, seven letters each."""
    for key, value in found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ():
        if key in ("commit", "git") and isinstance(value, str):
            yield value[:7]
        else:
            yield from commits(value)


def test_pages_tell_the_code_that_every_result_is_of():
    rows = [line for page in PAGES for line in page.read_text().splitlines() if line.startswith("| `")]
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        (row,) = [line for line in rows if line.startswith(f"| `{path.name}` |")]
        told = re.findall(r"`([0-9a-f]{7})`", row)
        measured = set(commits(json.loads(path.read_text())))
        assert told and (set(told) <= measured if measured else "not recorded" in row), f"{path.name}: {row}"
        assert len(told) == min(2, max(1, len(measured))), f"{path.name}: {row}"
