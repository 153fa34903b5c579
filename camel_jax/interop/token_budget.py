"""A plain table: share, tokens, sequences and epochs of every domain."""

from __future__ import annotations

import csv
import io

from camel_jax.interop.options import Options
from camel_jax.interop.plan import Plan
from camel_jax.interop.rounding import round_shares


def write(plan: Plan, options: Options) -> str:
    """A row a domain; tokens are whole sequences where their length is known, and sum to the whole budget in sequences.

    Args:
      plan: shares and tokens.
      options: the sequence length.

    Raises:
      ValueError: the tokens are not known.

    >>> print(write(Plan(("web", "code"), (3, 1), 4, 1000, {"web": 1500.0}, {}), Options(sequence_length=100)), end="")
    domain,share,tokens,sequences,supply,epochs
    web,0.75,800,8,1500,0.533
    code,0.25,200,2,,
    """
    if plan.tokens is None:
        raise ValueError("a budget is in tokens: give --tokens")
    length = options.sequence_length or 1
    caps = [1.0] * len(plan.domains)
    total = plan.tokens // length
    for k, name in enumerate(plan.domains):
        if name in plan.supply and options.max_epochs:
            caps[k] = min(1.0, plan.supply[name] * options.max_epochs / (total * length))
    counts = round_shares(list(plan.shares.values()), total, caps=caps, names=plan.domains)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["domain", "share", "tokens", "sequences", "supply", "epochs"])
    for name, share, count in zip(plan.domains, plan.shares.values(), counts, strict=True):
        supply = plan.supply.get(name)
        epochs = "" if supply is None else f"{count * length / supply:.3g}"
        sequences = count if options.sequence_length else ""
        table.writerow([name, share, count * length, sequences, "" if supply is None else f"{supply:.0f}", epochs])
    return out.getvalue()
