"""The sections of a page of a decision, in the order in which the person who decides asks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from camel_jax.figures.svg import page_figure
from camel_jax.recipes.sizes import format_count, format_size
from camel_jax.reports import page_parts as part
from camel_jax.reports.card import better_in_draws
from camel_jax.reports.page_parts import name, percent, text

KEY = (
    '<ul class="key"><li><svg aria-hidden="true"><rect class="share" width="26" height="10" y="1"/></svg>recommended</li>'
    '<li><svg aria-hidden="true"><line class="range" x1="1" x2="25" y1="6" y2="6"/><line class="range" x1="1" x2="1" y1="2" y2="10"/>'
    '<line class="range" x1="25" x2="25" y1="2" y2="10"/></svg>{near}</li>'
    '<li><svg aria-hidden="true"><svg x="13" y="6" overflow="visible"><path class="mark" d="M0 -5 L5 0 L0 5 L-5 0 Z"/></svg></svg>'
    "reference</li></ul>"
)


def unit_of(objective: str) -> str:
    """The unit in which an objective is told."""
    return "share of 1" if "accuracy" in objective else "nats"


def answer(fitted: Any, decision: Any) -> str:
    """The decision in two sentences."""
    result = decision.result
    order = np.argsort(-result.weights, kind="stable")
    shown = [k for k in order[:5] if result.weights[k] >= 0.005]
    shares = ", ".join(f"{percent(result.weights[k], 0)} {name(result.domains[k])}" for k in shown)
    rest = float(1 - result.weights[shown].sum())
    others = max(int(np.count_nonzero(result.weights >= 5e-4)) - len(shown), 1)
    more = f" and {percent(rest, 0)} of {others} other{'s' * (others > 1)}" if rest > 0.005 else ""
    gain, unit = result.gain, unit_of(result.objective)
    word = "better" if gain.point >= 0 else "worse"
    sure = f" (90 % interval {part.span(gain.low, gain.high, 4)})" if math.isfinite(gain.low) else ""
    label = result.objective[:1].upper() + result.objective[1:]
    return (
        f'<p class="answer">Train on <strong>{shares}{more}</strong>.</p>'
        f'<p class="lead">{text(label)} is predicted {abs(gain.point):.4f} {unit} {word} than with the reference{sure}; '
        f"{text(better_in_draws(result.probability_better))}.</p>"
    )


def mixture(fitted: Any, decision: Any) -> str:
    """Shares beside the reference, and the limits."""
    result, ranges, near = decision.result, decision.ranges, decision.request.near
    count = len(result.domains)
    low = np.full(count, np.nan) if ranges is None else ranges.low
    high = np.full(count, np.nan) if ranges is None else ranges.high
    top = float(np.nanmax(np.concatenate([result.weights, result.reference, high])))
    order = np.argsort(-result.weights, kind="stable") if count > 12 else np.arange(count)
    rows = []
    for place, k in enumerate(order):
        w, r = float(result.weights[k]), float(result.reference[k])
        drawn = place < part.ROWS or w >= 5e-4  # what is folded away and not taken is told in numbers alone
        row = [
            name(result.domains[k]),
            part.share_bar(w, r, low[k], high[k], top) if drawn else "",
            f"<strong>{percent(w)}</strong>",
            percent(r),
        ]
        rows.append(row + ([] if ranges is None else [f"{percent(low[k])} to {percent(high[k])}"]))
    header = ["domain", "", "share", "reference"]
    within = f"within {near:g} % of the best"
    header += [] if ranges is None else [within]
    given = decision.request.reference is not None
    whose = "the mixture that was given to compare with" if given else "the mean of the fitted table"
    body = KEY.format(near=within if ranges is not None else "nearly optimal")
    body += part.table(header, rows, f"Shares of the training tokens; the reference is {whose}")
    binding = [limit for limit in result.limits if limit.binds]
    if binding:
        told = [[text(x.name), text(x.relaxing(result.objective)) or "was not solved again"] for x in binding]
        told = [[first, f"<span>{second}</span>"] for first, second in told]
        body += "<h3>Limits that hold it back</h3>" + part.table(
            ["limit", "what relaxing it gains"], told, "Limits that are reached"
        )
    elif result.limits:
        body += f"<p>None of its {len(result.limits)} limits is reached.</p>"
    else:
        body += "<p>No limits were set.</p>"
    if result.status != "converged":
        body += f'<p class="warn">{text(result.status)}</p>'
    return body


def worth(decision: Any) -> str:
    """Gain, equivalent compute, accuracy; then every set and task."""
    result, equal = decision.result, decision.equivalent
    gain, unit = result.gain, unit_of(result.objective)
    relative = 100 * gain.point / abs(result.reference_value) if result.reference_value else math.nan
    tiles = [
        part.tile(
            f"Gain in {text(result.objective)}",
            f"{part.signed(gain.point, 4)} {unit}",
            f"90 % interval {part.span(gain.low, gain.high, 4)}" if math.isfinite(gain.low) else "",
            f"{relative:.2g} % of the reference's {result.reference_value:.4f}; {text(better_in_draws(result.probability_better))}",
        ),
        _equivalent_tile(equal),
    ]
    if result.accuracies is not None and result.accuracy_difference is not None:
        points = [100 * float(np.mean(x)) for x in result.accuracy_difference[:1]]
        tiles.append(
            part.tile(
                f"Mean accuracy of {len(result.tasks)} tasks",
                f"{part.signed(points[0], 2)} points",
                f"{_mean_percent(result.accuracies.point)} against {_mean_percent(result.reference_accuracies)}",
                "each task below, with its interval",
            )
        )
    body = f'<div class="tiles">{"".join(tiles)}</div>'
    body += part.outcome_table(
        result.sets,
        result.losses,
        result.reference_losses,
        result.loss_difference,
        "Losses, nats per token of the table",
        -1,
    )
    if result.accuracies is not None:
        body += part.outcome_table(
            result.tasks,
            result.accuracies,
            result.reference_accuracies,
            result.accuracy_difference,
            "Accuracies, shares of 1",
            1,
        )
    return body


def _equivalent_tile(equal: Any) -> str:
    ratio, saving = equal.ratio, equal.saving
    if not (0.0 < ratio.point < 1000.0):
        big = "beyond reach" if ratio.point >= 1000.0 else "less than 0.1 %"
        return part.tile("Equivalent compute", big, text(equal.told()))
    sure = f"90 % interval {100 * ratio.low:.3g} to {_most(ratio.high)} %" if math.isfinite(ratio.low) else ""
    word = f"a saving of {100 * saving.point:.2g} %"
    if saving.point < 0:
        word = f"{-100 * saving.point:.2g} % more than the reference needs"
    return part.tile(
        "Equivalent compute",
        f"{100 * ratio.point:.3g} %",
        sure,
        f"of the compute reaches what the reference reaches with all of it, at as many tokens a parameter: {word}",
    )


def _mean_percent(shares: Any) -> str:
    return f"{100 * float(np.mean(shares)):.1f} %"


def _most(ratio: float) -> str:
    return "more than 100000" if ratio > 999.0 else f"{100 * ratio:.3g}"


def sure(fitted: Any, decision: Any, held: Any) -> str:
    """Back-tests, baselines side by side, and how far out the target lies."""
    body = part.lines(decision.evidence)
    tests = [test for test in fitted.backtests if math.isfinite(test.mean_relative_error)]
    if tests:
        rows = [
            [
                format_count(test.size),
                f"<strong>{100 * test.mean_relative_error:.2f} %</strong>",
                f"{100 * test.blind_error:.2f} %" if math.isfinite(test.blind_error) else "",
                f"{100 * test.coverage:.0f} %",
                f"\u00b1 {100 * test.width:.2f} %",
            ]
            for test in reversed(tests)
        ]
        header = ["size held out", "off by", "a law blind to mixtures", "inside 90 % intervals", "half-width of these"]
        body += "<h3>Back-tests</h3>" + part.table(
            header, rows, "Fitted to the smaller sizes only: mean relative error of the losses"
        )
    if held is not None:
        body += _held_out(fitted, held)
    rows = [
        part.reach_row("active parameters", decision.target[1], fitted.size_range),
        part.reach_row("tokens", decision.target[2], fitted.tokens_range),
    ]
    body += "<h3>How far out the target lies</h3>"
    body += part.table(
        ["", "", "target", "fitted", ""],
        rows,
        "Logarithmic; shaded: what was fitted; dot: the target",
        "table difference",
    )
    notes = [*decision.notes, *fitted.notes]
    from camel_jax.downstream.result import flagged

    notes += [f"task {task}: {why}, not to be relied on" for task, why in flagged(fitted.benchmarks).items()]
    return body + (f"<h3>To know</h3>{part.lines(notes, 'lines note')}" if notes else "")


def _held_out(fitted: Any, held: Any) -> str:
    rows = []
    for row in held.rows:
        good = not row.failure
        cells = [
            f"<strong>{row.error:.2f} %</strong>" if good else "",
            f"{100 * row.cover90:.0f} %" if good and math.isfinite(row.cover90) else "",
            text(row.failure),
        ]
        rows.append([name(row.method.replace("_", " ")), *cells])
    from camel_jax.figures.losses import backtest

    table = part.table(
        ["method", "off by", "inside 90 % intervals", ""],
        rows,
        f"The {format_count(held.size)} runs, predicted from the smaller ones: mean relative error of the losses",
    )
    drawn = page_figure(
        "backtest",
        f"Predicted against measured losses of the {format_count(held.size)} runs",
        "Each dot is a loss of a run that the fit had not seen; dots on the diagonal are predicted exactly, the gray band is 1 %.",
        lambda ax: backtest(held.measured, held.predicted, fitted.sets, ax=ax, title=" "),
    )
    return f"<h3>The largest size, against other methods</h3>{table}{drawn}"


def also(fitted: Any, decision: Any) -> str:
    """Nearly optimal mixtures, and what sparing the set that loses most would cost; both move where scripts run."""
    result, body = decision.result, ""
    if decision.ranges is not None:
        from camel_jax.figures.spaces import many_mixtures

        wide = decision.ranges.high - decision.ranges.low
        loose, firm = int(np.argmax(wide)), int(np.argmin(wide))
        near = decision.request.near
        body += (
            f"<p>All mixtures drawn here are within {near:g} % of the best {text(result.objective)}. Among them, "
            f"{name(result.domains[loose])} may lie anywhere between {percent(decision.ranges.low[loose])} and "
            f"{percent(decision.ranges.high[loose])}; {name(result.domains[firm])} only between "
            f"{percent(decision.ranges.low[firm])} and {percent(decision.ranges.high[firm])}.</p>"
        )
        still = page_figure(
            "near",
            f"Mixtures within {near:g} % of the best",
            "Each line is a mixture that is nearly as good as the recommended one, which is drawn bold; the reference is dashed.",
            lambda ax: many_mixtures(
                result.domains,
                decision.ranges.samples,
                best=result.weights,
                reference=result.reference,
                measured=np.asarray(fitted.discrepancy.mixtures),
                ax=ax,
                title=" ",
            ),
        )
        body += _moving("near", still)
    if decision.trade is not None:
        from camel_jax.figures.spaces import gains_traded

        trade = decision.trade
        still = page_figure(
            "front",
            f"What sparing {trade.labels[1]} would cost",
            f"Best trade-offs between {trade.labels[0]} and {trade.labels[1]}, as gains over the reference with 90 % intervals.",
            lambda ax: gains_traded(trade.gains, trade.chosen, trade.labels, measured=trade.measured, ax=ax, title=" "),
        )
        body += (
            f"<h3>What sparing the set that loses most would cost</h3><p>Of all sets, {name(trade.labels[1].removeprefix('loss on '))} "
            "fares worst under the recommended mixture. On this line no mixture is better in both.</p>"
            f"{_moving('front', still)}"
        )
    return body or "<p>Nothing was computed beside the best mixture.</p>"


def _moving(chart: str, still: str) -> str:
    """A still figure, the chart that takes its place where scripts run, and room to say for which size it holds."""
    moving = f'<div class="moving chart" id="{chart}-chart" hidden></div><p class="moving note" id="{chart}-where"></p>'
    return f'<div class="still">{still}</div>{moving}'


def along(fitted: Any, decision: Any, moved: Any) -> str:
    """The best mixture along sizes with a band, and losses along sizes."""
    from camel_jax.figures.mixtures import optimum_path

    stops, result = decision.stops, decision.result
    ratio = decision.target[2] / decision.target[1]
    change = np.abs(stops.weights[-1] - stops.weights[0])
    most = int(np.argmax(change))
    first, last = (format_count(x) for x in stops.scales[[0, -1], 1])
    body = (
        f"<p>From {first} to {last} parameters at {ratio:.3g} tokens a parameter, the best share of "
        f"{name(result.domains[most])} goes from {percent(stops.weights[0, most])} to {percent(stops.weights[-1, most])}. "
        f"Bands are shares of mixtures within {decision.request.near or 0.1:g} % of the best there.</p>"
    )
    fitted_sizes = sorted({*fitted.size_range, *(test.size for test in fitted.backtests)})
    body += page_figure(
        "path",
        "The best mixture, size by size",
        "One line a domain; its band is the range of its share among mixtures that are nearly as good.",
        lambda ax: optimum_path(
            stops.scales[:, 1],
            stops.weights,
            result.domains,
            low=stops.low,
            high=stops.high,
            fitted=fitted_sizes,
            ax=ax,
            title=" ",
        ),
    )
    from camel_jax.figures.sizes import gain_along, losses_along

    edge, sizes = fitted.size_range[1], stops.scales[:, 1]
    body += page_figure(
        "gain",
        "What the recommended mixture gains over the reference, size by size",
        f"The mixture recommended at the target, from {first} to {last} parameters, against the reference at the same sizes.",
        lambda ax: gain_along(sizes, stops.gains, result.objective, fitted_up_to=edge, ax=ax, title=" "),
    )
    if moved is not None:
        (along, point, low, high), dots = moved
        body += page_figure(
            "losses",
            f"Losses with the recommended mixture, at {ratio:.3g} tokens a parameter",
            "One line a validation set; dots are runs of the table, brought to the same mixture and tokens by the law.",
            lambda ax: losses_along(
                along, point, low, high, fitted.sets, moved=dots, fitted_up_to=edge, ax=ax, title=" "
            ),
        )
    header = ["size", "tokens", *[str(x) for x in result.domains[:8]]]
    rows = [
        [format_size(total, active), format_count(tokens), *(percent(w) for w in weights[:8])]
        for (total, active, tokens), weights in zip(stops.scales, stops.weights, strict=True)
    ]
    words = "Best shares" + (f" of the first 8 of {len(result.domains)} domains" if len(result.domains) > 8 else "")
    return body + f"<details><summary>The same as a table</summary>{part.table(header, rows, words)}</details>"


def next_runs(fitted: Any, decision: Any, designs: Any) -> str:
    """Pairs of runs that would test the recommendation, and a design where one was made."""
    rows = []
    for test in decision.tests:
        gain = test["gain"]
        rows.append(
            [
                format_size(test["total"], test["size"]),
                format_count(test["tokens"]),
                f"{test['cost']:.2g}",
                f"<strong>{part.signed(gain[0], 4)}</strong>",
                part.span(gain[1], gain[2], 4),
            ]
        )
    label, unit = decision.result.objective, unit_of(decision.result.objective)
    body = (
        "<p>Two runs put the recommendation to the test: one with the recommended mixture, one with the reference, alike in all else. "
        "The law says what they should show; if they show something else, fit again with them in the table.</p>"
    )
    header = ["size", "tokens each", "FLOPs of both", "gain expected", "90 % interval"]
    body += part.table(header, rows, f"What a pair of runs should show: gain in {text(label)}, {unit}")
    if decision.tests and decision.tests[0]["gain"][0] < 0:
        body += (
            '<p class="note">At the smallest of these sizes the recommended mixture is expected to do worse than the reference: '
            "the best mixture moves with size, and a test there says little about the target.</p>"
        )
    if designs is None:
        return body
    from camel_jax.figures.designs import design_map, of_size

    spent = designs.counts * designs.cost / designs.total_cost
    counts = [
        [text(size), f"<strong>{count}</strong>", percent(float(spent[of_size(designs, k)].sum()), 0)]
        for k, (size, count) in enumerate(designs.runs_per_size().items())
        if count
    ]
    error = f"standard error at the target {100 * designs.error_before:.2f} % now, {100 * designs.error_after:.2f} % with them"
    table = part.table(
        ["size", "runs", "of the cost"], counts, f"{designs.shape} design for {designs.total_cost:.3g}", "table few"
    )
    drawn = page_figure(
        "design",
        "Mixtures of the runs to buy",
        "Mixtures that are alike lie close; a dot is as large as its runs are many, and its color is the size of the model.",
        lambda ax: design_map(designs, ax=ax, title=" "),
    )
    return f"{body}<h3>A table of runs for a budget</h3>{table}<p>{text(error)}.</p>{drawn}"


def source(fitted: Any, facts: Mapping[str, str]) -> str:
    """Provenance: the fit and what it was made of."""
    sizes = " to ".join(format_count(x) for x in fitted.size_range)
    seen = " to ".join(format_count(x) for x in fitted.tokens_range)
    told = {
        "law": fitted.law.name,
        "fitted": f"{sizes} parameters, {seen} tokens, {len(fitted.domains)} domains, {len(fitted.sets)} validation sets",
    }
    told |= {"fit": fitted.check()} if fitted.diagnostics is None else {"posterior": fitted.diagnostics.verdict()}
    told |= dict(facts)
    rows = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in told.items())
    return f"<dl>{rows}</dl>"
