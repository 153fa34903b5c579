"""NeMo: ``paths`` of its pre-training data module, weights and prefixes by turns, which it hands to Megatron.

Releases of NeMo on the registry that could be had hold no language-model data module any more; Megatron's own parser reads the list in
the tests.
"""

from __future__ import annotations

from camel_jax.interop.megatron import pairs
from camel_jax.interop.options import Options
from camel_jax.interop.plan import Plan
from camel_jax.interop.yaml_text import to_yaml


def write(plan: Plan, options: Options) -> str:
    """A ``data`` section with weights as whole parts."""
    flat: list[str] = []
    for part, path in pairs(plan, options):
        flat += [str(part), path]
    tree: dict[str, object] = {"paths": flat}
    if options.sequence_length:
        tree["seq_length"] = options.sequence_length
    return to_yaml({"data": tree})
