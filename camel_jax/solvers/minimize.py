"""Batched minimisers as values: each takes a function and a start and returns a ``Solution`` whose status is data.

Nothing here raises inside jit: a lane that meets a non-finite value stops with a status, and the host decides what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from camel_jax.types import Array

if TYPE_CHECKING:
    import optax

CONVERGED, MAX_STEPS, NON_FINITE, NO_DATA = 0, 1, 2, 3
STATUS_NAMES = {
    CONVERGED: "converged",
    MAX_STEPS: "step limit reached",
    NON_FINITE: "non-finite value",
    NO_DATA: "no data",
}


class Solution(NamedTuple):
    """Outcome of a minimisation.

    Attributes:
      params: the best finite point met, same pytree as the start.
      objective: its value, scalar.
      status: 0 converged, 1 step limit reached, 2 non-finite value; int32.
      steps: iterations used, int32.
    """

    params: Any
    objective: Array
    status: Array
    steps: Array


class _State(NamedTuple):
    params: Any
    value: Array
    grad: Any
    opt_state: Any
    best: Any
    best_value: Array
    window_value: Array
    status: Array
    steps: Array


def _minimize(
    optimizer: optax.GradientTransformationExtraArgs,
    function: Callable[[Any], Array],
    start: Any,
    max_steps: int,
    rtol: float,
    window: int,
    line_search: bool,
) -> Solution:
    import optax

    value_and_grad = jax.value_and_grad(function)
    running = jnp.int32(-1)

    def body(state: _State) -> _State:
        extra = {"value": state.value, "grad": state.grad, "value_fn": function} if line_search else {}
        updates, opt_state = optimizer.update(state.grad, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        if line_search:
            # The zoom line search has the value and gradient at the accepted point already.
            value = optax.tree.get(opt_state, "value")
            grad = optax.tree.get(opt_state, "grad")
        else:
            value, grad = value_and_grad(params)
        finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(grad))
        better = finite & (value < state.best_value)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, state.best)
        best_value = jnp.where(better, value, state.best_value)
        steps = state.steps + 1
        at_window = steps % window == 0
        small = state.window_value - best_value <= rtol * jnp.maximum(jnp.abs(best_value), 1e-300)
        status = jnp.where(at_window & small, CONVERGED, running)
        status = jnp.where(finite, status, NON_FINITE)
        window_value = jnp.where(at_window, best_value, state.window_value)
        return _State(params, value, grad, opt_state, best, best_value, window_value, status, steps)

    value, grad = value_and_grad(start)
    opt_state = optimizer.init(start)
    finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(grad))
    first = _State(
        start, value, grad, opt_state, start, value, value, jnp.where(finite, running, NON_FINITE), jnp.int32(0)
    )
    last = jax.lax.while_loop(lambda s: (s.status == running) & (s.steps < max_steps), body, first)
    status = jnp.where(last.status == running, MAX_STEPS, last.status)
    return Solution(last.best, last.best_value, status, last.steps)


def lbfgs(
    function: Callable[[Any], Array],
    start: Any,
    *,
    max_steps: int = 3000,
    memory: int = 40,
    rtol: float = 1e-6,
    window: int = 25,
) -> Solution:
    """Minimise a scalar function with optax L-BFGS and a zoom line search.

    Args:
      function: pure function of one pytree, returning a scalar.
      start: where to begin, pytree of float arrays.
      max_steps: largest number of iterations.
      memory: number of curvature pairs kept.
      rtol: stop when ``window`` iterations together improve the value by less than this fraction.
      window: iterations between two looks at the progress.

    Returns:
      A ``Solution``; vmap over ``start`` for a batch.

    >>> s = lbfgs(lambda x: ((x - 3.0) ** 2).sum(), jnp.zeros(2))
    >>> [round(float(v), 6) for v in s.params], int(s.status)
    ([3.0, 3.0], 0)
    """
    import optax

    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")
    return _minimize(optax.lbfgs(memory_size=memory, linesearch=search), function, start, max_steps, rtol, window, True)


def adam(
    function: Callable[[Any], Array],
    start: Any,
    *,
    max_steps: int = 5000,
    learning_rate: float | optax.Schedule = 0.02,
    rtol: float = 1e-7,
    window: int = 200,
) -> Solution:
    """Minimise a scalar function with optax Adam; same contract as ``lbfgs``.

    Args:
      function: pure function of one pytree, returning a scalar.
      start: where to begin, pytree of float arrays.
      max_steps: largest number of iterations.
      learning_rate: step size, or an optax schedule.
      rtol: stop when ``window`` iterations together improve the best value by less than this fraction.
      window: iterations between two looks at the progress.

    >>> s = adam(lambda x: ((x - 3.0) ** 2).sum(), jnp.zeros(2), learning_rate=0.1)
    >>> [round(float(v), 2) for v in s.params]
    [3.0, 3.0]
    """
    import optax

    return _minimize(
        optax.with_extra_args_support(optax.adam(learning_rate)), function, start, max_steps, rtol, window, False
    )
