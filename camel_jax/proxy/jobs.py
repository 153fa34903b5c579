"""Which trainings a table of recipes asks for: the model and steps of every row, and a name for all that its numbers depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from camel_jax.proxy.corpus import Corpus
from camel_jax.proxy.model import Shape, find_shape
from camel_jax.proxy.train import Settings
from camel_jax.recipes.recipe import Recipe


class Job(NamedTuple):
    """One row to train. ``key`` names it on disk: all that its numbers depend on, hashed."""

    row: int
    run: str
    shape: Shape
    weights: tuple[float, ...]
    seed: int
    steps: int
    key: str


def find_shapes(recipe: Recipe, names: Sequence[str], settings: Settings) -> list[Shape]:
    """The model of every recipe; all recipes that cannot be trained are in the one message.

    Raises:
      ValueError: a size that is not on the ladder, or two rows of one run with the same steps.
    """
    shapes: list[Shape] = []
    wrong: dict[str, list[str]] = {}
    seen: set[tuple[str, int]] = set()
    sizes = zip(np.asarray(recipe.n_active), np.asarray(recipe.n_total), np.asarray(recipe.tokens), strict=True)
    for name, (active, total, tokens) in zip(names, sizes, strict=True):
        try:
            shapes.append(find_shape(float(active), float(total)))
        except ValueError as error:
            wrong.setdefault(str(error), []).append(name)
        if (name, steps := settings.steps(float(tokens))) in seen:
            wrong.setdefault(f"two rows of one run have {steps} steps", []).append(name)
        seen.add((name, steps))
    if wrong:
        parts = [f"run {', '.join(runs[:3])}{' ...' if len(runs) > 3 else ''}: {rule}" for rule, runs in wrong.items()]
        raise ValueError("; ".join(parts))
    return shapes


def make_jobs(
    recipe: Recipe,
    names: Sequence[str],
    seeds: Sequence[int] | None,
    corpus: Corpus,
    settings: Settings,
    method: str = "workers",
) -> list[Job]:
    """Jobs of all recipes.

    Raises:
      ValueError: see ``sweep``.
    """
    given = [0] * len(names) if seeds is None else [int(seed) for seed in seeds]
    weights = np.asarray(recipe.weights, float)
    if weights.shape != (len(names), len(corpus.domains)) or len(given) != len(names):
        raise ValueError(
            f"{len(names)} recipes of {len(corpus.domains)} domains do not match shares of shape {weights.shape}"
        )
    common = json.dumps([dataclasses.asdict(settings), method, corpus.record], sort_keys=True)
    jobs = []
    for i, shape in enumerate(find_shapes(recipe, names, settings)):
        shape = dataclasses.replace(shape, symbols=len(corpus.alphabet))
        steps, shares = settings.steps(float(np.asarray(recipe.tokens)[i])), tuple(weights[i].tolist())
        what = json.dumps([common, dataclasses.asdict(shape), shares, given[i], steps])
        jobs.append(Job(i, names[i], shape, shares, given[i], steps, hashlib.sha256(what.encode()).hexdigest()[:24]))
    return jobs
