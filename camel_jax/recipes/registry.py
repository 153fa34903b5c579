"""Things by name: the package's own, those that a program registers, and those that installed packages offer as entry points.

Nothing is imported until a name is asked for. The environment variable CAMEL_JAX_PLUGINS names modules or ``.py`` files (between
colons, semicolons on Windows) that are run once before names are looked up, for laws that live in a file of their own and are
used from the command line.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

PLUGINS = "CAMEL_JAX_PLUGINS"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_loaded: dict[str, bool] = {}


class UnknownNameError(ValueError):
    """A name that is not registered, and what there is."""


class Registry:
    """Named things of one kind.

    Args:
      what: the kind, for messages, such as "law".
      group: entry-point group of installed packages.
      check: called with (name, value) when a value is registered or loaded; raises ValueError where it is not one of the kind.

    >>> found = Registry("color", "camel_jax.colors", lambda name, value: None)
    >>> found.register("red", 3, "my_package")
    >>> found.find("red"), found.package_of("red")
    (3, 'my_package')
    """

    def __init__(self, what: str, group: str, check: Callable[[str, Any], None]):
        self.what, self.group, self.check = what, group, check
        self.own: dict[str, tuple[Any, str]] = {}
        self.builtin: Mapping[str, Any] = {}

    def register(self, name: str, value: Any, package: str | None = None) -> None:
        """Add a value, or put it in place of one that the same module registered.

        Args:
          name: lower-case letters, digits and underscores. value: what it stands for.
          package: where it comes from, told to those who miss it; the module of the value if None.

        Raises:
          ValueError: a name of another form, one that the package or another module has, or a value that is none.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{self.what} {name!r:.60}: a name has lower-case letters, digits and underscores")
        package = str(package or getattr(value, "__module__", None) or "an unknown module")
        if name in self.builtin or (name in self.own and self.own[name][1] != package):
            owner = "camel_jax" if name in self.builtin else self.own[name][1]
            raise ValueError(f"{self.what} {name!r} is there already, from {owner}: choose another name")
        self.check(name, value)
        self.own[name] = value, package

    def offered(self) -> dict[str, importlib.metadata.EntryPoint]:
        """Names that installed packages offer."""
        return {point.name: point for point in importlib.metadata.entry_points(group=self.group)}

    def names(self) -> list[str]:
        """All names, the package's own first."""
        load_plugins()
        return list(dict.fromkeys([*self.builtin, *self.own, *self.offered()]))

    def find(self, name: str) -> Any:
        """The value of a name.

        Raises:
          UnknownNameError: no such name. ValueError: a package offers it and cannot be loaded.
        """
        load_plugins()
        if name in self.builtin:
            return self.builtin[name]
        if name not in self.own and (point := self.offered().get(name)) is not None:
            package = point.dist.name if point.dist is not None else point.value
            try:
                value = point.load()
            except Exception as error:  # whatever the module of another does
                told = f"{type(error).__name__}: {error!s:.120}"
                raise ValueError(f"{self.what} {name!r} of the package {package} cannot be loaded ({told})") from error
            if name not in self.own:  # the module may have registered it itself
                self.register(name, value, package)
        if name in self.own:
            return self.own[name][0]
        names = self.names()
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(names))}"
        raise UnknownNameError(f"no {self.what} {name!r:.60}; {hint}")

    def package_of(self, name: str) -> str:
        """Where a registered value comes from; "" for the package's own."""
        return self.own[name][1] if name in self.own else ""


def load_plugins() -> None:
    """Run the modules and files that CAMEL_JAX_PLUGINS names, each once.

    Raises:
      ValueError: one of them cannot be run; the message names it.
    """
    for name in filter(None, os.environ.get(PLUGINS, "").split(os.pathsep)):
        if name in _loaded:
            continue
        _loaded[name] = True
        try:
            if not name.endswith(".py"):
                importlib.import_module(name)
                continue
            path = pathlib.Path(name)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(path.stem, module)
            spec.loader.exec_module(module)
        except Exception as error:  # whatever a file of the user's does
            del _loaded[name]
            raise ValueError(f"{PLUGINS}: {name} cannot be run ({type(error).__name__}: {error!s:.160})") from error
