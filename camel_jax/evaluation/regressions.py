"""Baselines for swarms of mixtures: ridge regression by evidence, and the log-linear law of olmix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.evaluation.prediction import Prediction
from camel_jax.laws.law import varies
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

HUBER = 0.02  # of log losses, in the log-linear fit
FLOORS = (0.0, 0.5, 0.8, 0.95)  # starts of its floor, as shares of the least loss


def ridge(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
    """Log loss linear in the square roots of the shares, with a ridge that the evidence of each set chooses.

    Log size and log tokens, where they vary, and the constant are not penalised. With them projected out, the marginal likelihood is
    that of independent normals along the singular vectors, so that the best ridge is a search in one number.
    Bounds are Student t. Source: MacKay 1992, Bayesian interpolation.
    """
    from scipy.stats import t as student

    del key
    losses = np.log(np.asarray(runs.losses, float))
    mixed, mixed_new = np.sqrt(np.asarray(runs.recipe.weights)), np.sqrt(np.asarray(recipe.weights))
    plain, plain_new = _scales(runs.recipe, runs.recipe), _scales(runs.recipe, recipe)
    point, spread = np.empty((2, len(mixed_new), losses.shape[1]))
    freedom = np.empty(losses.shape[1])
    for v in range(losses.shape[1]):
        seen = np.isfinite(losses[:, v])
        point[:, v], spread[:, v], freedom[v] = _ridge_one(
            plain[seen], mixed[seen], losses[seen, v], plain_new, mixed_new
        )
    bounds = {}
    for level in (0.5, 0.9):
        reach = student.ppf(0.5 + level / 2, freedom) * spread
        bounds[level] = (np.exp(point - reach), np.exp(point + reach))
    return Prediction(np.exp(point), bounds, losses.shape[1] * (mixed.shape[1] + plain.shape[1] + 2))


def _ridge_one(
    plain: np.ndarray, mixed: np.ndarray, y: np.ndarray, plain_new: np.ndarray, mixed_new: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, standard deviation and degrees of freedom of one set's log loss at new rows."""
    from scipy.optimize import minimize_scalar

    freedom = len(y) - plain.shape[1]
    if freedom < 2:
        raise ValueError(f"ridge needs at least {plain.shape[1] + 2} rows of every set, and has {len(y)}")
    inverse = np.linalg.pinv(plain)
    inner, rest = mixed - plain @ (inverse @ mixed), y - plain @ (inverse @ y)
    u, s, vt = np.linalg.svd(inner, full_matrices=False)
    along = u.T @ rest
    outside = max(float(rest @ rest - along @ along), 0.0)

    def noise_of(log_ratio: float) -> float:
        return (outside + float(np.sum(along**2 / (1.0 + s**2 * np.exp(log_ratio))))) / freedom

    def cost(
        log_ratio: float,
    ) -> float:  # twice the negative log evidence; the ratio is that of prior to noise variance
        return freedom * np.log(max(noise_of(log_ratio), 1e-300)) + float(np.sum(np.log1p(s**2 * np.exp(log_ratio))))

    grid = np.linspace(-12.0, 16.0, 57)
    best = grid[int(np.argmin([cost(g) for g in grid]))]
    searched: Any = minimize_scalar(cost, bounds=(best - 0.5, best + 0.5), method="bounded")  # untyped in scipy
    found = float(searched.x)
    gain = s * np.exp(found) / (1.0 + s**2 * np.exp(found))
    slope = vt.T @ (gain * along)
    new = mixed_new - plain_new @ (inverse @ mixed)
    mean = plain_new @ (inverse @ y) + new @ slope
    seen = new @ vt.T
    # variance along measured directions shrinks; outside of their span the prior's stays
    prior = np.exp(found) * np.maximum((new**2).sum(1) - (seen**2).sum(1), 0.0)
    prior += np.exp(found) * np.sum(seen**2 / (1.0 + s**2 * np.exp(found)), 1)
    prior += np.sum((plain_new @ inverse) ** 2, 1)
    return mean, np.sqrt(noise_of(found) * (1.0 + prior)), freedom


def loglinear(runs: Runs, recipe: Recipe, key: Array) -> Prediction:
    """L = exp(c) + exp(a r), set by set: the law that olmix fits to a swarm of small models, and the law of data mixing laws.

    Where size or tokens vary their logarithms stand beside the shares in the second exponent. Fitted to log losses with a Huber loss of
    0.02, as published, from four floors; a faint ridge keeps what the table cannot tell finite.
    Sources: olmix (allenai/olmix); Ye et al. 2025 (arXiv 2403.16952).
    """
    del key
    losses = np.asarray(runs.losses, float)
    scale, scale_new = (_scales(runs.recipe, r)[:, 1:] for r in (runs.recipe, recipe))
    x = np.column_stack([np.asarray(runs.recipe.weights), scale])
    new = np.column_stack([np.asarray(recipe.weights), scale_new])
    point = np.empty((len(new), losses.shape[1]))
    for v in range(losses.shape[1]):
        seen = np.isfinite(losses[:, v])
        best = _loglinear_one(x[seen], losses[seen, v])
        point[:, v] = np.exp(best[0]) + np.exp(new @ best[1:])
    return Prediction(point, {}, losses.shape[1] * (x.shape[1] + 1))


def _loglinear_one(x: np.ndarray, y: np.ndarray, faint: float = 1e-3) -> np.ndarray:
    """Parameters (c, a) of one set."""
    from scipy.optimize import least_squares

    solve: Any = least_squares  # the stubs of scipy know only names of derivatives
    if len(y) < 2:
        raise ValueError(f"loglinear needs at least 2 rows of every set, and has {len(y)}")
    log_y = np.log(y)

    def parts(p: np.ndarray) -> tuple[float, np.ndarray]:
        return np.exp(p[0]), np.exp(np.clip(x @ p[1:], -50.0, 50.0))

    def residual(p: np.ndarray) -> np.ndarray:
        floor, rest = parts(p)
        return np.log(floor + rest) - log_y

    def slope(p: np.ndarray) -> np.ndarray:
        floor, rest = parts(p)
        return np.column_stack([np.full(len(y), floor), rest[:, None] * x]) / (floor + rest)[:, None]

    tries = []
    for share in FLOORS:
        low = max(share, 1e-3) * y.min()
        left = np.linalg.solve(x.T @ x + faint * np.eye(x.shape[1]), x.T @ np.log(y - min(low, 0.99 * y.min())))
        start = np.concatenate([[np.log(low)], left])

        def whole(p: np.ndarray, center: np.ndarray = start) -> np.ndarray:
            return np.concatenate([residual(p), faint * (p - center)])

        def whole_slope(p: np.ndarray) -> np.ndarray:
            return np.concatenate([slope(p), faint * np.eye(len(p))])

        tries.append(solve(whole, start, whole_slope, loss="huber", f_scale=HUBER, max_nfev=200))
    return min(tries, key=lambda found: found.cost).x


def _scales(fitted: Recipe, recipe: Recipe) -> np.ndarray:
    """A column of ones, and log size and log tokens where they vary in the fitted rows, (R, 1 to 3), centered there."""
    columns: Sequence[tuple[Array, Array]] = (
        (fitted.n_active, recipe.n_active),
        (fitted.tokens, recipe.tokens),
    )
    out: list[np.ndarray] = [np.ones(len(recipe))]
    for known, asked in columns:
        if varies(known):
            out.append(np.log(np.asarray(asked, float)) - np.mean(np.log(np.asarray(known, float))))
    return np.column_stack(out)
