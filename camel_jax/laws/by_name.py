"""A law by its name, as commands and files give it."""

from __future__ import annotations

from camel_jax.laws import CONSTRUCTORS
from camel_jax.laws.law import Law

WITH_SKILLS = ("camel", "blend")


def law_by_name(name: str, skills: int | None = None, default_skills: int | None = None) -> Law:
    """A law of the package.

    Args:
      name: such as ``camel``; ``sodm-joint`` is ``sodm_joint``.
      skills: latent skills of camel; the law's own default if None.
      default_skills: in place of that default, for camel alone.

    Raises:
      ValueError: no such law, or skills for a law that has none.

    >>> law_by_name("SODM-joint").name
    'sodm_joint'
    """
    key = name.strip().lower().replace("-", "_")
    if key not in CONSTRUCTORS:
        raise ValueError(f"--law {name}: the laws are {', '.join(sorted(CONSTRUCTORS))}")
    if skills is not None and key not in WITH_SKILLS:
        raise ValueError(f"--skills is for {' and '.join(WITH_SKILLS)}; {key} has none")
    if skills is None and key == "camel":
        skills = default_skills
    return CONSTRUCTORS[key]() if skills is None else CONSTRUCTORS[key](skills=skills)
