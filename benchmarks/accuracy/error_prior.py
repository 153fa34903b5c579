"""The prior of the error model: learnt from forward back-tests of every law on every table, and judged on tables that it left out.

    python benchmarks/accuracy/error_residuals.py FOLDER KEPT
    python benchmarks/accuracy/error_prior.py FOLDER KEPT

For every law, and for all together, the settings are those under which the errors at sizes, mixtures, runs and tokens that were not
fitted are most probable; tables count alike, and so do the splits of a table. Writes camel_jax/prediction/error_prior.json, and
benchmarks/results/error_prior.json with coverage and interval score of every split by settings that were learnt without its table.
Error and score are those of a model with its residual field, corrected by back-tests; "constant" is one width for all splits that are
ahead in the same way, the best of the other tables.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np
from error_residuals import LAWS, tables
from scipy.optimize import minimize

from camel_jax.fitting.backtest import is_unmixed
from camel_jax.fitting.objective import row_weights
from camel_jax.prediction import error_prior as module
from camel_jax.prediction.discrepancy import _quantile, near_variance, squared_leverage
from camel_jax.prediction.error_prior import ErrorPrior, Seen, robust_variance, scale_errors, within_scale
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import Runs, scales, select

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.pages import fill
from common.provenance import RESULTS, provenance
from common.results import write

BEGIN = ErrorPrior(1.3, 0.005, 8.0, 0.6, 0.8, 0.5, 0.007, 0.5, 0.9, 1.5, 0.05, 0.5, 0.45, 0.7)
STEADY = np.array(
    [0.5, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.3, 0.3, 1.0, 1.0, 0.3, 1.5, 1.5]
)  # how far a setting may go from there
UNIT = ("common_share", "lasting")  # settings between 0 and 1; all others but ``power`` and ``unmixed`` are positive
PLAIN = ("power", "unmixed")
ROWS = 30  # of a held-out size, at most
BACKTESTS = 3  # that a fit makes


class Ahead(NamedTuple):
    """Rows that were not fitted: a size or fold, residuals (R, V), log sizes and tokens beyond (R,), distance of mixtures (R,)."""

    size: int
    errors: np.ndarray
    log_size: np.ndarray
    log_tokens: np.ndarray
    distance: np.ndarray


class Part(NamedTuple):
    """A fitted part of a table: its kind, number of sizes, spans, robust variance of residuals (V,), and what was not fitted."""

    kind: str
    sizes: int
    runs: int
    size_span: float
    tokens_span: float
    unmixed: bool
    variance: np.ndarray
    ahead: list[Ahead]


def read_parts(runs: Runs, path: pathlib.Path, rng: np.random.Generator) -> list[Part]:
    """The parts of one table and law."""
    kept = np.load(path)
    active, tokens, shares = (
        np.asarray(x, float) for x in (runs.recipe.n_active, runs.recipe.tokens, runs.recipe.weights)
    )
    all_sizes, found = scales(runs), []
    for kind, n, fitted, raw, field in zip(
        *(kept[x] for x in ("kinds", "sizes", "fitted", "errors", "fields")), strict=True
    ):
        part, errors = select(runs, fitted), raw.astype(float)
        if not np.isfinite(errors[fitted]).any():
            continue
        known = np.unique(shares[fitted].round(3), axis=0)
        if kind == "size":
            groups = [(k, np.isclose(active, all_sizes[k])) for k in range(n, len(all_sizes))]
        else:
            groups = [(n, ~fitted & (active <= all_sizes[n - 1] * (1 + 1e-9)))]
        ahead = []
        for k, rows in groups:
            at = np.flatnonzero(rows & np.isfinite(errors).any(1))
            if not len(at):
                continue
            at = np.sort(rng.choice(at, ROWS, replace=False)) if len(at) > ROWS else at
            ahead.append(
                Ahead(
                    int(k),
                    (errors - field)[at],
                    np.maximum(np.log(active[at] / active[fitted].max()), 0.0),
                    np.maximum(np.log(tokens[at] / tokens[fitted].max()), 0.0),
                    np.sqrt(((shares[at][:, None] - known) ** 2).sum(-1).min(1)),
                )
            )
        if ahead:
            spans = (float(np.log(x[fitted].max() / x[fitted].min())) for x in (active, tokens))
            variance = robust_variance(errors[fitted], row_weights(part))
            found.append(Part(str(kind), int(n), len(np.unique(part.run)), *spans, is_unmixed(part), variance, ahead))
    return found


def reach(part: Part, one: Ahead, prior: ErrorPrior) -> np.ndarray:
    """Leverage of the rows of one size, (R,)."""
    spans = part.size_span, part.tokens_span
    return np.sqrt(squared_leverage(one.log_size, one.log_tokens, *spans, prior.width, prior.tokens_share))


def seen_by(parts: list[Part], part: Part, prior: ErrorPrior) -> list[Seen]:
    """What the back-tests inside a part show: the largest of the smaller parts, judged at sizes that the part has."""
    smaller = [p for p in parts if p.kind == "size" and 1 < p.sizes < part.sizes][-BACKTESTS:]
    if part.kind != "size":
        return []
    return [
        Seen(
            p.sizes,
            np.nanmean(one.errors, 0),
            float(reach(p, one, prior).mean()),
            within_scale(prior, p.variance, p.runs),
        )
        for p in smaller
        for one in p.ahead
        if one.size < part.sizes
    ]


def spread_of(part: Part, parts: list[Part], prior: ErrorPrior) -> tuple[np.ndarray, Any]:
    """Error within, (V,), and slopes of a part."""
    scale = within_scale(prior, part.variance, part.runs)
    one_size = part.sizes == 1
    return scale, scale_errors(prior, seen_by(parts, part, prior), scale, one_size=one_size, unmixed=part.unmixed)


def normals(part: Part, one: Ahead, scale: np.ndarray, slopes: Any, prior: ErrorPrior) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of the error in every scenario, (R, H, V)."""
    far = reach(part, one, prior)[:, None, None]
    variance = far**2 * (slopes.common_variance + slopes.own_variance)[:, None]
    within = near_variance(prior.mixture_growth, one.distance)[:, None, None] * scale**2
    return far * (slopes.common[:, None] + slopes.own), np.sqrt(variance + within)


def density(part: Part, parts: list[Part], prior: ErrorPrior) -> float:
    """Mean log density of what was not fitted; the nearest sizes count most."""
    scale, slopes = spread_of(part, parts, prior)
    each = []
    for one in part.ahead:
        means, deviations = normals(part, one, scale, slopes, prior)
        z = (one.errors[:, None] - means) / deviations
        logs = np.log(slopes.weights + 1e-300)[:, None] - 0.5 * z**2 - np.log(deviations)
        top = logs.max(1, keepdims=True)
        value = top[:, 0] + np.log(np.exp(logs - top).sum(1))
        each.append(np.nanmean(np.clip(value, -20.0, None)))
    return float(np.average(each, weights=1.0 / (1.0 + np.arange(len(each)))))


def total_density(tables_of: dict[str, list[Part]], prior: ErrorPrior) -> float:
    """Of all tables: sizes count once, all else together somewhat less."""
    total = 0.0
    for parts in tables_of.values():
        ahead = [density(p, parts, prior) for p in parts if p.kind == "size"]
        other = [density(p, parts, prior) for p in parts if p.kind != "size"]
        total += (np.mean(ahead) if ahead else 0.0) + 0.7 * (np.mean(other) if other else 0.0)
    return float(total)


def unfold(x: np.ndarray) -> ErrorPrior:
    """Settings from unconstrained numbers."""
    values = {
        name: v if name in PLAIN else 1.0 / (1.0 + np.exp(-v)) if name in UNIT else np.exp(v)
        for name, v in zip(ErrorPrior._fields, x, strict=True)
    }
    return ErrorPrior(**{name: float(v) for name, v in values.items()})


def fold(prior: ErrorPrior) -> np.ndarray:
    """The opposite of ``unfold``."""
    return np.array(
        [
            v if name in PLAIN else np.log(v / (1.0 - v)) if name in UNIT else np.log(v)
            for name, v in prior._asdict().items()
        ]
    )


def learn(tables_of: dict[str, list[Part]], begin: ErrorPrior, steps: int) -> ErrorPrior:
    """Settings of the highest density, held near their beginning where tables say nothing."""
    center = fold(BEGIN)

    def cost(x: np.ndarray) -> float:
        return 0.1 * float(np.sum(((x - center) / STEADY) ** 2)) - total_density(tables_of, unfold(x))

    found = minimize(cost, fold(begin), method="L-BFGS-B", options={"maxiter": steps, "eps": 1e-3})
    return unfold(found.x)


def judged(table: str, law: str, parts: list[Part], prior: ErrorPrior) -> list[dict[str, Any]]:
    """Coverage, interval score, width and errors of every split."""
    rows = []
    for part in parts:
        scale, slopes = spread_of(part, parts, prior)
        expected = slopes.weights @ (slopes.common[:, None] + slopes.own)
        for i, one in enumerate(part.ahead):
            means, deviations = normals(part, one, scale, slopes, prior)
            low, high = (_quantile(means, deviations, slopes.weights[:, None], p) for p in (0.05, 0.95))
            e, known = one.errors, np.isfinite(one.errors)
            shift = reach(part, one, prior)[:, None] * expected
            score = high - low + 20.0 * (np.maximum(low - e, 0.0) + np.maximum(e - high, 0.0))
            rows.append(
                {
                    "table": table,
                    "law": law,
                    "kind": part.kind,
                    "fitted_sizes": part.sizes,
                    "ahead": i + 1 if part.kind == "size" else 0,
                    "coverage": float(np.mean(((e >= low) & (e <= high))[known])),
                    "score": float(np.mean(score[known])),
                    "half_width": float(np.median(((high - low) / 2)[known])),
                    "error": float(np.mean(np.abs(np.expm1(shift - e))[known])),
                    "error_uncorrected": float(np.mean(np.abs(np.expm1(-e))[known])),
                    "errors": np.abs(e[known]),
                }
            )
    return rows


def constant_scores(rows: list[dict[str, Any]]) -> None:
    """Adds to each split the score of the best half-width for all splits of its kind on other tables; takes the errors off."""

    def of(row: dict[str, Any], half: float) -> float:
        return float(np.mean(2 * half + 20.0 * np.maximum(row["errors"] - half, 0.0)))

    widths = np.geomspace(0.001, 0.5, 60)
    table = np.array([[of(row, w) for w in widths] for row in rows])
    for i, row in enumerate(rows):
        same = [
            j
            for j, other in enumerate(rows)
            if other["table"] != row["table"]
            and all(other[k] == row[k] for k in ("law", "kind"))
            and other["ahead"] == row["ahead"]
        ]
        best = int(np.argmin(np.log(table[same]).mean(0))) if same else 0
        row["constant_score"] = float(table[i, best]) if same else float("nan")
    for row in rows:
        del row["errors"]


def main() -> None:
    """Learn, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("kept", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "error_prior.json")
    args = parser.parse_args()
    head = provenance()
    by_law: dict[str, dict[str, list[Part]]] = {name: {} for name in LAWS}
    for path in tables(args.folder):
        runs = read_runs(path)
        for name in LAWS:
            kept = args.kept / f"{path.stem}.{name}.npz"
            if kept.exists() and (parts := read_parts(runs, kept, np.random.default_rng(0))):
                by_law[name][path.stem] = parts
    everything = {f"{table} {law}": parts for law, of in by_law.items() for table, parts in of.items()}
    together = learn(everything, BEGIN, args.steps)
    print("all laws", together, flush=True)
    priors, rows = {"all laws": together}, []
    for law, of in by_law.items():
        if len(of) < 3:
            continue
        priors[law] = learn(of, together, args.steps)
        print(law, sorted(of), priors[law], flush=True)
        for table in of:
            others = learn({k: v for k, v in of.items() if k != table}, priors[law], args.steps // 2)
            rows += judged(table, law, of[table], others)
    priors["blend"] = priors["camel"]  # which it is, but for a part that is not more than half
    constant_scores(rows)
    report(rows)
    path = pathlib.Path(module.__file__).with_name("error_prior.json")
    settings = {law: {k: float(f"{v:.4g}") for k, v in p._asdict().items()} for law, p in priors.items()}
    path.write_text(json.dumps({"laws": settings}, indent=1) + "\n")
    write(args.out, {**head, "settings": settings, "rows": rows})


NAMES = {
    "camel": "CAMEL",
    "sodm": "SODM additive",
    "sodm_joint": "SODM joint",
    "dml": "DML",
    "chinchilla": "Chinchilla",
}
KINDS = {
    ("size", True): "sizes, next or next but one",
    ("size", False): "sizes further ahead",
    ("mixture", True): "mixtures",
    ("run", True): "runs",
    ("tokens", True): "later tokens",
}


def page(rows: list[dict[str, Any]]) -> str:
    """The table of the page."""
    lines = [
        "| law | held out | splits | inside 90 % | at least 75 % on | score / constant | error / uncorrected |",
        "|---|---|---|---|---|---|---|",
    ]
    for law in dict.fromkeys(r["law"] for r in rows):
        for (kind, near), told in KINDS.items():
            some = [r for r in rows if r["law"] == law and r["kind"] == kind and (r["ahead"] <= 2) == near]
            if some:
                coverage, enough, ratio, gain = figures(some)
                lines.append(
                    f"| {NAMES[law]} | {told} | {len(some)} | {coverage:.2f} | {enough:.2f} | {ratio:.2f} | {gain:.2f} |"
                )
    return "\n".join(lines)


def figures(some: list[dict[str, Any]]) -> tuple[float, float, float, float]:
    """Mean coverage, share of splits of at least 75 %, score over that of a constant width, and error over that without correction."""
    coverage = np.array([r["coverage"] for r in some])
    ratio = np.exp(np.nanmean([np.log(r["score"] / r["constant_score"]) for r in some]))
    gain = np.exp(np.mean([np.log(r["error"] / r["error_uncorrected"]) for r in some]))
    return float(coverage.mean()), float(np.mean(coverage >= 0.75)), float(ratio), float(gain)


def report(rows: list[dict[str, Any]]) -> None:
    """Coverage and scores, by law and kind; on the page, too."""
    fill("error_prior", page(rows) + "\n")
    for law in dict.fromkeys(r["law"] for r in rows):
        for kind, near in (("size", True), ("size", False), ("mixture", True), ("run", True), ("tokens", True)):
            some = [r for r in rows if r["law"] == law and r["kind"] == kind and (r["ahead"] <= 2) == near]
            if not some:
                continue
            coverage, enough, ratio, gain = figures(some)
            print(
                f"{law:12s} {kind:8s} {'near' if near else 'far':5s} {len(some):4d} splits: coverage {coverage:.3f},"
                f" at least .75 on {enough:.2f}, score over constant {ratio:.3f}, error over uncorrected {gain:.3f}"
            )


if __name__ == "__main__":
    main()
