"""How the default's weights are learnt, judged on tables that had no say in how: CAMEL and joint SODM together against each alone.

    python benchmarks/accuracy/error_residuals.py FOLDER KEPT --laws camel,sodm_joint
    python benchmarks/accuracy/blends.py FOLDER KEPT

Every part of a table that error_residuals.py has fitted is a split: the next size and the one after, mixtures, or runs that were left
out. Weights are learnt by ``stacking.best_weights`` from what smaller parts of the same table show, as ``fit`` does. The usual weight
of SODM and how much it counts are those of the package, and, for "left out", those of a grid that are best on all other tables. Mean
absolute errors of log loss, geometric means over splits, relative to CAMEL alone and to the better law of each split. Writes
benchmarks/results/blends.json.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import numpy as np
from error_residuals import tables

from camel_jax.fitting import stacking
from camel_jax.laws.blend import SIZES
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import Runs, scales

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.pages import fill
from common.provenance import RESULTS, provenance
from common.results import write

LAWS = ("camel", "sodm_joint")
CELLS = 800  # of a fold, at most
USUAL, STRENGTHS = (0.1, 0.2, 0.3, 0.5), (0.25, 0.5, 1.0, 2.0, 8.0)
Fold = tuple[np.ndarray, np.ndarray]


def read_splits(runs: Runs, paths: list[pathlib.Path], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Kind, errors (P, N) to judge, and folds to learn from, of every split of a table."""
    kept = [np.load(path) for path in paths]
    kinds, counts, fitted = (kept[0][name] for name in ("kinds", "sizes", "fitted"))
    active, sizes = np.asarray(runs.recipe.n_active, float), scales(runs)
    at = lambda k: np.isclose(active, sizes[k], rtol=1e-9)  # noqa: E731
    of_size = {int(n): i for i, (kind, n) in enumerate(zip(kinds, counts, strict=True)) if kind == "size"}

    def cells(i: int, rows: np.ndarray) -> np.ndarray:
        errors = np.stack([one["errors"][i][rows].astype(float) for one in kept]).reshape(len(kept), -1)
        errors = errors[:, np.isfinite(errors).all(0)]
        return errors[:, rng.choice(errors.shape[1], CELLS, replace=False)] if errors.shape[1] > CELLS else errors

    def folds(n: int, but: int) -> list[Fold]:
        found = [cells(of_size[n], fitted[of_size[n]])] if n in of_size else []
        found += [cells(of_size[m], at(m)) for m in sorted(m for m in of_size if 2 <= m < n)[-stacking.LARGEST :]]
        for i, (kind, m) in enumerate(zip(kinds, counts, strict=True)):
            if kind == "mixture" and m == n and i != but:
                found.append(cells(i, ~fitted[i] & (active <= sizes[m - 1] * (1 + 1e-9))))
        return [(e[:, :, None], np.ones((e.shape[1], 1))) for e in found if e.size]

    splits = []
    for i, (kind, n) in enumerate(zip(kinds, counts, strict=True)):
        if kind == "size":
            judged = [(k - n + 1, at(k)) for k in range(n, min(n + 2, len(sizes)))]
        elif kind in ("mixture", "run"):
            judged = [(0, ~fitted[i] & (active <= sizes[n - 1] * (1 + 1e-9)))]
        else:
            continue
        for ahead, rows in judged:
            if (errors := cells(i, rows)).size:
                splits.append(
                    {"kind": str(kind), "sizes": int(n), "ahead": int(ahead), "e": errors, "f": folds(int(n), i)}
                )
    return splits


def errors_of(splits: list[dict[str, Any]], usual: float, strength: float) -> np.ndarray:
    """Error of the mean, of CAMEL and of the better law, (splits, 3)."""
    found = []
    for one in splits:
        start = np.array([1.0 - usual, usual])
        weights = stacking.best_weights(one["f"], start, strength) if one["f"] else start
        alone = np.abs(one["e"]).mean(1)
        found.append((np.abs(weights @ one["e"]).mean(), alone[0], alone.min()))
    return np.array(found)


def ratios(errors: np.ndarray) -> tuple[float, float]:
    """Geometric means of the error over CAMEL's and over the better law's."""
    return tuple(float(np.exp(np.mean(np.log(errors[:, 0] / errors[:, k])))) for k in (1, 2))


def main() -> None:
    """Learn, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("kept", type=pathlib.Path)
    args = parser.parse_args()
    head, rng = provenance(), np.random.default_rng(0)
    splits = {}
    for path in tables(args.folder):
        paths = [args.kept / f"{path.stem}.{law}.npz" for law in LAWS]
        if all(p.exists() for p in paths) and len(scales(runs := read_runs(path))) > 1:
            splits[path.stem] = read_splits(runs, paths, rng)
    grid = [(usual, strength) for usual in USUAL for strength in STRENGTHS]
    tried = {name: [errors_of(some, *setting) for setting in grid] for name, some in splits.items()}
    rows = []
    for name, some in splits.items():
        others = [np.mean([np.log(ratios(tried[o][i])[0]) for o in splits if o != name]) for i in range(len(grid))]
        best = int(np.argmin(others))
        ours = errors_of(some, SIZES[1], stacking.STRENGTH)
        for kind in dict.fromkeys(one["kind"] for one in some):
            mine = np.array([one["kind"] == kind for one in some])
            over_camel, over_best = ratios(ours[mine])
            left_out = ratios(tried[name][best][mine])
            rows.append(
                {
                    "table": name,
                    "kind": kind,
                    "splits": int(mine.sum()),
                    "camel": float(np.exp(np.mean(np.log(ours[mine, 1])))),
                    "over_camel": over_camel,
                    "over_better": over_best,
                    "left_out_over_camel": left_out[0],
                    "left_out_over_better": left_out[1],
                    "left_out_setting": grid[best],
                }
            )
            print(rows[-1], flush=True)
    names = ("over_camel", "over_better", "left_out_over_camel", "left_out_over_better")
    mean = {name: float(np.exp(np.mean([np.log(row[name]) for row in rows]))) for name in names}
    print(mean)
    write(RESULTS / "blends.json", {**head, "mean": mean, "rows": rows})
    lines = [
        "| table | left out | splits | CAMEL, % | default / CAMEL | default / better law | the same, settings of other tables |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in [*rows, {"table": "geometric mean", "kind": "", "splits": sum(r["splits"] for r in rows), **mean}]:
        share = f"{100 * row['camel']:.2f}" if "camel" in row else ""
        lines.append(
            f"| {row['table']} | {row['kind']} | {row['splits']} | {share} | {row['over_camel']:.3f} | {row['over_better']:.3f} "
            f"| {row['left_out_over_camel']:.3f} / {row['left_out_over_better']:.3f} |"
        )
    fill("blends", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
