"""``camel-jax fit TABLES... --out-dir FOLDER``: a law fitted to each of many tables, whose lanes are solved together."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from camel_jax.cli.console import print_json, print_table, say, working
from camel_jax.cli.output import claim, hold
from camel_jax.runtime import start_engine

SUMMARY = "fits.csv"
SHOWN = 20  # tables listed on stdout


def fit_folder(
    tables: Sequence[pathlib.Path],
    folder: pathlib.Path,
    law: Any,
    *,
    columns: Mapping[str, str | None],
    seed: int,
    resume: pathlib.Path | None,
    json: bool,
    **options: Any,
) -> None:
    """Fit every table, write FOLDER/NAME.npz for each and FOLDER/fits.csv for all; a bad table is a row that says why.

    Raises:
      ValueError: two tables of one name, or no table could be fitted.
    """
    names = [path.stem for path in tables]
    if double := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two tables are called {double[0]}; their fits would have one name")
    start_engine()
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder / SUMMARY)
    hold(resume, "fitting with")
    import jax

    from camel_jax.fitting.many import fit_many
    from camel_jax.tables.write import write_frame

    named = dict(zip(names, tables, strict=True))
    with working(f"fitting {law.name} to {len(tables)} tables") as progress:
        many = fit_many(
            law, named, key=jax.random.key(seed), columns=columns, resume=resume, progress=progress, **options
        )
    for name, fit in many.fits.items():
        fit.save(folder / f"{name}.npz")
    for name, error in many.errors.items():
        say(f"{named[name]}: {error}")
    frame = many.frame()
    write_frame(frame, folder / SUMMARY)
    say(f"wrote {len(many.fits)} fits and {folder / SUMMARY}")
    if json:
        print_json(frame.to_dict("records"))
    else:
        shown = list(many.fits)[:SHOWN]
        rest = len(many.fits) - len(shown)
        print_table(
            f"{law.name} on {len(many.fits)} of {len(tables)} tables",
            ["table", "runs", "domains", "sets", "residual"],
            [
                [
                    name,
                    *(str(many.rows[name][x]) for x in ("runs", "domains", "sets")),
                    f"{many.rows[name]['residual']:.2%}",
                ]
                for name in shown
            ],
            caption=[f"and {rest} more in {folder / SUMMARY}"] if rest else (),
        )
    if not many.fits:
        raise ValueError("no table could be fitted")
