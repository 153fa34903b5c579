"""A recommendation as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any

from camel_jax.recipes.names import plain
from camel_jax.recipes.sizes import format_count, format_size
from camel_jax.reports.panels import NEAR

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 64rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .8rem 0; } td, th { padding: .28rem .9rem .28rem 0; text-align: right; }
th { border-bottom: 1px solid #999; font-weight: 600; } td { border-bottom: 1px solid #eee; }
td:first-child, th:first-child { text-align: left; } img { width: 100%; } .lead { color: #555; } .note { color: #8a5a00; }
"""


def write_page(fitted: Any, result: Any, ranges: Any, target: tuple[float, float, float], picture: bytes) -> str:
    """The page as HTML; everything it shows is inside it."""
    from camel_jax.reports.card import better_in_draws, evidence_card

    n_total, n_active, n_tokens = target
    sizes, seen = ([format_count(x) for x in pair] for pair in (fitted.size_range, fitted.tokens_range))
    title = f"{fitted.law.name}: mixture for {format_size(n_total, n_active)} on {format_count(n_tokens)} tokens"
    gain = result.gain
    lanes = (
        f" {_text(fitted.check())}." if fitted.diagnostics is None else ""
    )  # the evidence has the verdict on a posterior
    better = better_in_draws(result.probability_better)
    parts = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="lead">Fitted on {sizes[0]} to {sizes[1]} parameters and {seen[0]} to {seen[1]} tokens, '
        f"{len(fitted.domains)} training domains, {len(fitted.sets)} validation sets.{lanes}</p>",
        f"<p>{_text(result.objective)}: {result.value.point:.4f}, {gain.point:.4f} better than the reference "
        f"(90 % interval {gain.low:.4f} to {gain.high:.4f}; {better}). "
        "The reference is the mean mixture of the fitted table.</p>",
        "<h2>Recommended mixture</h2>",
        _table(
            ["domain", "share", f"within {NEAR:g} % of the best", "reference"],
            [
                [name, f"{100 * w:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %", f"{100 * r:.1f} %"]
                for name, w, low, high, r in zip(
                    result.domains, result.weights, ranges.low, ranges.high, result.reference, strict=True
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
    parts += ["<h2>Evidence</h2>", _list(evidence_card(fitted, n_active, n_tokens, results=[result]))]
    from camel_jax.downstream.result import flagged

    notes = [*fitted.notes, *(f"{task}: {why}" for task, why in flagged(fitted.benchmarks).items())]
    if result.status != "converged":
        notes.append(result.status)
    if notes:
        parts += ["<h2>To know</h2>", _list(notes, ' class="note"')]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _text(text: str) -> str:
    """Text of a page: no markup, and no character that acts on what shows it."""
    return html.escape(plain(text))


def _list(lines: Sequence[str], how: str = "") -> str:
    """An HTML list of text."""
    return f"<ul{how}>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def _rows(names: Sequence[str], here: Any, reference: Any, difference: Any) -> list[list[str]]:
    """Outcome at the mixture and at the reference, with intervals."""
    return [
        [
            name,
            f"{here.point[i]:.3f}",
            f"{here.low[i]:.3f} to {here.high[i]:.3f}",
            f"{reference[i]:.3f}",
            f"{difference.point[i]:+.3f}",
            f"{difference.low[i]:+.3f} to {difference.high[i]:+.3f}",
        ]
        for i, name in enumerate(names)
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of text."""
    head = "".join(f"<th>{_text(x)}</th>" for x in header)
    lines = ("<tr>" + "".join(f"<td>{_text(x)}</td>" for x in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"
