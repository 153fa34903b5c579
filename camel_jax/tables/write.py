"""Tables out: runs, predictions and other columns as CSV or Parquet, whole or not at all."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from camel_jax.runtime import require
from camel_jax.storage import replacing
from camel_jax.tables.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


def runs_to_frame(runs: Runs) -> pd.DataFrame:
    """The table of runs as a DataFrame in the schema that ``read_runs`` reads.

    Args:
      runs: the table; what was not measured stays NaN.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> list(runs_to_frame(runs))
    ['run', 'size', 'tokens', 'mix/d0', 'mix/d1', 'loss/v0', 'loss/v1']
    """
    import pandas as pd

    recipe = runs.recipe
    weights = np.asarray(recipe.weights)
    names = runs.run_names or tuple(str(i) for i in range(int(np.max(runs.run)) + 1))
    data: dict[str, Any] = {"run": [names[i] for i in np.asarray(runs.run)], "size": _whole(recipe.n_active)}
    if np.any(np.asarray(recipe.n_total) != np.asarray(recipe.n_active)):
        data["size_total"] = _whole(recipe.n_total)
    data["tokens"] = _whole(recipe.tokens)
    data |= {f"mix/{d}": weights[:, k] for k, d in enumerate(runs.domains)}
    if recipe.supply is not None:
        supply = np.broadcast_to(np.asarray(recipe.supply), weights.shape)
        data |= {
            f"supply/{d}": np.where(np.isinf(supply[:, k]), np.nan, supply[:, k]) for k, d in enumerate(runs.domains)
        }
    data |= {f"loss/{s}": np.asarray(runs.losses)[:, v] for v, s in enumerate(runs.sets)}
    data |= {f"acc/{t}": np.asarray(runs.accuracies)[:, v] for v, t in enumerate(runs.tasks)}
    return pd.DataFrame(data)


def rows_to_frame(rows: Mapping[str, Mapping[str, Any]], index: str) -> pd.DataFrame:
    """A DataFrame of one row a name: the name in the column ``index``, then the columns of all rows.

    >>> rows_to_frame({"a": {"n": 1}, "b": {"n": 2}}, "table")["n"].tolist()
    [1, 2]
    """
    import pandas as pd

    return pd.DataFrame([{index: name, **row} for name, row in rows.items()])


def write_runs(runs: Runs, path: str | os.PathLike[str]) -> None:
    """Write a table of runs as CSV or Parquet, by suffix; what was not measured stays blank.

    Args:
      runs: the table.
      path: a file whose name ends in .csv or .parquet; it appears whole or not at all.

    Raises:
      ValueError: another suffix, or a folder that is not there.

    >>> import pathlib
    >>> import numpy as np
    >>> import tempfile
    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_runs(runs, pathlib.Path(folder) / "runs.csv")
    ...     again = cj.read_runs(pathlib.Path(folder) / "runs.csv")
    >>> bool(np.allclose(again.losses, runs.losses))
    True
    """
    write_frame(runs_to_frame(runs), path)


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write any table as CSV or Parquet, by suffix, without leaving half a file behind.

    Raises:
      ValueError: another suffix, or a folder that is not there.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in (".csv", ".parquet", ".pq"):
        raise ValueError(f"cannot write {path}: the name must end in .csv or .parquet")
    if suffix != ".csv":
        require("parquet", "pyarrow", f"writing {path}")
    with replacing(path) as part:
        if suffix == ".csv":
            frame.to_csv(part, index=False, lineterminator="\n")
        else:
            frame.to_parquet(part, index=False)


def write_columns(columns: Mapping[str, Any], target: str | os.PathLike[str] | TextIO) -> None:
    """Write named columns, such as predictions, to a CSV or Parquet file, or as CSV to an open stream.

    Whole numbers are written without a point; others in a CSV with eight significant digits.
    """
    import pandas as pd

    frame = pd.DataFrame({name: _written(column) for name, column in columns.items()})
    if not isinstance(target, (str, os.PathLike)):
        target.write(frame.to_csv(index=False, lineterminator="\n", float_format="%.8g"))
    elif pathlib.Path(target).suffix.lower() == ".csv":
        with replacing(target) as part:
            frame.to_csv(part, index=False, lineterminator="\n", float_format="%.8g")
    else:
        write_frame(frame, target)


def _written(column: Any) -> Any:
    values = np.asarray(column)
    return _whole(values) if values.dtype.kind in "iuf" else column


def _whole(values: Any) -> np.ndarray:
    values = np.asarray(values, float)
    return values.astype(np.int64) if np.all((values == np.round(values)) & (np.abs(values) < 2**62)) else values
