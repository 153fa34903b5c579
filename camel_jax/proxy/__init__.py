"""Real runs from tiny language models, dense and mixture-of-experts, on a controlled corpus of several domains."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from camel_jax.proxy.corpus import build_corpus
    from camel_jax.proxy.sweep import sweep

__all__ = ["build_corpus", "sweep"]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"corpus": ["build_corpus"], "sweep": ["sweep"]})
