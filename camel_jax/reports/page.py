"""A decision as one HTML file that can be handed around: it fetches nothing, and says the same with and without scripts."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.metadata
import importlib.resources
import json
import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.recipes.names import plain
from camel_jax.recipes.sizes import format_count, format_size
from camel_jax.reports.page_parts import text

SCRIPTS = ("numbers.js", "laws.js", "outlook.js", "sheet.js", "charts.js", "play.js")
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src 'none'; base-uri 'none';"
    " form-action 'none'"
)
SECTIONS = {
    "mixture": "The mixture",
    "worth": "What it is worth",
    "sure": "How sure that is",
    "else": "What else would do",
    "sizes": "How it moves with size",
    "next": "What to run next",
    "source": "Where this comes from",
}


def write_page(
    fitted: Any,
    decision: Any,
    *,
    held: Any = None,
    moved: Any = None,
    designs: Any = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """The page of a decision.

    Args:
      fitted: the fit.
      decision: what ``decision.tell`` gathered.
      held: the largest size predicted from the smaller ones, a ``HeldOut``; None where there was no table to do it with.
      moved: runs brought to the recommended mixture, a ``Moved``; None for none.
      designs: a ``Design`` of runs to buy next; None for none.
      facts: where everything comes from: words to words.
    """
    from camel_jax.reports import page_sections as sections
    from camel_jax.reports.export_laws import why_not

    n_total, n_active, n_tokens = decision.target
    title = f"Mixture for {format_size(n_total, n_active)} on {format_count(n_tokens)} tokens"
    bodies = {
        "mixture": sections.mixture(fitted, decision),
        "worth": sections.worth(decision),
        "sure": sections.sure(fitted, decision, held),
        "else": sections.also(fitted, decision),
        "sizes": sections.along(fitted, decision, moved),
        "next": sections.next_runs(fitted, decision, designs),
        "source": sections.source(fitted, facts or {}),
    }
    reason = why_not(fitted.inner_law)
    style, policy_scripts, scripts, play = _file("page.css"), "'none'", "", ""
    if reason:
        bodies["else"] += f'<p class="note">This page does not move: {text(reason)}.</p>'
    else:
        script = f'(() => {{\n"use strict";\n{"".join(_file(name) for name in SCRIPTS)}}})();\n'
        data = json.dumps(page_data(fitted, decision), allow_nan=False).replace("<", "\\u003c")
        scripts = f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>'
        policy_scripts, play = f"'sha256-{_hash(script)}'", _file("play.html")
    links = SECTIONS if reason else {"mixture": SECTIONS["mixture"], "play": "Try another"} | SECTIONS
    first = ("mixture", "worth")
    made = {key: f'<section id="{key}"><h2>{SECTIONS[key]}</h2>{body}</section>' for key, body in bodies.items()}
    return string.Template(_file("template.html")).substitute(
        policy=html.escape(POLICY.format(script=policy_scripts, style=f"'sha256-{_hash(style)}'")),
        version=importlib.metadata.version("camel-jax"),
        title=text(title),
        style=style,
        answer=sections.answer(fitted, decision),
        links="".join(f'<li><a href="#{key}">{words}</a></li>' for key, words in links.items()),
        first="\n".join(made[key] for key in first),
        more="\n".join(made[key] for key in made if key not in first),
        play=play,
        scripts=scripts,
        footer="One file, made by camel_jax; it opens without a network and sends nothing. Intervals hold 90 %.",
    )


def page_data(fitted: Any, decision: Any) -> dict[str, Any]:
    """What the scripts of a page read: the fit as numbers, the decision, and what the charts show."""
    from camel_jax.mixture.objectives import parse_objective
    from camel_jax.recipes.plain_data import as_plain_data
    from camel_jax.reports.export_laws import export_fit

    result, request = decision.result, decision.request
    n_total, n_active, n_tokens = decision.target
    supply = dict(request.limits).get("supply")
    known = np.asarray(fitted.discrepancy.mixtures)
    told: dict[str, Any] = {
        "shown": {
            "domains": [plain(name) for name in fitted.domains],
            "sets": [plain(name) for name in fitted.sets],
            "tasks": [] if fitted.benchmarks is None else [plain(name) for name in fitted.benchmarks.tasks],
        },
        "target": {"total": n_total, "active": n_active, "tokens": n_tokens},
        "size_range": fitted.size_range,
        "tokens_range": fitted.tokens_range,
        "best": result.weights,
        "reference": result.reference,
        "supply": None if not supply else [float(supply.get(name, math.inf)) for name in fitted.domains],
        "measured": [known.min(0), known.max(0)],
        "limits": share_limits(fitted.domains, request),
        "others": [limit.name for limit in result.limits],
        "samples": [] if decision.ranges is None else np.round(decision.ranges.samples, 5),
        "checks": _checks(fitted, decision),
        "request": {"objective": request.objective, "risk": request.risk},
    }
    if decision.trade is not None:
        told["trade"] = {
            "weights": decision.trade.front.weights,
            "gains": decision.trade.gains,
            "chosen": decision.trade.chosen,
            "labels": [plain(label) for label in decision.trade.labels],
            "measured": decision.trade.measured,
        }
    return {"fit": export_fit(fitted, parse_objective(request.objective)), "decision": as_plain_data(told)}


def share_limits(domains: Sequence[str], request: Any) -> dict[str, list[float]]:
    """Floors and caps on single shares, (K,) each: bounds, measured ranges, fixed shares and supplies together."""
    from camel_jax.mixture.limits import parse_limits

    options = {
        name: value
        for name, value in request.limits.items()
        if name not in ("groups", "kl", "distance", "cost", "max_domains")
    }
    if "supply" in options:
        options["tokens"] = request.tokens
    low, high = np.zeros(len(domains)), np.ones(len(domains))
    for limit in parse_limits(domains, **options).items:
        if limit.domain >= 0 and limit.row is not None:
            if limit.kind == "floor":
                low[limit.domain] = max(low[limit.domain], -limit.value)
            else:
                high[limit.domain] = min(high[limit.domain], limit.value)
            if limit.kind == "fixed":
                low[limit.domain] = limit.value
    return {"low": low.tolist(), "high": high.tolist()}


def _checks(fitted: Any, decision: Any) -> list[dict[str, Any]]:
    """Losses of two mixtures at the target as Python has them: the page compares its own with these before it shows any."""
    from camel_jax.reports.recommend import outcomes_of

    request = decision.request
    at = outcomes_of(fitted, request.size, request.tokens, [], dict(request.limits).get("supply"))
    return [{"weights": w, "losses": np.asarray(at(w))} for w in (decision.result.weights, decision.result.reference)]


def _file(name: str) -> str:
    return (importlib.resources.files("camel_jax.reports") / "explorer" / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
