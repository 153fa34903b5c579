"""The panels of a report: predictions over sizes, the path of the optimum, the recommended mixture."""

from __future__ import annotations

from typing import Any

from camel_jax.recipes.sizes import format_count, format_size

NEAR = 0.1  # percent of the best objective


def scale_panels(
    fitted: Any,
    result: Any,
    target: tuple[float, float, float],
    measured: tuple[Any, Any] | None,
    stops: Any,
    same_tokens: bool = False,
    starts: int = 8,
) -> dict[str, dict[str, Any]]:
    """Panels of ``figures.overview`` over model sizes: loss curves, and the path of the optimum at the sizes ``stops``.

    Args:
      fitted: the fit. result: the recommended mixture.
      target: total and active parameters and tokens; sparsity and tokens a parameter are kept along the ladder.
      same_tokens: keep the tokens instead, for tables whose sizes were all trained on as many.
      measured: sizes and losses of real runs to show, or None.
      stops: active sizes at which the optimum is found, a sequence. starts: of each search; as many as that of ``result`` had
        is the same program again.
    """
    import numpy as np

    from camel_jax.figures import losses
    from camel_jax.fitting.intervals import predict_interval
    from camel_jax.mixture.path import optimum_path
    from camel_jax.recipes.recipe import Recipe

    n_total, n_active, n_tokens = target
    ratio, sparsity = n_tokens / n_active, n_total / n_active
    at_tokens = f"{format_count(n_tokens)} tokens" if same_tokens else f"{ratio:.3g} tokens per parameter"
    first, last = min(fitted.size_range[0], n_active), max(fitted.size_range[1], n_active)
    ladder = np.geomspace(first, last, 16)

    def tokens(sizes: Any) -> Any:
        return np.full(len(sizes), n_tokens) if same_tokens else ratio * np.asarray(sizes)

    def curves(weights: Any) -> Any:
        rows = np.tile(np.asarray(weights), (len(ladder), 1))
        interval = predict_interval(fitted, Recipe(sparsity * ladder, ladder, tokens(ladder), rows))
        return losses.Curves(ladder, *(np.asarray(x) for x in interval))

    at = [float(x) for x in stops]
    sizes = [x if sparsity == 1 else f"{x * sparsity:.17g}-A{x:.17g}" for x in at]
    path = optimum_path(fitted.draws().losses_at, sizes, [float(x) for x in tokens(at)], starts=starts)
    return {
        "loss_curves": {
            "recommended": curves(result.weights),
            "reference": curves(result.reference),
            "names": fitted.sets,
            "fitted_up_to": fitted.size_range[1],
            "measured": measured,
            "title": f"Loss against size at {at_tokens}",
            "note": "solid: recommended (90 % intervals); dashed: reference"
            + ("" if measured is None else "; dots: runs"),
        },
        "optimum_path": {
            "sizes": at,
            "weights": path.weights,
            "domains": fitted.domains,
            "fitted": fitted.size_range,
            "note": f"lowest mean loss at {at_tokens}",
        },
    }


def mixture_panel(result: Any, ranges: Any, target: tuple[float, float, float]) -> dict[str, Any]:
    """The panel of ``figures.overview`` that shows a recommended mixture."""
    n_total, n_active, n_tokens = target
    gain = result.gain
    percent = [100 * x / result.reference_value for x in gain]
    return {
        "domains": result.domains,
        "weights": result.weights,
        "reference": result.reference,
        "low": ranges.low,
        "high": ranges.high,
        "title": f"Recommended mixture for {format_size(n_total, n_active)} on {format_count(n_tokens)} tokens",
        "note": f"mean loss {percent[0]:.2f} % below that of the reference (90 %: {percent[1]:.2f} to {percent[2]:.2f})",
    }
