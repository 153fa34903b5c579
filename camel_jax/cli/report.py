"""``camel-jax report``: one self-contained page on a fit: what it recommends, what it predicts, how sure it is."""

from __future__ import annotations

import base64
import html
import io
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from camel_jax.cli.console import Json, Map, Seed, parse_map, print_json, say, tell_ignored, working
from camel_jax.cli.mix import as_dict, recommend
from camel_jax.cli.predict import flagged, open_fit
from camel_jax.files import check_target, replacing
from camel_jax.sizes import format_count, format_size, parse_size, parse_tokens

NEAR = 0.1  # percent of the best objective
STARTS = 16  # of every search
BEYOND = 10.0  # the default target, in units of the largest fitted size

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 64rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .8rem 0; } td, th { padding: .28rem .9rem .28rem 0; text-align: right; }
th { border-bottom: 1px solid #999; font-weight: 600; } td { border-bottom: 1px solid #eee; }
td:first-child, th:first-child { text-align: left; } img { width: 100%; } .lead { color: #555; } .note { color: #8a5a00; }
"""


def report(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    out: Annotated[pathlib.Path, typer.Option(help="Where to write the page, .html.", show_default=False)],
    size: Annotated[
        str | None, typer.Option(help="Size of the target; ten times the largest fitted one if absent.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Its training tokens; the ratio to size of the largest fitted if absent.")
    ] = None,
    runs: Annotated[
        pathlib.Path | None,
        typer.Option(help="The run table, to show measured losses beside the curves.", show_default=False),
    ] = None,
    seed: Seed = 0,
    columns: Map = None,
    json: Json = False,
) -> None:
    """Write one page with figures: the recommended mixture, predicted losses, the path of the optimum, and the evidence."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out {out}: a report is written as .html")
    check_target(out)
    n_total, n_active = (None, None) if size is None else parse_size(size)
    n_tokens = None if tokens is None else parse_tokens(tokens)
    fitted = open_fit(fit)
    if n_active is None or n_total is None:
        n_total = n_active = BEYOND * fitted.size_range[1]
    if n_tokens is None:
        n_tokens = n_active * fitted.tokens_range[1] / fitted.size_range[1]
    measured = None if runs is None else measured_ends(fitted, runs, columns)
    size = f"{n_active:.17g}" if n_total == n_active else f"{n_total:.17g}-A{n_active:.17g}"
    with working("choosing a mixture"):
        result, ranges = recommend(fitted, size, f"{n_tokens:.17g}", near=NEAR, starts=STARTS, seed=seed)
    target = (n_total, n_active, n_tokens)
    with working("drawing"):
        figure = draw(fitted, result, ranges, target, measured)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=130)
    page = write_page(fitted, result, ranges, target, picture.getvalue())
    with replacing(out) as part:
        part.write_text(page, encoding="utf-8")
    say(f"wrote {out}")
    if json:
        print_json({"report": str(out), "size": n_active, "tokens": n_tokens, **as_dict(result, ranges, NEAR)})


def measured_ends(fitted: Any, path: pathlib.Path, columns: list[str] | None) -> tuple[Any, Any]:
    """Sizes (R,) and losses (R, V) of the final checkpoints of a run table, sets in the order of the fit."""
    import numpy as np

    from camel_jax.runs import final_rows, select
    from camel_jax.tables import read_runs

    table = read_runs(path, columns=parse_map(columns), on_ignored=tell_ignored)
    missing = [name for name in fitted.sets if name not in table.sets]
    if missing:
        raise ValueError(f"{path}: no loss/ column for {', '.join(missing)}, which the fit predicts")
    ends = select(table, final_rows(table))
    order = [table.sets.index(name) for name in fitted.sets]
    return np.asarray(ends.recipe.n_active), np.asarray(ends.losses)[:, order]


def scale_panels(
    fitted: Any,
    result: Any,
    target: tuple[float, float, float],
    measured: tuple[Any, Any] | None,
    stops: Any,
    same_tokens: bool = False,
    starts: int = 8,
) -> dict[str, dict[str, Any]]:
    """Panels of ``plots.overview`` over model sizes: loss curves, and the path of the optimum at the sizes ``stops``.

    Args:
      fitted: the fit. result: the recommended mixture.
      target: total and active parameters and tokens; sparsity and tokens a parameter are kept along the ladder.
      same_tokens: keep the tokens instead, for tables whose sizes were all trained on as many.
      measured: sizes and losses of real runs to show, or None.
      stops: active sizes at which the optimum is found, a sequence. starts: of each search; as many as that of ``result`` had
        is the same program again.
    """
    import numpy as np

    from camel_jax import plots
    from camel_jax.decisions import optimum_path
    from camel_jax.runs import Recipe
    from camel_jax.uncertainty import predict_interval

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
        return plots.Curves(ladder, *(np.asarray(x) for x in interval))

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
            "fitted_up_to": fitted.size_range[1],
            "note": f"lowest mean loss at {at_tokens}",
        },
    }


def mixture_panel(result: Any, ranges: Any, target: tuple[float, float, float]) -> dict[str, Any]:
    """The panel of ``plots.overview`` that shows a recommended mixture."""
    n_total, n_active, n_tokens = target
    gain = result.gain
    percent = [100 * x / result.reference_value for x in (gain.value, gain.lower, gain.upper)]
    return {
        "domains": result.domains,
        "weights": result.weights,
        "reference": result.reference,
        "low": ranges.lower,
        "high": ranges.upper,
        "title": f"Recommended mixture for {format_size(n_total, n_active)} on {format_count(n_tokens)} tokens",
        "note": f"mean loss {percent[0]:.2f} % below that of the reference (90 %: {percent[1]:.2f} to {percent[2]:.2f})",
    }


def draw(fitted: Any, result: Any, ranges: Any, target: tuple[float, float, float], measured: Any) -> Any:
    """The figure of a report."""
    import numpy as np

    from camel_jax import plots

    low, high = fitted.size_range
    stops = np.geomspace(low, max(high, target[1]), 7)
    panels = {
        "mixture": mixture_panel(result, ranges, target),
        **scale_panels(fitted, result, target, measured, stops, starts=STARTS),
    }
    return plots.overview(panels, title="From small runs to the mixture of a large one")


def write_page(fitted: Any, result: Any, ranges: Any, target: tuple[float, float, float], picture: bytes) -> str:
    """The page as HTML; everything it shows is inside it."""
    n_total, n_active, n_tokens = target
    sizes, seen = ([format_count(x) for x in pair] for pair in (fitted.size_range, fitted.tokens_range))
    title = f"{fitted.law.name}: mixture for {format_size(n_total, n_active)} on {format_count(n_tokens)} tokens"
    gain = result.gain
    better = f"better in {result.probability_better:.0%} of draws"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="lead">Fitted on {sizes[0]} to {sizes[1]} parameters and {seen[0]} to {seen[1]} tokens, '
        f"{len(fitted.domains)} training domains, {len(fitted.sets)} validation sets. {html.escape(fitted.check())}.</p>",
        f"<p>{html.escape(result.objective)}: {result.value.value:.4f}, {gain.value:.4f} better than the reference "
        f"(90 % interval {gain.lower:.4f} to {gain.upper:.4f}; {better}). "
        "The reference is the mean mixture of the fitted table.</p>",
        "<h2>Recommended mixture</h2>",
        _table(
            ["domain", "share", f"within {NEAR:g} % of the best", "reference"],
            [
                [name, f"{100 * w:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %", f"{100 * r:.1f} %"]
                for name, w, low, high, r in zip(
                    result.domains, result.weights, ranges.lower, ranges.upper, result.reference, strict=True
                )
            ],
        ),
        f'<img alt="recommended mixture, loss curves, path of the optimum" src="data:image/png;base64,'
        f'{base64.b64encode(picture).decode()}">',
        "<h2>Predicted losses, nats per token</h2>",
        _table(
            ["validation set", "loss", "90 % interval", "reference", "difference", "90 % interval"],
            _rows(result.sets, result.losses, result.reference_losses, result.loss_difference),
        ),
    ]
    if result.accuracies is not None:
        rows = _rows(result.tasks, result.accuracies, result.reference_accuracies, result.accuracy_difference)
        header = ["task", "accuracy", "90 % interval", "reference", "difference", "90 % interval"]
        parts += ["<h2>Predicted benchmark accuracies</h2>", _table(header, rows)]
    tests = fitted.extra.get("backtests", [])
    if tests:
        parts.append("<h2>How it did at a size it had not seen</h2>")
        rows = [
            [format_count(t["size"]), f"{100 * t['mean_relative_error']:.2f} %", f"{t['ratio']:.2f}"] for t in tests
        ]
        parts.append(
            _table(["size predicted from the sizes below", "mean relative error", "error over interval"], rows)
        )
        parts.append(
            f"<p>Intervals beyond the table are scaled by {fitted.extra['factor']:.2f} for it. They carry the bootstrap "
            "over runs and an error of the law that grows with the distance in scale.</p>"
        )
    notes = [*fitted.notes, *(f"{task}: {why}" for task, why in flagged(fitted.benchmarks).items())]
    if (far := n_active / fitted.size_range[1]) > 4:
        notes.append(f"The target is {far:.0f} x the largest fitted size; intervals that far out are little tested.")
    if result.status != "converged":
        notes.append(result.status)
    if notes:
        listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
        parts.append(f'<h2>To know</h2><ul class="note">{listed}</ul>')
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _rows(names: Sequence[str], here: Any, reference: Any, difference: Any) -> list[list[str]]:
    """Outcome at the mixture and at the reference, with intervals."""
    return [
        [
            name,
            f"{here.value[i]:.3f}",
            f"{here.lower[i]:.3f} to {here.upper[i]:.3f}",
            f"{reference[i]:.3f}",
            f"{difference.value[i]:+.3f}",
            f"{difference.lower[i]:+.3f} to {difference.upper[i]:+.3f}",
        ]
        for i, name in enumerate(names)
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of text."""
    head = "".join(f"<th>{html.escape(x)}</th>" for x in header)
    lines = ("<tr>" + "".join(f"<td>{html.escape(x)}</td>" for x in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"
