"""Losses of runs by a planted law of three domains, as the tests of studies share them."""

import numpy as np

DOMAINS = ("web", "code", "books")
TEACHES = np.array([[0.6, 0.1, 0.1], [0.1, 0.5, 0.2], [0.2, 0.1, 0.5]])


def measured(run) -> dict[str, float]:
    """Losses of a run by a planted law, with noise that belongs to its name."""
    noise = np.random.default_rng(list(run.run.encode())).normal(0, 0.002, 3)
    losses = 1.6 + 40 * run.n_active**-0.25 + 79 * (TEACHES @ run.weights + 0.05) ** -0.3 * run.tokens**-0.25
    return dict(zip(DOMAINS, (losses * np.exp(noise)).tolist(), strict=True))
