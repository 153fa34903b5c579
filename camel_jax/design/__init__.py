"""Which runs to buy next."""

from camel_jax.design.candidates import mixtures_around, target_region
from camel_jax.design.knowledge import know_nothing, know_runs
from camel_jax.design.ladder import make_ladder
from camel_jax.design.propose import compare_shapes, propose_runs
from camel_jax.design.value_of_runs import worth

__all__ = [
    "compare_shapes",
    "know_nothing",
    "know_runs",
    "make_ladder",
    "mixtures_around",
    "propose_runs",
    "target_region",
    "worth",
]
