"""NUTS on many tables of one shape at once: the rounds of ``sample_posterior``, with tables as well as chains under vmap.

A step of one chain is far too small for a core, so that twenty tables take little longer than a few.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np


def padded(table, runs: int):
    """A table of more runs, of which nothing was measured: they change no density, and tables of one shape share a program."""
    import jax
    import jax.numpy as jnp

    more, checkpoints = runs - len(table.wear), table.wear.shape[1]
    first = jax.tree.map(lambda x: jnp.repeat(x[:1], more * checkpoints, axis=0), table.recipe)
    return table._replace(
        recipe=jax.tree.map(lambda x, y: jnp.concatenate([x, y]), table.recipe, first),
        log_losses=jnp.pad(table.log_losses, ((0, more), (0, 0), (0, 0))),
        measured=jnp.pad(table.measured, ((0, more), (0, 0), (0, 0))),
        wear=jnp.pad(table.wear, ((0, more), (0, 0)), constant_values=1.0),
    )


@lru_cache
def _programs(plan, settings):
    import jax

    from camel_jax.bayes import nuts

    begin, go = partial(nuts.start_chain, plan, settings), partial(nuts.advance_chain, plan, settings, settings.chunk)
    for over_targets in (None, 0):  # first the chains of a table, then the tables
        begin = jax.vmap(begin, (over_targets, 0, 0))
        go = jax.vmap(go, (over_targets, 0))
    return jax.jit(begin), jax.jit(go)


def sample_tables(plan, tables, targets, keys, *, chains: int, draws: int, warmup: int, depth: tuple[int, int]):
    """``Samples`` of every table, with a leading axis B.

    Args:
      plan: law and priors of all tables. tables, targets: of length B, the data and where the first round starts.
      keys: of length B. chains, draws, warmup, depth: as in ``sample_posterior``; warmup, and the draws together with
        it, in whole chunks.
    """
    import jax
    import jax.numpy as jnp

    from camel_jax.bayes import nuts, whitening
    from camel_jax.bayes.sampling import EXPLORE, LOOK, POINTS

    settings = nuts.Settings(warmup=warmup, depth=depth)
    look = min(LOOK, warmup)

    def stacked(trees):
        return jax.tree.map(lambda *x: jnp.stack(x), *trees)

    begin, go = _programs(plan, settings)
    size = len(targets[0].mode)
    u = jnp.stack([0.5 * jax.random.normal(jax.random.fold_in(key, 1), (chains, size)) for key in keys])
    for part in range(EXPLORE + 1):
        explores = part < EXPLORE
        walk = jnp.stack([jax.random.split(jax.random.fold_in(key, 2 + part), chains) for key in keys])
        target = stacked(targets)
        state, kept = begin(target, walk, u), []
        for _ in range((warmup + (0 if explores else draws)) // settings.chunk):
            state, out = go(target, state)
            kept.append(jax.tree.map(np.asarray, out))
        every = jax.tree.map(lambda *x: np.concatenate(x, axis=2), *kept)
        samples = nuts.Samples(*(x[:, :, warmup - look if explores else warmup :] for x in every))
        if explores:
            points = samples.z[:, :, np.linspace(0, look - 1, POINTS // chains).round().astype(int)]
            targets = [
                whitening.whiten_around(plan, data, x.reshape(-1, size)) for data, x in zip(tables, points, strict=True)
            ]
            u = jnp.stack([whitening.to_whitened(t, x[:, -1]) for t, x in zip(targets, samples.z, strict=True)])
    return samples
