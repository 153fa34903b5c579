"""camel_jax: data-mixture scaling laws in JAX, from a table of small runs to the mixture for the large one.

Names are imported when they are first used, so that ``import camel_jax`` costs nothing and ``camel-jax --help`` does not
wait for JAX.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camel_jax import laws
    from camel_jax.draws import Discrepancy, Draws, LossesAt
    from camel_jax.fit import Fit, fit, load_fit
    from camel_jax.identifiability import FitError
    from camel_jax.laws.law import Law
    from camel_jax.runs import Recipe, Runs, dense, select, split_by_scale
    from camel_jax.schema import TableError
    from camel_jax.tables import read_recipes, read_runs, runs_to_frame, write_runs

__version__ = "0.1.0"

# public name -> module it lives in
_HOME = {
    "Discrepancy": "draws",
    "Draws": "draws",
    "Fit": "fit",
    "FitError": "identifiability",
    "Law": "laws.law",
    "LossesAt": "draws",
    "Recipe": "runs",
    "Runs": "runs",
    "TableError": "schema",
    "dense": "runs",
    "fit": "fit",
    "laws": "laws",
    "load_fit": "fit",
    "read_recipes": "tables",
    "read_runs": "tables",
    "runs_to_frame": "tables",
    "select": "runs",
    "split_by_scale": "runs",
    "write_runs": "tables",
}

__all__ = [
    "Discrepancy",
    "Draws",
    "Fit",
    "FitError",
    "Law",
    "LossesAt",
    "Recipe",
    "Runs",
    "TableError",
    "dense",
    "fit",
    "laws",
    "load_fit",
    "read_recipes",
    "read_runs",
    "runs_to_frame",
    "select",
    "split_by_scale",
    "write_runs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'camel_jax' has no attribute {name!r}")
    module = importlib.import_module(f"camel_jax.{_HOME[name]}")
    value = module if _HOME[name] == name and not hasattr(module, name) else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Package(types.ModuleType):
    """Importing the module ``camel_jax.fit`` must not hide the function ``camel_jax.fit``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType) and name in _HOME and hasattr(value, name):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
