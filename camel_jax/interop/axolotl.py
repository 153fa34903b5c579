"""axolotl: ``datasets``, which have no weights: a source is taken whole as often as it is seen, and the rest as a slice of documents.

Tested with the schema of axolotl 0.19.0.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from camel_jax.interop.options import Options
from camel_jax.interop.plan import Plan
from camel_jax.interop.yaml_text import to_yaml


def write(plan: Plan, options: Options) -> str:
    """Slices of whole documents, rounded down, so that no source is seen more often than planned.

    Args:
      plan: shares, tokens and supply.
      options: one path a domain, and the documents of each supply.

    Raises:
      ValueError: tokens, supply or documents of a domain are not known.
    """
    entries = []
    for name in plan.domains:
        if plan.tokens is None or name not in plan.supply or name not in options.documents:
            raise ValueError(
                f"axolotl has no weights: slices of documents need --tokens, --supply {name}=TOKENS and --documents {name}=COUNT"
            )
        total = options.documents[name]
        wanted = int(Fraction(plan.tokens_of(name)) / Fraction(plan.supply[name]) * total)
        whole, rest = divmod(wanted, total)
        entry: dict[str, Any] = {"path": options.path_of(name, "axolotl"), "type": "completion"}
        entries += [entry | {"split": "train"}] * whole
        if rest:
            entries.append(entry | {"split": f"train[:{rest}]"})
    return to_yaml({"datasets": entries})
