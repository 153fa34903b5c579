"""What commands write: tables and figures, whole or not at all."""

from __future__ import annotations

import pathlib
from typing import Any

from camel_jax.cli.console import say
from camel_jax.storage import check_target, replacing

TABLE, FIGURE = (".csv", ".parquet", ".pq"), (".png", ".svg", ".pdf")


def check_files(out: pathlib.Path | None, figure: pathlib.Path | None) -> None:
    """Names that can be written, before any work.

    Raises:
      ValueError: another suffix, or no such folder.
    """
    for option, path, suffixes in (("--out", out, TABLE), ("--figure", figure, FIGURE)):
        if path is not None:
            if path.suffix.lower() not in suffixes:
                raise ValueError(f"{option} {path}: the name must end in {', '.join(suffixes)}")
            check_target(path)


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Columns as a list of rows."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def write_table(columns: dict[str, Any], out: pathlib.Path | None) -> None:
    """Write a table where one was asked for."""
    if out is not None:
        from camel_jax.tables.write import write_columns

        write_columns(columns, out)
        say(f"wrote {out}")


def write_figure(page: Any, path: pathlib.Path) -> None:
    """Write a figure whole or not at all."""
    with replacing(path) as part:
        page.savefig(part, format=path.suffix[1:].lower())
    say(f"wrote {path}")
