"""What a mixture can be exported to: one entry a format, with the lattice of its loader and what its text is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from camel_jax.interop import (
    axolotl,
    huggingface,
    levanter,
    megatron,
    mosaicml,
    nanotron,
    nemo,
    olmo_core,
    token_budget,
)
from camel_jax.interop.options import Options
from camel_jax.interop.plan import Plan

DECIMAL = 1_000_000  # shares of six digits, where a loader takes any number


@dataclasses.dataclass(frozen=True)
class Target:
    """A format.

    Attributes:
      name: as ``--to`` takes it.
      what: what it is for.
      suffix: of its files.
      lattice: parts of one that its loader counts in, or those of six decimal digits.
      write: text of a plan.
      tested: the package and version whose own parser reads the text in the tests, or "" with no such test.
      draws: whether its loader draws at random, so that a source may get more than its share.
    """

    name: str
    what: str
    suffix: str
    lattice: int
    write: Callable[[Plan, Options], str]
    tested: str
    draws: bool = False


TARGETS = {
    target.name: target
    for target in (
        Target("olmo-core", "OLMo-core: a source mixture", ".yaml", DECIMAL, olmo_core.write, "ai2-olmo-core 3.0.0"),
        Target(
            "megatron",
            "Megatron-LM: a file for --data-args-path",
            ".txt",
            DECIMAL,
            megatron.write,
            "megatron-core 0.16.1",
        ),
        Target("nemo", "NeMo: paths of a data module", ".yaml", DECIMAL, nemo.write, ""),
        Target(
            "levanter",
            "levanter and marin: data with train_weights",
            ".yaml",
            levanter.BLOCK,
            levanter.write,
            levanter.TESTED,
        ),
        Target(
            "mosaicml", "MosaicML streaming: streams", ".yaml", DECIMAL, mosaicml.write, "mosaicml-streaming 0.13.0"
        ),
        Target(
            "huggingface",
            "datasets.interleave_datasets",
            ".json",
            DECIMAL,
            huggingface.write,
            "datasets 5.2.0",
            draws=True,
        ),
        Target(
            "torchtitan",
            "torchtitan: sources of its interleaved loader",
            ".json",
            DECIMAL,
            huggingface.write_torchtitan,
            "torchtitan 0.3.0",
            draws=True,
        ),
        Target(
            "axolotl",
            "axolotl: datasets, by slices of whole documents",
            ".yaml",
            DECIMAL,
            axolotl.write,
            "axolotl 0.19.0",
        ),
        Target("nanotron", "nanotron: a folder of tokens a domain (datatrove)", ".yaml", DECIMAL, nanotron.write, ""),
        Target("budget", "tokens and epochs a domain", ".csv", DECIMAL, token_budget.write, ""),
    )
}


def find_target(name: str) -> Target:
    """The format that a name means.

    Args:
      name: as ``--to`` takes it.

    Raises:
      ValueError: there is none.

    >>> find_target("levanter").lattice
    2048
    """
    if name not in TARGETS:
        raise ValueError(f"--to {name}: there are {', '.join(TARGETS)}")
    return TARGETS[name]
