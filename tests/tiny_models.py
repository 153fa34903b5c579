"""What the tests of proxies share: the smallest model, quick settings, and symbols as text."""

import numpy as np

from camel_jax.proxy.model import Shape
from camel_jax.proxy.train import Settings

TINY = Shape(16, 1, 1)
SETTINGS = Settings(batch=4, context=32, validation_symbols=2_000, dtype="float32")


def spelled(corpus, symbols):
    return bytes(corpus.alphabet[np.asarray(symbols)]).decode("latin-1")
