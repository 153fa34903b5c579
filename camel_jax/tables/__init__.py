"""Run tables in and out: every rule on outside data, in words."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from camel_jax.tables.read import read_recipes, read_runs
    from camel_jax.tables.runs import Runs, select, split_by_scale
    from camel_jax.tables.sheet import TableError
    from camel_jax.tables.tasks import read_tasks
    from camel_jax.tables.write import runs_to_frame, write_runs

__all__ = [
    "Runs",
    "TableError",
    "read_recipes",
    "read_runs",
    "read_tasks",
    "runs_to_frame",
    "select",
    "split_by_scale",
    "write_runs",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "read": ["read_recipes", "read_runs"],
        "runs": ["Runs", "select", "split_by_scale"],
        "sheet": ["TableError"],
        "tasks": ["read_tasks"],
        "write": ["runs_to_frame", "write_runs"],
    },
)
