"""What is seen of a table of runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from camel_jax.recipes.sizes import format_count, format_size
from camel_jax.views.view import Sheet, View

MANY = 12  # names that are written out


def names_text(names: Any) -> str:
    """Names between commas, the rest of a long list as its number.

    >>> names_text(["web", "code"])
    'web, code'
    """
    shown = ", ".join(str(name)[:40] for name in list(names)[:MANY])
    return shown + (f" and {len(names) - MANY} more" if len(names) > MANY else "")


def span_text(values: Any) -> str:
    """Smallest and largest of counts.

    >>> span_text([1e7, 3e8])
    '10M to 300M'
    """
    values = np.asarray(values, float)
    low, high = values.min(), values.max()
    return format_count(low) if low == high else f"{format_count(low)} to {format_count(high)}"


def runs_title(runs: Any) -> str:
    """Rows, runs, sizes and tokens of a table in a line."""
    n = len(runs)
    if not n:
        return "no rows"
    rows = f"{len(np.unique(runs.run))} runs ({n} rows)"
    return f"{rows}, {span_text(runs.recipe.n_active)} parameters, {span_text(runs.recipe.tokens)} tokens"


def runs_view(runs: Any) -> View:
    """Domains, sets and the sizes of a table."""
    facts = {"domains": names_text(runs.domains), "validation sets": names_text(runs.sets)}
    facts |= {"tasks": names_text(runs.tasks)} if runs.tasks else {}
    return View(runs_title(runs), facts, (sizes_sheet(runs),) if len(runs) else ())


def sizes_sheet(runs: Any) -> Sheet:
    """Runs, rows, mixtures and tokens of every size."""
    recipe, run = runs.recipe, np.asarray(runs.run)
    pairs = np.stack([np.asarray(recipe.n_active, float), np.asarray(recipe.n_total, float)], 1)
    sizes, at = np.unique(pairs, axis=0, return_inverse=True)
    rows = [np.flatnonzero(at.ravel() == i) for i in range(len(sizes))]
    mixtures = np.asarray(recipe.weights, float).round(3)
    columns = {
        "size": [format_size(total, active) for active, total in sizes],
        "runs": [len(np.unique(run[r])) for r in rows],
        "rows": [len(r) for r in rows],
        "mixtures": [len(np.unique(mixtures[r], axis=0)) for r in rows],
        "tokens": [span_text(np.asarray(recipe.tokens)[r]) for r in rows],
    }
    return Sheet("model sizes", columns)


def described(runs: Any, notes: Any) -> View:
    """Everything there is to know before a fit: sizes, shares, losses and what is missing.

    Args:
      runs: the table. notes: what it cannot tell, in sentences.
    """
    if not len(runs):
        return View(runs_title(runs), {}, (), tuple(notes))
    weights, losses = np.asarray(runs.recipe.weights, float), np.asarray(runs.losses, float)
    shares = {
        "domain": list(runs.domains),
        "low": weights.min(0),
        "mean": weights.mean(0),
        "high": weights.max(0),
        "without": (weights == 0).sum(0),
    }
    sheets = [sizes_sheet(runs), Sheet("shares of the domains; without: rows with none of it", shares, bar="mean")]
    sheets.append(_measured("losses, nats per token", runs.sets, losses))
    if runs.tasks:
        sheets.append(_measured("accuracies", runs.tasks, np.asarray(runs.accuracies, float)))
    return View(runs_title(runs), {}, tuple(sheets), tuple(notes))


def _measured(title: str, names: Any, values: np.ndarray) -> Sheet:
    seen = np.isfinite(values)
    low, high = np.where(seen, values, np.inf).min(0), np.where(seen, values, -np.inf).max(0)
    none = ~seen.any(0)
    columns = {
        "name": list(names),
        "low": np.where(none, np.nan, low),
        "high": np.where(none, np.nan, high),
        "measured": seen.sum(0),
        "missing": (~seen).sum(0),
    }
    return Sheet(title, columns)


def plot_runs(runs: Any, ax: Any = None) -> Any:
    """Mean measured loss against active size, a dot a row."""
    from camel_jax.figures.losses import measured_losses

    return measured_losses(runs.recipe.n_active, runs.losses, runs.sets, ax=ax)
