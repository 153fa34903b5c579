"""The repr of whatever class the reference names is short, with arrays, texts and names of any length in it."""

import dataclasses
import importlib
import inspect
import pathlib
import re

import numpy as np
import pytest

from camel_jax.laws.law import Law
from camel_jax.views.view import Readable

LONGEST = 1_500
PAGES = pathlib.Path(__file__).parents[2] / "docs" / "api"
TOLD = ("Error",)  # of exceptions the message is shown, whatever its length
BIG = {
    "array": np.random.default_rng(0).normal(size=(300, 40)),
    "text": "x" * 10_000,
    "names": tuple(f"domain {i}" for i in range(1_000)),
    "by name": {f"domain {i}": np.ones((300, 40)) for i in range(1_000)},
    "lists": [[(i, float(j)) for j in range(300)] for i in range(300)],
}


def public_classes():
    """Every class that a page of the reference documents."""
    pages = [page.read_text() for page in sorted(PAGES.glob("*.md"))]
    places = sorted({place for page in pages for place in re.findall(r"^::: (\S+)", page, re.MULTILINE)})
    found = []
    for place in places:
        module, _, name = place.rpartition(".")
        thing = getattr(importlib.import_module(module), name)
        if inspect.isclass(thing) and not name.endswith(TOLD):
            found.append(thing)
    return found


CLASSES = public_classes()


def plain_classes():
    """Those that show their fields, and no view of their own."""
    return [one for one in CLASSES if not issubclass(one, Readable)]


def filled(kind, value):
    """One whose every field has a value, checked by nobody."""
    if hasattr(kind, "_fields"):
        return tuple.__new__(kind, [value] * len(kind._fields))
    one = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(one, field.name, value)
    return one


@pytest.mark.parametrize("kind", plain_classes(), ids=lambda kind: kind.__name__)
def test_no_repr_of_fields_is_long(kind):
    name = kind.__name__
    if not hasattr(kind, "_fields") and not dataclasses.is_dataclass(kind):
        pytest.importorskip("sklearn")
        assert len(repr(kind())) < LONGEST  # an estimator, which shows its settings
        return
    for what, value in BIG.items():
        if kind is Law:  # its repr is written by hand: a name and settings
            value = (("x" * 10_000, value),)
        text = repr(filled(kind, value))
        assert len(text) < LONGEST, what
        assert text.startswith(name)


def test_views_are_short_whatever_they_say(monkeypatch):
    from camel_jax.views.view import Sheet, View

    long = View("t" * 10_000, {"fact": "f" * 10_000}, [Sheet("s", {"name": BIG["names"]})], ["n" * 10_000])
    views = [one for one in CLASSES if issubclass(one, Readable)]
    assert len(views) > 15
    for kind in views:
        assert kind.__repr__ is Readable.__repr__, kind
        monkeypatch.setattr(kind, "_view", lambda self: long)
        assert len(Readable.__repr__(filled(kind, 1.0))) < LONGEST if dataclasses.is_dataclass(kind) else True
    assert len(repr(long)) < LONGEST
