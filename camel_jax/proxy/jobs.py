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
from camel_jax.recipes.sizes import format_size


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
      ValueError: a size that no model of the ladder is near, or two rows of one run with the same steps.
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


def other_sizes(recipe: Recipe, shapes: Sequence[Shape]) -> list[str]:
    """Sizes of recipes for which a model of another size stands, in words, each once: those that are more than 2 % away.

    >>> two = Recipe(*np.array([[6e3, 6.2e3], [6e3, 6.2e3], [1e6, 1e6]]), np.ones((2, 1)))
    >>> other_sizes(two, [find_shape(n, n) for n in two.n_active])
    ['6K as 6224']
    """
    told = []
    for total, active, shape in zip(np.asarray(recipe.n_total), np.asarray(recipe.n_active), shapes, strict=True):
        if max(abs(active / shape.n_active - 1), abs(total / shape.n_total - 1)) > 0.02:
            true = f"{shape.n_active}" if shape.experts == 1 else f"{shape.n_total} with {shape.n_active} active"
            told.append(f"{format_size(float(total), float(active))} as {true}")
    return list(dict.fromkeys(told))


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
