"""Which runs to buy next: fixed shapes over a ladder of sizes, and optimal design for the prediction at the target.

A budget buys a set of runs (size, tokens, mixture). The question is which set makes the prediction at the target least
uncertain. To first order the log losses at the target have covariance ``T F^-1 T'`` with T their derivatives by the raw
parameters of the law and F the precision of what is known plus the information of the runs; the optimal design minimises
its mean or its worst diagonal. This is the uncertainty of the law's parameters if the law is right; what the law gets wrong at
a size it has not seen is a number of its own (``law_error``), which only larger runs make smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from camel_jax.design import exchange
from camel_jax.design.candidates import Target, checked_mixtures
from camel_jax.design.exchange import Budget, Pool
from camel_jax.design.information import screen
from camel_jax.design.knowledge import Knowledge
from camel_jax.design.ladder import SHAPES, Ladder, shape_counts, shape_weights
from camel_jax.design.result import Design
from camel_jax.design.value_of_runs import expected_regret
from camel_jax.recipes.costs import checked_costs
from camel_jax.recipes.recipe import Recipe, select_recipe
from camel_jax.types import Array

POOL = 384  # candidates whose derivatives are kept at once
ROUNDS = 3  # times the pool is filled anew from all candidates
CRITERIA = ("mean", "worst", "choice")


def propose_runs(
    knowledge: Knowledge,
    ladder: Ladder,
    budget: float,
    target: Target,
    mixtures: Array,
    *,
    shape: str = "optimal",
    by: str = "runs",
    criterion: str = "mean",
    min_runs: int | Sequence[int] = 0,
    max_runs: int = 100,
    copies: int | None = None,
    set_weights: Array | None = None,
) -> Design:
    """The runs to buy with a budget.

    Args:
      knowledge: what is known; see ``knowledge``.
      ladder: sizes and tokens to choose from.
      budget: all that the runs may cost, in the unit of the ladder's costs (FLOPs).
      target: where the prediction must be good.
      mixtures: candidates (n, K); each may be run at every size. Fixed shapes take them from the first on, at every size.
      shape: "optimal", or a fixed shape of ``ladder.shape_weights``.
      by: shares of fixed shapes, of "runs" or of "cost".
      criterion: of the optimal design: "mean" variance at the target, the "worst", or "choice", the mean variance of the differences
        between the target's mixtures, by which one of them is chosen.
      min_runs: fewest runs of every size, a number or one a size.
      max_runs: most runs in all.
      copies: how often the optimal design may buy one mixture at one size; None for no limit.
      set_weights: (V,) what every validation set counts in the choice of a mixture; all the same if None.

    Returns:
      Design. The optimal one is never worse, by its criterion, than a fixed shape under the same limits.

    Raises:
      ValueError: a budget that buys too little, mixtures that are none, or an unknown shape or criterion.

    >>> import numpy as np
    >>> import jax
    >>> import camel_jax as cj
    >>> line = np.linspace(0.1, 0.9, 5)
    >>> mixtures, ladder = np.stack([line, 1 - line], 1), cj.make_ladder(["10M", "100M"])
    >>> target = cj.target_region("1B", None, mixtures)
    >>> known = cj.know_nothing(cj.laws.dml(), ladder, target, ["web", "code"], key=jax.random.key(0), draws=2)
    >>> design = propose_runs(known, ladder, 1e19, target, mixtures)
    >>> bool(design.error_after < design.error_before / 2), bool(design.total_cost <= 1e19)
    (True, True)
    """
    return compare_shapes(
        knowledge,
        ladder,
        budget,
        target,
        mixtures,
        shapes=(shape,),
        by=by,
        criterion=criterion,
        min_runs=min_runs,
        max_runs=max_runs,
        copies=copies,
        set_weights=set_weights,
    )[0]


def compare_shapes(
    knowledge: Knowledge,
    ladder: Ladder,
    budget: float,
    target: Target,
    mixtures: Array,
    *,
    shapes: Sequence[str] = ("optimal", *SHAPES),
    by: str = "runs",
    criterion: str = "mean",
    min_runs: int | Sequence[int] = 0,
    max_runs: int = 100,
    copies: int | None = None,
    set_weights: Array | None = None,
) -> tuple[Design, ...]:
    """Several designs for one budget, one a shape in the order given.

    Args:
      knowledge: what is known; see ``knowledge``.
      ladder: sizes and tokens to choose from.
      budget: all that the runs may cost, in the unit of the ladder's costs (FLOPs).
      target: where the prediction must be good.
      mixtures: candidates (n, K); each may be run at every size.
      shapes: names of one or more shapes, as in :func:`propose_runs`.
      by: shares of fixed shapes, of "runs" or of "cost".
      criterion: of the optimal design: "mean" variance at the target, the "worst", or "choice", the mean variance of the differences
        between the target's mixtures, by which one of them is chosen.
      min_runs: fewest runs of every size, a number or one a size.
      max_runs: most runs in all.
      copies: how often the optimal design may buy one mixture at one size; None for no limit.
      set_weights: (V,) what every validation set counts in the choice of a mixture; all the same if None.

    Raises:
      ValueError: as for :func:`propose_runs`, or no shape.

    >>> import numpy as np
    >>> import jax
    >>> import camel_jax as cj
    >>> line = np.linspace(0.1, 0.9, 5)
    >>> mixtures, ladder = np.stack([line, 1 - line], 1), cj.make_ladder(["10M", "100M"])
    >>> target = cj.target_region("1B", None, mixtures)
    >>> known = cj.know_nothing(cj.laws.dml(), ladder, target, ["web", "code"], key=jax.random.key(0), draws=2)
    >>> small, best = compare_shapes(known, ladder, 1e19, target, mixtures, shapes=("small", "optimal"))
    >>> bool(best.error_after <= small.error_after)
    True
    """
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"the budget must be above zero, got {budget!r}")
    if criterion not in CRITERIA:
        raise ValueError(f"criterion {criterion!r} is not one of {', '.join(CRITERIA)}")
    least = np.asarray(min_runs)
    if least.shape not in ((), (ladder.rungs,)):
        raise ValueError(f"min_runs is a number, or one for each of the {ladder.rungs} sizes; got {min_runs!r}")
    if (least < 0).any() or max_runs < 1:
        raise ValueError(f"min_runs must be at least 0 and max_runs at least 1, got {min_runs} and {max_runs}")
    if copies is not None and copies < 1:
        raise ValueError(f"copies must be at least 1, got {copies}")
    if not shapes:
        raise ValueError("name at least one shape")
    mixtures = checked_mixtures(mixtures, "candidate mixtures")
    if mixtures.shape[1] != len(knowledge.domains):
        raise ValueError(f"the candidates have {mixtures.shape[1]} shares for {len(knowledge.domains)} domains")
    for shape in shapes:
        if shape != "optimal":
            shape_weights(shape, ladder.rungs)
    task = _Task(knowledge, ladder, target, mixtures, criterion, max_runs, set_weights)
    fixed: dict[str, np.ndarray] = {}
    for shape in SHAPES if "optimal" in shapes else [s for s in SHAPES if s in shapes]:
        weights = shape_weights(shape, ladder.rungs)
        options = shape_counts(ladder, weights, budget, by=by, max_runs=max_runs, min_runs=min_runs)
        fixed[shape] = task.first_mixtures(options)
    limit = Budget(float(budget), max_runs, np.broadcast_to(least, (ladder.rungs,)), copies)
    best = task.optimal(limit, list(fixed.values())) if "optimal" in shapes else None
    return tuple(task.describe(s, best if s == "optimal" and best is not None else fixed[s]) for s in shapes)


def _checked_weights(weights: Array | None, sets: int) -> np.ndarray:
    """Weights of the sets, (V,), that sum to 1.

    Raises:
      ValueError: another number of them, or numbers that are no weights.
    """
    given = np.ones(sets) if weights is None else np.asarray(weights, float)
    if given.shape != (sets,) or not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
        raise ValueError(f"set_weights are {sets} numbers from 0, not all 0; got {weights!r}")
    return given / given.sum()


def value_slopes(losses: Array, slopes: Array, set_weights: Array | None = None) -> Array:
    """Derivatives of the weighted mean loss over sets by raw parameters, (M, n, P).

    Args:
      losses: (M, n, V) in nats. slopes: (M, n, V, P) of the log losses. set_weights: (V,), all the same if None.
    """
    weights = _checked_weights(set_weights, losses.shape[-1])
    return jnp.einsum("mnv,mnvp->mnp", losses * weights, slopes)


class _Task:
    """One question: all candidates, the derivatives at the target, and how to evaluate counts of candidates."""

    def __init__(
        self,
        known: Knowledge,
        ladder: Ladder,
        target: Target,
        mixtures: np.ndarray,
        criterion: str,
        max_runs: int,
        set_weights: Array | None = None,
    ):
        self.known, self.ladder, self.target, self.kind = known, ladder, target, criterion
        self.candidates = ladder.recipes(mixtures)
        self.option = np.repeat(np.arange(len(ladder.cost)), len(mixtures))
        self.cost, self.rung = ladder.cost[self.option], ladder.rung[self.option]
        self.mixtures = len(mixtures)
        self.pool_size = min(len(self.cost), max(POOL, 4 * max_runs))
        slopes = known.slopes(target.recipe) * known.noise[:, None]
        self.losses = known.losses(target.recipe)  # (M, n, V) nats
        self.set_weights = _checked_weights(set_weights, len(known.sets))
        self.chosen_by = value_slopes(self.losses, slopes, set_weights)  # (M, n, P) its derivatives
        self.told = slopes.reshape(slopes.shape[0], -1, slopes.shape[-1])  # (M, Q, P) of every log loss
        self.rows = self.told  # what the criterion is about
        if criterion == "choice":
            self.rows = self.chosen_by - self.chosen_by.mean(1, keepdims=True)
        self.weights = np.full(self.rows.shape[1], 1.0 / self.rows.shape[1])
        self._kept: dict[bytes, Array] = {}

    def first_mixtures(self, options: np.ndarray) -> np.ndarray:
        """Counts of candidates from counts of options: every size runs the same mixtures, from the first on."""
        counts = np.zeros(len(self.cost), int)
        for rung in range(self.ladder.rungs):
            at = 0
            for option in np.flatnonzero(self.ladder.rung == rung):
                for _ in range(options[option]):
                    counts[option * self.mixtures + at % self.mixtures] += 1
                    at += 1
        return counts

    def pool(self, members: np.ndarray) -> Pool:
        """The candidates ``members`` with their derivatives."""
        rows, weights = self.rows, jnp.asarray(self.weights)
        targets = jnp.einsum("q,mqp,mqr->mpr", weights, rows, rows, optimize=True)
        name = members.tobytes()
        if name not in self._kept:
            self._kept = {name: self.known.slopes(select_recipe(self.candidates, members))}
        return Pool(self._kept[name], self.cost[members], self.rung[members], self.known.precision, targets)

    def variances(self, counts: np.ndarray, rows: Array | None = None) -> np.ndarray:
        """Variance of every row of the criterion, or of other rows, under counts of candidates, (Q,)."""
        members, some = self._members(counts)
        slopes, rows = self.known.slopes(select_recipe(self.candidates, members)), self.rows if rows is None else rows
        return np.asarray(exchange.variances(self.known.precision, slopes, jnp.asarray(some, float), rows))

    def regrets(self, counts: np.ndarray) -> tuple[float, float]:
        """Expected regret in nats of choosing among the target's mixtures, without and with the runs."""
        members, some = self._members(counts)
        known, rows = self.known, self.chosen_by
        slopes = known.slopes(select_recipe(self.candidates, members))
        before, after = (
            exchange.covariance(known.precision, slopes, jnp.asarray(n, float), rows) for n in (0 * some, some)
        )
        return expected_regret(self.losses @ self.set_weights, before, after)

    def tokens_saved(self, cost: float) -> float:
        """Nats of mean loss that a cost would save as more tokens for the target."""
        t = self.target.recipe
        more = 1.0 + cost / float(np.mean(checked_costs(self.ladder.model, t)))
        longer = self.known.losses(Recipe(t.n_total, t.n_active, t.tokens * more, t.weights))
        return float(np.mean((self.losses - longer) @ self.set_weights))

    def value(self, counts: np.ndarray) -> float:
        """The criterion itself, not the weighted mean that stands for the worst case."""
        variances = self.variances(counts)
        return float(variances.max() if self.kind == "worst" else variances.mean())

    def _members(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The candidates bought, filled up to the size of the pool with ones that are not, so that programs are shared."""
        members = np.flatnonzero(counts)
        more = -len(members) % self.pool_size or (0 if len(members) else self.pool_size)
        return np.append(members, np.zeros(more, int)), np.append(counts[members], np.zeros(more, int))

    def shortlist(self, counts: np.ndarray) -> np.ndarray:
        """Candidates for the pool: those bought, the first mixtures of every option, and those of most gain in each."""
        if self.pool_size == len(self.cost):
            return np.arange(len(self.cost))
        members, some = self._members(counts)
        state = exchange.start(self.pool(members), jnp.asarray(some, float))
        k = self.known
        gain = screen(k.law, k.units, k.raw, self.candidates, k.noise, state.covariance, state.sandwich)
        ranks = [np.empty(len(gain), int) for _ in range(2)]
        for option in range(len(self.ladder.cost)):
            own = np.flatnonzero(self.option == option)
            ranks[0][own[np.argsort(-gain[own], kind="stable")]] = np.arange(len(own))
            ranks[1][own] = 2 * np.arange(len(own))
        preference = np.where(counts > 0, -1, np.minimum(*ranks))
        return np.sort(np.argsort(preference, kind="stable")[: self.pool_size])

    def optimal(self, budget: Budget, starts: list[np.ndarray]) -> np.ndarray:
        """The best design found, from the fixed shapes and from nothing."""
        exchange.check(Pool(None, self.cost, self.rung, None, None), budget)
        values = [self.value(counts) for counts in starts]
        best, value = starts[int(np.argmin(values))], min(values)
        for attempt in range(5 if self.kind == "worst" else 1):
            counts = self._improve(budget, best, thorough=attempt == 0)
            variances = self.variances(counts)
            found = float(variances.max() if self.kind == "worst" else variances.mean())
            if found < value:
                best, value = counts, found
            self.weights = self.weights * variances / (self.weights @ variances)  # more weight where it is worst
        return best

    def _improve(self, budget: Budget, counts: np.ndarray, thorough: bool) -> np.ndarray:
        """Rounds of filling the pool and designing on it, by the weighted mean of the variances."""
        value = self.weights @ self.variances(counts)
        for attempt in range(ROUNDS if self.pool_size < len(self.cost) else 1):
            members = self.shortlist(counts)
            found = np.zeros_like(counts)
            found[members] = exchange.optimal(
                self.pool(members), budget, [counts[members]], thorough=thorough and attempt == 0
            )
            now = self.weights @ self.variances(found)
            if now >= value * (1 - 1e-4):
                return found if now < value else counts
            counts, value = found, now
        return counts

    def describe(self, shape: str, counts: np.ndarray) -> Design:
        """The design of counts of candidates."""
        self.rows, self.weights = self.told, np.full(self.told.shape[1], 1.0 / self.told.shape[1])
        members, some = self._members(counts)
        bought, values = exchange.order(self.pool(members), some)
        distinct, first = np.unique(bought, return_index=True)
        distinct = distinct[np.argsort(first)]
        recipe = select_recipe(self.candidates, members[distinct])
        before, after = self.variances(np.zeros_like(counts), self.told), self.variances(counts, self.told)
        sizes, known, regrets = recipe.n_active, self.known, self.regrets(counts)
        return Design(
            shape=shape,
            criterion=self.kind,
            recipe=recipe,
            counts=some[distinct],
            cost=self.cost[members[distinct]],
            error_before=float(np.sqrt(before.mean())),
            error_after=float(np.sqrt(after.mean())),
            worst_before=float(np.sqrt(before.max())),
            worst_after=float(np.sqrt(after.max())),
            curve_cost=np.cumsum(self.cost[members[bought]]),
            curve_error=np.sqrt(values),
            law_error_before=known.law_error(self.target, *known.largest),
            law_error_after=known.law_error(self.target, float(sizes.max()), float(recipe.tokens.max())),
            regret_before=regrets[0],
            regret_after=regrets[1],
            tokens_saved=self.tokens_saved(float(counts @ self.cost)),
            ladder=self.ladder,
            target=self.target,
            domains=known.domains,
            notes=self._notes(sizes),
        )

    def _notes(self, sizes: np.ndarray) -> tuple[str, ...]:
        notes = []
        top = max(float(sizes.max()), self.known.largest[0])
        ratio = self.target.size / top
        if ratio < 1:
            notes.append("the target is no larger than the largest run: nothing is extrapolated in size")
        if ratio > 10:
            notes.append(f"the target is {ratio:.0f} times the largest run: far beyond what back-tests have covered")
        if len(np.unique(np.append(sizes, self.known.largest[0] or sizes[0]))) == 1:
            notes.append("all runs have one size: what size does rests on the prior of the law alone")
        return tuple(notes)
