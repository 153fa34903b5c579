"""What a law leaves unexplained and a mixture keeps: a Gaussian process on log residuals over mixtures, sizes and tokens.

The residual of a mixture at one size tells a good part of its residual at the next. Over rows, the covariance of residuals is

    k = s s' exp(-|log N - log N'| / reach) (exp(-|r - r'|^2 / (2 length^2)) (steady + (1 - steady) f) + common f)
    f = exp(-|log D - log D'| / fade)    s = max(1, finished / D)^(1/2)

plus noise on the diagonal, which is larger for checkpoints early in their run. Laws are furthest off before runs have seen what
the shortest of them sees in all, ``finished`` tokens, hence s. How much of the residuals is noise and how far a
mixture's residual reaches differ from table to table; both are chosen by the evidence of the table itself. The correction decays
to nothing far from the measured mixtures, tokens and sizes, so that extrapolation is left to the law.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, progress
from camel_jax.types import Array

REACH, STEADY, FADE, COMMON = 3.0, 0.3, 0.3, 0.3
EARLY, EARLIEST = 0.5, np.log(100.0)  # power of the amplitude s, and where it stops growing
NOISE, LENGTH, POWER = 0.4, 0.15, 1.5  # noise = NOISE / progress^POWER; centers of the priors where the evidence speaks
NOISES = NOISE * 2.0 ** np.arange(-6.0, 3.01, 0.5)
LENGTHS = LENGTH * 2.0 ** np.arange(-1.5, 1.51, 0.5)
SPREAD = 0.7  # of the priors of log noise and log length
MAX_ROWS, EVIDENCE_ROWS = 3000, 400
FAR_OUT, LEAST_FAR_OUT = 10.0, 0.03  # typical residuals of a set, and log residual, beyond which one is not learnt from
DIFFERENCES = 70_000_000  # differences of shares that are held at once, at most


class Place(NamedTuple):
    """Where rows lie: mixtures (G, K), log active parameters (G,), log tokens (G,)."""

    weights: Array
    log_size: Array
    log_tokens: Array


class ResidualField(NamedTuple):
    """The posterior mean of the process, ready to evaluate.

    Attributes:
      weights: (G, K) mixtures of the rows. log_size: (G,) log active parameters. log_tokens: (G,).
      coefficients: (G, V); the correction of set v is the kernel row times column v.
      length: (), how far in mixture a residual reaches. common: (), weight of what all mixtures share.
      reach: (), how far in log size it reaches. finished: (), tokens below which residuals are larger.
      noise: (G,) variance of the noise of the rows, where that of a mixture's own residual is 1.

    The last four have defaults for fits that were saved before there were such settings.
    """

    weights: Array
    log_size: Array
    log_tokens: Array
    coefficients: Array
    length: Array = np.asarray(LENGTH)
    common: Array = np.asarray(0.0)
    reach: Array = np.asarray(2.0)
    finished: Array = np.asarray(0.0)
    noise: Array = np.asarray(0.0)

    __repr__ = brief_repr


def no_field(n_domains: int, n_sets: int) -> ResidualField:
    """A field without rows: no correction."""
    return ResidualField(np.zeros((0, n_domains)), np.zeros(0), np.zeros(0), np.zeros((0, n_sets)))


def fit_field(
    runs: Runs,
    residuals: Array,
    max_rows: int = MAX_ROWS,
    *,
    noise: float | None = None,
    length: float | None = None,
) -> ResidualField:
    """Posterior mean of the residual process given the residuals of a fitted law.

    Args:
      runs: the table the law was fitted on.
      residuals: (R, V) log measured minus log predicted losses, NaN where not measured.
      max_rows: rows used at most; runs lose checkpoints, evenly spaced and never the last, before runs are left out.
      noise, length: settings of the process; chosen by ``choose_settings`` where either is None.
    """
    keep = thin(runs, max_rows)
    r = runs.recipe
    weights, active, tokens = (np.asarray(x, float)[keep] for x in (r.weights, r.n_active, r.tokens))
    residuals, done = np.asarray(residuals, float)[keep], progress(runs)[keep]
    place = Place(weights, np.log(active), np.log(tokens))
    finished = shortest_run(runs)
    if noise is None or length is None:
        noise, length = choose_settings(place, residuals, done, finished)
    settings = (np.asarray(x) for x in (length, COMMON, REACH, finished))
    empty = ResidualField(*place, np.zeros_like(residuals), *settings)._replace(noise=noise / done**POWER)
    cov = _kernel(place, empty, np) + np.diag(empty.noise)
    coefficients = np.zeros_like(residuals)
    patterns, which = np.unique(np.isfinite(residuals), axis=1, return_inverse=True)
    for i, known in enumerate(patterns.T):
        sets = np.flatnonzero(which.ravel() == i)
        if known.any():
            coefficients[np.ix_(known, sets)] = np.linalg.solve(
                cov[np.ix_(known, known)], residuals[np.ix_(known, sets)]
            )
    return empty._replace(coefficients=coefficients)


def is_far_out(residuals: Array) -> np.ndarray:
    """Which log residuals (R, V) are so far from those of their set that nothing is to be learnt from them.

    Beyond ten typical residuals of the set (1.4826 times the median of their sizes), and beyond 3 %.

    >>> is_far_out(np.array([[0.01], [-0.02], [0.015], [0.4], [np.nan]])).ravel().tolist()
    [False, False, False, True, False]
    """
    size = np.abs(residuals)
    seen = np.isfinite(size)
    typical = [1.4826 * np.median(x[ok]) if ok.any() else 0.0 for x, ok in zip(size.T, seen.T, strict=True)]
    return np.where(seen, size, 0.0) > np.maximum(FAR_OUT * np.array(typical), LEAST_FAR_OUT)


def weakened(field: ResidualField, strength: float) -> ResidualField:
    """The same field with its corrections multiplied by a strength in [0, 1]."""
    return field._replace(coefficients=strength * np.asarray(field.coefficients))


def choose_settings(place: Place, residuals: Array, done: Array, finished: float = 0.0) -> tuple[float, float]:
    """Noise and length of the process under which the residuals of a table are most probable, times a prior about the defaults.

    The variance of each set is profiled out, and all sets together count as one, since their residuals are not independent.

    Args:
      place: (G, ...) rows. residuals: (G, V), NaN where not measured. done: (G,) progress of the checkpoints.
      finished: tokens of the shortest run.

    Returns:
      (noise, length), from a grid; the defaults for a table without residuals.
    """
    seen = np.isfinite(residuals)
    patterns, which = np.unique(seen, axis=1, return_inverse=True)
    if not seen.any():
        return NOISE, LENGTH
    sizes = patterns.sum(0) * np.bincount(which.ravel(), minlength=patterns.shape[1])
    best = int(np.argmax(sizes))  # the sets that are measured together, as many as there are
    rows, sets = np.flatnonzero(patterns[:, best]), np.flatnonzero(which.ravel() == best)
    if len(rows) > EVIDENCE_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, EVIDENCE_ROWS, replace=False))
    part = Place(*(np.asarray(x)[rows] for x in place))
    root = np.sqrt(np.asarray(done)[rows] ** POWER)
    scaled = root[:, None] * np.asarray(residuals)[np.ix_(rows, sets)]
    scores = np.empty((len(LENGTHS), len(NOISES)))
    for i, length in enumerate(LENGTHS):
        field = ResidualField(*part, scaled, *(np.asarray(x) for x in (length, COMMON, REACH, finished)))
        values, vectors = np.linalg.eigh(root[:, None] * _kernel(part, field, np) * root)
        power = (vectors.T @ scaled) ** 2
        total = np.maximum(values, 0.0)[:, None] + NOISES  # (rows, noises)
        explained = np.maximum(power.T @ (1.0 / total) / len(rows), 1e-300)  # variance of each set, (sets, noises)
        scores[i] = 0.5 * (len(rows) * np.log(explained).mean(0) + np.log(total).sum(0))
    away = (np.log(LENGTHS / LENGTH)[:, None] / SPREAD) ** 2 + (np.log(NOISES / NOISE) / SPREAD) ** 2
    i, j = np.unravel_index(np.argmin(scores + 0.5 * away), scores.shape)
    return float(NOISES[j]), float(LENGTHS[i])


def shortest_run(runs: Runs) -> float:
    """Tokens of the shortest run of a table, below which residuals are larger."""
    run, seen = np.asarray(runs.run), np.asarray(runs.recipe.tokens, float)
    return float(min(seen[run == name].max() for name in np.unique(run)))


def thin(runs: Runs, max_rows: int) -> np.ndarray:
    """Indices of at most ``max_rows`` rows, spread over the checkpoints of every run; larger models first where runs are too many."""
    run, tokens = np.asarray(runs.run), np.asarray(runs.recipe.tokens, float)
    if len(run) <= max_rows:
        return np.arange(len(run))
    names = np.unique(run)
    each = max(1, max_rows // len(names))
    kept = []
    for name in names:
        rows = np.flatnonzero(run == name)
        rows = rows[np.argsort(tokens[rows], kind="stable")][::-1]
        kept.append(rows[np.unique(np.linspace(0, len(rows) - 1, min(each, len(rows))).round().astype(int))])
    rows = np.concatenate(kept)
    if len(rows) > max_rows:
        rows = rows[np.argsort(-np.asarray(runs.recipe.n_active, float)[rows], kind="stable")[:max_rows]]
    return np.sort(rows)


def field_correction(field: ResidualField, recipe: Recipe) -> Array:
    """Log correction of the losses of one recipe, shape (V,); vmap over recipes."""
    place = Place(
        jnp.atleast_2d(recipe.weights), *(jnp.log(jnp.atleast_1d(x)) for x in (recipe.n_active, recipe.tokens))
    )
    return _kernel(place, ResidualField(*(jnp.asarray(x) for x in field)), jnp)[0] @ jnp.asarray(field.coefficients)


def corrections(field: ResidualField, recipe: Recipe) -> np.ndarray:
    """Log corrections (R, V) of recipes with a leading axis R; on the host, where nothing needs to be compiled."""
    field = ResidualField(*(np.asarray(x) for x in field))
    places = Place(*(np.asarray(x, float) for x in (recipe.weights, np.log(recipe.n_active), np.log(recipe.tokens))))
    coefficients, out = field.coefficients, []
    for low in range(0, len(places.log_size), 256):
        some = Place(*(x[low : low + 256] for x in places))
        out.append(_kernel(some, field, np) @ coefficients)
    return np.concatenate([np.zeros((0, coefficients.shape[1])), *out])


def unknown_share(field: ResidualField, recipe: Recipe) -> np.ndarray:
    """How much of the variance of a residual is still open once the measured ones are known, (R, V), for the end of a run.

    The conditional variance of the process, noise included, over its variance before any row: 1 far from the measured mixtures,
    tokens and sizes, and the smaller the nearer. On the host, for recipes with a leading axis R.
    """
    places = Place(*(np.asarray(x, float) for x in (recipe.weights, np.log(recipe.n_active), np.log(recipe.tokens))))
    share = np.ones((len(places.log_size), np.shape(field.coefficients)[-1]))
    if not np.any(field.noise):
        return share
    field = ResidualField(*(np.asarray(x) for x in field))
    cov = _kernel(Place(*field[:3]), field, np) + np.diag(field.noise)
    cross = _kernel(places, field, np).T / early_amplitude(field.finished, places.log_tokens, np)
    before = 1.0 + float(field.common) + np.min(field.noise)
    patterns, which = np.unique(field.coefficients != 0.0, axis=1, return_inverse=True)
    for i, known in enumerate(patterns.T):
        if known.any():
            told = np.sum(cross[known] * np.linalg.solve(cov[np.ix_(known, known)], cross[known]), axis=0)
            share[:, which.ravel() == i] = (1.0 - told / before)[:, None]
    return share


def _kernel(one: Place, field: ResidualField, xp: Any) -> Array:
    """Covariance of residuals at ``one`` with those at the rows of a field, whose coefficients are not read."""
    apart = _squared_distances(one.weights, field.weights, xp)
    scale = xp.abs(one.log_size[:, None] - field.log_size[None])
    later = xp.exp(-xp.abs(one.log_tokens[:, None] - field.log_tokens[None]) / FADE)
    near = xp.exp(-apart / (2.0 * field.length**2))
    early = (
        early_amplitude(field.finished, one.log_tokens, xp)[:, None]
        * early_amplitude(field.finished, field.log_tokens, xp)[None]
    )
    return early * xp.exp(-scale / field.reach) * (near * (STEADY + (1.0 - STEADY) * later) + field.common * later)


def _squared_distances(one: Array, other: Array, xp: Any) -> Array:
    """Squared distances (N, G) of mixtures (N, K) and (G, K); where their differences would fill the memory, by products."""
    if len(one) * other.size <= DIFFERENCES:
        return xp.sum((one[:, None] - other[None]) ** 2, axis=-1)
    squares = xp.sum(one**2, axis=-1)[:, None] + xp.sum(other**2, axis=-1)
    return xp.maximum(squares - 2.0 * one @ other.T, 0.0)


def early_amplitude(finished: Array, log_tokens: Array, xp: Any, power: float = EARLY) -> Array:
    """The amplitude s of residuals: 1 from ``finished`` tokens on, larger before; 1 everywhere if ``finished`` is 0."""
    return xp.exp(power * xp.clip(xp.log(xp.maximum(finished, 1e-300)) - log_tokens, 0.0, EARLIEST))
