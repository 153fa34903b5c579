"""What a smooth surface over sizes, tokens and mixtures says of every loss of a table: a robust regression and nearest runs.

A yardstick for suspicion, not a law: it is quick, needs no starts, and does not follow a bad row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from camel_jax.tables.runs import Runs, final_rows

EARLY = 5.0  # tokens a parameter below which losses follow no law
NEIGHBOURS = 8
REFERENCE = 2000  # rows among which neighbours are looked for, and that a regression reads
FIRM = 1e-4  # ridge, in rows
FLOOR = 1e-3  # log loss below which no residual counts
WIDTH, TOKENS, SHARE = 2.0, 1.0, 0.15  # how far apart in log size, log tokens and root share rows are still neighbours


class Surface(NamedTuple):
    """A table in logs, with what its rows have in common.

    Attributes:
      size, tokens: (R,) log active parameters and log tokens, centred. roots: (R, K) root shares, centred.
      losses: (R, V) log losses, NaN where not measured. run: (R,) from 0. final: (R,) last rows of runs.
      early: (R,) rows with hardly more than ``EARLY`` tokens a parameter.
      epochs: (R,) log of how often the supply of the most repeated domain was seen; 0 for once or less.
    """

    size: np.ndarray
    tokens: np.ndarray
    roots: np.ndarray
    losses: np.ndarray
    run: np.ndarray
    final: np.ndarray
    early: np.ndarray
    epochs: np.ndarray

    def rows(self, index: np.ndarray) -> Surface:
        """Some of the rows."""
        return Surface(*(x[index] for x in self))


def surface(runs: Runs) -> Surface:
    """The logs of a table."""
    recipe = runs.recipe
    size, tokens = (np.log(np.asarray(x, float)) for x in (recipe.n_active, recipe.tokens))
    shares = np.asarray(recipe.weights, float)
    epochs = np.zeros(len(size))
    if recipe.supply is not None and shares.shape[1]:
        seen = shares * np.asarray(recipe.tokens, float)[:, None] / np.asarray(recipe.supply, float)
        epochs = np.log(np.maximum(seen.max(1), 1.0))
    roots = np.sqrt(np.maximum(shares, 0.0))
    losses = np.asarray(runs.losses, float)
    logs = np.log(np.where(losses > 0, losses, np.nan))
    run = np.unique(np.asarray(runs.run), return_inverse=True)[1].ravel()
    early = tokens - size < np.log(1.01 * EARLY)
    centred = (size - size.mean(), tokens - tokens.mean(), roots - roots.mean(0))
    return Surface(*centred, logs, run, final_rows(runs), early, epochs)


def basis(s: Surface, most: int) -> np.ndarray:
    """Columns of a regression (R, P), as many groups of them as ``most`` allows: constant, sizes and tokens, mixtures, curvature."""
    n, d = (x / max(x.std(), 1e-12) if np.ptp(x) > 1e-6 else 0 * x for x in (s.size, s.tokens))
    roots = s.roots / np.maximum(s.roots.std(0), 1e-3)
    groups = [np.stack([n, d], 1), np.stack([s.epochs, s.epochs**2], 1), roots]
    groups += [np.stack([n * n, d * d, n * d], 1), roots * n[:, None], roots * d[:, None]]
    columns = [np.ones((len(n), 1))]
    for group in groups:
        group = group[:, np.ptp(group, 0) > 1e-9]
        if sum(c.shape[1] for c in columns) + group.shape[1] <= most:
            columns.append(group)
    return np.concatenate(columns, 1)


def regress(x: np.ndarray, y: np.ndarray, steps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Regression of each column of ``y`` (R, V) on ``x`` (R, P) that outlying rows do not move.

    Returns:
      Coefficients (P, V) and the scale of each column's residuals (V,), from their median size.
    """
    seen = np.isfinite(y)
    filled, weight = np.where(seen, y, 0.0), seen.astype(float)
    coefficients, scale = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    for _ in range(steps):
        for v, w in enumerate(weight.T):
            left = (x * w[:, None]).T
            ridge = FIRM * max(w.sum(), 1.0) * np.eye(x.shape[1])
            coefficients[:, v] = np.linalg.solve(left @ x + ridge, left @ filled[:, v])
        size = np.abs(filled - x @ coefficients)
        scale = spread_of(np.where(seen, size, np.nan)) + 1e-9
        weight = seen / np.maximum(size / (3.0 * scale), 1.0) ** 2
    return coefficients, scale


def spread_of(sizes: np.ndarray) -> np.ndarray:
    """Standard deviation by the median of absolute residuals, over the first axis; NaN are left out."""
    some = np.isfinite(sizes).any(0)
    middle = np.nanmedian(np.where(some, sizes, 0.0), axis=0)
    return 1.4826 * np.where(some, middle, 0.0)


class Neighbourhood(NamedTuple):
    """Every loss against the runs around it.

    Attributes:
      away: (R, V) log loss minus what the surface and the nearest other runs say; NaN where not measured or not to be told.
      scale: (V,) its usual size. near: (R, V) how far the neighbours themselves scatter.
      alone: (R,), 1 among neighbours, more where they are far.
    """

    away: np.ndarray
    scale: np.ndarray
    near: np.ndarray
    alone: np.ndarray


def neighbourhood(s: Surface) -> Neighbourhood:
    """Residuals of all rows from their nearest other runs, after a robust regression on what sets recipes apart."""
    rows = len(s.size)
    pick = np.arange(rows)
    if rows > REFERENCE:
        pick = np.sort(np.random.default_rng(0).choice(rows, REFERENCE, replace=False))
    x = basis(s, max(len(np.unique(s.run)) // 3, 2))
    residuals = s.losses - x @ regress(x[pick], s.losses[pick])[0]
    place = np.column_stack([s.size / WIDTH, s.tokens / TOKENS, s.roots / SHARE, s.epochs])
    there, k = place[pick], min(NEIGHBOURS, len(pick))
    middle, near, far = np.full(s.losses.shape, np.nan), np.full(s.losses.shape, np.nan), np.full(rows, np.inf)
    for low in range(0, rows, 512):
        some = slice(low, low + 512)
        apart = (place[some] ** 2).sum(1)[:, None] + (there**2).sum(1) - 2 * place[some] @ there.T
        apart = np.where(s.run[some, None] == s.run[pick], np.inf, np.maximum(apart, 0.0))
        nearest = np.argpartition(apart, k - 1, axis=1)[:, :k]
        distance = np.take_along_axis(apart, nearest, 1)
        around = np.where(np.isfinite(distance)[:, :, None], residuals[pick][nearest], np.nan)
        enough = np.isfinite(around).sum(1) >= 3
        around = np.where(enough[:, None], around, 0.0)
        middle[some] = np.where(enough, np.nanmedian(around, axis=1), np.nan)
        scatter = np.sort(np.abs(around - middle[some][:, None]), axis=1)  # NaN last
        near[some] = scatter[:, int(0.75 * k) - 1]
        far[some] = np.sqrt(np.where(np.isfinite(distance), distance, 0.0).mean(1))
    away = residuals - middle
    information = x[pick].T @ x[pick] + FIRM * len(pick) * np.eye(x.shape[1])
    leverage = np.einsum("rp,pr->r", x, np.linalg.solve(information, x.T))
    alone = np.maximum(far / np.clip(np.median(far), 0.5, 1.5), 1.0)
    alone *= np.sqrt(np.maximum(leverage / max(np.median(leverage), 1e-12), 1.0))
    return Neighbourhood(away, np.maximum(spread_of(np.abs(away)), FLOOR), near, alone)
