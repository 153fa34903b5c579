"""Hugging Face ``interleave_datasets`` and torchtitan's interleaved loader: probabilities with which a source is drawn.

Tested with datasets 5.2.0 and torchtitan 0.3.0.
"""

from __future__ import annotations

import json

from camel_jax.interop.options import Options
from camel_jax.interop.plan import Plan


def write(plan: Plan, options: Options) -> str:
    """Arguments of ``interleave_datasets``: the order of the datasets, their probabilities, and when to stop.

    Args:
      plan: shares.
      options: paths, in the order in which the datasets are to be given.
    """
    entries = [
        {"name": name, "path": path if len(path) > 1 else next(iter(path))}
        for name in plan.domains
        for path in [options.paths_of(name)]
    ]
    tree = {"datasets": entries, "probabilities": list(plan.shares.values()), "stopping_strategy": "first_exhausted"}
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def write_torchtitan(plan: Plan, options: Options) -> str:
    """Sources of ``InterleavedHuggingFaceTextDataLoader.Config``; shares are of tokens, since sources are packed before they are drawn.

    Args:
      plan: shares.
      options: one path a domain.
    """
    sources = [
        {"dataset": name, "dataset_path": options.path_of(name, "torchtitan"), "weight": share}
        for name, share in plan.shares.items()
    ]
    return (
        json.dumps({"sources": sources, "stopping_strategy": "on_first_exhausted"}, indent=2, ensure_ascii=False) + "\n"
    )
