"""NUTS over chunks of iterations: every chain by itself, chains side by side on the cores; progress after every chunk, and a file
from which a stopped run continues.

Chains under vmap would step together: every one of them waits for the largest tree. On a CPU a step of one chain fills a core, so each
has a program run of its own, in as many threads as there are cores, and gives the same numbers on any number of them. On other
devices, where a step of one chain is far too small, chains are under vmap.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import NUTS

from camel_jax.bayes.priors import Layout
from camel_jax.bayes.whitening import Whitened, whitened_potential
from camel_jax.storage import ArchiveError, Kept
from camel_jax.types import Array

Progress = Callable[[int, int], None]
STEPS = np.int64  # dtype of counts of gradients


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to sample.

    Attributes:
      warmup: iterations that adapt the step and are thrown away.
      accept: acceptance probability aimed at; higher means smaller steps and fewer divergences.
      depth: largest depth of a tree during warm-up and after, so at most 2^depth gradients an iteration.
      chunk: iterations between two reports of progress, and between two writes of the file.
      thin: iterations for every draw that is kept.
    """

    warmup: int = 250
    accept: float = 0.95
    depth: tuple[int, int] = (6, 10)
    chunk: int = 50
    thin: int = 2


class Samples(NamedTuple):
    """What the chains give, C chains of N draws each.

    Attributes:
      z: (C, N, D) standard normals behind the parameters. potential: (C, N) negative log density.
      diverging: (C, N) bool, whether any iteration of the draw did. steps: (C, N) gradients of its longest iteration.
      accept: (C, N) mean acceptance probability of its iterations.
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
    last: int = 0,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Warm up and draw with every chain.

    Args:
      plan, target: the model and its whitened coordinates. key: a ``jax.random`` key.
      start: (C, D) where the chains begin, whitened. draws: draws kept of every chain. settings: how to sample.
      last: iterations at the end of the warm-up that are kept too, before the draws and not thinned: for a round that only explores.
      resume: folder in which chunks are kept and looked for, so that a run that was stopped continues to the same numbers.
      progress: called as ``progress(iterations done, iterations in all)`` after every chunk.
    """
    keys = jax.random.split(key, len(start))
    total = settings.warmup + draws * settings.thin
    store, named = _store(resume, plan, target, (draws, last, settings)), (jax.random.key_data(keys), start)
    together = jax.default_backend() != "cpu"
    begin, go = (_start_all, _advance_all) if together else (_start, _advance)
    starts: list[Any] = [(keys, jnp.asarray(start))] if together else list(zip(keys, jnp.asarray(start), strict=True))
    with ThreadPoolExecutor(min(len(starts), _cores())) as pool:

        def side_by_side(run: Callable[..., Any], each: list[Any], first: bool) -> list[Any]:
            ahead = [jax.block_until_ready(run(each[0]))] if first else []  # compiles for all
            return ahead + list(pool.map(lambda x: jax.block_until_ready(run(x)), each[len(ahead) :]))

        states = side_by_side(lambda x: begin(plan, settings, target, *x), starts, first=True)
        kept: list[Samples] = []
        done, fresh = 0, True

        def like(note: dict[str, Any]) -> tuple[list[np.ndarray], Samples]:
            """What is kept after as many iterations as the note says."""
            if not isinstance(n := note.get("done"), int) or n % settings.chunk or not 0 < n < total + settings.chunk:
                raise ArchiveError(f"{resume}: iterations of {n!r:.20} were never kept")
            seen = max(min(n, total) - (settings.warmup - last), 0)
            return _plain_state(states), _samples_like(len(start), seen, len(target.mode))

        if (found := store.find(named, like, _is_sound)) is not None:
            note, (plain, samples) = found
            done, states, kept = note["done"], _with_state(states, plain), [samples]
        while done < total:  # always whole chunks, since one of another length would be compiled anew
            out = side_by_side(lambda x: go(plan, settings, settings.chunk, target, x), states, first=fresh)
            fresh, states = False, [state for state, _ in out]
            parts = [Samples(*(np.asarray(x) for x in part)) for _, part in out]
            part = parts[0] if together else Samples(*(np.stack(x) for x in zip(*parts, strict=True)))
            kept.append(Samples(*(x[:, max(settings.warmup - last - done, 0) : total - done] for x in part)))
            done += settings.chunk
            if store.folder is not None:
                kept = [Samples(*(np.concatenate(x, axis=1) for x in zip(*kept, strict=True)))]
                store.put(named, {"done": done}, (_plain_state(states), kept[0]))
            if progress is not None:
                progress(min(done, total), total)
    every = Samples(*(np.concatenate(x, axis=1) for x in zip(*kept, strict=True)))
    return thinned(every, last, settings.thin)


def thinned(every: Samples, first: int, thin: int) -> Samples:
    """One draw for every ``thin`` iterations of (C, N) ones, its last; the ``first`` are kept as they are.

    >>> flags = np.zeros((1, 4)), np.array([[False, True, False, False]]), np.array([[3, 7, 1, 1]]), np.ones((1, 4))
    >>> found = thinned(Samples(np.arange(4.0).reshape(1, 4, 1), *flags), 0, 2)
    >>> found.z[0, :, 0].tolist(), found.diverging.tolist(), found.steps.tolist()
    ([1.0, 3.0], [[True, False]], [[7, 1]])
    """
    if thin == 1:
        return every
    head = Samples(*(x[:, :first] for x in every))
    z, potential, diverging, steps, accept = (
        x[:, first:].reshape(len(x), (x.shape[1] - first) // thin, thin, *x.shape[2:]) for x in every
    )
    tail = Samples(z[:, :, -1], potential[:, :, -1], np.any(diverging, axis=2), steps.max(2), accept.mean(2))
    return Samples(*(np.concatenate(x, axis=1) for x in zip(head, tail, strict=True)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kernel(plan: Layout, settings: Settings, target: Whitened) -> NUTS:
    return NUTS(
        potential_fn=lambda u: whitened_potential(plan, target, u),
        target_accept_prob=settings.accept,
        max_tree_depth=settings.depth,  # pyright: ignore[reportArgumentType]  # a pair is documented
    )


def _init(plan: Layout, settings: Settings, target: Whitened, key: Array, u: Array) -> tuple[NUTS, Any]:
    kernel = _kernel(plan, settings, target)
    return kernel, kernel.init(key, settings.warmup, u, (), {})


def start_chain(plan: Layout, settings: Settings, target: Whitened, key: Array, u: Array) -> Any:
    """State of one chain that begins at u, whitened, (D,)."""
    return _init(plan, settings, target, key, u)[1]


def advance_chain(plan: Layout, settings: Settings, n: int, target: Whitened, state: Any) -> tuple[Any, Samples]:
    """State of one chain after n more iterations, and what it gave, without the axis of chains."""
    # for its adaptation schedule; the state is thrown away
    kernel = _init(plan, settings, target, jax.random.key(0), jnp.zeros_like(target.mode))[0]

    def step(state: Any, _: None) -> tuple[Any, Samples]:
        state = kernel.sample(state, (), {})
        z = target.mode + target.scale @ state.z
        return state, Samples(z, state.potential_energy, state.diverging, state.num_steps, state.accept_prob)

    return jax.lax.scan(step, state, None, length=n)


_start = jax.jit(start_chain, static_argnums=(0, 1))
_advance = jax.jit(advance_chain, static_argnums=(0, 1, 2))


@partial(jax.jit, static_argnums=(0, 1))
def _start_all(plan: Layout, settings: Settings, target: Whitened, keys: Array, u: Array) -> Any:
    chex.assert_shape(u, (len(keys), *target.mode.shape))
    return jax.vmap(partial(start_chain, plan, settings, target))(keys, u)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _advance_all(plan: Layout, settings: Settings, n: int, target: Whitened, state: Any) -> tuple[Any, Samples]:
    return jax.vmap(partial(advance_chain, plan, settings, n, target))(state)


def _store(resume: str | os.PathLike[str] | None, plan: Layout, target: Whitened, settings: Any) -> Kept:
    """Where the chains of this very run are kept: named by everything that goes into it."""
    names = (plan.law.name, plan.law.settings, plan.leaves, settings, numpyro.__version__)
    return Kept(resume, names, target, kind="chunk of a posterior")


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain_state(states: Any) -> list[np.ndarray]:
    """Leaves of the states of chains, keys as the numbers behind them."""
    return [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(states)]


def _with_state(states: Any, plain: list[np.ndarray]) -> Any:
    """The opposite of ``_plain_state``, for states of the structure of ``states``."""
    leaves, structure = jax.tree.flatten(states)
    new = [
        jax.random.wrap_key_data(jnp.asarray(x)) if _is_key(y) else jnp.asarray(x)
        for x, y in zip(plain, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, new)


def _samples_like(chains: int, draws: int, dimensions: int) -> Samples:
    """Shapes and dtypes of the samples of some draws."""
    one = np.zeros((chains, draws))
    return Samples(np.zeros((chains, draws, dimensions)), one, one > 0, one.astype(STEPS), one)


def _is_sound(kept: tuple[list[np.ndarray], Samples]) -> bool:
    return all(np.isfinite(x).all() for x in (kept[1].z, kept[1].accept))
