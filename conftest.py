"""Float64, quick compilation and the compilation cache of all tests, and a limit on the compiled programs that one worker holds.

JAX reads its environment when it is first imported, which is here: a setting in tests/conftest.py would come too late.
"""

import gc
import os
import pathlib

from camel_jax.runtime import REPEATABLE, has_accelerator, jaxlib_knows

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "XLA_FLAGS" not in os.environ:
    # Tests compile much and compute little: no optimisation, emitters that are quick to compile, one module a program.
    wanted = (
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_llvm_force_inline_before_split=false",
        *(REPEATABLE if has_accelerator() else ()),
    )
    known = [flag for flag in wanted if jaxlib_knows(flag[2:].split("=")[0])]
    os.environ["XLA_FLAGS"] = " ".join(known)
# the workers of one run, the programs they start, and the next run share what they compile
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest
from jaxtyping import install_import_hook

collect_ignore = ["tests/user_script.py"]  # what type checkers read in tests/test_types.py; it is never run

# every call into these modules in a test checks the shapes and types of its annotations
CHECKED = ["camel_jax.laws", "camel_jax.numerics", "camel_jax.recipes.simplex"]
install_import_hook(CHECKED, "beartype.beartype")

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
