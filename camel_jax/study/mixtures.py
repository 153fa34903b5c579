"""Mixtures within the limits of a study: candidates for runs, none of which was run before, and those that may be the best."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.design import exchange
from camel_jax.design.candidates import Target, mixtures_around, target_region
from camel_jax.design.knowledge import Knowledge
from camel_jax.design.propose import value_slopes
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.feasibility import InfeasibleError
from camel_jax.mixture.limits import Limits, curved_value
from camel_jax.mixture.regions import feasible_region, regions
from camel_jax.types import Array

SAME = 5e-4  # shares that differ by no more are of one mixture
SUPPORTS = 32  # sets of domains that are tried where their number is limited
DRAWS = 256  # of the losses at the target, each with a best mixture
LIKELY, SPREAD = 24, 8  # mixtures of the target: those that are the best in most draws, and others


def feasible_mixtures(
    limits: Limits, key: Array, count: int, around: np.ndarray | None = None, concentration: float = 1.0
) -> np.ndarray:
    """Random mixtures that meet all limits, (count, K), spread over the whole region or around one mixture.

    Mixtures outside are drawn in on the line to a point inside, up to the first limit: where the best mixture lies at a limit,
    candidates lie there too.

    Raises:
      InfeasibleError: no mixture meets the limits.

    >>> from camel_jax.mixture.limits import parse_limits
    >>> limits = parse_limits(["web", "code", "books"], bounds={"code": (0.1, 0.2)})
    >>> found = feasible_mixtures(limits, jax.random.key(0), 50)
    >>> bool(((found[:, 1] > 0.1 - 1e-9) & (found[:, 1] < 0.2 + 1e-9)).all()), found.shape
    (True, (50, 3))
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    parts = _regions(limits, rng)
    size = len(limits.domains)
    center = np.full(size, 1.0 / size) if around is None else np.asarray(around, float)
    wide = mixtures_around(key, count + 1, center, concentration)[0 if around is not None else 1 :][:count]
    return np.stack([_drawn_in(limits, parts[i % len(parts)], one) for i, one in enumerate(wide)])


def _regions(limits: Limits, rng: np.random.Generator) -> tuple[Region, ...]:
    found = regions(limits, SUPPORTS)
    most = limits.find("count")
    if most is None or len(found) > 1:
        return found
    size, some = len(limits.domains), []
    for _ in range(20 * SUPPORTS):
        support = np.isin(np.arange(size), rng.choice(size, int(most.value), replace=False))
        with contextlib.suppress(InfeasibleError):
            some.append(feasible_region(limits, support))
        if len(some) == SUPPORTS:
            break
    if not some:
        raise InfeasibleError([tuple(limit.name for limit in limits.items)], complete=False)
    return tuple(some)


def _drawn_in(limits: Limits, region: Region, mixture: np.ndarray) -> np.ndarray:
    """A mixture moved into a region: along its equalities, and no farther from its inner point than its limits allow."""
    center, free = np.asarray(region.center), np.asarray(region.free)
    if not free.any():
        return center
    equal = np.asarray(region.equal)
    inside = np.where(free, mixture, 0.0)
    inside = inside / max(inside.sum(), 1e-300) * (1.0 - center[~free].sum())
    step = np.where(free, inside - center, 0.0)
    step = step - equal.T @ (equal @ step)
    room = np.concatenate(
        [
            center[free] - np.asarray(region.lower)[free],
            np.asarray(region.upper)[free] - center[free],
            np.asarray(region.limits) - np.asarray(region.rows) @ center,
        ]
    )
    speed = np.concatenate([-step[free], step[free], np.asarray(region.rows) @ step])
    reach = float(np.min(np.where(speed > 1e-15, room / np.maximum(speed, 1e-15), np.inf), initial=1.0))
    curved = [limit for limit in limits.items if limit.kind in ("kl", "distance")]

    def at(t: float) -> np.ndarray:
        w = np.maximum(center + t * step, 0.0)
        return w / w.sum()

    def fits(t: float) -> bool:
        return all(curved_value(limits, limit.kind, at(t)) <= limit.value for limit in curved)

    if not fits(reach):
        low, high = 0.0, reach
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if fits(middle) else (low, middle)
        reach = low
    return at(reach)


def is_new(mixtures: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which mixtures (n, K) are none of the known ones (m, K), to three digits, nor of those before them.

    >>> is_new(np.array([[0.5, 0.5], [0.3, 0.7], [0.3, 0.7001]]), np.array([[0.5001, 0.4999]])).tolist()
    [False, True, False]
    """
    new = np.zeros(len(mixtures), bool)
    seen = [row for row in np.reshape(known, (-1, mixtures.shape[1]))]
    for i, one in enumerate(mixtures):
        new[i] = all(np.abs(one - other).max() > SAME for other in seen)
        if new[i]:
            seen.append(one)
    return new


def every_run_its_own(wanted: np.ndarray, spare: np.ndarray) -> np.ndarray:
    """Mixtures (n, K) of runs, where one that comes a second time gives way to the nearest spare one (m, K) not yet taken.

    >>> every_run_its_own(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.5, 0.5], [0.4, 0.6], [0.9, 0.1]])).tolist()
    [[0.5, 0.5], [0.4, 0.6]]
    """
    out = wanted.copy()
    for i in np.flatnonzero(~is_new(wanted, np.zeros((0, wanted.shape[1])))):
        taken = np.concatenate([wanted, out[:i]])
        free = spare[is_new(spare, taken)]
        if not len(free):
            raise ValueError(f"there are fewer than {len(wanted)} different mixtures within the limits to run")
        out[i] = free[np.abs(free - wanted[i]).sum(1).argmin()]
    return out


def likely_best(
    known: Knowledge, size: str, tokens: float, candidates: np.ndarray, key: Any, set_weights: Array | None = None
) -> Target:
    """The target of an ask: the candidates that may be the best mixture by what is known, and some others.

    To first order the losses of all candidates at the target are normal; in every draw of them one candidate is the best.

    Args:
      known: what is known of the law. size, tokens: of the target. candidates: (n, K). key: a ``jax.random`` key.
      set_weights: (V,) what every validation set counts; all the same if None.
    """
    everywhere = target_region(size, tokens, candidates)
    losses = known.losses(everywhere.recipe)
    slopes = value_slopes(losses, known.slopes(everywhere.recipe) * known.noise[:, None], set_weights)
    share = np.ones(len(known.sets)) if set_weights is None else np.asarray(set_weights, float)
    means = losses @ (share / share.sum())
    rows = slopes - slopes.mean(1, keepdims=True)  # what all mixtures have in common chooses none
    covariance = np.asarray(jnp.einsum("mnp,mpq,mkq->mnk", rows, exchange.inverse(known.precision), rows))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    wins = np.zeros(len(candidates))
    for mean, matrix in zip(means, covariance, strict=True):
        values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        drawn = mean + rng.standard_normal((DRAWS // len(means), len(mean))) @ root.T
        np.add.at(wins, drawn.argmin(1), 1.0)
    order = np.argsort(-wins, kind="stable")
    likely = order[:LIKELY]  # always as many, so that programs are shared
    others = np.setdiff1d(np.arange(len(candidates)), likely)[:SPREAD]
    return target_region(size, tokens, candidates[np.append(likely, others)])
