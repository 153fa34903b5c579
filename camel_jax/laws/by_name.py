"""A law by its name, as commands and files give it: the package's own, registered ones, and those of installed packages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from camel_jax.laws import CONSTRUCTORS
from camel_jax.laws.law import Law
from camel_jax.recipes.registry import Registry, UnknownNameError

WITH_SKILLS = ("camel", "blend")
PLAIN = (bool, int, float, str)  # what a setting of a law may be, or a tuple of these


def check_law(name: str, constructor: Any) -> None:
    """Refuse what is no constructor of a law of this name.

    Raises:
      ValueError: naming the rule.
    """
    if isinstance(constructor, Law) or not callable(constructor):
        raise ValueError(f"law {name!r}: give a function that returns the law, so that a file can build it again")
    try:
        law: Any = constructor()
    except TypeError as error:
        raise ValueError(f"law {name!r}: its constructor must work without arguments ({error!s:.120})") from None
    if not isinstance(law, Law):
        raise ValueError(f"law {name!r}: its constructor returns {type(law).__name__}, not a Law")
    if law.name != name:
        raise ValueError(f"law {name!r}: its constructor returns a law of another name, {law.name!r:.60}")
    for key, value in law.settings:
        plain = all(isinstance(x, PLAIN) for x in value) if isinstance(value, tuple) else isinstance(value, PLAIN)
        if not plain:
            raise ValueError(
                f"law {name!r}: setting {key!r} must be a number, text or a tuple of these, not {value!r:.60}"
            )
    try:
        again = constructor(**dict(law.settings))
    except TypeError as error:
        raise ValueError(f"law {name!r}: its settings are not arguments of its constructor ({error!s:.120})") from None
    if getattr(again, "settings", None) != law.settings:
        raise ValueError(f"law {name!r}: its constructor gives other settings than it is called with")


LAWS = Registry("law", "camel_jax.laws", check_law)
LAWS.builtin = CONSTRUCTORS


def register_law(name: str, constructor: Callable[..., Law], package: str | None = None) -> None:
    """Make a law known by name: to files of fits, ``--law``, the leaderboard, blends, designs and reports.

    Args:
      name: that of the law; lower-case letters, digits and underscores.
      constructor: function without required arguments that returns the ``Law``; with ``functools.lru_cache`` above it, programs of
        a law are compiled once.
      package: what to install or import to have it, told to those who open a file without it; the constructor's module if None.

    Raises:
      ValueError: a name that is taken, or a constructor that does not do that; the message names the rule.

    >>> import jax.numpy as jnp
    >>> import camel_jax as cj
    >>> law = cj.Law("flat", lambda key, runs: {"level": jnp.zeros(len(runs.sets))}, lambda params, recipe: params["level"])
    >>> register_law("flat", lambda: law, "an_example")
    >>> cj.laws.blend(parts=("chinchilla", "flat")).parts[1][0]
    'flat'
    """
    LAWS.register(name, constructor, package)


def law_by_name(name: str, skills: int | None = None, default_skills: int | None = None) -> Law:
    """A law by name.

    Args:
      name: such as ``camel``; ``sodm-joint`` is ``sodm_joint``, and ``camel+dml`` the blend of these two.
      skills: latent skills of camel; the law's own default if None.
      default_skills: in place of that default, for camel alone.

    Raises:
      ValueError: no such law, or skills for a law that has none.

    >>> law_by_name("SODM-joint").name
    'sodm_joint'
    """
    key = name.strip().lower().replace("-", "_")
    if "+" in key:
        parts = tuple(part.strip() for part in key.split("+"))
        if skills is not None and "camel" not in parts:
            raise ValueError("--skills is for a blend with camel")
        for part in parts:
            law_by_name(part)
        return CONSTRUCTORS["blend"](parts=parts, **({} if skills is None else {"skills": skills}))
    try:
        build = LAWS.find(key)
    except UnknownNameError:
        raise ValueError(f"--law {name}: the laws are {', '.join(sorted(LAWS.names()))}") from None
    if skills is not None and key not in WITH_SKILLS:
        raise ValueError(f"--skills is for {' and '.join(WITH_SKILLS)}; {key} has none")
    if skills is None and key == "camel":
        skills = default_skills
    return build() if skills is None else build(skills=skills)
