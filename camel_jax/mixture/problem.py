"""A decision ready to be solved: function, goal and limits, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.mixture import objectives
from camel_jax.mixture.barrier import Region
from camel_jax.mixture.constraints import TOLERANCE, Own, as_constraints, inner_regions, rooms_and_slopes
from camel_jax.mixture.limits import Limits, parse_limits
from camel_jax.mixture.limits import mixture as check_mixture
from camel_jax.mixture.limits import violation as named_violation
from camel_jax.mixture.objectives import Goal, Objective, as_objective
from camel_jax.mixture.regions import regions as feasible_regions
from camel_jax.recipes.outcome import Outcomes, as_outcome
from camel_jax.recipes.user_functions import naming
from camel_jax.runtime import require_float64
from camel_jax.types import Array

OPTIONS = ("objective", "constraints", "domains", "reference", "risk", "tail")


def problem_of(outcomes: Outcomes, options: Mapping[str, Any]) -> Problem:
    """The problem of a decision whose options and limits are keyword arguments of one call."""
    main = {name: value for name, value in options.items() if name in OPTIONS}
    more = {name: value for name, value in options.items() if name not in (*OPTIONS, "limits")}
    return make_problem(outcomes, **main, limits=choose_limits(options.get("limits"), more))


def choose_limits(limits: Limits | None, more: Mapping[str, Any]) -> Limits | Mapping[str, Any]:
    """Limits that are made, or those given as keywords.

    Raises:
      ValueError: both are given.
    """
    if limits is not None and more:
        raise ValueError(f"give limits either as limits=... or as keywords ({', '.join(more)}), not both")
    return more if limits is None else limits


class Curved(NamedTuple):
    """Curved limits as arrays: a KL limit to a prior, a Euclidean limit to an anchor, and limits of one's own; None where absent."""

    prior: Array | None = None
    kl: Array | None = None
    anchor: Array | None = None
    distance: Array | None = None
    own: Own | None = None


@dataclasses.dataclass(frozen=True)
class Problem:
    """A decision ready to be solved: the function, the goal and the limits.

    Attributes:
      outcomes: the function. goal: objective and risk. limits: named limits. regions: one region, or one per choice of
      domains that may be above zero. curved: KL and distance limits. reference: (K,).
    """

    outcomes: Outcomes
    goal: Goal
    limits: Limits
    regions: tuple[Region, ...]
    curved: Curved
    reference: np.ndarray
    sets: tuple[str, ...]
    tasks: tuple[str, ...]
    has_draws: bool


def make_problem(
    outcomes: Outcomes,
    *,
    objective: Objective | Callable[..., Array] | str | None = None,
    constraints: Mapping[str, Callable[..., Array]] | None = None,
    domains: Sequence[str] | None = None,
    reference: Array | None = None,
    risk: str = "mean",
    tail: float = 0.1,
    limits: Limits | Mapping[str, Any] | None = None,
) -> Problem:
    """Check a decision and find where it is feasible; arguments as in :func:`optimize_mixture`, limits as a mapping."""
    require_float64("choosing a mixture")
    if reference is None:
        reference = getattr(outcomes, "reference", None)
    names = getattr(outcomes, "domains", None) if domains is None else domains
    if names is None and reference is None:
        raise ValueError("the domains are not known: pass domains=[...] or a reference mixture")
    names = range(len(np.asarray(reference))) if names is None else names
    if isinstance(limits, Limits):
        if not isinstance(names, range) and tuple(map(str, names)) != limits.domains:
            raise ValueError(
                f"limits are for {', '.join(limits.domains)}, the decision for {', '.join(map(str, names))}"
            )
        named = limits
    else:
        named = parse_limits(len(names) if isinstance(names, range) else names, **(limits or {}))
    size = len(named.domains)
    reference = np.full(size, 1.0 / size) if reference is None else check_mixture(reference, named.domains, "reference")
    if risk not in objectives.RISKS:
        raise ValueError(f"risk must be one of {', '.join(objectives.RISKS)}, got {risk!r}")
    if not 0.0 < tail <= 1.0:
        raise ValueError(f"tail must be above 0 and at most 1, got {tail!r}")
    one = jax.ShapeDtypeStruct((size,), float)
    with naming("the function of the mixture", outcomes, f"weights ({size},)"):
        shape = jax.eval_shape(lambda w: as_outcome(outcomes(w)), one)
    if shape.losses.ndim not in (1, 2):
        raise ValueError(f"the function must give losses (V,) or draws (M, V), got shape {shape.losses.shape}")
    has_draws = hasattr(outcomes, "draws") or shape.losses.ndim == 2
    if risk != "mean" and not has_draws:
        raise ValueError(f"risk={risk!r} needs draws, and the function gives only a point prediction")
    n_tasks = 0 if shape.accuracies is None else shape.accuracies.shape[-1]
    sets = tuple(getattr(outcomes, "sets", None) or (f"set {i}" for i in range(shape.losses.shape[-1])))
    tasks = tuple(getattr(outcomes, "tasks", None) or (f"task {i}" for i in range(n_tasks)))
    goal = Goal(as_objective(objective).bind(sets, tasks), risk, float(tail))
    seen = f"losses ({shape.losses.shape[-1]},)" + (
        f" and accuracies ({n_tasks},)" if n_tasks else " and no accuracies"
    )
    with naming(f"the objective {goal.objective.label!r}", goal.objective.function, f"an outcome with {seen}"):
        cost_shape = jax.eval_shape(lambda w: objectives.goal_cost(goal, outcomes, w, jnp.ones(())), one)
    if cost_shape.shape != ():
        raise ValueError(f"the objective must be one number per mixture, got shape {cost_shape.shape}")
    curved = curved_arrays(named)
    if own := as_constraints(constraints):
        still, moving = split_function(outcomes)
        for constraint in own:
            took = f"weights ({size},)" + (f" and an outcome with {seen}" if constraint.reads_outcome else "")
            with naming(f"the constraint {constraint.name!r}", constraint.function, took):
                room = jax.eval_shape(Own(moving, still, (constraint,), jnp.zeros(1)).rooms, one)
            if room.shape != (1,):
                raise ValueError(f"the constraint {constraint.name!r} must be one number, got shape {room.shape[1:]}")
        curved = curved._replace(own=Own(moving, still, own, jnp.zeros(len(own))))
    found = meet_own(feasible_regions(named), curved)
    return Problem(outcomes, goal, named, found, curved, reference, sets, tasks, has_draws)


def meet_own(regions: tuple[Region, ...], curved: Curved) -> tuple[Region, ...]:
    """The regions with an inner point that meets limits of one's own too.

    Raises:
      InfeasibleError: none was found.
    """
    return regions if curved.own is None else inner_regions(regions, curved.own, inside_curved, curved)


def curved_arrays(limits: Limits) -> Curved:
    """The curved limits among named ones, as arrays."""
    kl_limit, distance_limit = limits.find("kl"), limits.find("distance")
    return Curved(
        None if kl_limit is None else jnp.asarray(limits.prior),
        None if kl_limit is None else jnp.asarray(kl_limit.value),
        None if distance_limit is None else jnp.asarray(limits.anchor),
        None if distance_limit is None else jnp.asarray(distance_limit.value),
    )


def inside_curved(weights: Array, curved: Curved) -> Array:
    """Room left under the KL and distance limits, shape (number of them,); positive inside."""
    out = []
    if curved.prior is not None and curved.kl is not None:
        live = (curved.prior > 0) & (weights > 0)
        ratio = jnp.where(live, weights, 1.0) / jnp.where(live, curved.prior, 1.0)
        out.append(curved.kl - jnp.sum(jnp.where(live, weights * jnp.log(ratio), 0.0)))
    if curved.anchor is not None and curved.distance is not None:
        # squared, so that it is smooth at the anchor; over 2 limit, so that its slope is that of the distance
        out.append((curved.distance**2 - jnp.sum((weights - curved.anchor) ** 2)) / (2 * curved.distance))
    limits = jnp.stack(out) if out else jnp.zeros((0,), weights.dtype)
    return limits if curved.own is None else jnp.concatenate([limits, curved.own.rooms(weights)])


def violation(problem: Problem, weights: np.ndarray) -> float:
    """Largest violation of any limit, of those of one's own, of the sum, or of a share not being negative."""
    broken = named_violation(problem.limits, weights)
    if problem.curved.own is None:
        return broken
    room = float(np.min(rooms_and_slopes(problem.curved.own, jnp.asarray(weights))[0]))
    return max(broken, -room - TOLERANCE, 0.0)


def split_function(outcomes: Outcomes) -> tuple[Any, Any]:
    """(static function, moving pytree): one of the two is None. Pytree functions travel as arrays and share programs."""
    return (outcomes, None) if jax.tree_util.all_leaves([outcomes]) else (None, outcomes)
