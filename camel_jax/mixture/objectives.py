"""What a mixture is chosen for: objectives over losses and accuracies, and what to make of their uncertainty."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.outcome import Outcome, Outcomes, as_outcome, draws_of
from camel_jax.recipes.sizes import number
from camel_jax.types import Array


def parse_objective(text: str) -> Any:
    """An objective from text: mean-loss, accuracy, or names with weights."""
    plain = text.strip().lower().replace("_", "-")
    if plain in ("mean-loss", "loss", "mean"):
        return mean_loss()
    if plain in ("accuracy", "mean-accuracy"):
        return mean_accuracy()
    weights: dict[str, dict[str, float]] = {"loss": {}, "acc": {}}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, weight = item.rpartition("=")
        name, weight = (name, weight) if equals else (item, "1")
        kind, _, rest = name.partition("/")
        kind, name = (kind, rest) if kind in weights and rest else ("loss", name)
        weights[kind][name.strip()] = number("--objective", name, weight)
    if weights["loss"] and weights["acc"]:
        raise ValueError(f"--objective {text!r}: give losses or accuracies, not both")
    if not weights["loss"] and not weights["acc"]:
        raise ValueError("--objective is empty")
    return mean_loss(weights["loss"]) if weights["loss"] else mean_accuracy(weights["acc"])


RISKS = ("mean", "cvar", "worst")


@dataclasses.dataclass(frozen=True)
class Objective:
    """A number to improve, as a value: equal objectives compile once.

    Attributes:
      label: words for reports.
      kind: losses, accuracies, custom or sum.
      weights: ((name or index, weight), ...) over sets or tasks, or () for a plain mean.
      function: the user's function of an ``Outcome``.
      parts: ((objective, weight), ...) of a weighted sum.
      maximize: True if larger is better.
    """

    label: str
    kind: str
    weights: tuple[tuple[str | int, float], ...] = ()
    function: Callable[[Outcome], Array] | None = None
    parts: tuple[tuple[Objective, float], ...] = ()
    maximize: bool = False

    __repr__ = brief_repr

    def bind(self, sets: Sequence[str], tasks: Sequence[str]) -> Objective:
        """The same objective with names turned into positions.

        Raises:
          ValueError: an unknown set or task.
        """
        names = tasks if self.kind == "accuracies" else sets
        what = "task" if self.kind == "accuracies" else "validation set"
        weights = tuple((_position(name, names, what), weight) for name, weight in self.weights)
        parts = tuple((part.bind(sets, tasks), weight) for part, weight in self.parts)
        return dataclasses.replace(self, weights=weights, parts=parts)

    def value(self, outcome: Outcome) -> Array:
        """The objective of one outcome, in its own unit."""
        if self.kind == "custom":
            assert self.function is not None
            return jnp.asarray(self.function(outcome))
        if self.kind == "sum":
            # everything counts as a cost, so a weighted sum of a loss and an accuracy means what it says
            return sum((weight * part.cost(outcome) for part, weight in self.parts), jnp.zeros(()))
        values = outcome.losses if self.kind == "losses" else outcome.accuracies
        if values is None:
            raise ValueError(f"objective {self.label!r} needs benchmark accuracies, and the function gives only losses")
        if not self.weights:
            return jnp.mean(values)
        index = np.asarray([position for position, _ in self.weights])
        return jnp.asarray([weight for _, weight in self.weights]) @ values[index]

    def cost(self, outcome: Outcome) -> Array:
        """The objective turned so that smaller is better."""
        return -self.value(outcome) if self.maximize else self.value(outcome)


def mean_loss(weights: Mapping[str, float] | Sequence[float] | None = None) -> Objective:
    """Mean validation loss, or its weighted mean.

    Args:
      weights: ``{set: weight}`` or one weight per set, not negative; scaled to sum to 1. None for equal weights.

    Raises:
      ValueError: a weight that is negative or no number, or all of them zero.

    >>> mean_loss({"wiki": 3.0, "code": 1.0}).weights
    (('wiki', 0.75), ('code', 0.25))
    """
    pairs = _weights(weights, "validation sets")
    return Objective("mean loss" if not pairs else "weighted mean loss", "losses", pairs)


def single_set(name: str | int) -> Objective:
    """Loss of one validation set.

    Args:
      name: name of the set, or its position from 0.

    >>> import jax.numpy as jnp
    >>> float(single_set("code").bind(["wiki", "code"], []).value(Outcome(jnp.array([2.5, 1.5]))))
    1.5
    """
    return Objective(f"loss on {name}", "losses", ((name, 1.0),))


def mean_accuracy(weights: Mapping[str, float] | Sequence[float] | None = None) -> Objective:
    """Mean benchmark accuracy, or its weighted mean; larger is better.

    Args:
      weights: ``{task: weight}`` or one weight per task, not negative; scaled to sum to 1. None for equal weights.

    Raises:
      ValueError: a weight that is negative or no number, or all of them zero.

    >>> import jax.numpy as jnp
    >>> float(mean_accuracy([1.0, 3.0]).value(Outcome(jnp.zeros(1), jnp.array([0.25, 0.5]))))
    0.4375
    """
    pairs = _weights(weights, "tasks")
    return Objective("mean accuracy" if not pairs else "weighted mean accuracy", "accuracies", pairs, maximize=True)


def custom(function: Callable[[Outcome], Array], label: str = "custom", maximize: bool = False) -> Objective:
    """A user's differentiable function of an ``Outcome``; use one function object, as a new one compiles again.

    Args:
      function: from an outcome, losses (V,) and accuracies (T,) or None, to one number, in a unit of its own.
      label: what results call it.
      maximize: whether larger is better.

    >>> import jax.numpy as jnp
    >>> import camel_jax as cj
    >>> worst = cj.custom(lambda outcome: jnp.max(outcome.losses), "worst loss")
    >>> worst.label, float(worst.cost(cj.Outcome(jnp.array([2.0, 3.0]))))
    ('worst loss', 3.0)
    """
    return Objective(label, "custom", function=function, maximize=maximize)


def as_objective(given: Objective | Callable[[Outcome], Array] | str | None) -> Objective:
    """An objective from what a caller gives: one that is made, a function of an ``Outcome``, text as commands take it, or None.

    A function is made smaller; ``custom(function, maximize=True)`` makes it larger.

    Raises:
      ValueError: something else, or text that is no objective.

    >>> as_objective(lambda outcome: outcome.losses.max()).label, as_objective(None).label
    ('custom', 'mean loss')
    """
    if given is None:
        return mean_loss()
    if isinstance(given, Objective):
        return given
    if isinstance(given, str):
        return parse_objective(given)
    if callable(given):
        name = getattr(given, "__name__", "custom")
        return custom(given, "custom" if name == "<lambda>" else name)
    raise ValueError(f"objective: give an objective, a function of an outcome or text, not {type(given).__name__}")


def weighted_sum(parts: Sequence[tuple[Objective | Callable[[Outcome], Array] | str, float]]) -> Objective:
    """A trade-off of several objectives; every part counts as a cost (accuracies with a minus).

    Args:
      parts: (objective, weight) pairs, weights not negative.

    Raises:
      ValueError: a weight that is negative or no number.

    >>> weighted_sum([(mean_loss(), 1.0), (mean_accuracy(), 2.0)]).label
    '1 x mean loss + 2 x -mean accuracy'
    """
    parts = [(as_objective(part), weight) for part, weight in parts]
    for part, weight in parts:
        _weight(weight, part.label)
    label = " + ".join(f"{weight:g} x {'-' if part.maximize else ''}{part.label}" for part, weight in parts)
    return Objective(label, "sum", parts=tuple((part, float(weight)) for part, weight in parts))


@dataclasses.dataclass(frozen=True)
class Goal:
    """An objective and what to make of its draws.

    Attributes:
      objective: bound objective. risk: mean, cvar or worst. tail: share of the worst draws that cvar averages.
    """

    objective: Objective
    risk: str = "mean"
    tail: float = 0.1


def goal_cost(goal: Goal, outcomes: Outcomes, weights: Array, smoothing: Array) -> Array:
    """Cost of a mixture under a goal; smoothing rounds the corners of cvar and worst, in units of the objective.

    Args:
      goal: the goal. outcomes: function of the mixture, perhaps with ``draws``. weights: (K,). smoothing: scalar.
    """
    if goal.risk == "mean":
        outcome = as_outcome(outcomes(weights))
        if outcome.losses.ndim == 1:
            return goal.objective.cost(outcome)
        return jnp.mean(jax.vmap(goal.objective.cost)(outcome))
    costs = jax.vmap(goal.objective.cost)(draws_of(outcomes, weights))
    smoothing = jnp.maximum(smoothing, 1e-14)
    if goal.risk == "worst":
        return smoothing * (jax.nn.logsumexp(costs / smoothing))
    return smooth_cvar(costs, smoothing, goal.tail)


def smooth_cvar(costs: Array, smoothing: Array, tail: float) -> Array:
    """Mean of the worst ``tail`` of costs, ``min_t t + mean(max(c - t, 0)) / tail``, with the corner rounded off.

    Args:
      costs: (M,). smoothing: width of the rounding, above zero. tail: share in (0, 1].

    Source: Rockafellar & Uryasev 2000.

    >>> round(float(smooth_cvar(jnp.arange(10.0), 1e-9, 0.2)), 6)
    8.5
    """
    t = _soft_quantile(costs, jnp.asarray(smoothing, costs.dtype), jnp.asarray(tail, costs.dtype))
    return t + smoothing * jnp.mean(jax.nn.softplus((costs - t) / smoothing)) / tail


@jax.custom_jvp
def _soft_quantile(costs: Array, smoothing: Array, tail: Array) -> Array:
    """t with mean(sigmoid((c - t) / s)) = tail, by bisection."""

    def step(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        above = jnp.mean(jax.nn.sigmoid((costs - middle) / smoothing)) > tail
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    ends = jnp.min(costs) - 40 * smoothing, jnp.max(costs) + 40 * smoothing
    low, high = jax.lax.fori_loop(0, 100, step, ends)
    return 0.5 * (low + high)


@_soft_quantile.defjvp
def _soft_quantile_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    costs, smoothing, _ = primals
    t = _soft_quantile(*primals)  # calls itself, so that second derivatives are right too
    x = jnp.abs((costs - t) / smoothing)
    share = jax.nn.softmax(-x - 2.0 * jnp.log1p(jnp.exp(-x)))  # slopes of the sigmoids, without underflow
    return t, share @ tangents[0]


def _position(name: str | int, names: Sequence[str], what: str) -> int:
    if not isinstance(name, str):
        if names and not -len(names) <= name < len(names):
            raise ValueError(f"objective: there is no {what} number {name}; there are {len(names)}")
        return int(name)
    if name in names:
        return list(names).index(name)
    close = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names[:30]) or 'none named'}"
    raise ValueError(f"objective: unknown {what} {name!r}{hint}")


def _weights(weights: Any, what: str) -> tuple[tuple[str | int, float], ...]:
    if weights is None:
        return ()
    pairs = list(weights.items()) if isinstance(weights, Mapping) else list(enumerate(np.asarray(weights, float)))
    total = sum(_weight(weight, name) for name, weight in pairs)
    if not total > 0:
        raise ValueError(f"objective: the weights over {what} must not all be zero")
    return tuple((name, float(weight) / total) for name, weight in pairs)


def _weight(weight: Any, name: Any) -> float:
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"objective: weight of {name} must be finite and not negative, got {weight!r}")
    return float(weight)
