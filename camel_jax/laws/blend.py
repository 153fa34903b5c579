"""Several laws as one: the geometric mean of their predictions, weighted by what each can do on a table.

No law is the best on every table. CAMEL's skills are told apart by mixtures; SODM's joint form needs fewer of them, and is as good or
better where the mixture's effect changes little with size; with many domains at one size little is left but a concave function of
shares. The mean of laws that err in different ways is mostly better than the best of them. ``fit`` learns the weights from what each
law predicts of mixtures and sizes that it leaves out, shrunk towards what is usual (``stacking``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from camel_jax.laws.camel import camel
from camel_jax.laws.law import Law
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, scales
from camel_jax.types import Array, PerSet

SHARE = "share"  # leaf of the weights of all parts but the first: learnt by ``stacking``, not by the parts' solvers
PARTS = ("camel", "sodm_joint", "concave")
SIZES, SWARM = (0.7, 0.3, 0.0), (0.5, 0.0, 0.5)  # their weights where a table says nothing: of several sizes, of one
FIRST = 0.75  # that of the first of other parts; the rest have the remainder in equal parts
MOST_DOMAINS = 40  # beyond which the fits of SODM would take minutes, and only CAMEL is asked
KNOWN = 1e6  # precision of those weights


def usual_weights(names: Sequence[str], runs: Runs) -> np.ndarray:
    """Weights of parts where a table says nothing, (P,), adding up to 1; a part of none is not asked.

    >>> from camel_jax.evaluation import simulate
    >>> swarm, runs = (simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=s) for s in ((1e7,), (1e7, 1e8)))
    >>> usual_weights(PARTS, swarm).tolist(), usual_weights(PARTS, runs).tolist(), usual_weights(("camel", "dml"), runs).tolist()
    ([0.5, 0.0, 0.5], [0.7, 0.3, 0.0], [0.75, 0.25])
    """
    if tuple(names) == PARTS:
        if len(runs.domains) > MOST_DOMAINS:
            return np.array([1.0, 0.0, 0.0])
        return np.array(SIZES if len(scales(runs)) > 1 else SWARM)
    return np.array([FIRST, *np.full(len(names) - 1, (1.0 - FIRST) / (len(names) - 1))])


def of_part(raw: Mapping[str, Array], name: str) -> dict[str, Array]:
    """The leaves of one part of the unconstrained parameters of a blend, by that part's own names.

    >>> of_part({"sodm.floor": 1.0, "share": [0.5]}, "sodm")
    {'floor': 1.0}
    """
    return {key.removeprefix(f"{name}."): leaf for key, leaf in raw.items() if key.startswith(f"{name}.")}


def join_parts(parts: Mapping[str, Mapping[str, Array]], share: Array) -> dict[str, Array]:
    """The opposite of ``of_part``.

    >>> join_parts({"sodm": {"floor": 1.0}}, [0.5])
    {'sodm.floor': 1.0, 'share': [0.5]}
    """
    return {f"{name}.{key}": leaf for name, raw in parts.items() for key, leaf in raw.items()} | {SHARE: share}


def with_share(raw: Mapping[str, Array], share: Array) -> dict[str, Array]:
    """The same lanes with other weights of the parts after the first, (P - 1,).

    >>> with_share({"sodm.floor": 1.0, "share": np.ones((2, 1))}, [0.5])["share"].tolist()
    [[0.5], [0.5]]
    """
    return {**raw, SHARE: np.array(np.broadcast_to(share, np.shape(raw[SHARE])))}


def weights_of_parts(raw: Mapping[str, Array]) -> np.ndarray:
    """Weights of all parts, (P,), of the unconstrained parameters of one lane."""
    share = np.asarray(raw[SHARE], float)
    return np.array([1.0 - share.sum(), *share])


def without_idle(law: Law, *params: Any) -> tuple[Any, ...]:
    """A law and parameters of it, without the parts of a blend that have no weight in any of them; others as they are.

    What predicts nothing need not be compiled, computed and differentiated.

    >>> law = blend(4, ("camel", "dml"))
    >>> kept, one = without_idle(law, {"camel": 1.0, "dml": 2.0, "share": np.zeros((3, 1))})
    >>> kept.name, one
    ('camel', 1.0)
    """
    leaves = jax.tree.leaves(params)
    if not law.parts or any(isinstance(x, Tracer) for x in leaves):
        return law, *params
    if any(np.any(np.asarray(one[SHARE]) != 0.0) for one in params):
        return law, *params
    name, first = law.parts[0]
    return first, *(one[name] for one in params)


def as_known(params: Any, recipe: Recipe) -> Recipe:
    """The recipe at which a part is compared with the first: that of the table where the part has no term of size or of tokens.

    On a table of one size, such a part predicts the same losses at every size; there the first part alone says what size does.

    Args:
      params: natural parameters of the part. recipe: in units of the table, in which its only size, or token count, is 1.

    >>> from camel_jax.recipes.recipe import dense
    >>> known = as_known({"floor": 1.0, "data_scale": 0.2}, dense(8.0, 4.0, [0.5, 0.5]))
    >>> float(known.n_active), float(known.tokens)
    (1.0, 4.0)
    """
    if not isinstance(params, Mapping) or "floor" not in params:
        return recipe
    if not {"size_scale", "size_mixture"} & params.keys():
        total = recipe.n_total / recipe.n_active
        recipe = dataclasses.replace(recipe, n_active=jnp.ones_like(recipe.n_active), n_total=total)
    if not {"data_scale", "data_mixture"} & params.keys():
        recipe = dataclasses.replace(recipe, tokens=jnp.ones_like(recipe.tokens))
    return recipe


def _part(name: str, skills: int) -> Law:
    if name == "camel":
        return camel(skills)
    from camel_jax.laws.by_name import law_by_name

    return law_by_name(name)


@lru_cache(maxsize=64)
def blend(skills: int = 16, parts: tuple[str, ...] = PARTS) -> Law:
    """Laws fitted apart that predict together; CAMEL, joint SODM and a floor for swarms, the default of the command line.

    Args:
      skills: latent skills of CAMEL.
      parts: names of two laws or more.

    Returns:
      A ``Law`` whose raw parameters are those of its ``parts``, as "camel.transfer" and "sodm.floor", and the weights of all but the
      first.

    Raises:
      ValueError: fewer than two laws, one of them twice, or one of them a blend.

    >>> blend().name, [name for name, _ in blend().parts]
    ('blend', ['camel', 'sodm_joint', 'concave'])
    """
    names = parts
    if len(names) < 2 or len(set(names)) < len(names) or "blend" in names:
        raise ValueError(f"a blend is of different laws, two at least, not of {', '.join(names)}")
    laws = tuple((name, _part(name, skills)) for name in names)

    def init(key: Array, runs: Runs) -> dict[str, Array]:
        # CAMEL starts where it does alone, so that without weight of the others the two laws are the same
        keys = [key, *(jax.random.fold_in(key, i) for i in range(1, len(laws)))]
        raw = {name: law.init(k, runs) for (name, law), k in zip(laws, keys, strict=True)}
        return join_parts(raw, jnp.asarray(usual_weights(names, runs)[1:]))

    def predict(params: dict[str, Any], recipe: Recipe) -> PerSet:
        (name, law), *others = laws
        say = lambda one: jnp.log(law.predict(params[name], one))  # noqa: E731
        first = said = say(recipe)
        for i, (other, its) in enumerate(others):
            share = params[SHARE][i]
            near = as_known(params[other], recipe)
            apart = jnp.log(its.predict(params[other], near)) - (first if near is recipe else say(near))
            said = said + share * jnp.where(share == 0.0, 0.0, apart)  # a part without weight may say what it likes
        return jnp.exp(said)

    def constrain(raw: dict[str, Array]) -> dict[str, Any]:
        return {name: law.constrain(of_part(raw, name)) for name, law in laws} | {SHARE: raw[SHARE]}

    def log_prior(raw: dict[str, Array]) -> Array:
        # the weights are known: what reads the curvature of the prior, such as a design, is not to learn them from runs
        away = raw[SHARE] - jax.lax.stop_gradient(raw[SHARE])
        return sum(law.log_prior(of_part(raw, name)) for name, law in laws) - 0.5 * KNOWN * jnp.sum(away**2)

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
