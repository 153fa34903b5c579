"""Float64, devices and compilation: settings for programs, never on import."""

from __future__ import annotations

import importlib.util
import mmap
import os
import pathlib
import sys

# programs of the command line compile more than they compute
QUICK = ("--xla_cpu_use_fusion_emitters=false", "--xla_backend_optimization_level=1")


# without it the gradients of a GPU are added up in the order in which they come
REPEATABLE = ("--xla_gpu_deterministic_ops=true",)


class MissingExtraError(ImportError):
    """A package that only some commands need is not installed; the message names the extra that brings it."""


def require(extra: str, package: str, what: str) -> None:
    """Go on only where a package of an extra is installed.

    Args:
      extra: of this distribution, such as ``bayes``.
      package: that the extra brings.
      what: needs it.

    Raises:
      MissingExtraError: the package is not there.

    >>> require("bayes", "json", "reading JSON")
    >>> require("bayes", "no_such_package", "sampling a posterior")
    Traceback (most recent call last):
    camel_jax.runtime.MissingExtraError: sampling a posterior needs no_such_package: pip install 'camel-jax[bayes]'
    """
    try:
        there = importlib.util.find_spec(package) is not None
    except ValueError:  # kept from being imported
        there = False
    if not there:
        raise MissingExtraError(f"{what} needs {package}: pip install 'camel-jax[{extra}]'")


def start_engine(quick: bool = True, repeatable: bool = False) -> None:
    """Float64, one virtual device a core and a compilation cache that lasts: for programs, never on import.

    Args:
      quick: on a machine without an accelerator, compile in half the time; for programs that do not compute for long.
      repeatable: on a GPU, leave out operations whose rounding changes from run to run.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        flags = f"{flags} --xla_force_host_platform_device_count={min(cores, 8)}"
    if "jax" not in sys.modules:
        wanted = (REPEATABLE if repeatable else ()) if has_accelerator() else (QUICK if quick else ())
        new = [flag for flag in wanted if flag.partition("=")[0] not in flags]
        flags = " ".join([flags, *(flag for flag in new if jaxlib_knows(flag[2:].partition("=")[0]))])
    os.environ["XLA_FLAGS"] = flags.strip()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small factorisations: threads of its own only get in the way
    import jax

    jax.config.update("jax_enable_x64", True)
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_dir("camel-jax")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return  # no home to write to: compile every time
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def require_float64(what: str) -> None:
    """Refuse to go on in float32, which is not enough for ``what``.

    Raises:
      ValueError: JAX computes in float32, as it does unless told otherwise.
    """
    import jax

    if not jax.config.read("jax_enable_x64"):
        raise ValueError(f'{what} needs float64: call jax.config.update("jax_enable_x64", True) before anything else')


MAPS, MOST_MAPS = pathlib.Path("/proc/self/maps"), pathlib.Path("/proc/sys/vm/max_map_count")


def forget_programs(share: float = 0.4) -> bool:
    """Forget all compiled programs where they take up much of what a process may map into its memory.

    Every program takes several mappings, and Linux ends a process that has too many (65,530): one that fits some tens of tables of
    different shapes. What is needed again comes from the compilation cache, or is compiled again.

    Args:
      share: of the mappings that are allowed, beyond which programs are forgotten.

    Returns:
      Whether they were.

    >>> forget_programs()
    False
    """
    try:
        used, allowed = MAPS.read_bytes().count(b"\n"), int(MOST_MAPS.read_text())
    except (OSError, ValueError):
        return False  # not Linux
    if used < share * allowed:
        return False
    import gc

    import jax

    jax.clear_caches()
    gc.collect()
    return True


def has_accelerator() -> bool:
    """Whether jax may find a GPU or TPU: a plugin of one is installed, and jax is not kept from it."""
    plugins = any(importlib.util.find_spec(name) is not None for name in ("jax_plugins", "libtpu"))
    return plugins and os.environ.get("JAX_PLATFORMS", "") != "cpu"


def jaxlib_knows(flag: str) -> bool:
    """Whether jaxlib takes a flag of XLA; a process ends at a flag that its jaxlib does not know.

    A flag's name stands in the library as a string of its own, between two zeros; a name that was retired may stand there otherwise.

    >>> jaxlib_knows("xla_backend_optimization_level")
    True
    """
    spec = importlib.util.find_spec("jaxlib")
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in pathlib.Path(folder).glob("*jax_common*"):
            with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                if text.find(b"\0" + flag.encode() + b"\0") >= 0:
                    return True
    return False
