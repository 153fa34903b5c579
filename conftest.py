"""Float64 for the doctests of the package."""

import jax

jax.config.update("jax_enable_x64", True)
