"""Which runs a study proposes next: the design for its target under its limits, with what is under way counted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.design.candidates import target_region
from camel_jax.design.information import sensitivities
from camel_jax.design.knowledge import Knowledge, know_nothing, know_runs
from camel_jax.design.ladder import Ladder
from camel_jax.design.propose import propose_runs
from camel_jax.design.result import Design
from camel_jax.fitting.fit import fit
from camel_jax.fitting.identifiability import FitError
from camel_jax.fitting.result import Fit
from camel_jax.mixture.objectives import Objective
from camel_jax.recipes.costs import checked_costs
from camel_jax.recipes.recipe import Recipe
from camel_jax.study.mixtures import every_run_its_own, feasible_mixtures, is_new, likely_best
from camel_jax.study.settings import Settings
from camel_jax.study.store import DROPPED, UNDER_WAY, Asked, Snapshot
from camel_jax.tables.runs import Runs

CANDIDATES = 160  # mixtures to choose from, over the whole region of the limits
NEARBY = 80  # and as many around the mixture that looks best so far
CLOSE = 20.0  # how close these are: the concentration of their Dirichlet distribution
STARTS = 2
LEAST, HALF = (
    3,
    0.5,
)  # runs of every size that a study should have, as far as this share of an ask's budget pays for them
ROWS = 32  # tables are padded to multiples of this many rows, so that fits share programs


def table_of(snapshot: Snapshot, settings: Settings) -> Runs | None:
    """All results of a study as a table of runs; None before the first.

    Rows are those of runs that were not dropped, in the order of asking; what was not measured is NaN.
    """
    order = {run.run: i for i, run in enumerate(snapshot.runs) if run.state != DROPPED}
    rows = sorted((one for one in snapshot.results if one.run in order), key=lambda one: (order[one.run], one.tokens))
    if not rows:
        return None
    sets = tuple(dict.fromkeys(name for one in rows for name in one.losses))
    tasks = tuple(dict.fromkeys(name for one in rows for name in one.accuracies))
    names = tuple(dict.fromkeys(one.run for one in rows))
    recipe = recipe_of(rows)
    return Runs(
        recipe,
        np.array([[one.losses.get(name, np.nan) for name in sets] for one in rows], float).reshape(
            len(rows), len(sets)
        ),
        np.array([[one.accuracies.get(name, np.nan) for name in tasks] for one in rows], float).reshape(
            len(rows), len(tasks)
        ),
        np.array([names.index(one.run) for one in rows]),
        settings.domains,
        sets,
        tasks,
        names,
    )


def recipe_of(rows: Sequence[Any]) -> Recipe:
    """Recipes of runs or results, leading axis R."""
    total, active, tokens = (
        np.array([getattr(one, name) for one in rows], float) for name in ("n_total", "n_active", "tokens")
    )
    return Recipe(total, active, tokens, np.array([one.weights for one in rows], float))


def fit_table(settings: Settings, table: Runs, resamples: int = 0, backtests: int = 0) -> Fit:
    """The study's law fitted to its results.

    Raises:
      FitError: they are too few.
    """
    options: dict[str, Any] = {"resamples": resamples, "starts": STARTS, "backtests": backtests}
    options["pad_rows"] = -(-len(table) // ROWS) * ROWS
    return fit(settings.the_law(), table, key=jax.random.key(settings.seed), **options)


def weights_of_sets(goal: Objective, sets: tuple[str, ...]) -> np.ndarray | None:
    """What every validation set counts in an objective, (V,); None where all count the same."""
    if goal.kind != "losses" or not goal.weights:
        return None
    out = np.zeros(len(sets))
    for position, weight in goal.bind(sets, ()).weights:
        out[int(position)] += weight
    return out


def waiting_recipe(snapshot: Snapshot) -> Recipe | None:
    """Recipes under way of which nothing is known yet; None where there are none."""
    told = {one.run for one in snapshot.results}
    runs = [run for run in snapshot.runs if run.state == UNDER_WAY and run.run not in told]
    if not runs:
        return None
    return recipe_of(runs)


def knowledge_of(
    snapshot: Snapshot, settings: Settings, ladder: Ladder, target: Any, fitted: Fit | None, table: Runs | None
) -> Knowledge:
    """What the study knows of its law once the runs under way are in: their information counts, their losses do not exist yet."""
    more = [waiting_recipe(snapshot)]
    if fitted is not None and table is not None:
        known = know_runs(fitted, table, ladder, target, noise=settings.noise)
    else:
        sets = (table.sets or None) if table is not None else None
        key = jax.random.key(settings.seed)
        domains = list(settings.domains)
        known = know_nothing(settings.the_law(), ladder, target, domains, sets, key=key, noise=settings.noise)
        more += [None if table is None else table.recipe]  # too few for the law, but not nothing
    precision = known.precision
    for recipe in more:
        if recipe is not None:
            slopes = sensitivities(known.law, known.units, known.raw, recipe) / known.noise[:, None]
            precision = precision + jnp.einsum("mrvp,mrvq->mpq", slopes, slopes)
    return dataclasses.replace(known, precision=precision)


def design_next(
    snapshot: Snapshot, settings: Settings, budget: float, max_runs: int = 32, fitted: Fit | None = None
) -> tuple[Design, np.ndarray]:
    """The design of the next runs, and the mixtures (n, K) that its runs may have instead.

    Args:
      snapshot: what the study holds. settings: what it is about.
      budget: what the runs may cost together.
      max_runs: most runs.
      fitted: the study's law fitted to its results; fitted here if None, as far as they suffice.

    Raises:
      ValueError: a budget that buys no run, or no mixture within the limits that is new.
    """
    ladder, limits, goal = settings.rungs(), settings.named_limits(), settings.goal()
    table = table_of(snapshot, settings)
    if table is not None and fitted is None:
        try:
            fitted = fit_table(settings, table)
        except FitError:
            fitted = None
    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), snapshot.asks), 3)
    spread = feasible_mixtures(limits, keys[0], CANDIDATES)
    sets = settings.domains if table is None or not table.sets else table.sets
    important = weights_of_sets(goal, sets) if table is not None else None

    start = target_region(settings.size, settings.tokens, spread[:1])
    known = knowledge_of(snapshot, settings, ladder, start, fitted, table)
    aim = likely_best(known, settings.size, settings.tokens, spread, keys[1], important)
    if fitted is not None:  # finer where the best mixture is likely to be
        best = np.asarray(aim.recipe.weights)[0]
        spread = np.concatenate([spread, feasible_mixtures(limits, keys[2], NEARBY, best, CLOSE)])
        aim = likely_best(known, settings.size, settings.tokens, spread, keys[1], important)
    known_mixtures = [run.weights for run in snapshot.runs] + [one.weights for one in snapshot.results]
    candidates = spread[is_new(spread, np.reshape(known_mixtures, (-1, len(settings.domains))))]
    if not len(candidates):
        raise ValueError("every mixture within the limits that was tried has been run; ask for replicates")
    options: dict[str, Any] = {"criterion": "choice", "max_runs": max_runs, "copies": 1, "set_weights": important}
    options["min_runs"] = fewest_runs(snapshot, ladder, budget, max_runs)
    return propose_runs(known, ladder, budget, aim, candidates, **options), candidates


def fewest_runs(snapshot: Snapshot, ladder: Ladder, budget: float, max_runs: int) -> np.ndarray:
    """Runs of every size that the next ask buys at the least, (rungs,): what is wanting for ``LEAST`` of each in the study.

    If the law were right, the cheapest size might tell the most for its cost. That it is right is seen at other sizes only.
    """
    rungs = [int(np.flatnonzero(ladder.rung == r)[0]) for r in range(ladder.rungs)]
    have = np.zeros(ladder.rungs, int)
    for run in snapshot.runs:
        if run.state != DROPPED:
            have[np.argmin([abs(np.log(run.n_active / ladder.n_active[i])) for i in rungs])] += 1
    cheap = np.array([ladder.cost[ladder.rung == r].min() for r in range(ladder.rungs)])
    out, left = np.zeros(ladder.rungs, int), HALF * budget
    for _ in range(LEAST):
        for r in range(ladder.rungs):  # one of each size before a second of any
            if have[r] + out[r] < LEAST and cheap[r] <= left and out.sum() < max_runs:
                out[r] += 1
                left -= cheap[r]
    return out


def runs_of(
    design: Design, spare: np.ndarray, snapshot: Snapshot, settings: Settings, replicates: list[Asked]
) -> list[Asked]:
    """The runs of a design with names of their own and a mixture each, and then replicates."""
    columns = design.to_columns([run.run for run in snapshot.runs])
    row = np.repeat(np.arange(len(design.counts)), design.counts)
    mixtures = every_run_its_own(np.asarray(design.recipe.weights)[row], spare)
    runs = [
        Asked(
            str(columns["run"][i]),
            0,
            i,
            UNDER_WAY,
            float(design.recipe.n_total[k]),
            float(design.recipe.n_active[k]),
            float(design.recipe.tokens[k]),
            tuple(mixtures[i].tolist()),
            float(design.cost[k]),
            "",
            0.0,
        )
        for i, k in enumerate(row)
    ]
    return runs + replicate_runs(replicates, [run.run for run in snapshot.runs], len(runs))


def replicate_runs(originals: Sequence[Asked], taken: Sequence[str], place: int = 0) -> list[Asked]:
    """Runs that repeat others, under names that are not taken, from a place within their ask on."""
    names, runs = set(taken), []
    for i, one in enumerate(originals):
        number = next(n for n in itertools.count(2) if f"{one.run}-again-{n}" not in names)
        names.add(name := f"{one.run}-again-{number}")
        runs.append(one._replace(run=name, place=place + i, state=UNDER_WAY, replicates=one.run))
    return runs


def pick_replicates(snapshot: Snapshot, settings: Settings, count: int, budget: float) -> list[Asked]:
    """Runs to repeat, so that the noise of a run is measured: finished ones, the cheapest first, each before any a second time.

    Raises:
      ValueError: nothing is finished yet, or the budget does not pay for so many.
    """
    if not count:
        return []
    trained = {one.run: one for one in snapshot.results}  # the last checkpoint of each
    times = {run: sum(other.replicates == run for other in snapshot.runs) for run in trained}
    ready = [run for run in snapshot.runs if run.run in trained and not run.replicates and run.state != DROPPED]
    if not ready:
        raise ValueError("there is no finished run to replicate yet")
    chosen: list[Asked] = []
    for _ in range(count):
        one = min(ready, key=lambda run: (times[run.run], run.cost, run.run))
        times[one.run] += 1
        chosen.append(one)
    if (cost := sum(run.cost for run in chosen)) > budget:
        raise ValueError(f"a budget of {budget:.3g} does not pay for {count} replicates: they cost {cost:.3g}")
    return chosen


def cost_of(settings: Settings, recipe: Recipe) -> np.ndarray:
    """What runs cost in the study's unit, (R,)."""
    return checked_costs(settings.rungs().model, recipe)


def as_columns(runs: list[Asked], domains: tuple[str, ...]) -> Mapping[str, Any]:
    """Runs as a table of recipes, as ``sweep`` and every trainer's launcher read it; a column of seeds where runs are replicated.

    A replicate's seed is its number, so that what is trained again is not the same training.
    """
    table: dict[str, Any] = {"run": [run.run for run in runs], "size": np.array([run.n_active for run in runs])}
    if any(run.n_total != run.n_active for run in runs):
        table["size_total"] = np.array([run.n_total for run in runs])
    table["tokens"] = np.array([run.tokens for run in runs])
    if any(run.replicates for run in runs):
        table["seed"] = [int(run.run.rpartition("-")[2]) - 1 if run.replicates else 0 for run in runs]
    return table | {f"mix/{d}": np.array([run.weights[k] for run in runs]) for k, d in enumerate(domains)}
