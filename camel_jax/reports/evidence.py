"""What a fit and a benchmark law are, with how they do on their tables, as data."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from camel_jax.reports.card import evidence_card


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
    by_set, found = error.sum(0) / seen.sum(0), result.diagnostics
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
        "back_tests": [test._asdict() for test in result.backtests],
        "evidence": list(evidence_card(result)),
        "notes": list(result.notes),
        **({"weights_of_laws": result.part_weights} if result.law.parts else {}),
        **({} if found is None else {"posterior": _told(found)}),
    }


def _told(found: Any) -> dict[str, Any]:
    return {**found._asdict(), "verdict": found.verdict(), "converged": found.converged}


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


def measured_rows(fitted: Any, table: Any, source: pathlib.Path | str) -> tuple[Any, np.ndarray]:
    """Recipes and losses (R, V) of the final checkpoints of a run table, sets in the order of the fit.

    Args:
      fitted: the fit.
      table: the runs.
      source: what to call the table in a message.

    Raises:
      ValueError: the table has other domains, or a set of the fit is not in it.
    """
    from camel_jax.tables.runs import final_rows, select

    missing = [name for name in fitted.sets if name not in table.sets]
    if missing:
        raise ValueError(f"{source}: no loss/ column for {', '.join(missing)}, which the fit predicts")
    if tuple(table.domains) != tuple(fitted.domains):
        raise ValueError(
            f"{source}: its domains are {', '.join(table.domains)}; those of the fit are {', '.join(fitted.domains)}"
        )
    ends = select(table, final_rows(table))
    order = [table.sets.index(name) for name in fitted.sets]
    return ends.recipe, np.asarray(ends.losses)[:, order]
