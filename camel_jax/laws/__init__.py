"""Laws: from a recipe to validation losses. Each constructor returns a ``Law`` of pure functions."""

from collections.abc import Callable

from camel_jax.laws.blend import blend
from camel_jax.laws.camel import CamelParams, CamelPrior, camel
from camel_jax.laws.camel_paper import camel_paper
from camel_jax.laws.chinchilla import chinchilla
from camel_jax.laws.concave import concave
from camel_jax.laws.dml import dml
from camel_jax.laws.law import Law, Units, in_units, predict_rows, table_units
from camel_jax.laws.sodm import sodm, sodm_joint

CONSTRUCTORS: dict[str, Callable[..., Law]] = {
    "blend": blend,
    "camel": camel,
    "camel_paper": camel_paper,
    "chinchilla": chinchilla,
    "concave": concave,
    "dml": dml,
    "sodm": sodm,
    "sodm_joint": sodm_joint,
}

__all__ = [
    "CONSTRUCTORS",
    "CamelParams",
    "CamelPrior",
    "Law",
    "Units",
    "blend",
    "camel",
    "camel_paper",
    "chinchilla",
    "concave",
    "dml",
    "in_units",
    "predict_rows",
    "sodm",
    "sodm_joint",
    "table_units",
]
