"""A recommendation and its evidence as data and in words, for the commands that tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SAMPLE = 16  # mixtures of the near-optimal set that are told


def recommend(
    fitted: Any,
    size: str,
    tokens: str,
    *,
    supply: dict[str, float] | None = None,
    objective: str = "mean-loss",
    near: float = 0.1,
    seed: int = 0,
    samples: int = SAMPLE,
    **options: Any,
) -> tuple[Any, Any]:
    """The best mixture of a fit at a target, and the range of those within ``near`` percent of it (None for 0)."""
    import jax

    from camel_jax.mixture.near_optimal import decide
    from camel_jax.mixture.objectives import parse_objective
    from camel_jax.mixture.optimize import optimize_mixture

    goal = parse_objective(objective)
    at = outcomes_of(fitted, size, tokens, [goal], supply)
    options |= {"objective": goal, "key": jax.random.key(seed)}
    if supply:
        options |= {"supply": supply, "tokens": tokens}
    return decide(at, near / 100, samples=samples, **options) if near else (optimize_mixture(at, **options), None)


def outcomes_of(fitted: Any, size: str, tokens: Any, goals: Sequence[Any], supply: dict[str, float] | None) -> Any:
    """What objectives read, as a function of the mixture: losses, and accuracies where the fit has a benchmark law."""
    import numpy as np

    known = np.array([supply.get(domain, np.inf) for domain in fitted.domains]) if supply else None
    tasks = tuple(dict.fromkeys(task for goal in goals for task in tasks_to_predict(fitted.benchmarks, goal)))
    return fitted.outcomes_at(size, tokens, known, tasks=tasks) if tasks else fitted.losses_at(size, tokens, known)


def tasks_to_predict(benchmarks: Any, objective: Any) -> tuple[str, ...]:
    """Tasks without a flag and those that an objective names; none without a benchmark law.

    Raises:
      ValueError: the objective needs accuracies that the fit cannot give.
    """
    wanted = objective.kind == "accuracies"
    if benchmarks is None:
        if wanted:
            from camel_jax.downstream.outcomes import NO_BENCHMARKS

            raise ValueError(f"--objective: {NO_BENCHMARKS}: fit such a table, or give one to fit with --benchmarks")
        return ()
    usable, named = list(benchmarks.objective_weights()), [task for task, _ in objective.weights]
    if wanted and not named and not usable:
        flags = ", ".join(f"{task}: {flag}" for task, flag in list(benchmarks.flags.items())[:8])
        raise ValueError(f"--objective: every task is flagged ({flags}); name tasks, as in acc/{benchmarks.tasks[0]}=1")
    return tuple(usable + [task for task in named if wanted and task in benchmarks.tasks and task not in usable])


def as_dict(result: Any, ranges: Any, near: float) -> dict[str, Any]:
    """A recommendation with its near-optimal ranges as data."""
    out = result.to_dict()
    if ranges is not None:
        bounds = zip(ranges.domains, ranges.low.tolist(), ranges.high.tolist(), strict=True)
        out["near_optimal"] = {
            "within_percent": near,
            "shares": {name: [low, high] for name, low, high in bounds},
            "sample": [dict(zip(ranges.domains, row, strict=True)) for row in ranges.samples[:SAMPLE].tolist()],
        }
    return out


def budget_as_dict(path: Any, law: str, price: Any = None) -> dict[str, Any]:
    """Best recipes of several budgets as data.

    Args:
      path: a ``BudgetPath``.
      law: name of the law.
      price: a ``Price``, to add hours and money; None for neither.
    """

    def priced(cost: float) -> dict[str, float]:
        return {} if price is None else {"gpu_hours": price.gpu_hours(cost), "price": price.of(cost)}

    return {
        "fit": law,
        "results": [result.to_dict() | priced(result.cost) for result in path.results],
        "size_exponent": path.size_exponent,
        "tokens_exponent": path.tokens_exponent,
    }


def stops_of(
    fitted: Any, target: tuple[float, float, float], steps: int, same_tokens: bool, same_size: bool
) -> list[tuple[float, float, float]]:
    """Total and active parameters and tokens of every stop on the way to a target, equal in ratio, the target last.

    Args:
      fitted: the fit, whose smallest size (or fewest tokens) is the first stop.
      target: total and active parameters and tokens.
      steps: how many stops.
      same_tokens: all stops on the target's tokens, in place of as many a parameter.
      same_size: all stops of the target's size.
    """
    import numpy as np

    n_total, n_active, n_tokens = target
    if same_size:
        return [(n_total, n_active, d) for d in np.geomspace(min(fitted.tokens_range[0], n_tokens), n_tokens, steps)]
    sizes = np.geomspace(min(fitted.size_range[0], n_active), n_active, steps)
    seen = np.full(steps, n_tokens) if same_tokens else n_tokens / n_active * sizes
    return [(n * n_total / n_active, n, d) for n, d in zip(sizes.tolist(), seen.tolist(), strict=True)]


def follow(fitted: Any, stops: Sequence[tuple[float, float, float]], goal: Any, **options: Any) -> tuple[Any, Any]:
    """The best mixture at every stop, and what the first stop's mixture loses at each.

    Args:
      fitted: the fit.
      stops: total and active parameters and tokens of each.
      goal: the objective.
      options: as for ``optimize_mixture``.
    """
    from camel_jax.mixture.path import lost_by_staying, optimum_path

    functions = []

    def at(n: Any, d: Any) -> Any:
        functions.append(outcomes_of(fitted, n, d, [goal], options.get("supply")))
        return functions[-1]

    sizes = [f"{total:.17g}-A{active:.17g}" if total > active else f"{active:.17g}" for total, active, _ in stops]
    path = optimum_path(at, sizes, [d for *_, d in stops], objective=goal, **options)
    return path, lost_by_staying(functions, path.weights, goal)


def trade(
    fitted: Any, size: str, tokens: str, goals: Sequence[Any], points: int, **options: Any
) -> tuple[Any, list[float]]:
    """The front between two objectives, and both at the reference mixture.

    Args:
      fitted: the fit.
      size: of the target.
      tokens: of the target.
      goals: two objectives.
      points: mixtures on the front.
      options: as for ``pareto_front``.
    """
    from camel_jax.mixture.pareto import pareto_front
    from camel_jax.recipes.outcome import as_outcome

    at = outcomes_of(fitted, size, tokens, goals, options.get("supply"))
    if "supply" in options:
        options["tokens"] = tokens
    front = pareto_front(at, goals[0], goals[1], points, **options)
    outcome, tasks = as_outcome(at(at.reference)), getattr(at, "tasks", ())
    return front, [float(goal.bind(fitted.sets, tasks).value(outcome)) for goal in goals]


def default_target(
    fitted: Any, size: str | None, tokens: str | None, beyond: float = 10.0
) -> tuple[float, float, float]:
    """Total and active parameters and tokens to report on.

    Args:
      fitted: the fit.
      size: of the target; ``beyond`` times the largest fitted size if None.
      tokens: of the target; as many a parameter as the largest fitted run had if None.
      beyond: how far the default lies.
    """
    from camel_jax.recipes.sizes import parse_size, parse_tokens

    n_total, n_active = (beyond * fitted.size_range[1],) * 2 if size is None else parse_size(size)
    per_parameter = fitted.tokens_range[1] / fitted.size_range[1]
    return n_total, n_active, n_active * per_parameter if tokens is None else parse_tokens(tokens)
