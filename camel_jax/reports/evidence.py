"""What speaks for an answer: how a fit does on its table and on a size held out, and how a mixture was found."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np


def evidence(certificate: Any, gain: float) -> str:
    """What speaks for a mixture being the best there is, in a line; the bound on a better one in units of the gain.

    Args:
      certificate: of a ``MixtureResult``. gain: how much better the mixture is than the reference.
    """
    agree = f"{certificate.agreeing} of the {certificate.finished} best candidates, searched to the end, are as good as this mixture"
    if not certificate.convex:
        proof = (
            f"the objective is not convex (one of {certificate.chords} lines between mixtures shows it),"
            " so another optimum may exist"
        )
    else:
        proof = (
            f"the objective was convex along all {certificate.chords} random lines between mixtures that were tried;"
            f" if it is convex everywhere, {bound(certificate.gap, gain)}"
        )
    tried = (
        "" if certificate.exhaustive else "; not every set of domains was tried, and nothing is proved about the others"
    )
    return f"evidence: {agree} (of {certificate.starts} starts); {proof}{tried}"


def bound(gap: float, gain: float) -> str:
    """What a bound on how much better a mixture could be says beside a gain over the reference.

    Args:
      gap: no mixture is better by more than this. gain: over the reference.

    >>> bound(1e-8, 0.01)
    'no mixture gains more over the reference than this one, to 0.01 % of the gain'
    >>> bound(0.002, 0.01)
    'no mixture gains over the reference more than 1.2 times what this one does'
    >>> bound(0.1, 0.001)
    'no mixture is better by more than 0.1, which is more than the gain of 0.001 and so proves nothing at that scale'
    >>> bound(0.001, 0.0)
    'no mixture is better by more than 0.001; this one is no better than the reference'
    """
    if not gain > 0:
        return f"no mixture is better by more than {gap:.1g}; this one is no better than the reference"
    if gap <= 0.01 * gain:
        return f"no mixture gains more over the reference than this one, to {max(100 * gap / gain, 0.01):.1g} % of the gain"
    if gap < gain:
        return f"no mixture gains over the reference more than {1 + gap / gain:.2g} times what this one does"
    return f"no mixture is better by more than {gap:.1g}, which is more than the gain of {gain:.1g} and so proves nothing at that scale"


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
        "notes": list(result.notes),
        **({f"share_of_{result.law.parts[1][0]}": result.share_of_second} if result.law.parts else {}),
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
