"""How the best mixture moves with size and tokens, and what staying with the first one loses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from camel_jax.mixture.near_optimal import decide
from camel_jax.mixture.optimize import optimize_mixture
from camel_jax.mixture.result import MixtureResult
from camel_jax.views.view import Readable, View

SAMPLES = 40  # nearly optimal mixtures at every stop, whose range is the band


def lost_by_staying(functions: list[Any], weights: Any, goal: Any) -> Any:
    """How much worse the first stop's mixture is at every stop than the best one there, in the objective's unit, (P,)."""
    import numpy as np

    from camel_jax.mixture.objectives import as_objective
    from camel_jax.recipes.outcome import as_outcome

    lost, goal = [], as_objective(goal)
    for function, best in zip(functions, weights, strict=True):
        bound = goal.bind(function.sets, getattr(function, "tasks", ()))
        stay, move = (float(bound.cost(as_outcome(function(w)))) for w in (weights[0], best))
        lost.append(stay - move)
    return np.array(lost)


@dataclasses.dataclass(frozen=True, repr=False)
class OptimumPath(Readable):
    """The optimum at several scales.

    Attributes:
      sizes: P model sizes, as given.
      tokens: P token counts, as given.
      weights: (P, K) mixtures.
      results: a ``MixtureResult`` for each.
      domains: K names.
      low: (P, K) smallest shares among nearly optimal mixtures at every stop; None where none were asked for.
      high: (P, K) largest shares among them.
      fitted: smallest and largest size of the fitted table, empty where that is not known.
    """

    sizes: tuple[Any, ...]
    tokens: tuple[Any, ...]
    weights: np.ndarray
    results: tuple[MixtureResult, ...]
    domains: tuple[str, ...]
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    fitted: tuple[float, ...] = ()

    def _view(self) -> View:
        from camel_jax.views.decisions import path_view

        return path_view(self)

    def to_frame(self) -> Any:
        """One row a stop: size, tokens, shares, the objective, and the gain with its interval, as a pandas DataFrame."""
        from camel_jax.views.decisions import path_columns
        from camel_jax.views.view import to_frame

        return to_frame(path_columns(self))

    def plot(self, ax: Any = None) -> Any:
        """Best shares against active size, with the bands that were asked for and the sizes of the table; returns the Axes."""
        from camel_jax.views.decisions import plot_path

        return plot_path(self, ax)


def optimum_path(
    at: Callable[[Any, Any], Any], sizes: Sequence[Any], tokens: Sequence[Any] | Any, near: float = 0.0, **options: Any
) -> OptimumPath:
    """The optimum at every step of a ladder of sizes and token counts.

    Args:
      at: function of (size, tokens) that gives outcomes for ``optimize_mixture``, such as ``fit.losses_at``. Functions
        that are pytrees of one structure share one compiled program.
      sizes: model sizes.
      tokens: training tokens, one count per size or one for all.
      near: share of the best objective within which mixtures count as nearly optimal, for bands around the shares; 0 for none.
      options: as for ``optimize_mixture``.

    Raises:
      ValueError: no size, other numbers of token counts than sizes, or as for ``optimize_mixture``.

    >>> import numpy as np
    >>> at = lambda n, d: lambda w: (1.0 + (w[0] - 0.1 * np.log10(n)) ** 2)[None]
    >>> optimum_path(at, [1e3, 1e6], 1e9, domains=["web", "code"], starts=2).weights.round(3).tolist()
    [[0.3, 0.7], [0.6, 0.4]]
    """
    sizes = list(sizes)
    tokens = list(tokens) if isinstance(tokens, list | tuple | np.ndarray) else [tokens] * len(sizes)
    if not sizes or len(tokens) != len(sizes):
        raise ValueError(f"give as many token counts as sizes, or one; got {len(tokens)} for {len(sizes)} sizes")
    extra = [{**options, "tokens": t} if options.get("supply") is not None else options for t in tokens]
    functions = [at(n, t) for n, t in zip(sizes, tokens, strict=True)]
    low = high = None
    if near:
        both = [decide(f, near, samples=SAMPLES, relax=0.0, **more) for f, more in zip(functions, extra, strict=True)]
        results = tuple(result for result, _ in both)
        low, high = (np.stack([getattr(flat, end) for _, flat in both]) for end in ("low", "high"))
    else:
        results = tuple(optimize_mixture(f, relax=0.0, **more) for f, more in zip(functions, extra, strict=True))
    weights = np.stack([result.weights for result in results])
    fitted = tuple(getattr(functions[0], "fitted_sizes", ()))
    return OptimumPath(tuple(sizes), tuple(tokens), weights, results, results[0].domains, low, high, fitted)
