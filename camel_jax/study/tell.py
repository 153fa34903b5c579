"""Results into a study: each joined to its run by name, each once, and what contradicts the study refused."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.study.ask import cost_of, recipe_of
from camel_jax.study.settings import Settings
from camel_jax.study.store import DROPPED, FINISHED, UNDER_WAY, Asked, Snapshot, StudyError, Told
from camel_jax.tables.runs import Runs

NEAR_SIZE = (
    2.0  # a trainer may take the nearest size that it has, up to so many times larger or smaller than what was asked
)
NEAR_SHARE = 0.05  # and round shares, by no more than this
FULL = 0.9  # of the tokens asked, from which on a run counts as finished


def rows_of_table(settings: Settings, table: Runs) -> list[Told]:
    """The rows of a run table as results, shares in the order of the study's domains.

    Raises:
      StudyError: the table has other domains.
    """
    if set(table.domains) != set(settings.domains):
        raise StudyError(
            f"the table's domains are {', '.join(table.domains)}; those of the study are {', '.join(settings.domains)}"
        )
    order = [table.domains.index(name) for name in settings.domains]
    r, weights = table.recipe, np.asarray(table.recipe.weights, float)[:, order]

    def measured(names: Sequence[str], values: Any) -> dict[str, float]:
        return {name: float(x) for name, x in zip(names, values, strict=True) if math.isfinite(x)}

    return [
        Told(
            table.run_names[int(np.asarray(table.run)[i])],
            float(r.tokens[i]),
            float(r.n_total[i]),
            float(r.n_active[i]),
            tuple(weights[i].tolist()),
            measured(table.sets, np.asarray(table.losses)[i]),
            measured(table.tasks, np.asarray(table.accuracies)[i]),
            0.0,
        )
        for i in range(len(table))
    ]


def checked_numbers(run: str, numbers: Mapping[str, float], what: str) -> dict[str, float]:
    """Losses or accuracies by name as finite numbers of the right range.

    Raises:
      StudyError: no number, or one outside its range; the message names run and set.

    >>> checked_numbers("a", {"web": 3}, "loss")
    {'web': 3.0}
    """
    out = {}
    for name, value in numbers.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise StudyError(f"run {run}: {what}/{name} is {value!r}, not a number") from None
        if (
            not math.isfinite(number)
            or number < 0
            or (number == 0 and what == "loss")
            or (number > 1 and what == "acc")
        ):
            rule = "must be finite and above zero" if what == "loss" else "must lie in [0, 1]"
            raise StudyError(f"run {run}: {what}/{name} is {number:g}; it {rule}")
        out[str(name)] = number
    return out


def as_result(
    snapshot: Snapshot,
    settings: Settings,
    run: str,
    losses: Mapping[str, float],
    accuracies: Mapping[str, float],
    recipe: tuple[float, float] | None,
    tokens: float | None,
    mixture: Sequence[float] | None,
) -> Told:
    """One result as it is told by hand: what is not said of its recipe is as it was asked.

    Raises:
      StudyError: a run that was not asked, without its recipe, or nothing measured.
    """
    asked = next((one for one in snapshot.runs if one.run == run), None)
    if not losses and not accuracies:
        raise StudyError(f"run {run}: give its losses, as {{set: nats}}, or its accuracies")
    if asked is None and (recipe is None or tokens is None or mixture is None):
        close = ", ".join(one.run for one in snapshot.runs if one.state == UNDER_WAY) or "none"
        raise StudyError(
            f"run {run}: the study did not ask for it; give its size, tokens and mixture too (under way: {close:.300})"
        )
    size = recipe if recipe is not None or asked is None else (asked.n_total, asked.n_active)
    count = tokens if tokens is not None or asked is None else asked.tokens
    shares = mixture if mixture is not None or asked is None else asked.weights
    assert size is not None and count is not None and shares is not None
    numbers = checked_numbers(run, losses, "loss"), checked_numbers(run, accuracies, "acc")
    weights, (told_losses, told_accuracies) = tuple(map(float, shares)), numbers
    return Told(run, float(count), float(size[0]), float(size[1]), weights, told_losses, told_accuracies, 0.0)


def take_in(
    snapshot: Snapshot, settings: Settings, rows: Sequence[Told], *, finished: bool | None = None, replace: bool = False
) -> tuple[list[Asked], list[Told], dict[str, str]]:
    """What a study has to write for results: new runs, results that are new or complete others, and new states.

    Args:
      snapshot: what the study holds. settings: what it is about. rows: the results.
      finished: whether their runs are; None for those that reached ``FULL`` of the tokens asked.
      replace: whether a result may change one that is there.

    Raises:
      StudyError: a recipe that is not what was asked, or a result that contradicts one that is there.
    """
    runs = {run.run: run for run in snapshot.runs}
    there = {(one.run, one.tokens): one for one in snapshot.results}
    names = {name for one in snapshot.results for name in one.losses}
    now = time.time()
    new: dict[str, Asked] = {}
    results: dict[tuple[str, float], Told] = {}
    states: dict[str, str] = {}
    for row in rows:
        if not 0 < len(row.run) <= 200:
            raise StudyError(f"run {row.run!r:.80}: a name has 1 to 200 characters")
        asked = runs.get(row.run) or new.get(row.run)
        if asked is None or (
            row.run in new and row.tokens > asked.tokens
        ):  # a run that came unasked is as long as its last row
            asked = new[row.run] = _given(settings, row, len(new), now)
        elif asked.ask:
            _check_recipe(asked, row)
        key = (row.run, row.tokens)
        old = results.get(key) or there.get(key)
        if old is None and names and row.losses and not names & row.losses.keys():
            raise StudyError(
                f"run {row.run}: it has none of the study's validation sets, which are {', '.join(sorted(names)):.300}"
            )
        merged = row if old is None else _merged(old, row, replace)
        if old is None or merged != old:
            results[key] = merged._replace(told=now)
        done = (row.tokens >= FULL * asked.tokens or not asked.ask) if finished is None else finished
        if asked.state == DROPPED or (done and asked.state != FINISHED):
            states[row.run] = FINISHED if done else UNDER_WAY
    kept = {run: state for run, state in states.items() if run not in new}
    fresh = [run._replace(state=states.get(name, run.state)) for name, run in new.items()]
    return fresh, list(results.values()), kept


def _given(settings: Settings, row: Told, place: int, now: float) -> Asked:
    """A run that comes with its result."""
    cost = float(cost_of(settings, recipe_of([row]))[0])
    return Asked(row.run, 0, place, UNDER_WAY, row.n_total, row.n_active, row.tokens, row.weights, cost, "", now)


def _check_recipe(asked: Asked, row: Told) -> None:
    for what, mine, theirs in (("size", asked.n_active, row.n_active), ("total size", asked.n_total, row.n_total)):
        if abs(math.log(theirs / mine)) > math.log(NEAR_SIZE):
            raise StudyError(
                f"run {row.run}: its {what} is {theirs:.6g} where {mine:.6g} was asked; is it another run?"
            )
    off = np.abs(np.asarray(asked.weights) - np.asarray(row.weights)).max()
    if off > NEAR_SHARE:
        raise StudyError(
            f"run {row.run}: a share is {off:.3g} away from what was asked; is it another run, or are domains exchanged?"
        )


def _merged(old: Told, new: Told, replace: bool) -> Told:
    """A result that is there with what is told again or in addition.

    Raises:
      StudyError: they contradict each other, and the new one is not to replace the old one.
    """
    if replace:
        return new._replace(losses=old.losses | new.losses, accuracies=old.accuracies | new.accuracies, told=old.told)
    for what, mine, theirs in (("loss", old.losses, new.losses), ("acc", old.accuracies, new.accuracies)):
        for name in mine.keys() & theirs.keys():
            if not math.isclose(mine[name], theirs[name], rel_tol=1e-6, abs_tol=1e-9):
                raise StudyError(
                    f"run {new.run} at {new.tokens:.6g} tokens: {what}/{name} was told as {mine[name]:.8g} and now is"
                    f" {theirs[name]:.8g}; say so if it replaces the old one"
                )
    added = {k: v for k, v in new.losses.items() if k not in old.losses}
    scored = {k: v for k, v in new.accuracies.items() if k not in old.accuracies}
    return old._replace(losses=old.losses | added, accuracies=old.accuracies | scored)
