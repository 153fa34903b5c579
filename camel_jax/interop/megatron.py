"""Megatron-LM: weights and prefixes by turns, as ``--data-path`` takes them and ``--data-args-path`` reads them from a file.

Tested with ``get_blend_from_list`` and the builder of megatron-core 0.16.1.
"""

from __future__ import annotations

from camel_jax.interop.options import Options, split_evenly
from camel_jax.interop.plan import Plan


def pairs(plan: Plan, options: Options) -> list[tuple[int, str]]:
    """(parts, prefix) of every file; a domain with several files is spread evenly over them.

    Args:
      plan: shares.
      options: paths: prefixes without .bin and .idx.

    Raises:
      ValueError: a path with a blank, which would be read as two.
    """
    out = []
    for name, count in zip(plan.domains, plan.counts, strict=True):
        paths = options.paths_of(name)
        for path, part in zip(paths, split_evenly(count, paths), strict=True):
            if any(letter.isspace() for letter in path):
                raise ValueError(
                    f"path {path!r} has a blank, which Megatron reads as the end of it: give --path {name}=..."
                )
            if part:
                out.append((part, path))
    return out


def write(plan: Plan, options: Options) -> str:
    """Weights as whole parts: Megatron divides them by their sum.

    >>> print(write(Plan(("web", "code"), (3, 1), 4, None, {}, {}), Options()), end="")
    3 web
    1 code
    """
    return "".join(f"{part} {path}\n" for part, path in pairs(plan, options))
