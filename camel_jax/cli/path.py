"""``camel-jax path``: how the best mixture moves with model size and tokens, as a table and a figure."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_json, print_table, working
from camel_jax.cli.inputs import open_fit
from camel_jax.cli.limits import gather
from camel_jax.cli.options import (
    Caps,
    Figure,
    Fixed,
    Floors,
    Json,
    LimitsFile,
    MaxEpochs,
    Objective,
    Seed,
    Size,
    Supply,
    Table,
    Tokens,
)
from camel_jax.cli.output import check_files, rows_of, write_figure, write_table
from camel_jax.recipes.sizes import format_count, format_size, parse_size, parse_tokens
from camel_jax.reports.recommend import outcomes_of


def path(
    fit: Annotated[pathlib.Path, typer.Argument(help="A fit written by camel-jax fit.", show_default=False)],
    size: Size,
    tokens: Tokens,
    steps: Annotated[int, typer.Option(min=2, help="Stops, from the smallest fitted size to the target.")] = 6,
    same_tokens: Annotated[
        bool, typer.Option("--same-tokens", help="All stops on the target's tokens, not on as many a parameter.")
    ] = False,
    same_size: Annotated[
        bool,
        typer.Option("--same-size", help="All stops of the target's size: from the fewest fitted tokens to its own."),
    ] = False,
    objective: Objective = "mean-loss",
    limits: LimitsFile = None,
    floors: Floors = None,
    caps: Caps = None,
    fixed: Fixed = None,
    supply: Supply = None,
    max_epochs: MaxEpochs = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts of each search.")] = 16,
    seed: Seed = 0,
    out: Table = None,
    figure: Figure = None,
    json: Json = False,
) -> None:
    """Follow the best mixture from the fitted sizes to the target: it moves."""
    check_files(out, figure)
    if same_tokens and same_size:
        raise ValueError("--same-tokens and --same-size together leave nothing to move")
    n_total, n_active = parse_size(size)
    n_tokens = parse_tokens(tokens)
    fitted = open_fit(fit)
    options = gather(
        fitted.domains, file=limits, floors=floors, caps=caps, fixed=fixed, supply=supply, max_epochs=max_epochs
    )
    import jax
    import numpy as np

    from camel_jax.mixture.objectives import parse_objective
    from camel_jax.mixture.path import optimum_path

    goal = parse_objective(objective)
    supplies = options.get("supply")
    stops = stops_of(fitted, (n_total, n_active, n_tokens), steps, same_tokens, same_size)
    options |= {"objective": goal, "starts": starts, "key": jax.random.key(seed)}
    functions = []

    def at(n: Any, d: Any) -> Any:
        functions.append(outcomes_of(fitted, n, d, [goal], supplies))
        return functions[-1]

    with working(f"searching {steps} mixtures"):
        found = optimum_path(
            at,
            [f"{total:.17g}-A{active:.17g}" if total > active else f"{active:.17g}" for total, active, _ in stops],
            [d for *_, d in stops],
            **options,
        )
    active, seen = (np.array([stop[i] for stop in stops]) for i in (1, 2))
    columns: dict[str, Any] = {"size": active, "tokens": seen}
    if n_total > n_active:
        columns["size_total"] = np.array([stop[0] for stop in stops])
    columns |= {f"mix/{name}": found.weights[:, k] for k, name in enumerate(found.domains)}
    results = found.results
    columns["value"] = np.array([r.value.value for r in results])
    columns["gain"], columns["gain_lo"], columns["gain_hi"] = (
        np.array([getattr(r.gain, part) for r in results]) for part in ("value", "lower", "upper")
    )
    from camel_jax.mixture.path import lost_by_staying

    columns["lost_by_staying"] = lost_by_staying(functions, found.weights, goal)
    write_table(columns, out)
    if figure is not None:
        from camel_jax.figures import mixtures, style

        same = f"{format_size(n_total, n_active)}" if same_size else f"{format_count(n_tokens)} tokens"
        kept = f"at {same}" if same_size or same_tokens else f"at {n_tokens / n_active:.3g} tokens per parameter"
        page = style.new_figure()
        mixtures.optimum_path(
            seen if same_size else active,
            found.weights,
            found.domains,
            fitted_up_to=(fitted.tokens_range if same_size else fitted.size_range)[1],
            along="training tokens" if same_size else "active parameters",
            ax=page.subplots(),
            title=f"Best mixture, {results[0].objective}",
            note=kept,
        )
        write_figure(page, figure)
    if json:
        told = {"fit": fitted.law.name, "objective": results[0].objective, "maximize": results[0].maximize}
        print_json({**told, "path": rows_of(columns), "status": [r.status for r in results]})
        return
    shares = [
        [
            format_size(total, n),
            format_count(d),
            *(f"{100 * share:.1f} %" for share in w),
            f"{r.value.value:.4f}",
            f"{r.gain.value:.4f}",
            f"{lost:.4f}",
        ]
        for (total, n, d), w, r, lost in zip(stops, found.weights, results, columns["lost_by_staying"], strict=True)
    ]
    header = ["size", "tokens", *found.domains, results[0].objective, "gain", "staying"]
    caption = (
        "gain: over the reference, the mean mixture of the fitted table; staying: what the first row's mixture loses"
    )
    print_table(f"How the best mixture moves ({fitted.law.name})", header, shares, caption=caption, words=0)


def stops_of(
    fitted: Any, target: tuple[float, float, float], steps: int, same_tokens: bool, same_size: bool
) -> list[tuple[float, float, float]]:
    """Total and active parameters and tokens of every stop, equal in ratio, the target last."""
    import numpy as np

    n_total, n_active, n_tokens = target
    if same_size:
        return [(n_total, n_active, d) for d in np.geomspace(min(fitted.tokens_range[0], n_tokens), n_tokens, steps)]
    sizes = np.geomspace(min(fitted.size_range[0], n_active), n_active, steps)
    seen = np.full(steps, n_tokens) if same_tokens else n_tokens / n_active * sizes
    return [(n * n_total / n_active, n, d) for n, d in zip(sizes.tolist(), seen.tolist(), strict=True)]
