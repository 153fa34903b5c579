"""Float64 and the compilation cache of all tests, and a limit on the compiled programs that one test worker holds.

JAX reads its environment when it is first imported, which is here: a setting in tests/conftest.py would come too late.
"""

import gc
import os
import pathlib

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # tests compile much and compute little
# the workers of one run, the programs they start, and the next run share what they compile
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest

jax.config.update("jax_enable_x64", True)

MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 15_000  # a compiled program takes several mappings, and Linux ends a process that has more than 65,530


@pytest.fixture(autouse=True, scope="module")
def bounded_programs():
    """Forget compiled programs between modules once there are many; the compilation cache on disk keeps them."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
