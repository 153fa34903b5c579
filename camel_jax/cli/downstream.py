"""The benchmark law on the command line: which table it is fitted to, and what is said of it."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from camel_jax.cli.console import print_table, say, tell_ignored, working
from camel_jax.cli.options import parse_map


def read_benchmark_table(
    runs: Any, path: pathlib.Path | None, tasks_path: pathlib.Path | None, columns: Sequence[str] | None
) -> tuple[Any, dict[str, Any]]:
    """(table with losses and accuracies or None, what is known of its tasks), checked before any work.

    Raises:
      ValueError: the table has no accuracies or reads sets that the runs do not have, or options that need a table.
    """
    if path is None:
        if columns:
            raise ValueError("--map-benchmarks is for the table of --benchmarks, which is not given")
        if not runs.tasks:
            if tasks_path is not None:
                raise ValueError(f"--tasks {tasks_path}: there are no accuracies (columns acc/<task>) to fit")
            return None, {}
        table = runs
    else:
        from camel_jax.tables.read import read_runs

        table = read_runs(path, columns=parse_map(columns), on_ignored=tell_ignored, need_mixtures=False)
        if not table.tasks:
            raise ValueError(f"--benchmarks {path}: no accuracies (columns acc/<task>)")
        missing = [name for name in table.sets if name not in runs.sets]
        if missing:
            raise ValueError(
                f"--benchmarks {path}: the runs have no {', '.join(f'loss/{s}' for s in missing)}, so it cannot be"
                f" predicted; they have {', '.join(f'loss/{s}' for s in runs.sets)}."
                " Leave a column out with --map-benchmarks 'loss/NAME='"
            )
    known: dict[str, Any] = {}
    if tasks_path is not None:
        from camel_jax.tables.tasks import read_tasks

        known = read_tasks(tasks_path)
        if unknown := [task for task in table.tasks if task not in known]:
            say(f"note: not in {tasks_path}: {', '.join(unknown)}")
    return table, known


def add_benchmarks(fitted: Any, table: Any, known: dict[str, Any], *, given: bool, seed: int, resamples: int) -> Any:
    """The fit with a benchmark law; without one, and a note, where the runs' own accuracies are too few.

    Args:
      fitted: the fit. table, known: of ``read_benchmark_table``. given: whether the user named the table.
    """
    import jax

    from camel_jax.downstream.fit import fit_accuracies

    key = jax.random.fold_in(jax.random.key(seed), 1)
    try:
        with working(f"fitting the benchmark law to {len(table.tasks)} tasks"):
            law = fit_accuracies(table, known, key=key, resamples=resamples)
    except ValueError as error:
        if given:
            raise
        say(f"note: no benchmark law: {error}")
        return fitted
    return fitted.with_benchmarks(law)


def print_benchmarks(summary: dict[str, Any]) -> None:
    """The summary of a benchmark law for people: usable tasks, then the flagged ones with the reason."""
    errors, expected = summary["in_sample_error_points"], summary["next_scale_error_points"]
    n_tasks, n_sets = len(summary["tasks"]), len(summary["sets"])
    title = f"Benchmark law: {len(errors)} of {n_tasks} tasks usable, from {n_sets} losses in {summary['rows']} rows"
    rows = [[t, f"{e:.1f}", f"{expected[t]:.1f}"] for t, e in errors.items()]
    if rows:
        print_table(title, ["task", "mean error, points", "expected at the next size, points"], rows)
    flagged = summary["flagged"]
    if flagged:
        print_table(
            "Flagged tasks, left out of objectives unless they are named" if rows else f"{title}; flagged:",
            ["task", "flag", "reason"],
            [[task, why["flag"], why["reason"]] for task, why in flagged.items()],
            words=3,
            caption=(
                "best: mean accuracy of the quarter of the rows with the lowest losses;"
                " chance: accuracy of a guess, as told or as fitted;",
                "rise: how far the fitted curve climbs from the quarter with the highest losses to there;",
                "noise: standard error of one accuracy, from its number of questions and the misfit of the curve",
            ),
        )
