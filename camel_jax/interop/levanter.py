"""levanter and marin: ``components``, ``train_weights`` and ``mixture_block_size`` of ``LmDataConfig``.

Each block of a mixture holds whole sequences of every component, so shares are parts of the block. Tested with
marin-levanter 0.2.20.
"""

from __future__ import annotations

from typing import Any

from camel_jax.interop.options import Options
from camel_jax.interop.plan import Plan
from camel_jax.interop.yaml_text import to_yaml

BLOCK = 2048
TESTED = "marin-levanter 0.2.20"


def write(plan: Plan, options: Options) -> str:
    """A ``data`` section; weights are whole parts of the block, over the block.

    Args:
      plan: shares on the lattice of the block.
      options: paths: URLs or globs of text.
    """
    components: dict[str, Any] = {}
    for name in plan.domains:
        components[name] = {"source": {"type": "url", "train_urls": list(options.paths_of(name))}}
    tree = {"components": components, "train_weights": plan.shares, "mixture_block_size": plan.lattice}
    return to_yaml({"data": tree})
