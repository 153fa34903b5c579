"""CAMEL and additive SODM as one law: the geometric mean of their predictions, weighted by what each can do on a table.

CAMEL's skills are told apart by mixtures. Where a table has few, SODM, in which every domain helps every set in its own way and no
more, often extrapolates over mixtures better (benchmarks/accuracy/few_mixtures.py); on other tables it fails at a larger size.
``fit`` learns the weight from mixtures that it leaves out (``stacking``), up to a limit that falls with the number of mixtures.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.camel import FEW_MIXTURES, camel
from camel_jax.laws.law import Law
from camel_jax.laws.sodm import sodm
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, count_mixtures
from camel_jax.types import Array, PerSet

SHARE = "share"  # leaf of the weight of the second part: learnt by ``stacking``, not by the solvers of the parts
PARTS = ("camel", "sodm")
KNOWN = 1e6  # precision of that weight


def second_share(runs: Runs) -> float:
    """Most weight of SODM on a table: a half up to two distinct mixtures a domain, then less, in proportion.

    >>> from camel_jax.evaluation import simulate
    >>> [second_share(simulate.study(jax.random.key(0), n_domains=3, n_mixtures=n)) for n in (4, 8)]
    [0.5, 0.375]
    """
    return 0.5 * min(1.0, FEW_MIXTURES * len(runs.domains) / count_mixtures(runs))


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


def _part(name: str, skills: int) -> Law:
    if name in ("camel", "sodm"):
        return camel(skills) if name == "camel" else sodm()
    from camel_jax.laws.by_name import law_by_name

    return law_by_name(name)


@lru_cache(maxsize=64)
def blend(skills: int = 16, parts: tuple[str, ...] = PARTS) -> Law:
    """Two laws fitted apart, predicting together; CAMEL and additive SODM, the default of the command line.

    Args:
      skills: latent skills of CAMEL.
      parts: names of the two laws; the second gets no more than the weight that SODM may have.

    Returns:
      A ``Law`` whose raw parameters are those of its ``parts``, as "camel.transfer" and "sodm.floor", and the weight of SODM.

    Raises:
      ValueError: not two different laws, or one of them a blend.

    >>> blend().name, [name for name, _ in blend().parts]
    ('blend', ['camel', 'sodm'])
    """
    names = parts
    if len(names) != 2 or names[0] == names[1] or "blend" in names:
        raise ValueError(f"a blend is of two different laws, not of {', '.join(names)}")
    laws = tuple((name, _part(name, skills)) for name in names)

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        # CAMEL starts where it does alone, so that without weight of SODM the two laws are the same
        keys = key, jax.random.fold_in(key, 1)
        raw = {name: law.init(k, runs) for (name, law), k in zip(laws, keys, strict=True)}
        return join_parts(raw, jnp.asarray(second_share(runs)))

    def predict(params: dict[str, Any], recipe: Recipe) -> PerSet:
        first, second = (jnp.log(law.predict(params[name], recipe)) for name, law in laws)
        return jnp.exp(first + params[SHARE] * (second - first))

    def constrain(raw: dict[str, Array]) -> dict[str, Any]:
        return {name: law.constrain(of_part(raw, name)) for name, law in laws} | {SHARE: raw[SHARE]}

    def log_prior(raw: dict[str, Array]) -> Array:
        # the weight is known: what reads the curvature of the prior, such as a design, is not to learn it from runs
        away = raw[SHARE] - jax.lax.stop_gradient(raw[SHARE])
        return sum(law.log_prior(of_part(raw, name)) for name, law in laws) - 0.5 * KNOWN * away**2

    return Law(
        "blend",
        init,
        predict,
        constrain,
        log_prior,
        min_runs=lambda runs: max(law.min_runs(runs) for _, law in laws),
        settings=(("skills", skills), *((("parts", names),) if names != PARTS else ())),
        parts=laws,
    )
