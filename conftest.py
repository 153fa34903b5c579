"""Float64 for the doctests of the package, and a limit on the compiled programs that one test worker holds."""

import gc
import pathlib

import jax
import pytest

jax.config.update("jax_enable_x64", True)

MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = (
    15_000  # a compiled program takes several memory mappings, and Linux ends a process that has more than 65,530
)


@pytest.fixture(autouse=True, scope="module")
def bounded_programs():
    """Forget compiled programs between modules once there are many; the compilation cache on disk keeps them."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
