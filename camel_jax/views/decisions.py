"""What is seen of decisions: a mixture, the mixtures near it, a front, a path, a recipe for a budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from camel_jax.recipes.sizes import format_count, format_size, parse_size, parse_tokens
from camel_jax.views.view import Sheet, View, interval_columns


def interval_text(interval: Any) -> str:
    """A number with its 90 % interval.

    >>> from camel_jax.recipes.outcome import Interval
    >>> interval_text(Interval(2.0, 1.5, 2.5)), interval_text(Interval(2.0, np.nan, np.nan))
    ('2.0000 (90 %: 1.5000 to 2.5000)', '2.0000')
    """
    if not np.isfinite(interval.low):
        return f"{interval.point:.4f}"
    return f"{interval.point:.4f} (90 %: {interval.low:.4f} to {interval.high:.4f})"


def mixture_view(result: Any) -> View:
    """The mixture beside the reference, the gain, the predicted losses and the limits that bind."""
    sure = result.probability_better
    facts = {
        result.objective: f"{interval_text(result.value)}; reference {result.reference_value:.4f}",
        "gain": interval_text(result.gain) + (f", better in {sure:.0%} of draws" if np.isfinite(sure) else ""),
    }
    facts |= {} if result.risk == "mean" else {"risk": result.risk}
    c = result.certificate
    facts["evidence"] = (
        f"no better by more than {c.gap:.2g}{'' if c.convex else ' were it convex, which it is not'}; "
        f"{c.agreeing} of {c.finished} candidates agree"
    )
    shares = {"domain": list(result.domains), "share": result.weights, "reference": result.reference}
    losses = {"set": list(result.sets), **interval_columns(result.losses)}
    losses |= {"difference": np.atleast_1d(result.loss_difference.point)}
    sheets = [Sheet("mixture", shares, bar="share"), Sheet("predicted losses, nats per token", losses)]
    if result.accuracies is not None:
        tasks = {"task": list(result.tasks), **interval_columns(result.accuracies)}
        sheets.append(Sheet("predicted accuracies", tasks))
    binding = [x for x in result.limits if x.binds]
    if binding:
        limits = {"limit": [x.name for x in binding], "multiplier": [x.multiplier for x in binding]}
        limits |= {"solved again": [x.relaxing(result.objective) for x in binding]}
        sheets.append(Sheet("limits that bind; multiplier: what relaxing gains at first, per unit", limits))
    notes = [] if result.status == "converged" else [f"warning: {result.status}"]
    return View(f"mixture of {len(result.domains)} domains for {result.objective}", facts, sheets, notes)


def mixture_columns(result: Any) -> dict[str, Any]:
    """One row a domain: share and reference share."""
    return {"domain": list(result.domains), "share": result.weights, "reference": result.reference}


def outcome_columns(result: Any) -> dict[str, Any]:
    """One row a set and a task: point, low, high and the difference to the reference with its interval."""
    pairs = [("loss", result.sets, result.losses, result.loss_difference)]
    if result.accuracies is not None:
        pairs.append(("acc", result.tasks, result.accuracies, result.accuracy_difference))
    parts = [
        {
            "name": [f"{kind}/{name}" for name in names],
            **interval_columns(value),
            **interval_columns(difference, "difference_"),
        }
        for kind, names, value, difference in pairs
    ]
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def plot_mixture(result: Any, ax: Any = None) -> Any:
    """The mixture as bars beside the reference."""
    from camel_jax.figures.mixtures import mixture

    note = f"{result.objective}: gain {interval_text(result.gain)}"
    return mixture(result.domains, result.weights, reference=result.reference, ax=ax, note=note)


def near_view(near: Any) -> View:
    """Ranges of the shares of nearly optimal mixtures."""
    title = f"mixtures with an objective up to {near.level:.5g}; the best has {near.value:.5g}"
    return View(title, {"sample": f"{len(near.samples)} mixtures"}, (Sheet("", near_columns(near), bar="share"),))


def near_columns(near: Any) -> dict[str, Any]:
    """One row a domain: best share, low and high."""
    return {"domain": list(near.domains), "share": near.best, "low": near.low, "high": near.high}


def plot_near(near: Any, ax: Any = None, kind: str = "shares") -> Any:
    """The best mixture as bars with the range of every share, or with kind "mixtures" the sample itself."""
    if kind not in ("shares", "mixtures"):
        raise ValueError(f"kind must be shares or mixtures, got {kind!r}")
    if kind == "mixtures":
        from camel_jax.figures.spaces import many_mixtures

        return many_mixtures(near.domains, near.samples, best=near.best, ax=ax)
    from camel_jax.figures.mixtures import mixture

    return mixture(near.domains, near.best, low=near.low, high=near.high, ax=ax)


def front_view(front: Any) -> View:
    """Both objectives and the shares along a front."""
    first, second = front.labels
    return View(f"{len(front.first)} trade-offs of {first} and {second}", {}, (Sheet("", front_columns(front)),))


def front_columns(front: Any) -> dict[str, Any]:
    """One row a point: both objectives, and shares as mix/<domain>."""
    shares = {f"mix/{name}": front.weights[:, k] for k, name in enumerate(front.domains)}
    return {"first": front.first, "second": front.second, **shares}


def plot_front(front: Any, ax: Any = None, chosen: Any = None) -> Any:
    """Gains in the two objectives against each other, with intervals and the measured range."""
    from camel_jax.figures.spaces import gains_traded

    return gains_traded(front.gains, chosen, front.labels, measured=front.measured, ax=ax, title="Best trade-offs")


def path_view(path: Any) -> View:
    """The best mixture at every stop."""
    columns = _counted(path_columns(path))
    title = f"best mixture at {len(path.sizes)} stops, {columns['size'][0]} to {columns['size'][-1]}"
    return View(title, {}, (Sheet("", columns),))


def _counted(columns: dict[str, Any]) -> dict[str, Any]:
    """The same columns with sizes and tokens as people write them."""
    return columns | {name: [format_count(float(x)) for x in columns[name]] for name in ("size", "tokens")}


def path_columns(path: Any) -> dict[str, Any]:
    """One row a stop: size, tokens, shares, the objective and the gain with its interval."""
    columns: dict[str, Any] = {
        "size": np.array([parse_size(x)[1] for x in path.sizes]),
        "tokens": np.array([parse_tokens(x) for x in path.tokens]),
    }
    columns |= {f"mix/{name}": path.weights[:, k] for k, name in enumerate(path.domains)}
    columns["value"] = np.array([r.value.point for r in path.results])
    gains = {part: np.array([getattr(r.gain, part) for r in path.results]) for part in ("point", "low", "high")}
    return columns | {f"gain_{part}": values for part, values in gains.items()}


def plot_path(path: Any, ax: Any = None) -> Any:
    """Best shares against active size, with bands where they were asked for."""
    from camel_jax.figures.mixtures import optimum_path

    sizes = [parse_size(x)[1] for x in path.sizes]
    bands = {"low": path.low, "high": path.high}
    return optimum_path(sizes, path.weights, path.domains, **bands, fitted=path.fitted, ax=ax)


def budget_view(result: Any) -> View:
    """Size, tokens and mixture for a budget."""
    inner = mixture_view(result.mixture)
    low, high = (format_count(x) for x in result.sizes_within)
    facts = {
        "size": f"{format_size(result.n_total, result.n_active)}; {low} to {high} within {100 * result.within:g} % of the best",
        "tokens": f"{format_count(result.tokens)}, {result.tokens_per_parameter:.3g} a parameter",
    }
    if np.isfinite(result.size_interval[0]):
        facts["size, 90 % of draws"] = " to ".join(format_count(x) for x in result.size_interval)
    notes = [*result.warnings, *inner.notes]
    title = f"{format_size(result.n_total, result.n_active)} on {format_count(result.tokens)} tokens for {result.budget:.3g}"
    return View(title, facts | dict(inner.facts), inner.sheets, notes)


def budget_columns(result: Any) -> dict[str, Any]:
    """One row a domain: share and reference share."""
    return mixture_columns(result.mixture)


def plot_budget(result: Any, ax: Any = None) -> Any:
    """The mixture as bars beside the reference."""
    return plot_mixture(result.mixture, ax)


def budgets_view(path: Any) -> View:
    """The best recipe of every budget."""
    facts = {"exponents": f"size {path.size_exponent:.3f}, tokens {path.tokens_exponent:.3f}"}
    title = f"best recipes of {len(path.budgets)} budgets"
    return View(title, facts, (Sheet("", _counted(budgets_columns(path))),))


def budgets_columns(path: Any) -> dict[str, Any]:
    """One row a budget: size, tokens, shares and the objective with its interval."""
    columns: dict[str, Any] = {"budget": path.budgets, "size": path.n_active, "tokens": path.tokens}
    columns |= {f"mix/{name}": path.weights[:, k] for k, name in enumerate(path.domains)}
    values = [r.mixture.value for r in path.results]
    return columns | {part: np.array([getattr(v, part) for v in values]) for part in ("point", "low", "high")}


def plot_budgets(path: Any, ax: Any = None) -> Any:
    """Best shares against budget."""
    from camel_jax.figures.mixtures import shares_along

    ax = shares_along(path.budgets, path.weights, path.domains, "budget", ax=ax, title="Best mixture along budgets")
    ax.set_xscale("log")
    return ax


def cost_columns(curves: Any) -> dict[str, Any]:
    """One row a size and budget: tokens and the objective."""
    count = curves.n_active.shape[1]
    columns = {name: getattr(curves, name).ravel() for name in ("n_active", "tokens", "objective")}
    return {"budget": np.repeat(curves.budgets, count), "size": columns.pop("n_active"), **columns}


def cost_view(curves: Any) -> View:
    """The best size of every budget."""
    best = np.argmin(np.where(np.isfinite(curves.objective), curves.objective, np.inf), 1)
    at = np.arange(len(best)), best
    columns = _counted({"budget": curves.budgets, "size": curves.n_active[at], "tokens": curves.tokens[at]})
    title = f"{curves.label} along {len(best)} curve{'s' if len(best) > 1 else ''} of equal cost"
    return View(title, {}, (Sheet("best size of each budget", columns),))


def plot_costs(curves: Any, ax: Any = None) -> Any:
    """The objective against active size, one curve a budget."""
    from camel_jax.figures.compute import draw_costs

    return draw_costs(curves, ax=ax)
