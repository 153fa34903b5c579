"""nanotron: ``dataset_folder`` and ``dataset_weights`` of a Nanoset, a folder a domain that datatrove has turned into tokens.

The release on the registry (0.4) is older than Nanosets: the file follows nanotron's documentation, and no parser of it has read it.
"""

from __future__ import annotations

from camel_jax.interop.options import Options, split_evenly
from camel_jax.interop.plan import Plan
from camel_jax.interop.yaml_text import to_yaml


def write(plan: Plan, options: Options) -> str:
    """A data stage with the folders and their weights."""
    folders, weights = [], []
    for name, count in zip(plan.domains, plan.counts, strict=True):
        paths = options.paths_of(name)
        for path, part in zip(paths, split_evenly(count, paths), strict=True):
            if part:
                folders.append(path)
                weights.append(part / plan.lattice)
    data = {"dataset": {"dataset_folder": folders, "dataset_weights": weights}}
    stage = {"name": "mixture", "start_training_step": 1, "data": data}
    return to_yaml({"data_stages": [stage]})
