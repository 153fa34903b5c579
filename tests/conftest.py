"""Shared test set-up: float64, and where the public run tables lie if they are there."""

import os
import pathlib

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # tests compile much and compute little
# the workers of one run, the programs they start, and the next run share what they compile
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest

import camel_jax

jax.config.update("jax_enable_x64", True)

DATA = pathlib.Path(camel_jax.__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder():
    """Folder of public run tables; the test is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip("public run tables not present")
    return DATA
