"""Every public name says what it takes, one parameter a line, what it refuses, and shows an example, which is run where it stands."""

from __future__ import annotations

import ast
import builtins
import doctest
import functools
import importlib
import inspect
import pathlib
import re
import textwrap
import types
from collections.abc import Iterator
from typing import Any

import pytest

import camel_jax as cj

SECTIONS = ("Args", "Attributes")
API = pathlib.Path(__file__).resolve().parents[2] / "docs" / "api"
TOLD = re.compile(r"^  (\w+): \S", re.MULTILINE)


def public_names() -> Iterator[tuple[str, Any]]:
    """What is called after ``cj.``: the public names, and those of the modules among them."""
    for name in cj.__all__:
        found = getattr(cj, name)
        inner = found.__all__ if isinstance(found, types.ModuleType) else ()
        yield from ((f"{name}.{n}", getattr(found, n)) for n in inner if callable(getattr(found, n)))
        if not isinstance(found, types.ModuleType):
            yield name, found


NAMES = dict(public_names())
METHODS = {
    f"{name}.{member}": value
    for name, found in NAMES.items()
    if isinstance(found, type)
    for member, value in vars(found).items()
    if not member.startswith("_") and inspect.isroutine(getattr(found, member))
}


SHOWN = [
    path for page in sorted(API.glob("*.md")) for path in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
]


def section(text: str, title: str) -> str:
    """The indented lines after a title of a docstring, or ""."""
    match = re.search(rf"^{title}:\n((?:  .*\n|\n(?=  ))+)", text + "\n", re.MULTILINE)
    return match[1] if match else ""


def parameters(found: Any) -> list[str]:
    """Names in the signature, but for self; for an error without a signature of its own, none."""
    own = not isinstance(found, type) or "__init__" in vars(found) or "__new__" in vars(found)
    if not own:
        return []
    given = inspect.signature(found).parameters
    # an error's attributes are told by the names it keeps them under, which are those it is given
    return [name for name in given if name not in ("self", "cls")]


def raises(found: Any) -> bool:
    """Whether a function itself raises something."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(found))))
    return any(isinstance(node, ast.Raise) for node in ast.walk(tree))


def borrowed(text: str) -> set[str]:
    """Names that an example uses and neither imports nor makes, but for built-in and public ones."""
    lines = [e.source for e in doctest.DocTestParser().get_examples(text)]
    used, made = set(), set(dir(builtins)) | set(cj.__all__) | {name.rpartition(".")[2] for name in NAMES}
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return used - made


def faults(name: str, found: Any) -> list[str]:
    """What the docstring of a name lacks."""
    text = inspect.getdoc(found) or ""
    told = [word for title in SECTIONS for word in TOLD.findall(section(text, title))]
    out = [f"{name}: no line of its own for {p}" for p in parameters(found) if told.count(p) != 1]
    if not re.search(r"^>>> ", text, re.MULTILINE):
        out.append(f"{name}: no example")
    out += [f"{name}: the example has {word} from elsewhere" for word in sorted(borrowed(text))]
    if not isinstance(found, type) and raises(found) and not section(text, "Raises"):
        out.append(f"{name}: raises, and does not say what")
    return out


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_tells_parameters_and_errors_and_shows_an_example(name):
    assert not faults(name, NAMES[name])


@pytest.mark.parametrize("path", SHOWN)
def test_what_the_reference_shows_tells_every_parameter(path):
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert not [fault for fault in faults(name, found) if "no line of its own" in fault]


@pytest.mark.parametrize("name", [*NAMES, *METHODS])
def test_a_line_of_a_section_is_for_one_parameter(name):
    found = NAMES.get(name) or getattr(NAMES[name.rpartition(".")[0]], name.rpartition(".")[2])
    text = inspect.getdoc(found) or ""
    names = set(inspect.signature(found).parameters) if name not in ("FitError", "StudyError", "TableError") else set()
    crowded = re.compile(rf"^  \w+(?:, \w+)+: |[.;] (?:{'|'.join(map(re.escape, sorted(names))) or '(?!)'}): ", re.M)
    assert not crowded.findall("".join(section(text, title) for title in SECTIONS))


@functools.cache
def example(a: float, b: float) -> float:
    """One line.

    Args:
      a: one. b: two.
    """
    raise ValueError(a, b)


def test_a_bad_docstring_is_found():
    assert faults("it", example) == [
        "it: no line of its own for b",
        "it: no example",
        "it: raises, and does not say what",
    ]
