"""OLMo-core: the fields of ``SourceMixtureDatasetConfig`` (``olmo_core.data.source_mixture``), tested with 3.0.0."""

from __future__ import annotations

import math

from camel_jax.interop.options import Options
from camel_jax.interop.plan import Plan
from camel_jax.interop.yaml_text import to_yaml


def write(plan: Plan, options: Options) -> str:
    """A source mixture; OLMo-core refuses one whose sources hold too little, by ``max_repetition_ratio``.

    Args:
      plan: shares and tokens.
      options: paths (globs are fine), and the tokens of a step.

    Raises:
      ValueError: the tokens are not known.
    """
    if plan.tokens is None:
        raise ValueError("olmo-core asks for a number of tokens: give --tokens")
    sources = []
    for name, share in plan.shares.items():
        source = {"source_name": name, "target_ratio": share, "paths": list(options.paths_of(name))}
        epochs = plan.epochs_of(name)
        if epochs is not None and epochs > 1:
            source["max_repetition_ratio"] = float(options.max_epochs or math.ceil(epochs))
        sources.append(source)
    tree = {"source_list": {"sources": sources}, "requested_tokens": plan.tokens}
    if options.batch_tokens:
        tree["global_batch_size"] = options.batch_tokens
    return to_yaml(tree)
