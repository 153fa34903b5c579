"""Fits one law to every forward part of one table, in a process of its own, on this code or on an earlier one; see ``forward.py``.

    PYTHONPATH=CODE python benchmarks/accuracy/forward_worker.py TABLE LAW OUT [--starts 2] [--resamples 8]

It uses public names only, which are the same since commit 82d794c. A line of JSON a split: how many sizes were fitted, how far ahead
the rows lie, mean relative error, coverage, mean score and median half-width of the 90 % intervals of log loss, and how many losses
were judged.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import jax
import numpy as np

FOLDS = 4


def parts(active: np.ndarray, mixture: np.ndarray, run: np.ndarray):
    """(kind, sizes fitted or fold, rows to fit, (how far ahead, rows to judge)...) of every split of a table."""
    sizes = np.unique(active)
    for k in range(1, len(sizes)):
        ahead = [(a + 1, np.isclose(active, s, rtol=1e-9)) for a, s in enumerate(sizes[k : k + 2])]
        yield "size", k, active < sizes[k] * (1 - 1e-9), ahead
    ids = np.unique(mixture.round(3), axis=0, return_inverse=True)[1].ravel()
    if len(sizes) == 1 and ids.max() + 1 >= 2 * FOLDS:
        fold = (np.random.default_rng(0).permutation(ids.max() + 1) % FOLDS)[ids]
        for f in range(FOLDS):
            yield "mixture", f, fold != f, [(0, fold == f)]
    fold = (np.random.default_rng(1).permutation(run.max() + 1) % FOLDS)[run]
    for f in range(FOLDS):
        yield "run", f, fold != f, [(0, fold == f)]


def score(point, low, high, losses) -> dict[str, float]:
    """Error and interval score (Gneiting and Raftery 2007) of log losses at level 0.9."""
    seen = np.isfinite(losses)
    log = np.log(np.where(seen, losses, 1.0))
    found = {"error": np.mean(np.abs(point / np.where(seen, losses, 1.0) - 1.0)[seen]), "losses": int(seen.sum())}
    if low is not None:
        low, high = np.log(low), np.log(high)
        missed = np.maximum(low - log, 0.0) + np.maximum(log - high, 0.0)
        found["coverage"] = np.mean((missed == 0.0)[seen])
        found["score"] = np.mean((high - low + 20.0 * missed)[seen])
        found["half_width"] = np.median(((high - low) / 2)[seen])
    return {name: float(x) for name, x in found.items()}


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=pathlib.Path)
    parser.add_argument("law")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--resamples", type=int, default=8)
    parser.add_argument("--kinds", default="size,mixture,run")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    import camel_jax as cj

    table = cj.read_runs(args.table)
    losses, recipe = np.asarray(table.losses, float), table.recipe
    active, shares = np.asarray(recipe.n_active, float), np.asarray(recipe.weights, float)
    constructor = getattr(cj.laws, args.law, None)
    done = set()
    if args.out.exists():
        done = {(row["kind"], row["fold"]) for row in map(json.loads, args.out.read_text().splitlines())}
    for kind, k, fitted, ahead in parts(active, shares, np.asarray(table.run)):
        if kind not in args.kinds.split(",") or (kind, k) in done:
            continue
        at = {"table": args.table.stem, "law": args.law, "kind": kind, "fold": k}
        part = cj.select(table, fitted)
        try:
            if constructor is None:
                from camel_jax.evaluation.methods import methods

                said = methods([args.law])[args.law](part, recipe, jax.random.key(0))
                bounds = said.bounds.get(0.9, (None, None))
                point, low, high = np.asarray(said.point), *bounds
            else:
                found = cj.fit(
                    constructor(),
                    part,
                    key=jax.random.key(0),
                    starts=args.starts,
                    resamples=args.resamples,
                    pad_rows=len(table),
                )
                said = cj.predict_interval(found, recipe, 0.9)
                point, low, high = (np.asarray(getattr(said, x)) for x in ("point", "low", "high"))
        except Exception as error:
            rows = [at | {"ahead": 0, "failure": " ".join(str(error).split())[:200]}]
        else:
            rows = [
                at
                | {"ahead": a}
                | score(point[i], None if low is None else low[i], None if high is None else high[i], losses[i])
                for a, i in ahead
            ]
        with args.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        print(*rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()
