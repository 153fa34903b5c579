"""Where a result comes from: commit, digest of the code, versions and machine, told alike by every script; and where files lie."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess
from importlib import metadata

from common.tested_code import ROOT, digest

RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"  # tables of public runs, which do not come with the package
PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "numpyro")


def provenance(*modules: str, leave_out: tuple[str, ...] = ()) -> dict[str, object]:
    """What made a result; ask before the work begins, since the files may change while it runs.

    Args:
      modules: of the package, such as "camel_jax.bayes.nuts": those that the result depends on.
      leave_out: modules that it does not depend on, though those import them.

    Returns:
      ``commit`` and ``dirty``; ``code``, the digest of the modules and all they import, if any are named; a version for each package
      that is installed; ``python``, ``device``, ``machine`` (the processor), ``cores`` and ``dtype``.
    """
    import jax

    code = {"code": digest(*modules, leave_out=leave_out)} if modules else {}
    return (
        commit()
        | code
        | versions(*PACKAGES)
        | {
            "python": platform.python_version(),
            "device": jax.devices()[0].device_kind,
            "machine": processor(),
            "cores": usable_cores(),
            "dtype": "float64",
        }
    )


def commit() -> dict[str, object]:
    """The commit, and whether package or benchmarks differ from it (``dirty``). Does not start JAX, as ``provenance`` does."""
    code = ("camel_jax", "benchmarks", ":!benchmarks/results")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(changed)}


def versions(*names: str) -> dict[str, object]:
    """Version by package, of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The model of the processor, or its architecture where the system does not tell the model."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git(*arguments: str) -> str:
    """What git says of this checkout; nothing outside of one."""
    try:
        asked = subprocess.run(["git", "-C", str(ROOT), *arguments], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return asked.stdout.strip()
