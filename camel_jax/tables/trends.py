"""Whether losses follow size, tokens and mixture as those of training runs do: joins, signs, and one size against the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from camel_jax.recipes.sizes import format_count
from camel_jax.tables.finding import Finding
from camel_jax.tables.runs import Runs
from camel_jax.tables.smooth import Surface, regress

PERMUTATIONS, CHANCE, SET_CHANCE = 199, 0.05, 0.2
BUMP, RISE = 0.04, 0.02  # log loss of a size above the line between its neighbours, and above the size before it
FRESH = np.log(4.0)  # epochs from which losses may rise


def shuffled(runs: Runs, s: Surface) -> list[Finding]:
    """Recipes that explain no more of the losses than they do of losses dealt out anew."""
    found = []
    counts = np.column_stack([s.size, s.tokens])[:, [np.ptp(s.size) > 0.1, np.ptp(s.tokens) > 0.1]]
    generator = np.random.default_rng(0)
    ones = np.ones((len(s.run), 1))
    if counts.shape[1]:
        before = np.column_stack([ones, s.roots]) if len(s.run) > 2 * s.roots.shape[1] + 8 else ones
        for v, name in enumerate(runs.sets):
            p = _chance(before, counts, s.losses[:, [v]], np.zeros(len(s.run)), generator)
            if p > SET_CHANCE:
                text = (
                    f"sizes and tokens explain no more of it than of shuffled losses (p = {p:.2f}): is "
                    "it joined to the right runs?"
                )
                found.append(Finding("shuffled", f"loss/{name}", (), text))
    if s.roots.shape[1] > 1 and np.ptp(s.roots) > 0.05 and len(s.run) >= s.roots.shape[1] + 6:
        before = np.column_stack([ones, counts, counts**2, counts[:, :1] * counts[:, 1:]])
        p = _chance(before, s.roots, s.losses, s.size, generator)
        if p > CHANCE:
            text = (
                f"the mixture explains no more of the losses than shuffled mixtures do (p = {p:.2f}): "
                "are mixtures joined to the right runs?"
            )
            found.append(Finding("shuffled", "mix/*", (), text))
    return found


def _chance(before: np.ndarray, columns: np.ndarray, y: np.ndarray, stratum: np.ndarray, generator: Any) -> float:
    """Share of permutations that explain as much of ``y`` (R, V) by ``columns``, once ``before`` is taken off; 0 for too few rows."""
    coefficients, scale = regress(before, y, 4)
    left = np.where(np.isfinite(y), y - before @ coefficients, 0.0) / np.maximum(scale, 1e-9)
    left = np.clip(left, -4.0, 4.0)
    off = columns - before @ np.linalg.lstsq(before, columns, rcond=None)[0]
    u, size, _ = np.linalg.svd(off, full_matrices=False)
    u = u[:, size > 1e-6 * max(size.max(initial=0.0), 1e-300)]
    if u.shape[1] == 0 or len(y) < before.shape[1] + u.shape[1] + 4:
        return 0.0
    explained = np.sum((u.T @ left) ** 2)
    groups = [np.flatnonzero(stratum == value) for value in np.unique(stratum)]
    if max(map(len, groups)) < 4:
        groups = [np.arange(len(y))]
    above = 0
    for _ in range(PERMUTATIONS):
        order = np.arange(len(y))
        for group in groups:
            order[group] = generator.permutation(group)
        above += np.sum((u.T @ left[order]) ** 2) >= explained
    return (1 + above) / (1 + PERMUTATIONS)


def rising(runs: Runs, s: Surface, last: Surface) -> list[Finding]:
    """Losses that rise with size or with tokens, over the table or within its runs."""
    found = []
    fresh = last.rows(last.epochs < FRESH)
    names = [name for name in ("size", "tokens") if np.ptp(getattr(fresh, name)) > 0.1] if len(fresh.run) >= 8 else []
    if names:
        x = np.column_stack([np.ones(len(fresh.run)), *(getattr(fresh, name) for name in names), fresh.roots])
        coefficients, scale = regress(x, fresh.losses)
        inverse = np.linalg.inv(x.T @ x + 1e-6 * len(x) * np.eye(x.shape[1]))
        for i, name in enumerate(names, 1):
            rise, error = coefficients[i], scale * np.sqrt(inverse[i, i])
            up = np.flatnonzero((rise * np.ptp(x[:, i]) > RISE) & (rise > 5.0 * error))
            for v in up[:3]:
                text = (
                    f"rises with {name}: {rise[v]:+.3f} in log loss for every factor of e, {rise[v] / max(error[v], 1e-12):.0f} "
                    "standard errors, mixtures taken into account"
                )
                found.append(Finding("rises", f"loss/{runs.sets[v]}", (), text))
    order = np.lexsort((s.tokens, s.run))
    first, run = order[np.unique(s.run[order], return_index=True)[1]], np.unique(s.run)
    end = order[np.searchsorted(s.run[order], run, side="right") - 1]
    longer = (s.tokens[end] - s.tokens[first] > np.log(1.5)) & (s.epochs[end] < FRESH)
    if longer.sum() >= 3:
        change = s.losses[end[longer]] - s.losses[first[longer]]
        share = np.sum(change > 0.01, axis=0) / np.maximum(np.isfinite(change).sum(0), 1)
        for v in np.flatnonzero((share > 0.6) & (np.nanmedian(change, axis=0) > RISE))[:3]:
            text = (
                f"{share[v]:.0%} of {longer.sum()} runs end above where they began, by {np.expm1(np.nanmedian(change[:, v])):.1%} "
                "in the middle"
            )
            found.append(Finding("rises", f"loss/{runs.sets[v]}", tuple(end[longer].tolist()), text))
    return found


def shifted(runs: Runs, s: Surface, last: Surface) -> list[Finding]:
    """One size whose losses stand above, or fall below, what the sizes around it allow, in most sets."""
    fresh = s.rows((s.epochs < FRESH) & ~s.early)
    runs_of = {size: len(np.unique(fresh.run[fresh.size == size])) for size in np.unique(fresh.size)}
    fresh = fresh.rows(np.array([runs_of[size] >= 3 for size in fresh.size], bool))
    sizes, place = np.unique(fresh.size, return_inverse=True)
    if len(sizes) < 3 or len(sizes) > 0.25 * len(np.unique(fresh.run)):
        return []
    dummies = np.eye(len(sizes))[place.ravel()]
    d = fresh.tokens
    columns = [dummies, *([np.column_stack([d, d * d])] if np.ptp(d) > 0.1 else []), fresh.roots]
    columns.append(fresh.roots * fresh.size[:, None])
    x = np.column_stack(columns)
    if x.shape[1] > len(np.unique(fresh.run)) / 2:
        return []
    level, scale = regress(x, fresh.losses, 6)
    level = level[: len(sizes)]
    # what the levels are known to: checkpoints of a run are one run
    many = len(fresh.run) / len(np.unique(fresh.run))
    error = np.sqrt(np.diag(np.linalg.inv(x.T @ x + 1e-6 * np.eye(x.shape[1])))[: len(sizes)] * many)[:, None] * scale
    t = ((sizes[1:-1] - sizes[:-2]) / (sizes[2:] - sizes[:-2]))[:, None]
    bump = level[1:-1] - (1 - t) * level[:-2] - t * level[2:]
    doubt = np.sqrt(error[1:-1] ** 2 + ((1 - t) * error[:-2]) ** 2 + (t * error[2:]) ** 2)
    bump, sure = np.median(bump, axis=1), np.median(bump / np.maximum(doubt, 1e-9), axis=1)
    step = np.diff(level, axis=0)
    rise, certain = np.median(step, axis=1), np.median(step / np.hypot(error[1:], error[:-1]), axis=1)
    middle = float(np.log(np.asarray(runs.recipe.n_active, float)).mean())
    shown = [format_count(float(f"{np.exp(one + middle):.3g}")) for one in sizes]
    text = ""
    i, j = int(bump.argmax()), int(rise.argmax())
    if bump[i] > max(BUMP, 4.0 * np.median(np.abs(np.delete(bump, i))) if len(bump) > 1 else 0.0) and sure[i] > 5.0:
        text = (
            f"losses at {shown[i + 1]} stand {np.expm1(bump[i]):.1%} above the line from {shown[i]} to "
            f"{shown[i + 2]}, below which a law lies"
        )
    elif rise[j] > RISE and certain[j] > 5.0:
        text = (
            f"losses rise by {np.expm1(rise[j]):.1%} from {shown[j]} to {shown[j + 1]} at the same tokens and mixture"
        )
    return [Finding("shifted", "size", (), text + ": another tokenizer or set-up at one of them?")] if text else []
