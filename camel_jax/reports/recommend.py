"""What a command asks of a fit and a goal."""

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
    return decide(at, near / 100, samples=SAMPLE, **options) if near else (optimize_mixture(at, **options), None)


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
        bounds = zip(ranges.domains, ranges.lower.tolist(), ranges.upper.tolist(), strict=True)
        out["near_optimal"] = {
            "within_percent": near,
            "shares": {name: [low, high] for name, low, high in bounds},
            "sample": [dict(zip(ranges.domains, row, strict=True)) for row in ranges.samples.tolist()],
        }
    return out


def evidence(certificate: Any) -> str:
    """What speaks for the answer being the best there is, in a line."""
    if certificate.convex:
        proof = f"convex on {certificate.chords} chords, where no mixture is better by more than {certificate.gap:.1g}"
    else:
        proof = f"not convex (a chord of {certificate.chords} shows it), so other optima are possible"
    starts = (
        f"{certificate.agreeing} of {certificate.finished} finished candidates agree, from {certificate.starts} starts"
    )
    return f"evidence: {starts}; the objective is {proof}"
