"""A region of few domains out of many, in coordinates of these alone: what is shut needs no derivatives."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from camel_jax.mixture.barrier import Region
from camel_jax.mixture.newton_step import MANY
from camel_jax.types import Array


class Narrow(NamedTuple):
    """The domains of a region that can be above zero, and some of the others as padding.

    Attributes:
      index: positions of the F domains, (F,).
      nothing: zeros, (K,).
    """

    index: Array
    nothing: Array

    def widen(self, weights: Array) -> Array:
        """Shares of all domains, (..., K), from those of the narrow region, (..., F)."""
        shape = (*np.shape(weights)[:-1], *np.shape(self.nothing))
        return jnp.broadcast_to(self.nothing, shape).at[..., self.index].set(weights)


def widened(narrow: Narrow | None, weights: Array) -> Array:
    """Shares of all domains from those of a narrow region; the same where it is not narrow."""
    return weights if narrow is None else narrow.widen(weights)


def narrowed(region: Region) -> tuple[Region, Narrow | None]:
    """The region in fewer coordinates, where it has more than ``MANY`` domains and at most half of them may be above zero.

    The number of coordinates is a power of two, so that regions of nearly as many domains share a compiled program.

    >>> from camel_jax.mixture.limits import parse_limits
    >>> from camel_jax.mixture.regions import feasible_region
    >>> support = np.arange(100) < 20
    >>> few, narrow = narrowed(feasible_region(parse_limits(100), support))
    >>> few.center.shape, narrow.widen(few.center).shape
    ((32,), (100,))
    """
    used = np.asarray(region.free) | (np.asarray(region.center) != 0.0)
    size, count = len(used), int(used.sum())
    if size <= MANY or 2 * (padded := max(32, 1 << (count - 1).bit_length())) > size:
        return region, None
    index = np.sort(np.argsort(~used, kind="stable")[:padded])
    small = Region(
        lower=region.lower[index],
        upper=region.upper[index],
        free=region.free[index],
        rows=region.rows[:, index],
        limits=region.limits,
        equal=region.equal[:, index],
        center=region.center[index],
    )
    return small, Narrow(index, np.zeros(size))
