"""What speaks for an answer: how a fit does on its table and on a size held out, and how a mixture was found."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np


def evidence(certificate: Any) -> str:
    """What speaks for a mixture being the best there is, in a line.

    Args:
      certificate: of a ``MixtureResult``.
    """
    agree = f"{certificate.agreeing} of the {certificate.finished} best candidates, searched to the end, are as good as this mixture"
    if certificate.convex:
        proof = (
            f"the objective was convex along all {certificate.chords} random lines between mixtures that were tried;"
            f" if it is convex everywhere, no mixture is better by more than {certificate.gap:.1g}"
        )
    else:
        proof = (
            f"the objective is not convex (one of {certificate.chords} lines between mixtures shows it),"
            " so another optimum may exist"
        )
    return f"evidence: {agree} (of {certificate.starts} starts); {proof}"


def summarize(result: Any, table: Any) -> dict[str, Any]:
    """What a fit is, and how close it is to the table it has seen.

    Args:
      result: the fit.
      table: the runs it was fitted to.
    """
    predicted = np.asarray(result.predict(table.recipe))
    measured = np.asarray(table.losses, float)
    seen = np.isfinite(measured)
    error = np.where(seen, np.abs(predicted / np.where(seen, measured, 1.0) - 1.0), 0.0)
    by_set = error.sum(0) / seen.sum(0)
    return {
        "law": result.law.name,
        "rows": len(table),
        "runs": len(table.run_names),
        "domains": list(result.domains),
        "sets": list(result.sets),
        "active_parameters": list(result.size_range),
        "tokens": list(result.tokens_range),
        "status": result.check(),
        "objective": float(np.nanmin(result.objective)),
        "in_sample_error_percent": {s: 100 * e for s, e in zip(result.sets, by_set, strict=True)},
        "notes": list(result.notes),
        **({f"share_of_{result.law.parts[1][0]}": result.extra["share"]} if "share" in result.extra else {}),
        **({"posterior": result.extra["posterior"]} if "posterior" in result.extra else {}),
    }


def summarize_benchmarks(law: Any, table: Any) -> dict[str, Any]:
    """What a benchmark law is, which tasks it cannot tell, and how close it is to its own table, in points.

    Args:
      law: an ``AccuracyFit``.
      table: the runs it was fitted to, with losses and accuracies.
    """
    measured = np.asarray(table.accuracies, float)
    error = np.abs(np.asarray(law.predict(table.losses)) - measured)
    seen = np.isfinite(error)
    by_task = 100 * np.where(seen, error, 0.0).sum(0) / np.maximum(seen.sum(0), 1)
    usable = law.usable
    return {
        "rows": int(np.isfinite(measured).any(1).sum()),
        "tasks": list(law.tasks),
        "sets": list(law.sets),
        "weights": law.choice,
        "in_sample_error_points": {t: e for t, e, ok in zip(law.tasks, by_task.tolist(), usable, strict=True) if ok},
        "next_scale_error_points": {t: 100 * e for t, e, ok in zip(law.tasks, law.spread, usable, strict=True) if ok},
        "flagged": {
            t: {"flag": law.flags[t], "reason": law.reasons[t]}
            for t, ok in zip(law.tasks, usable, strict=True)
            if not ok
        },
    }


def measured_ends(fitted: Any, table: Any, source: pathlib.Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (R,) and losses (R, V) of the final checkpoints of a run table, sets in the order of the fit.

    Args:
      fitted: the fit.
      table: the runs.
      source: what to call the table in a message.

    Raises:
      ValueError: a set of the fit is not in the table.
    """
    from camel_jax.tables.runs import final_rows, select

    missing = [name for name in fitted.sets if name not in table.sets]
    if missing:
        raise ValueError(f"{source}: no loss/ column for {', '.join(missing)}, which the fit predicts")
    ends = select(table, final_rows(table))
    order = [table.sets.index(name) for name in fitted.sets]
    return np.asarray(ends.recipe.n_active), np.asarray(ends.losses)[:, order]
