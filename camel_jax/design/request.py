"""Designs as a command asks for them: from a table of runs, or from the names of the domains alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from camel_jax.design.candidates import lattice_mixtures, mixtures_around, target_region
from camel_jax.design.knowledge import know_nothing, know_runs
from camel_jax.design.ladder import make_ladder
from camel_jax.design.propose import compare_shapes
from camel_jax.recipes.costs import cost_by_name
from camel_jax.recipes.sizes import parse_size
from camel_jax.tables.runs import scales

CANDIDATES = ("dirichlet", "lattice")


def compare_designs(
    budget: float,
    target: tuple[str, str | None],
    *,
    table: Any = None,
    fitted: Any = None,
    law: Any = None,
    domains: Sequence[str] = (),
    ladder: Sequence[Any] | None = None,
    tokens_per_parameter: Sequence[float] = (20.0,),
    candidates: str = "dirichlet",
    mixtures: int = 200,
    noise: float | None = None,
    cost: str = "flops",
    seed: int = 0,
    **options: Any,
) -> Any:
    """Designs of every shape for a budget.

    Args:
      budget: what the runs may cost together, in the unit of ``cost``.
      target: size and tokens to predict; tokens None for 20 a parameter.
      table: runs there are; None to start from nothing.
      fitted: a fit to the table.
      law: the law, where there is no table.
      domains: names of the domains, where there is no table.
      ladder: sizes that may be run; those of the table if None.
      tokens_per_parameter: of the runs.
      candidates: where mixtures come from, one of ``CANDIDATES``.
      mixtures: how many.
      noise: standard deviation of the log loss of a run; measured if None.
      cost: name of a registered cost model.
      seed: of every random choice.
      options: as for ``compare_shapes``.

    Raises:
      ValueError: fewer than two domains, one that is named twice, or no sizes.
    """
    keys = jax.random.split(jax.random.key(seed), 3)
    if table is None:
        if len(set(domains)) < max(len(domains), 2):
            raise ValueError("--domains: name at least two domains, each once")
        center = np.full(len(domains), 1.0 / len(domains))
    else:
        center = np.asarray(table.recipe.weights).mean(0)
        center = center / center.sum()
    parse_size(target[0])
    if ladder is None and table is None:
        raise ValueError("--ladder: name the sizes that may be run, where there is no table")
    sizes: list[Any] = [float(x) for x in scales(table)] if ladder is None and table is not None else list(ladder or ())
    rungs = make_ladder(sizes, tokens_per_parameter=list(tokens_per_parameter), cost=cost_by_name(cost))
    aim = target_region(*target, mixtures_around(keys[1], 32, center, 2.0))
    lattice = candidates == "lattice"
    shares = lattice_mixtures(keys[0], mixtures, len(center)) if lattice else mixtures_around(keys[0], mixtures, center)
    if table is None:
        known = know_nothing(law, rungs, aim, list(domains), key=keys[2], noise=noise)
    else:
        known = know_runs(fitted, table, rungs, aim, noise=noise)
    return compare_shapes(known, rungs, budget, aim, shares, **options)
