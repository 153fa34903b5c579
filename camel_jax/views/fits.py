"""What is seen of a fit, of its draws, of a posterior and of a benchmark law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from camel_jax.recipes.sizes import format_count, format_size
from camel_jax.runtime import require
from camel_jax.views.tables import names_text, span_text
from camel_jax.views.view import Sheet, View, interval_columns


def fit_view(fit: Any) -> View:
    """What was fitted to what, how the starts ended, and how far it was from the table."""
    size = sum(int(np.size(x[0])) for x in jax.tree.leaves(fit.raw))
    facts = {
        "fitted": f"{span_text(fit.size_range)} parameters, {span_text(fit.tokens_range)} tokens",
        "domains": names_text(fit.domains),
        "parameters": str(size),
        "ended": fit.check() if np.isfinite(fit.objective).any() else "no start has a finite objective",
        "objective": f"{np.min(fit.objective):.6g}",
    }
    if (benchmarks := fit.benchmarks) is not None:
        facts["benchmark law"] = names_text(benchmarks.tasks)
    columns = {
        "set": list(fit.sets),
        "mean loss": np.asarray(fit.units.losses),
        "residual %": 100 * np.asarray(fit.discrepancy.scale),
    }
    title = f"{fit.law.name} on {len(fit.domains)} domains and {len(fit.sets)} validation sets"
    return View(title, facts, (Sheet("fit to the table", columns),), fit.notes)


def fit_columns(fit: Any, words: Mapping[int, str]) -> dict[str, Any]:
    """One row a start and a resample: objective, and status in the words given."""
    starts, again = len(fit.objective), len(fit.resampled_objective)
    status = np.concatenate([fit.status, fit.resampled_status]).astype(int)
    return {
        "kind": ["start"] * starts + ["resample"] * again,
        "index": [*range(starts), *range(again)],
        "objective": np.concatenate([fit.objective, fit.resampled_objective]),
        "status": [words.get(code, str(code)) for code in status],
    }


def source_view(outcomes: Any, tasks: Any = ()) -> View:
    """Size and tokens of a function of the mixture, and how far beyond the table they are."""
    total, active, tokens = (float(getattr(outcomes, name)) for name in ("n_total", "n_active", "tokens"))
    largest, longest = (float(getattr(outcomes.source.discrepancy, name)) for name in ("size", "tokens"))
    facts = {"domains": names_text(outcomes.domains), "validation sets": names_text(outcomes.sets)}
    facts |= {"tasks": names_text(tasks)} if len(tasks) else {}
    facts |= {"draws": str(outcomes.n_draws)}
    facts["beyond the table"] = (
        f"size {active / largest:.3g} times the largest fitted, tokens {tokens / longest:.3g} times the most"
    )
    title = f"{outcomes.source.law.name} at {format_size(total, active)} on {format_count(tokens)} tokens"
    return View(f"{title}, {len(outcomes.domains)} domains to {len(outcomes.sets)} losses", facts)


def draws_view(draws: Any) -> View:
    """How many draws of which law."""
    title = f"{len(draws.bias)} draws of {draws.law.name} for {len(draws.sets)} validation sets"
    return View(title, {"domains": names_text(draws.domains), "validation sets": names_text(draws.sets)})


def loss_interval(outcomes: Any, weights: Any = None, level: float = 0.9) -> tuple[list[str], Any]:
    """Names and (point, low, high) of losses, and accuracies, that a function of the mixture predicts.

    Args:
      outcomes: the function, with draws. weights: (K,), its reference mixture if None. level: probability of the interval.
    """
    from camel_jax.recipes.outcome import Interval, as_outcome

    mixture = np.asarray(outcomes.reference if weights is None else weights, float)
    if mixture.shape != (len(outcomes.domains),):
        raise ValueError(f"weights: {len(outcomes.domains)} shares are needed, one a domain, got shape {mixture.shape}")
    point, drawn = as_outcome(outcomes(mixture)), as_outcome(outcomes.draws(mixture))
    names = [f"loss/{name}" for name in outcomes.sets]
    points, draws = [np.asarray(point.losses)], [np.asarray(drawn.losses)]
    if point.accuracies is not None:
        names += [f"acc/{name}" for name in outcomes.tasks]
        points, draws = [*points, np.asarray(point.accuracies)], [*draws, np.asarray(drawn.accuracies)]
    low, high = np.quantile(np.concatenate(draws, -1), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return names, Interval(np.concatenate(points), low, high)


def outcome_columns(outcomes: Any, weights: Any = None, level: float = 0.9) -> dict[str, Any]:
    """Columns name, point, low and high of ``loss_interval``."""
    names, interval = loss_interval(outcomes, weights, level)
    return {"name": names, **interval_columns(interval)}


def plot_outcomes(outcomes: Any, weights: Any = None, ax: Any = None) -> Any:
    """Predicted losses with their 90 % intervals at a mixture; the accuracies are in the frame."""
    from camel_jax.figures.losses import intervals

    names, interval = loss_interval(outcomes, weights)
    count = len(outcomes.sets)
    part = type(interval)(*(x[:count] for x in interval))
    return intervals([name.removeprefix("loss/") for name in names[:count]], part, "loss (nats per token)", ax=ax)


def plot_fit(fit: Any, ax: Any = None) -> Any:
    """Losses along sizes at the mean mixture and 20 tokens a parameter, from the smallest fitted to ten times the largest."""
    from camel_jax.figures.losses import Curves, loss_curves

    sizes = np.geomspace(fit.size_range[0], 10 * fit.size_range[1], 9)
    draws = fit.draws()
    at = [loss_interval(draws.losses_at(size, 20.0 * size))[1] for size in sizes]
    curves = Curves(sizes, *(np.stack([getattr(x, name) for x in at]) for name in ("point", "low", "high")))
    note = "mean mixture, 20 tokens a parameter"
    return loss_curves(curves, None, fit.sets, fitted_up_to=fit.size_range[1], ax=ax, note=note)


def accuracy_view(law: Any) -> View:
    """Tasks of a benchmark law, with their flags."""
    columns = {
        "task": list(law.tasks),
        "flag": [law.flags[task] for task in law.tasks],
        "error": np.asarray(law.spread),
        "reason": [law.reasons.get(task, "")[:80] for task in law.tasks],
    }
    title = f"benchmark law of {len(law.tasks)} tasks, {int(law.usable.sum())} of them usable"
    facts = {"reads": names_text(law.sets), "prior of the weights": law.choice}
    return View(title, facts, (Sheet("tasks; error: of the law at the next scale, as accuracy", columns),))


def accuracy_columns(law: Any) -> dict[str, Any]:
    """One row a task: flag, reason, floor, ceiling and error."""
    return {
        "task": list(law.tasks),
        "flag": [law.flags[task] for task in law.tasks],
        "reason": [law.reasons.get(task, "") for task in law.tasks],
        "floor": np.asarray(law.params.floor),
        "ceiling": np.asarray(law.params.ceiling),
        "error": np.asarray(law.spread),
    }


def posterior_view(posterior: Any) -> View:
    """How many draws, and whether they can be relied on."""
    d = posterior.diagnostics
    facts = {"method": d.method, "verdict": posterior.verdict(), "domains": names_text(posterior.fit.domains)}
    columns = {"set": list(posterior.fit.sets), "residual %": 100 * np.asarray(posterior.fit.discrepancy.scale)}
    told = "can be relied on" if d.converged else "not to be relied on yet"
    title = f"posterior of {posterior.fit.law.name}, {d.chains} chains of {d.draws} draws: {told}"
    return View(title, facts, (Sheet("", columns),), posterior.fit.notes)


def posterior_columns(raw: Mapping[str, Any], noise: Any) -> dict[str, Any]:
    """One row a raw parameter and noise, leaves (C, N, ...): mean, standard deviation, and low and high of the central 90 %."""
    groups = dict(raw) | {f"noise_{name}": x for name, x in noise._asdict().items()}
    names, columns = [], []
    for group, x in groups.items():
        flat = np.asarray(x).reshape(-1, int(np.prod(np.shape(x)[2:], initial=1)))
        index = list(np.ndindex(*np.shape(x)[2:]))
        names += [f"{group}[{', '.join(map(str, i))}]" if i else group for i in index]
        columns.append(np.stack([flat.mean(0), flat.std(0), *np.quantile(flat, [0.05, 0.95], axis=0)]))
    mean, sd, low, high = np.concatenate(columns, 1)
    return {"name": names, "mean": mean, "sd": sd, "low": low, "high": high}


def draws_dataset(groups: Mapping[str, Any], lead: tuple[str, ...], names: Mapping[str, Any]) -> Any:
    """Arrays with shared leading axes as an xarray Dataset.

    Args:
      groups: name -> array, or name -> (names of its further axes, array).
      lead: names of the leading axes, such as ("draw",).
      names: axis -> its labels, such as those of "set" and "domain". An axis as long as one of them, and no other, gets its name.

    Raises:
      MissingExtraError: xarray, which the extra ``bayes`` brings, is not installed.
    """
    require("bayes", "xarray", "to_xarray")
    import xarray

    def told(group: str, i: int, length: int) -> str:
        known = [axis for axis, labels in names.items() if len(labels) == length]
        return known[0] if len(known) == 1 else f"{group}_{i}"

    variables = {}
    for group, given in groups.items():
        dims, array = given if isinstance(given, tuple) else (None, given)
        array = np.asarray(array)
        rest = array.shape[len(lead) :]
        named = [told(group, i, length) for i, length in enumerate(rest)] if dims is None else list(dims)
        if len(set(named)) < len(named):
            named = [f"{group}_{i}" for i in range(len(rest))]
        variables[group] = ([*lead, *named], array)
    used = {dim for dims, _ in variables.values() for dim in dims}
    return xarray.Dataset(variables, {axis: list(labels) for axis, labels in names.items() if axis in used})


def named_leaves(params: Any) -> dict[str, Any]:
    """Leaves of parameters by the path to them, as "transfer" or "camel.transfer".

    >>> named_leaves({"camel": {"floor": 1.0}, "share": 2.0})
    {'camel.floor': 1.0, 'share': 2.0}
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {
        ".".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path): x for path, x in flat
    }
