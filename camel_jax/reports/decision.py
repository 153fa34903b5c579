"""All that a page says of a decision, computed once: its worth, what else would do, how it moves with size, what would test it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from camel_jax.mixture.gains import gains_over
from camel_jax.recipes.sizes import parse_size, parse_tokens
from camel_jax.reports.card import evidence_card
from camel_jax.reports.recommend import outcomes_of, recommend, stops_of
from camel_jax.reports.request import Request

SAMPLES = 40  # nearly optimal mixtures that a page shows
STOPS = 6  # sizes at which the best mixture is sought
POINTS = 7  # of the front
FEW_STARTS = 8  # of the searches beside the decision itself

Working = Callable[[str], Any]


class Trade(NamedTuple):
    """What must be given up of the objective to spare the set that loses most.

    Attributes:
      front: the ``ParetoFront``. labels: of its objectives.
      gains: (P, 2, 3) improvement of both objectives over the reference, with the ends of its 90 % interval.
      chosen: (2, 3) of the recommended mixture.
      measured: (P,) whether each mixture of the front lies within the measured shares.
    """

    front: Any
    labels: tuple[str, str]
    gains: np.ndarray
    chosen: np.ndarray
    measured: np.ndarray


class Stops(NamedTuple):
    """The best mixture at sizes on the way to the target.

    Attributes:
      scales: (P, 3) total and active parameters and tokens.
      weights: (P, K) best mixtures. low, high: (P, K) shares of nearly optimal mixtures there.
      gains: (P, 3) what the mixture recommended at the target gains over the reference there, with the ends of its 90 % interval.
    """

    scales: np.ndarray
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gains: np.ndarray


class Decision(NamedTuple):
    """What a page tells of a decision.

    Attributes:
      request: what was asked. target: total and active parameters and tokens.
      result: the ``MixtureResult``. ranges: its ``NearOptimal``, None where none was asked for.
      equivalent: its ``EquivalentCompute``.
      stops: the best mixture along sizes. trade: None where there is nothing to trade.
      tests: gain that a pair of runs at a smaller size should show, one row a size.
      evidence: lines of the evidence card. notes: what else there is to know.
    """

    request: Request
    target: tuple[float, float, float]
    result: Any
    ranges: Any
    equivalent: Any
    stops: Stops
    trade: Trade | None
    tests: list[dict[str, Any]]
    evidence: tuple[str, ...]
    notes: tuple[str, ...]


def tell(
    fitted: Any, request: Request, result: Any = None, working: Working = lambda _: contextlib.nullcontext()
) -> Decision:
    """Everything about a decision.

    Args:
      fitted: the fit. request: what is asked.
      result: the decision, if it was made before; it must be of the same domains and sets as the fit.
      working: called with the name of each step, for a progress bar around it.

    Raises:
      ValueError: a decision of another fit, or as for ``recommend``.
    """
    from camel_jax.budget.equivalent import equivalent_compute
    from camel_jax.mixture.objectives import parse_objective

    target = (*parse_size(request.size), parse_tokens(request.tokens))
    goal = parse_objective(request.objective)
    notes: list[str] = []
    if result is not None:
        check_same(fitted, result)
    with working("choosing a mixture"):
        found, ranges = recommend(fitted, request.size, request.tokens, samples=SAMPLES, **request.options())
    if result is None:
        result = found
    elif (apart := float(np.abs(result.weights - found.weights).max())) > 5e-4:
        notes.append(
            f"asked again, this fit recommends a mixture whose shares differ by up to {100 * apart:.1f} points from those of the file:"
            " the fit or the limits are not those of the decision"
        )
    supply = dict(request.limits).get("supply")

    def at(size: Any, tokens: Any) -> Any:
        return outcomes_of(fitted, size, tokens, [goal], supply)

    with working("finding the equivalent compute"):
        equivalent = equivalent_compute(
            at, result.weights, result.reference, request.size, request.tokens, objective=goal
        )
    both = result.weights[None], result.reference
    with working("following the best mixture along sizes"):
        stops = along_sizes(fitted, request, target, lambda *scale: gains_over(at(*scale), goal, *both)[0])
    with working("trading the objective against the set that loses most"):
        trade = trade_off(at, request, result)
    tests = pairs_of_runs(fitted, at, goal, result, target)
    evidence = evidence_card(fitted, *target[1:], results=[result])
    return Decision(request, target, result, ranges, equivalent, stops, trade, tests, evidence, tuple(notes))


def check_same(fitted: Any, result: Any) -> None:
    """Refuse a decision that was made with another fit.

    Raises:
      ValueError: other domains or sets.
    """
    for what, ours, theirs in (("domains", fitted.domains, result.domains), ("sets", fitted.sets, result.sets)):
        if tuple(ours) != tuple(theirs):
            raise ValueError(
                f"the decision has other {what} ({', '.join(theirs)}) than the fit ({', '.join(ours)}):"
                " give the fit that it was made with"
            )


def along_sizes(
    fitted: Any, request: Request, target: tuple[float, float, float], gain_at: Callable[[str, str], np.ndarray]
) -> Stops:
    """The best mixture at sizes from the smallest fitted one to the target, as many tokens a parameter, with nearly optimal ranges.

    Args:
      fitted: the fit. request: what is asked. target: total and active parameters and tokens.
      gain_at: function of size and tokens, as text, that gives the gain of the recommended mixture with its interval, (3,).
    """
    scales = stops_of(fitted, target, STOPS, same_tokens=False, same_size=False)
    options = request.options() | {"starts": min(request.starts, FEW_STARTS), "near": request.near or 0.1}
    best, low, high, gains = [], [], [], []
    for total, active, tokens in scales:
        size = f"{total:.17g}-A{active:.17g}" if total > active else f"{active:.17g}"
        result, ranges = recommend(fitted, size, f"{tokens:.17g}", samples=SAMPLES, relax=0.0, **options)
        best.append(result.weights)
        low.append(ranges.low)
        high.append(ranges.high)
        gains.append(gain_at(size, f"{tokens:.17g}"))
    return Stops(np.array(scales, float), *(np.stack(x) for x in (best, low, high, gains)))


def trade_off(at: Any, request: Request, result: Any) -> Trade | None:
    """The front between the objective and the set that loses most to the recommended mixture; None where nothing is to be traded."""
    import jax

    from camel_jax.mixture.objectives import parse_objective, single_set
    from camel_jax.mixture.pareto import pareto_front

    goal = parse_objective(request.objective)
    named = {name for name, _ in goal.weights} if goal.kind == "losses" else set()
    if len(result.sets) < 2 or named == {result.sets[0]} or "max_domains" in request.limits:
        return None
    spared = int(np.argmax(result.loss_difference.point))
    if named == {result.sets[spared]}:
        return None
    other = single_set(result.sets[spared])
    options = {name: value for name, value in request.options().items() if name not in ("objective", "near", "seed")}
    options |= {"starts": min(request.starts, FEW_STARTS), "key": jax.random.key(request.seed)}
    if "supply" in options:
        options["tokens"] = request.tokens
    outcomes = at(request.size, request.tokens)
    front = pareto_front(outcomes, goal, other, POINTS, **options)
    chosen = np.concatenate(
        [gains_over(outcomes, one, result.weights[None], result.reference) for one in (goal, other)]
    )
    measured = np.ones(len(front.weights), bool) if front.measured is None else front.measured
    return Trade(front, (goal.label, other.label), front.gains, chosen, measured)


def pairs_of_runs(
    fitted: Any, at: Any, goal: Any, result: Any, target: tuple[float, float, float]
) -> list[dict[str, Any]]:
    """What runs of the recommended mixture and of the reference should show, from the largest fitted size on to the target."""
    total, active, tokens = target
    largest = min(fitted.size_range[1], active)
    sizes = dict.fromkeys([largest, float(np.sqrt(largest * active)), active])
    rows = []
    for size in sizes:
        scale = size / active
        text = f"{total * scale:.17g}-A{size:.17g}" if total > active else f"{size:.17g}"
        gain = gains_over(at(text, f"{tokens * scale:.17g}"), goal, result.weights[None], result.reference)[0]
        rows.append(
            {
                "size": size,
                "total": total * scale if total > active else size,
                "tokens": tokens * scale,
                "cost": 12 * size * tokens * scale,
                "gain": gain,
            }
        )
    return rows
