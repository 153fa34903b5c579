"""Training one recipe, or many of one shape at once, and measuring what came out.

Every row is a training of its own: a warm-up over the first twentieth of its steps and a cosine to zero at its last, so that
losses at different budgets are all final losses and comparable. Runs with one seed start from the same parameters and read the
same places of each domain in the same order whatever their mixture, so that mixtures are compared in pairs.

Learning rates follow the width: those of the embedding and of the gains stay, those of matrices fall as 1 / width, the logits are
scaled by 1 / width, and one base rate serves the ladder.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from camel_jax.proxy.corpus import Corpus
from camel_jax.proxy.model import Shape, apply, make_params
from camel_jax.types import Array

EVALUATED = 64  # sequences evaluated at once


@dataclasses.dataclass(frozen=True)
class Settings:
    """How all runs of a sweep are trained.

    Attributes:
      batch: sequences a step. context: symbols a sequence. rate: base learning rate, that of a matrix at width 32.
      warm_up: share of the steps. balance: weight of the routers' imbalance in the loss.
      validation_symbols: validation symbols per domain. dtype: of inner products; "auto" is bfloat16 on an accelerator and
      float32 on a CPU.
    """

    batch: int = 8
    context: int = 64
    rate: float = 0.0125
    warm_up: float = 0.05
    balance: float = 0.01
    validation_symbols: int = 24_576
    dtype: str = "auto"

    def steps(self, tokens: float) -> int:
        """Steps whose tokens come nearest to these, at least one.

        >>> Settings().steps(1_000_000)
        1953
        """
        return max(1, round(tokens / (self.batch * self.context)))

    def resolved(self) -> Settings:
        """With the dtype chosen for the device there is."""
        if self.dtype != "auto":
            return self
        return dataclasses.replace(self, dtype="float32" if jax.default_backend() == "cpu" else "bfloat16")


class Text(NamedTuple):
    """A corpus as arrays on the device.

    Attributes:
      symbols: training text of all domains, one after the other. starts, lengths: of each domain in it, (K,).
      windows: validation text, (K, n, context + 1). tasks: name -> (symbols, asked, right).
    """

    symbols: Array
    starts: Array
    lengths: Array
    windows: Array
    tasks: dict[str, tuple[Array, Array, Array]]


class State(NamedTuple):
    """A training under way: parameters, moments of the optimizer, and the sum of losses since last asked."""

    params: Any
    moments: Any
    loss: Array


class Outcome(NamedTuple):
    """What a model can do: validation losses (K,), nats per byte; per task accuracy and nats of the right answer, (tasks,)."""

    losses: Array
    accuracies: Array
    answers: Array


def place_text(corpus: Corpus, settings: Settings) -> Text:
    """The corpus on the device, validation text cut into windows."""
    lengths = np.array([len(part) for part in corpus.train], np.int32)
    width = settings.context + 1
    least = min(len(part) for part in corpus.validation)
    count = min(settings.validation_symbols, least) // width
    if count < 1 or lengths.min() <= width:
        raise ValueError(f"a domain has too little text for a context of {settings.context}")
    windows = np.stack([part[: count * width].reshape(count, width) for part in corpus.validation])
    return Text(
        jnp.asarray(np.concatenate(corpus.train)),
        jnp.asarray(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32)),
        jnp.asarray(lengths),
        jnp.asarray(windows),
        {
            name: (jnp.asarray(task.symbols), jnp.asarray(task.asked), jnp.asarray(task.right.astype(np.int32)))
            for name, task in corpus.tasks.items()
        },
    )


def _optimizer() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=0.9, b2=0.98, eps=1e-10))


def _rates(shape: Shape, params: Any) -> Any:
    """Learning rate of each array over the base rate."""

    def rate(path: tuple, leaf: Array) -> float:
        name = jax.tree_util.keystr(path)
        return 1.0 if "embedding" in name or leaf.ndim == 1 else 32.0 / shape.width

    return jax.tree_util.tree_map_with_path(rate, params)


def first_state(shape: Shape, seed: Array) -> State:
    """The state before the first step."""
    params = make_params(shape, seed)
    return State(params, _optimizer().init(params), jnp.zeros((), jnp.float32))


def _schedule(step: Array, total: Array, settings: Settings) -> Array:
    """Warm-up, then a cosine to zero: the base rate's factor at a step of ``total``."""
    step, total = step.astype(jnp.float32), total.astype(jnp.float32)
    warm = jnp.maximum(jnp.ceil(settings.warm_up * total), 1.0)
    done = jnp.clip((step - warm) / jnp.maximum(total - warm, 1.0), 0.0, 1.0)
    return jnp.minimum((step + 1.0) / warm, 1.0) * 0.5 * (1.0 + jnp.cos(jnp.float32(math.pi) * done))


def sample(text: Text, settings: Settings, weights: Array, seed: Array, step: Array) -> Array:
    """Sequences of one step, (batch, context + 1): domains as near to the mixture as a batch allows, places at random.

    Depends on nothing but its arguments, so a training goes on anywhere as if it had never stopped.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), seed), step)
    first, place_key = jax.random.split(key)
    shift = jax.random.uniform(first, (), jnp.float32)
    at = (jnp.arange(settings.batch, dtype=jnp.float32) + shift) / settings.batch
    bounds = jnp.cumsum(weights.astype(jnp.float32))
    domain = jnp.searchsorted(bounds / bounds[-1], at, side="right")
    domain = jnp.minimum(domain, jnp.max(jnp.where(weights > 0, jnp.arange(weights.shape[0]), 0)))
    places = jax.random.uniform(place_key, (settings.batch,), jnp.float32)
    room = text.lengths[domain] - settings.context - 1
    offset = jnp.minimum((places * room).astype(jnp.int32), room)
    index = (text.starts[domain] + offset)[:, None] + jnp.arange(settings.context + 1, dtype=jnp.int32)
    return text.symbols[index]


def _train(
    shape: Shape, settings: Settings, state: State, weights: Array, seed: Array, span: Array, text: Text
) -> State:
    optimizer, dtype = _optimizer(), jnp.dtype(settings.dtype)
    rates = _rates(shape, state.params)
    start, stop, total = span[0], span[1], span[2]

    def loss_of(params: Any, sequences: Array) -> tuple[Array, Array]:
        logits, imbalance = apply(shape, params, sequences[:, :-1], dtype, drop=True)
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, sequences[:, 1:].astype(jnp.int32)))
        return loss + settings.balance * imbalance, loss

    def step(i: Array, state: State) -> State:
        sequences = sample(text, settings, weights, seed, i)
        slopes, loss = jax.grad(loss_of, has_aux=True)(state.params, sequences)
        moves, moments = optimizer.update(slopes, state.moments)
        rate = jnp.float32(settings.rate) * _schedule(i, total, settings)
        params = jax.tree.map(lambda p, m, r: p - (rate * r) * m, state.params, moves, rates)
        return State(params, moments, state.loss + loss)

    return jax.lax.fori_loop(start, stop, step, state._replace(loss=jnp.zeros((), jnp.float32)))


def _evaluate(shape: Shape, settings: Settings, params: Any, text: Text) -> Outcome:
    dtype = jnp.dtype(settings.dtype)

    def nats(symbols: Array) -> Array:
        """(n, width) -> surprise of each symbol but the first, (n, width - 1)."""
        n, width = symbols.shape
        spare = -n % EVALUATED
        padded = jnp.pad(symbols, ((0, spare), (0, 0))).reshape(-1, EVALUATED, width)

        def some(part: Array) -> Array:
            logits, _ = apply(shape, params, part[:, :-1], dtype)
            return optax.softmax_cross_entropy_with_integer_labels(logits, part[:, 1:].astype(jnp.int32))

        return jax.lax.map(some, padded).reshape(-1, width - 1)[:n]

    domains, _, width = text.windows.shape
    losses = nats(text.windows.reshape(-1, width)).reshape(domains, -1).mean(1)
    accuracies, answers = [], []
    for name in sorted(text.tasks):
        symbols, asked, right = text.tasks[name]
        n, choices, length = symbols.shape
        surprise = nats(symbols.reshape(-1, length)) * asked.reshape(-1, length)[:, 1:]
        surprise = surprise.sum(1).reshape(n, choices)
        accuracies.append(jnp.mean((jnp.argmin(surprise, 1) == right).astype(jnp.float32)))
        answers.append(jnp.mean(jnp.take_along_axis(surprise, right[:, None], 1)))
    stacked = [jnp.stack(part) if part else jnp.zeros((0,), jnp.float32) for part in (accuracies, answers)]
    return Outcome(losses, *stacked)


@functools.lru_cache(maxsize=64)
def programs(shape: Shape, settings: Settings, lanes: bool) -> tuple[Any, Any, Any]:
    """Compiled (start, train, evaluate) of one shape; with ``lanes`` over a leading axis of runs.

    ``start(seed)``, ``train(state, weights, seed, span, text)`` with span = (first step, stop, total steps), and
    ``evaluate(params, text)``. Mixtures, seeds and budgets are arguments: nothing is compiled again for them.
    """
    settings = settings.resolved()
    start = functools.partial(first_state, shape)
    train = functools.partial(_train, shape, settings)
    evaluate = functools.partial(_evaluate, shape, settings)
    if lanes:
        start = jax.vmap(start)
        train = jax.vmap(train, in_axes=(0, 0, 0, None, None))
        evaluate = jax.vmap(evaluate, in_axes=(0, None))
    return jax.jit(start), jax.jit(train, donate_argnums=0), jax.jit(evaluate)
