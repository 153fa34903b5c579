"""camel_jax: data-mixture scaling laws in JAX, from a table of small runs to the mixture for the large one.

Names are imported when they are first used, so that ``import camel_jax`` costs nothing and ``camel-jax --help`` does not
wait for JAX. The list of public names is ``__init__.pyi``, which type checkers read too.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
