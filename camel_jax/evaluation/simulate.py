"""Simulated studies from a planted law: for tests, examples and calibration, never shown as measured."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.camel import camel
from camel_jax.laws.law import Law, Params, Raw, predict_rows
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs
from camel_jax.types import Array

_from_params = jax.jit(predict_rows, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _from_raw(law: Law, raw: Raw, recipe: Recipe) -> Array:
    return predict_rows(law, law.constrain(raw), recipe)


def study(
    key: Array,
    *,
    law: Law | None = None,
    params: Params | None = None,
    n_domains: int = 3,
    n_sets: int | None = None,
    n_mixtures: int = 12,
    sizes: tuple[float, ...] = (2e7, 1e8, 3e8),
    checkpoints: int = 3,
    tokens_per_parameter: float = 30.0,
    noise: float = 0.003,
    sparsity: tuple[float, ...] = (1.0,),
) -> Runs:
    """A table of simulated runs: random mixtures at every size, with run-level and checkpoint noise.

    Args:
      key: a ``jax.random`` key.
      law: planted law, in units of 1e8 parameters and 1e9 tokens; ``camel(skills=4)`` if None.
      params: its constrained parameters; a random start of the law if None.
      n_domains: K. n_sets: V, K if None.
      n_mixtures: mixtures at every size, drawn from a flat Dirichlet.
      sizes: active parameters.
      checkpoints: rows a run, evenly spaced in tokens.
      tokens_per_parameter: final tokens over the geometric mean size (the same tokens at every size).
      noise: standard deviation of log loss, half of its variance shared by the checkpoints of a run.
      sparsity: total over active parameters, cycled over mixtures.

    Returns:
      ``Runs`` with domains ``d0..``, sets ``v0..`` and run names ``size-mixture``.

    >>> len(study(jax.random.key(0), n_mixtures=5, sizes=(1e7, 1e8), checkpoints=2))
    20
    """
    n_sets = n_domains if n_sets is None else n_sets
    law = camel(skills=4) if law is None else law
    mix_key, law_key, run_key, row_key = jax.random.split(key, 4)
    mixtures = np.asarray(jax.random.dirichlet(mix_key, jnp.ones(n_domains), (n_mixtures,)))
    size, mixture, step = (
        x.reshape(-1)
        for x in np.meshgrid(np.arange(len(sizes)), np.arange(n_mixtures), np.arange(checkpoints), indexing="ij")
    )
    n_active = np.asarray(sizes, float)[size]
    final = tokens_per_parameter * np.exp(np.mean(np.log(sizes)))
    ratio = np.asarray(sparsity, float)[mixture % len(sparsity)]
    recipe = Recipe(n_active * ratio, n_active, final * (step + 1) / checkpoints, mixtures[mixture])
    run = size * n_mixtures + mixture
    empty = np.zeros((len(run), 0))
    runs = Runs(
        recipe,
        np.ones((len(run), n_sets)),
        empty,
        run,
        tuple(f"d{i}" for i in range(n_domains)),
        tuple(f"v{i}" for i in range(n_sets)),
        (),
        tuple(f"{s:.0f}-{m}" for s in sizes for m in range(n_mixtures)),
    )
    inner = Recipe(recipe.n_total / 1e8, recipe.n_active / 1e8, recipe.tokens / 1e9, recipe.weights)
    if params is None:
        unit_runs = Runs(inner, runs.losses, empty, run, runs.domains, runs.sets)
        clean = np.asarray(_from_raw(law, law.init(law_key, unit_runs), inner))
    else:
        clean = np.asarray(_from_params(law, params, inner))
    shared = np.asarray(jax.random.normal(run_key, (run.max() + 1, n_sets)))[run]
    own = np.asarray(jax.random.normal(row_key, clean.shape))
    losses = clean * np.exp(noise * (shared + own) / np.sqrt(2.0))
    return Runs(recipe, losses, empty, run, runs.domains, runs.sets, (), runs.run_names)
