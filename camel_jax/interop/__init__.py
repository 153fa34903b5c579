"""From the trackers and evaluators that teams use to run tables, and from mixtures to the trainers that they use.

found = open_sources(["wandb/"])
mapping = guess(found).mapping        # look at it: table_of(mapping, found)
runs = import_runs(found, mapping).runs
"""

from camel_jax.interop.assemble import Imported, import_runs
from camel_jax.interop.guess import guess
from camel_jax.interop.mapping import ColumnMapping, read_mapping, table_of, write_mapping
from camel_jax.interop.options import Options
from camel_jax.interop.plan import Mixture, Plan, make_plan, read_mixture
from camel_jax.interop.rounding import round_shares
from camel_jax.interop.sources import open_sources
from camel_jax.interop.targets import TARGETS, find_target

__all__ = [
    "TARGETS",
    "ColumnMapping",
    "Imported",
    "Mixture",
    "Options",
    "Plan",
    "find_target",
    "guess",
    "import_runs",
    "make_plan",
    "open_sources",
    "read_mapping",
    "read_mixture",
    "round_shares",
    "table_of",
    "write_mapping",
]
