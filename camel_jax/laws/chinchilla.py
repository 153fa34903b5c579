"""The Chinchilla law: loss against size and tokens, blind to the mixture (Hoffmann et al. 2022, arXiv 2203.15556).

    L_v = E_v + A_v N^-a_v + B_v D^-b_v                           as published
    L_v = E_v + ((A_v N^-a_v)^p + (B_v D^-b_v)^p)^(1/p)           coupled, p >= 1

This file also holds what the separable laws share: a floor, a capacity term, a data term, how they join, and their priors.
"""

from __future__ import annotations

from functools import lru_cache

from camel_jax.laws.coordinates import scaling_coordinates
from camel_jax.laws.law import Law
from camel_jax.laws.scaling import (
    published_prior,
    scaling_constrain,
    scaling_init,
    scaling_log_prior,
    scaling_loss,
    scaling_structure,
)


@lru_cache(maxsize=64)
def chinchilla(upgraded: bool = True) -> Law:
    """Loss against size and tokens only: what a law that ignores the mixture can do.

    Args:
      upgraded: couple the two terms and put priors on the exponents, as CAMEL does; False is the published form.

    >>> chinchilla().name
    'chinchilla'
    """

    return Law(
        "chinchilla",
        lambda key, runs: scaling_init(key, runs, upgraded),
        scaling_loss,
        scaling_constrain,
        scaling_log_prior if upgraded else published_prior,
        separable=True,
        min_runs=lambda runs: 4,
        settings=(("upgraded", upgraded),),
        structure=scaling_structure,
        coordinates=scaling_coordinates(),
    )
