"""``camel-jax export``: a mixture as the data section of what it is trained with."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from camel_jax.cli.console import print_json, print_table, say
from camel_jax.cli.limits import gather, pairs
from camel_jax.cli.options import Caps, Floors, Json, LimitsFile, MaxEpochs, Pairs, ShareLimits, Supply
from camel_jax.recipes.sizes import format_count, parse_count, parse_tokens
from camel_jax.storage import check_target, replacing


def export(
    mixture: Annotated[
        pathlib.Path,
        typer.Argument(
            help="mixture.json of camel-jax mix, or JSON of domains with shares; - for standard input.",
            show_default=False,
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="olmo-core, megatron, nemo, levanter, mosaicml, huggingface, torchtitan, axolotl, nanotron or budget.",
            show_default=False,
        ),
    ],
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Where to write; on stdout if absent.", show_default=False)
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Training tokens, as in 1T; those of the file if absent.")] = None,
    paths: Annotated[
        Pairs,
        typer.Option(
            "--path", metavar="DOMAIN=PATH", help="Where the data of a domain lies. Repeatable, also for one domain."
        ),
    ] = None,
    supply: Supply = None,
    max_epochs: MaxEpochs = None,
    floors: Floors = None,
    caps: Caps = None,
    limits: LimitsFile = None,
    lattice: Annotated[
        int | None,
        typer.Option(
            min=1, help="Parts of one that shares are rounded to; those of the loader if absent.", show_default=False
        ),
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a training sequence.", show_default=False)
    ] = None,
    batch_tokens: Annotated[
        str | None, typer.Option(help="Tokens of a training step, as in 4M.", show_default=False)
    ] = None,
    documents: Annotated[
        Pairs,
        typer.Option("--documents", metavar="DOMAIN=COUNT", help="Documents in the supply of a domain. Repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a mixture for a trainer, in parts that its loader can keep: they sum to one and respect limits and supply."""
    from camel_jax.interop.options import Options
    from camel_jax.interop.plan import make_plan, read_mixture
    from camel_jax.interop.targets import find_target

    target = find_target(to)
    if out is not None:
        check_target(out)
    found = read_mixture(mixture)
    given = gather(list(found.shares), ShareLimits(limits, floors, caps, None, supply, max_epochs))
    if unused := [name for name in given if name not in ("bounds", "groups", "supply", "max_epochs", "fixed")]:
        say(f"note: limits on {', '.join(unused)} concern the choice of a mixture, and are not checked again")
    found = with_limits(found, given, tokens)
    where: dict[str, tuple[str, ...]] = {}
    for item in paths or ():
        name, equals, path = item.partition("=")
        if not equals or name not in found.shares or not path:
            raise ValueError(f"--path {item!r} is not DOMAIN=PATH; the domains are {', '.join(found.shares)}")
        where[name] = (*where.get(name, ()), path)
    counted = {}
    for name, text in pairs("--documents", documents):
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"--documents {name}={text}: give a whole number")
        counted[name] = int(text)
    options = Options(
        where,
        sequence_length,
        None if batch_tokens is None else int(parse_count(batch_tokens, "batch tokens")),
        counted,
        found.max_epochs if found.max_epochs < float("inf") else None,
    )
    draws = int(found.tokens / sequence_length) if target.draws and sequence_length and found.tokens else None
    plan = make_plan(found, lattice or target.lattice, random_sequences=draws)
    text = target.write(plan, options)
    for warning in plan.warnings:
        say(f"warning: {warning}")
    if target.draws and found.supply and not sequence_length:
        say("note: this loader draws at random: give --sequence-length to keep shares clear of the supply")
    if not where and to != "budget":
        say("note: no --path is given: domains stand for their paths")
    if out is not None:
        with replacing(out) as part:
            part.write_text(text, encoding="utf-8")
        say(f"wrote {out}")
    told = [
        {
            "domain": name,
            "share": share,
            "before": plan.aims[name],
            "tokens": plan.tokens_of(name) if plan.tokens else None,
            "epochs": plan.epochs_of(name),
        }
        for name, share in plan.shares.items()
    ]
    if json:
        print_json({"format": to, "lattice": plan.lattice, "domains": told, "warnings": plan.warnings, "text": text})
    elif out is None:
        print(text, end="")
    else:
        rows = [
            [
                str(row["domain"]),
                f"{row['before']:.6f}",
                f"{row['share']:.6f}",
                "" if row["tokens"] is None else format_count(float(row["tokens"])),
                "" if row["epochs"] is None else f"{row['epochs']:.3g}",
            ]
            for row in told
        ]
        print_table(
            f"Mixture for {target.what}, in parts of 1/{plan.lattice}",
            ["domain", "chosen", "written", "tokens", "epochs"],
            rows,
        )


def with_limits(found: Any, given: dict[str, Any], tokens: str | None) -> Any:
    """A mixture with the limits of the command line before those of its file.

    Args:
      found: the mixture.
      given: limits as ``gather`` gives them.
      tokens: training tokens as text, or None.
    """
    import dataclasses

    low, high, groups = dict(found.floors), dict(found.caps), list(found.groups)
    for name, (floor, cap) in given.get("bounds", {}).items():
        if name not in found.shares:
            raise ValueError(f"a limit names {name!r}; the domains are {', '.join(found.shares)}")
        low |= {} if floor is None else {name: floor}
        high |= {} if cap is None else {name: cap}
    for name, (members, floor, cap) in given.get("groups", {}).items():
        if unknown := [member for member in members if member not in found.shares]:
            raise ValueError(f"a limit names {unknown[0]!r}; the domains are {', '.join(found.shares)}")
        groups.append((name, tuple(members), floor or 0.0, 1.0 if cap is None else cap))
    for name, share in given.get("fixed", {}).items():
        if abs(found.shares.get(name, -1.0) - share) > 1e-4:
            raise ValueError(
                f"--limits fix {name} = {share:g}, and the mixture gives it {found.shares.get(name, 0.0):.6g}"
            )
    return dataclasses.replace(
        found,
        tokens=found.tokens if tokens is None else parse_tokens(tokens),
        floors=low,
        caps=high,
        groups=tuple(groups),
        supply=found.supply | given.get("supply", {}),
        max_epochs=given.get("max_epochs", found.max_epochs),
    )
