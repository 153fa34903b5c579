"""MosaicML streaming: a stream a path with its proportion, for ``StreamingDataset(streams=...)``. Tested with 0.13.0."""

from __future__ import annotations

from camel_jax.interop.options import Options, split_evenly
from camel_jax.interop.plan import Plan
from camel_jax.interop.yaml_text import to_yaml


def write(plan: Plan, options: Options) -> str:
    """Streams with proportions; with tokens and a sequence length also the samples of the whole training.

    Args:
      plan: shares.
      options: paths, remote (with ``://``) or local; the sequence length.
    """
    streams = []
    for name, count in zip(plan.domains, plan.counts, strict=True):
        paths = options.paths_of(name)
        for path, part in zip(paths, split_evenly(count, paths), strict=True):
            if part:
                streams.append({"remote" if "://" in path else "local": path, "proportion": part / plan.lattice})
    tree: dict[str, object] = {"streams": streams}
    if plan.tokens is not None and options.sequence_length:
        tree["epoch_size"] = plan.tokens // options.sequence_length
    return to_yaml({"train_dataset": tree})
