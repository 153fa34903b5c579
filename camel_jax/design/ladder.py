"""The sizes that proxy runs may have, and fixed ways to spread a budget over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.recipes.costs import CostModel, checked_costs, flops
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.sizes import format_size, parse_size, parse_tokens
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

SHAPES = ("uniform", "small", "large", "hourglass")


@dataclasses.dataclass(frozen=True, repr=False)
class Ladder(Readable):
    """Model sizes and token counts at which runs may be bought, smallest size first; one option a row.

    Attributes:
      n_total: (L,) total parameters of each option.
      n_active: (L,) active parameters.
      tokens: (L,) training tokens.
      cost: (L,) in the unit of the cost model, FLOPs by default.
      rung: (L,) index of its size; options of one size differ in tokens.
      model: the cost model.
    """

    n_total: np.ndarray
    n_active: np.ndarray
    tokens: np.ndarray
    cost: np.ndarray
    rung: np.ndarray
    model: CostModel = flops

    def _view(self) -> View:
        from camel_jax.views.plans import ladder_view

        return ladder_view(self)

    @property
    def rungs(self) -> int:
        """Number of sizes."""
        return int(self.rung[-1]) + 1

    def name(self, rung: int) -> str:
        """Short text of a size."""
        at = int(np.flatnonzero(self.rung == rung)[0])
        return format_size(self.n_total[at], self.n_active[at])

    def recipes(self, mixtures: Array) -> Recipe:
        """Every option with every mixture (n, K): option ``c // n`` with mixture ``c % n``."""
        n = len(mixtures)
        option = np.repeat(np.arange(len(self.cost)), n)
        columns = (self.n_total[option], self.n_active[option], self.tokens[option])
        return Recipe(*columns, np.tile(np.asarray(mixtures, float), (len(self.cost), 1)))


def make_ladder(
    sizes: Sequence[str | float],
    *,
    tokens: Sequence[str | float] | str | float | None = None,
    tokens_per_parameter: Sequence[float] | float = 20.0,
    cost: CostModel = flops,
) -> Ladder:
    """A ladder of sizes with their tokens and costs.

    Args:
      sizes: such as ["100M", "300M", "7B-A1B"]; sorted by active parameters here.
      tokens: training tokens, one number for all sizes or one per size as given; None to go by tokens per parameter.
      tokens_per_parameter: tokens over active parameters; several numbers offer each size with each of them.
      cost: cost model; see ``costs``.

    Raises:
      ValueError: no size, a size twice, or a number that makes no sense.

    >>> make_ladder(["300M", "100M"]).cost.tolist()
    [1.2e+18, 1.08e+19]
    """
    if isinstance(sizes, str) or not len(sizes):
        raise ValueError("a ladder needs a list of at least one size, such as 100M, 300M, 1B")
    pairs = [parse_size(size) for size in sizes]
    if len(set(pairs)) < len(pairs):
        raise ValueError(f"a size is twice in the ladder {', '.join(map(str, sizes))}")
    ratios = np.atleast_1d(np.asarray(tokens_per_parameter, float))
    if not (len(ratios) and np.isfinite(ratios).all() and (ratios > 0).all() and len(set(ratios)) == len(ratios)):
        raise ValueError(f"tokens per parameter must be above zero and differ, got {tokens_per_parameter!r}")
    if tokens is None:
        seen = [[active * ratio for ratio in sorted(ratios)] for _, active in pairs]
    else:
        given: list[Any] = list(tokens) if isinstance(tokens, (list, tuple, np.ndarray)) else [tokens] * len(pairs)
        if len(given) != len(pairs):
            raise ValueError(f"give one token count, or one for each of the {len(pairs)} sizes; got {len(given)}")
        seen = [[parse_tokens(count)] for count in given]
    rows = []
    for rung, i in enumerate(sorted(range(len(pairs)), key=lambda i: (pairs[i][1], pairs[i][0]))):
        rows += [(*pairs[i], count, rung) for count in seen[i]]
    n_total, n_active, counts, rung = (np.asarray(column) for column in zip(*rows, strict=True))
    recipe = Recipe(n_total, n_active, counts, np.ones((len(rows), 1)))
    return Ladder(n_total, n_active, counts, checked_costs(cost, recipe), rung, cost)


def shape_weights(shape: str, rungs: int) -> np.ndarray:
    """Share of every rung under a fixed shape, (rungs,), smallest size first.

    "uniform": all the same. "small" and "large": half as much with every rung up or down. "hourglass": four times as much at the
    smallest and the largest size as in the middle, linear between.

    Raises:
      ValueError: an unknown shape.

    >>> shape_weights("small", 3).round(2).tolist(), shape_weights("hourglass", 3).round(2).tolist()
    ([0.57, 0.29, 0.14], [0.44, 0.11, 0.44])
    """
    i = np.arange(rungs)
    if shape not in SHAPES:
        raise ValueError(f"shape {shape!r} is not one of {', '.join(SHAPES)}, optimal")
    from_middle = np.abs(2 * i / max(rungs - 1, 1) - 1)
    weights = {"uniform": 1.0 + 0 * i, "small": 0.5**i, "large": 2.0**i, "hourglass": 1 + 3 * from_middle}[shape]
    return weights / weights.sum()


def shape_counts(
    ladder: Ladder, weights: Array, budget: float, *, by: str = "runs", max_runs: int = 100, min_runs: Any = 0
) -> np.ndarray:
    """Runs of every option of a ladder under a shape and a budget, (L,) integers.

    Args:
      ladder: the options; those of one size share its runs, the cheapest first.
      weights: (rungs,) share of every size.
      budget: all that the runs may cost, in the unit of the ladder's costs.
      by: "runs": shares of the number of runs. "cost": shares of the budget.
      max_runs: most runs. min_runs: fewest runs of every size, a number or (rungs,).

    Raises:
      ValueError: not even ``min_runs`` at every size, or not one run, is affordable.

    >>> shape_counts(make_ladder(["100M", "300M", "1B"]), shape_weights("uniform", 3), 1e21).tolist()
    [8, 8, 7]
    """
    if by not in ("runs", "cost"):
        raise ValueError(f"shares are of 'runs' or of 'cost', got {by!r}")
    weights, least = np.asarray(weights, float), np.broadcast_to(np.asarray(min_runs, int), (ladder.rungs,))
    cheap = np.asarray([ladder.cost[ladder.rung == r].min() for r in range(ladder.rungs)])
    mean = np.asarray([ladder.cost[ladder.rung == r].mean() for r in range(ladder.rungs)])
    if least @ cheap > budget or budget < cheap.min():
        need = max(float(least @ cheap), cheap.min())
        raise ValueError(f"a budget of {budget:.3g} is too small: the fewest runs cost {need:.3g}")
    share = weights / mean if by == "cost" else weights
    scale = min(budget / (share @ mean), max_runs / share.sum())

    def spread(scale: float) -> np.ndarray:
        counts = np.zeros(len(ladder.cost), int)
        for r in range(ladder.rungs):
            options = np.flatnonzero(ladder.rung == r)
            n = max(int(share[r] * scale + 1e-9), int(least[r]))
            counts[options] = n // len(options)
            counts[options[: n % len(options)]] += 1
        return counts

    counts = spread(scale)
    while counts @ ladder.cost > budget or counts.sum() > max(max_runs, least.sum()):
        scale *= 0.98  # the fewest runs of large sizes may take what the shares gave to small ones
        counts = spread(scale)
        if scale < 1e-3:
            asked = str(least[0]) if len(set(least)) == 1 else ", ".join(map(str, least))
            raise ValueError(
                f"a budget of {budget:.3g} does not buy {asked} run(s) of every size with its token counts"
            )
    for r in range(ladder.rungs)[::-1]:  # what rounding left buys at most one more run of a size
        options = np.flatnonzero((ladder.rung == r) & (weights[r] > 0))
        room = budget - counts @ ladder.cost
        fits = options[ladder.cost[options] <= room]
        if len(fits) and counts.sum() < max_runs:
            counts[fits[np.argmin(counts[fits])]] += 1
    return counts
