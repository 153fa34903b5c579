"""How laws and intervals do on sizes, mixtures and runs that were not fitted, on every public table, beside an earlier commit.

    python benchmarks/accuracy/forward.py FOLDER KEPT [--laws blend,camel] [--tables a,b] [--kinds size,mixture] [--before CLONE]

Each size is predicted from those below it, the next one and the one after; tables of one size leave out a quarter of their mixtures in
turn; a random quarter of the runs of each table is left out in turn. Every law and table is a process of its own (forward_worker.py);
with --before the package's default is fitted by the code in that folder, too (a clone of commit 82d794c). KEPT is continued. Writes
benchmarks/results/forward.json: all rows, and the summary that is printed. The error of a row is relative to the best law of its split;
scores are those of Gneiting and Raftery (2007) at level 0.9, relative to the earlier commit and to one width for all splits of other
tables that are as far ahead.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
from error_residuals import tables

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, ROOT, commit, provenance
from common.results import write

BEFORE = "82d794c"
DEFAULT = "blend"
WORKER = pathlib.Path(__file__).with_name("forward_worker.py")


def run(table: pathlib.Path, law: str, out: pathlib.Path, code: pathlib.Path, kinds: str) -> None:
    """One law on one table, by the code in a folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(WORKER), str(table), law, str(out), "--kinds", kinds]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(code)}, stdout=subprocess.DEVNULL, check=False)


def read(folder: pathlib.Path, label: str) -> list[dict[str, Any]]:
    """All rows of a folder, with the code that made them."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        rows += [json.loads(line) | {"code": label} for line in path.read_text().splitlines()]
    return rows


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    """What was fitted and judged."""
    return row["table"], row["kind"], row["fold"], row["ahead"]


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over splits, by law and kind; the default beside the best law, CAMEL, and the earlier commit."""
    good = [row for row in rows if "failure" not in row]
    now = {(place(row), row["law"]): row for row in good if row["code"] == "now"}
    before = {place(row): row for row in good if row["code"] == BEFORE and row["law"] == DEFAULT}
    found: dict[str, Any] = {}
    for law in sorted({law for _, law in now}):
        for kind in ("size", "mixture", "run"):
            mine = {p: row for (p, name), row in now.items() if name == law and p[1] == kind}
            if not mine:
                continue
            told = found[f"{law} {kind}"] = {"splits": len(mine)}
            best = {p: min(row["error"] for (q, _), row in now.items() if q == p) for p in mine}
            worse = np.array([row["error"] / best[p] for p, row in mine.items()])
            told["error"] = geometric([row["error"] for row in mine.values()])
            told["error_over_best"] = [geometric(worse), float(np.quantile(worse, 0.75)), float(worse.max())]
            camel = [row["error"] / now[p, "camel"]["error"] for p, row in mine.items() if (p, "camel") in now]
            if camel:
                told["error_over_camel"] = geometric(camel)
            if all("coverage" in row for row in mine.values()):
                coverage = np.array([row["coverage"] for row in mine.values()])
                told["coverage"] = float(coverage.mean())
                told["coverage_at_least_75"] = float(np.mean(coverage >= 0.75))
                told["half_width"] = float(np.median([row["half_width"] for row in mine.values()]))
                old = [(row, before[p]) for p, row in mine.items() if p in before and "score" in before[p]]
                if law == DEFAULT and old:
                    told["score_over_before"] = geometric([row["score"] / other["score"] for row, other in old])
                    told["error_over_before"] = geometric([row["error"] / other["error"] for row, other in old])
                    told["coverage_before"] = float(np.mean([other["coverage"] for _, other in old]))
                    told["splits_before"] = len(old)
                constant = [constant_score(p, mine) for p in mine]
                ratio = [mine[p]["score"] / c for p, c in zip(mine, constant, strict=True) if c]
                if ratio:
                    told["score_over_constant"] = geometric(ratio)
    return found


def constant_score(at: tuple[Any, ...], mine: dict[tuple[Any, ...], dict[str, Any]]) -> float | None:
    """Score on one split of the half-width that is best on splits of other tables as far ahead, if errors were normal."""
    others = [row for p, row in mine.items() if p[0] != at[0] and p[1] == at[1] and p[3] == at[3]]
    if not others:
        return None
    widths = np.geomspace(5e-4, 0.5, 80)
    best = int(np.argmin(np.mean([np.log(expected_score(widths, row["error"])) for row in others], 0)))
    return float(expected_score(widths[best : best + 1], mine[at]["error"])[0])


def expected_score(half: np.ndarray, mean_absolute: float) -> np.ndarray:
    """Mean interval score at level 0.9 of normal errors with this mean absolute error, for half-widths."""
    from scipy.stats import norm

    deviation = max(mean_absolute, 1e-6) * np.sqrt(np.pi / 2)
    z = half / deviation
    return 2 * half + 40.0 * deviation * (norm.pdf(z) - z * norm.sf(z))


def geometric(values: Any) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def main() -> None:
    """Run what is not kept yet, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("kept", type=pathlib.Path)
    parser.add_argument("--laws", default="blend,camel,sodm,sodm_joint,dml,ridge,nearest_run")
    parser.add_argument("--tables", default="")
    parser.add_argument("--kinds", default="size,mixture,run")
    parser.add_argument("--before", type=pathlib.Path, help=f"a clone of the project at commit {BEFORE}")
    parser.add_argument("--only-read", action="store_true", help="make no fit: summarize what is kept")
    args = parser.parse_args()
    head = provenance() | {"kinds": args.kinds}
    if not args.only_read:
        for path in tables(args.folder, args.tables):
            for law in args.laws.split(","):
                print(path.stem, law, flush=True)
                run(path, law, args.kept / "now" / f"{path.stem}.{law}.jsonl", ROOT, args.kinds)
            if args.before is not None:
                run(path, DEFAULT, args.kept / BEFORE / f"{path.stem}.{DEFAULT}.jsonl", args.before, args.kinds)
    rows = read(args.kept / "now", "now") + read(args.kept / BEFORE, BEFORE)
    summary = summarize(rows)
    for name, told in summary.items():
        print(name, json.dumps(told))
    write(RESULTS / "forward.json", {**head, **commit(), "summary": summary, "rows": rows})


if __name__ == "__main__":
    main()
