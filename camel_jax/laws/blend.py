"""CAMEL and additive SODM as one law: the geometric mean of their predictions, weighted by what each can do on a table.

CAMEL's skills are told apart by mixtures. Where a table has few, SODM, in which every domain helps every set in its own way and no
more, often extrapolates over mixtures better (benchmarks/few_mixtures.py); on other tables it fails at a larger size. ``fit`` learns
the weight from mixtures that it leaves out (``stacking``), up to a limit that falls with the number of mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.camel import camel
from camel_jax.laws.law import Law
from camel_jax.laws.sodm import sodm
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

SHARE = "share"  # leaf of the weight of the second part: learnt by ``stacking``, not by the solvers of the parts
KNOWN = 1e6  # precision of that weight
EVEN = 2.0  # mixtures a domain up to which both may weigh the same


def second_share(runs: Runs) -> float:
    """Most weight of SODM on a table: a half up to two distinct mixtures a domain, then less, in proportion.

    >>> from camel_jax.evaluation import simulate
    >>> [second_share(simulate.study(jax.random.key(0), n_domains=3, n_mixtures=n)) for n in (4, 8)]
    [0.5, 0.375]
    """
    return 0.5 * min(1.0, EVEN * len(runs.domains) / count_mixtures(runs))


def count_mixtures(runs: Runs) -> int:
    """Distinct mixtures of a table, to three digits."""
    return int(mixture_ids(runs).max(initial=-1)) + 1


def mixture_ids(runs: Runs) -> np.ndarray:
    """Which mixture each row has, (R,) from 0; shares that agree to three digits are one."""
    return np.unique(np.asarray(runs.recipe.weights, float).round(3), axis=0, return_inverse=True)[1].ravel()


def of_part(raw: Mapping[str, Array], name: str) -> dict[str, Array]:
    """The leaves of one part of the unconstrained parameters of a blend, by that part's own names.

    >>> of_part({"sodm.floor": 1.0, "share": 0.5}, "sodm")
    {'floor': 1.0}
    """
    return {key.removeprefix(f"{name}."): leaf for key, leaf in raw.items() if key.startswith(f"{name}.")}


def join_parts(parts: Mapping[str, Mapping[str, Array]], share: Array) -> dict[str, Array]:
    """The opposite of ``of_part``.

    >>> join_parts({"sodm": {"floor": 1.0}}, 0.5)
    {'sodm.floor': 1.0, 'share': 0.5}
    """
    return {f"{name}.{key}": leaf for name, raw in parts.items() for key, leaf in raw.items()} | {SHARE: share}


def with_share(raw: Mapping[str, Array], share: float) -> dict[str, Array]:
    """The same lanes with another weight of the second part.

    >>> with_share({"sodm.floor": 1.0, "share": np.ones(2)}, 0.5)["share"]
    array([0.5, 0.5])
    """
    return {**raw, SHARE: np.full(np.shape(raw[SHARE]), share)}


@lru_cache(maxsize=64)
def blend(skills: int = 16) -> Law:
    """CAMEL and additive SODM, fitted apart, predicting together: the default of the command line.

    Args:
      skills: latent skills of CAMEL.

    Returns:
      A ``Law`` whose raw parameters are those of its ``parts``, as "camel.transfer" and "sodm.floor", and the weight of SODM.

    >>> blend().name, [name for name, _ in blend().parts]
    ('blend', ['camel', 'sodm'])
    """
    parts = (("camel", camel(skills)), ("sodm", sodm()))

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        # CAMEL starts where it does alone, so that without weight of SODM the two laws are the same
        keys = key, jax.random.fold_in(key, 1)
        raw = {name: law.init(k, runs) for (name, law), k in zip(parts, keys, strict=True)}
        return join_parts(raw, jnp.asarray(second_share(runs)))

    def predict(params: dict[str, Any], recipe: Recipe) -> Array:
        first, second = (jnp.log(law.predict(params[name], recipe)) for name, law in parts)
        return jnp.exp(first + params[SHARE] * (second - first))

    def constrain(raw: dict[str, Array]) -> dict[str, Any]:
        return {name: law.constrain(of_part(raw, name)) for name, law in parts} | {SHARE: raw[SHARE]}

    def log_prior(raw: dict[str, Array]) -> Array:
        # the weight is known: what reads the curvature of the prior, such as a design, is not to learn it from runs
        away = raw[SHARE] - jax.lax.stop_gradient(raw[SHARE])
        return sum(law.log_prior(of_part(raw, name)) for name, law in parts) - 0.5 * KNOWN * away**2

    return Law(
        "blend",
        init,
        predict,
        constrain,
        log_prior,
        min_runs=lambda runs: len(runs.domains) + 3,
        settings=(("skills", skills),),
        parts=parts,
    )
