"""Programs that are traced anew under a limit, as the tests of compilations share it."""

import chex
import jax


def limit_traces(monkeypatch, module, name, n=1, **static):
    """Put a jitted function of a module in place of itself that fails at its trace number ``n + 1``; ``static`` as for ``jax.jit``."""
    chex.clear_trace_counter()
    plain = getattr(module, name).__wrapped__
    monkeypatch.setattr(module, name, jax.jit(chex.assert_max_traces(plain, n=n), **static))
