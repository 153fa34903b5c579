"""Many simulated studies, one after the other: continued where the same code left off, written and summarised after each."""

from __future__ import annotations

import argparse
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from common.provenance import provenance
from common.results import continued, write

Row = dict[str, float]
SHOWN = tuple(
    f"camel_jax.views.{name}" for name in ("decisions", "fits", "plans", "tables", "view")
)  # no number depends on them


def run_studies(
    description: str | None,
    studies: int,
    result: pathlib.Path,
    tested: Sequence[str],
    study: Callable[[int, int, int], Row],
    summarize: Callable[[list[Row]], dict[str, Any]],
) -> None:
    """Run the studies that a command line asks for, print, and write after each one.

    Args:
      description: of the command. studies: how many, unless told otherwise.
      result: where to write. tested: modules that the numbers depend on.
      study: a row from a seed, the number of the study and how many resamples. summarize: what all rows say; it holds "coverage90".
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=studies)
    parser.add_argument("--resamples", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=result)
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    head = provenance(*tested, leave_out=SHOWN) | {"settings": {"resamples": args.resamples, "seed": args.seed}}
    rows: list[Row] = continued(args.out, head, {"rows": []})["rows"][: args.studies]
    found = summarize(rows) if rows else {}
    begun = time.perf_counter()
    for number in range(len(rows), args.studies):
        rows.append(study(args.seed, number, args.resamples))
        found = summarize(rows)
        write(args.out, {**head, "summary": found, "rows": rows})
        if number % 10 == 9:
            seconds = time.perf_counter() - begun
            print(f"{number + 1} of {args.studies}, {seconds:.0f} s: {found['coverage90']:.3f}", flush=True)
    print(json.dumps(found, indent=1))
