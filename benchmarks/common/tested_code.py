"""Which code a result depends on: a digest of modules and all they import within the package, comments and docstrings left out.

A study that takes hours goes on where it stopped while code that cannot matter to it changes, and starts again when code that can does.
"""

from __future__ import annotations

import ast
import hashlib
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = "camel_jax"


def digest(*modules: str, leave_out: tuple[str, ...] = ()) -> str:
    """Digest of modules such as "camel_jax.bayes.nuts" and of their imports, save those left out (and what only they import).

    Raises:
      ModuleNotFoundError: a module that is named is not there, so that the digest would not change with it.
    """
    if missing := [name for name in (*modules, *leave_out) if _file(name) is None]:
        raise ModuleNotFoundError(f"no such modules of the package: {', '.join(missing)}")
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in found or name in leave_out or path is None:
            continue
        tree = ast.parse(path.read_text())
        waiting += _imports(tree)
        found[name] = ast.dump(_bare(tree))
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:40]


def _file(name: str) -> pathlib.Path | None:
    """Source of a module; the package itself only gathers names, and counts for nothing."""
    if not name.startswith(f"{PACKAGE}."):
        return None
    base = ROOT.joinpath(*name.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def _imports(tree: ast.Module) -> list[str]:
    """Modules imported anywhere in a file, functions included; names that are no modules have no file, and drop out."""
    out = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            out += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            out += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return out


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
