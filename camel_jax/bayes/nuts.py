"""NUTS over chunks of iterations: chains under vmap, progress after every chunk, and a file from which a stopped run continues."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import NUTS

from camel_jax.archive import read_archive, write_archive
from camel_jax.bayes.priors import Layout
from camel_jax.bayes.whitening import Whitened, whitened_potential

Array = Any
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to sample.

    Attributes:
      warmup: iterations that adapt the step and are thrown away.
      accept: acceptance probability aimed at; higher means smaller steps and fewer divergences.
      depth: largest depth of a tree during warm-up and after, so at most 2^depth gradients an iteration.
      chunk: iterations between two reports of progress, and between two writes of the file.
    """

    warmup: int = 250
    accept: float = 0.9
    depth: tuple[int, int] = (8, 10)
    chunk: int = 50


class Samples(NamedTuple):
    """What the chains give, C chains of N iterations each.

    Attributes:
      z: (C, N, D) standard normals behind the parameters. potential: (C, N) negative log density.
      diverging: (C, N) bool. steps: (C, N) gradients used. accept: (C, N) acceptance probability.
    """

    z: np.ndarray
    potential: np.ndarray
    diverging: np.ndarray
    steps: np.ndarray
    accept: np.ndarray


def run_nuts(
    plan: Layout,
    target: Whitened,
    key: Array,
    start: Array,
    draws: int,
    settings: Settings,
    *,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Warm up and draw with every chain.

    Args:
      plan, target: the model and its whitened coordinates. key: a ``jax.random`` key.
      start: (C, D) where the chains begin, whitened. draws: iterations kept of every chain. settings: how to sample.
      resume: folder in which chunks are kept and looked for, so that a run that was stopped continues to the same numbers.
      progress: called as ``progress(iterations done, iterations in all)`` after every chunk.
    """
    keys = jax.random.split(key, len(start))
    total = settings.warmup + draws
    path = None if resume is None else _kept_at(pathlib.Path(resume), plan, target, keys, (draws, settings))
    state = _start(plan, settings, target, keys, jnp.asarray(start))
    kept: list[Samples] = []
    done = 0
    if path is not None and path.exists():
        done, state, kept = _read(path, state)
    while done < total:
        n = min(settings.chunk, total - done)
        state, part = _advance(plan, settings, n, target, state)
        part = Samples(*(np.asarray(x) for x in part))
        kept.append(Samples(*(x[:, max(settings.warmup - done, 0) :] for x in part)))
        done += n
        if path is not None:
            _write(path, done, state, kept)
        if progress is not None:
            progress(done, total)
    return Samples(*(np.concatenate(x, axis=1) for x in zip(*kept, strict=True)))


def _kernel(plan: Layout, settings: Settings, target: Whitened) -> NUTS:
    return NUTS(
        potential_fn=lambda u: whitened_potential(plan, target, u),
        target_accept_prob=settings.accept,
        max_tree_depth=settings.depth,  # pyright: ignore[reportArgumentType]  # a pair is documented
    )


def _init(plan: Layout, settings: Settings, target: Whitened, key: Array, u: Array) -> tuple[NUTS, Any]:
    kernel = _kernel(plan, settings, target)
    return kernel, kernel.init(key, settings.warmup, u, (), {})


@partial(jax.jit, static_argnums=(0, 1))
def _start(plan: Layout, settings: Settings, target: Whitened, keys: Array, u: Array) -> Any:
    return jax.vmap(lambda key, v: _init(plan, settings, target, key, v)[1])(keys, u)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _advance(plan: Layout, settings: Settings, n: int, target: Whitened, state: Any) -> tuple[Any, Samples]:
    # for its adaptation schedule; the state is thrown away
    kernel = _init(plan, settings, target, jax.random.key(0), jnp.zeros_like(target.mode))[0]

    def step(state: Any, _: None) -> tuple[Any, Samples]:
        state = jax.vmap(lambda s: kernel.sample(s, (), {}))(state)
        z = target.mode + state.z @ target.scale
        return state, Samples(z, state.potential_energy, state.diverging, state.num_steps, state.accept_prob)

    state, out = jax.lax.scan(step, state, None, length=n)
    return state, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), out)


def _kept_at(folder: pathlib.Path, plan: Layout, target: Whitened, keys: Array, settings: Any) -> pathlib.Path:
    """The file of this very run, named by everything that goes into it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (plan.law.name, plan.law.settings, plan.leaves, settings, jax.__version__, numpyro.__version__)
    digest = hashlib.sha256(repr(names).encode())
    for x in [*jax.tree.leaves(target), jax.random.key_data(keys)]:
        digest.update(np.ascontiguousarray(np.asarray(x)).tobytes())
    return folder / f"chains-{digest.hexdigest()[:40]}.npz"


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _write(path: pathlib.Path, done: int, state: Any, kept: list[Samples]) -> None:
    leaves = [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(state)]
    arrays = {f"state/{i:03d}": np.asarray(x) for i, x in enumerate(leaves)}
    arrays |= {name: np.concatenate([getattr(part, name) for part in kept], axis=1) for name in Samples._fields}
    write_archive(path, {"done": done}, arrays)


def _read(path: pathlib.Path, like: Any) -> tuple[int, Any, list[Samples]]:
    header, arrays = read_archive(path)
    leaves, structure = jax.tree.flatten(like)
    saved = [jnp.asarray(arrays[f"state/{i:03d}"]) for i in range(len(leaves))]
    state = [jax.random.wrap_key_data(x) if _is_key(y) else x for x, y in zip(saved, leaves, strict=True)]
    return header["done"], jax.tree.unflatten(structure, state), [Samples(*(arrays[n] for n in Samples._fields))]
