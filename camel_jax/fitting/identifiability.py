"""What a table can tell a law, and what it cannot: asked before any fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from camel_jax.laws.law import Law
from camel_jax.recipes.user_functions import naming
from camel_jax.tables.combine import follows_size, spanned
from camel_jax.tables.runs import Runs


class FitError(ValueError):
    """A table cannot be fitted by a law, and why.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=1, sizes=(1e7, 1e8))
    >>> cj.fit(cj.laws.camel(), runs, key=jax.random.key(1))
    Traceback (most recent call last):
        ...
    camel_jax.fitting.identifiability.FitError: camel needs at least 5 runs for 2 domains; the table has 2
    """


def _asked(law: Law, name: str, runs: Runs) -> Any:
    """What a function of a law says of a table; where it fails, whose it is."""
    function = getattr(law, name)
    took = f"a table of {len(runs.domains)} domains and {len(runs.sets)} sets"
    with naming(f"{name} of the law {law.name!r}", function, took):
        return function(runs)


def check_table(law: Law, runs: Runs) -> tuple[str, ...]:
    """Whether a table can tell a law's parameters, and what it cannot tell.

    Returns:
      Notes in plain words, one for each thing that the table leaves open.

    Raises:
      FitError: too few runs, a set without measurements, or domains that never vary where the law needs them to.
    """
    n_runs, needed = len(np.unique(runs.run)), _asked(law, "min_runs", runs)
    if n_runs < needed:
        raise FitError(
            f"{law.name} needs at least {needed} runs for {len(runs.domains)} domains; the table has {n_runs}"
        )
    measured = np.isfinite(np.asarray(runs.losses, float))
    for name, column in zip(runs.sets, measured.T, strict=True):
        n_seen = len(np.unique(np.asarray(runs.run)[column]))
        if n_seen < min(needed, 4):
            raise FitError(f"loss/{name} is measured in {n_seen} runs; {law.name} needs at least {min(needed, 4)}")
    notes = []
    held = "the term is dropped" if law.separable else "its exponents rest on the prior"
    if len(np.unique(np.asarray(runs.recipe.n_active))) == 1:
        notes.append(
            f"one model size: the size term cannot be told ({held}); predictions at other sizes are not evidence"
        )
    if len(np.unique(np.asarray(runs.recipe.tokens))) == 1:
        notes.append(f"one token count: the data term cannot be told apart from it ({held})")
    elif follows_size(runs, runs.recipe.tokens):
        notes.append(
            "tokens change only with model size: what size and data are worth is split by the priors; predictions at other "
            "ratios of tokens to parameters are not evidence"
        )
    notes += spanned(runs)
    said = _asked(law, "notes", runs)
    if isinstance(said, str):
        raise ValueError(f"notes of the law {law.name!r} must give a tuple of sentences, not one text")
    notes += said
    sparsity = np.asarray(runs.recipe.n_total, float) / np.asarray(runs.recipe.n_active, float)
    if sparsity.max() > 1 + 1e-6 and sparsity.max() <= sparsity.min() * (1 + 1e-6):
        notes.append(
            "one sparsity: what inactive parameters are worth cannot be told; capacity is taken as active parameters"
        )
    elif sparsity.max() > sparsity.min() * (1 + 1e-6) and follows_size(runs, sparsity):
        notes.append(
            "sparsity changes only with model size: what inactive parameters are worth cannot be told from what size is worth, "
            "and rests on the prior"
        )
    return tuple(notes)
