"""What is written for a trainer: whole parts of a lattice a domain, the tokens that they are, and epochs against supply."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
import sys
from collections.abc import Mapping
from fractions import Fraction

from camel_jax.interop.rounding import Group, round_shares
from camel_jax.recipes.sizes import format_count

A_FEW = 0.02  # an epoch of which less than this is seen was hardly meant
MATTERS = 0.01  # a share that rounding changes by more than this part of itself is told


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A mixture to be exported.

    Attributes:
      shares: domain -> share.
      tokens: training tokens, or None where the file does not say.
      floors, caps: domain -> limit.
      groups: (name, domains, floor, cap) of sums.
      supply: domain -> unique tokens. max_epochs: how often they may be seen.
    """

    shares: dict[str, float]
    tokens: float | None = None
    floors: dict[str, float] = dataclasses.field(default_factory=dict)
    caps: dict[str, float] = dataclasses.field(default_factory=dict)
    groups: tuple[tuple[str, tuple[str, ...], float, float], ...] = ()
    supply: dict[str, float] = dataclasses.field(default_factory=dict)
    max_epochs: float = math.inf


@dataclasses.dataclass(frozen=True)
class Plan:
    """Shares on a lattice.

    Attributes:
      domains: names of those with a share above zero.
      counts: parts of each; their sum is ``lattice``.
      lattice: number of parts.
      tokens: training tokens, or None. supply: domain -> unique tokens.
      aims: shares before rounding.
      warnings: what rounding did that matters, a line each.
    """

    domains: tuple[str, ...]
    counts: tuple[int, ...]
    lattice: int
    tokens: int | None
    supply: dict[str, float]
    aims: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """Domain -> share, a whole part of the lattice."""
        return {name: count / self.lattice for name, count in zip(self.domains, self.counts, strict=True)}

    def tokens_of(self, domain: str) -> int:
        """Training tokens of a domain, rounded down; what is lost by it is below one token a domain."""
        assert self.tokens is not None
        return self.counts[self.domains.index(domain)] * self.tokens // self.lattice

    def epochs_of(self, domain: str) -> float | None:
        """How often the supply of a domain is seen, or None where either is not known."""
        known = self.tokens is not None and domain in self.supply
        return self.tokens_of(domain) / self.supply[domain] if known else None


def read_mixture(path: pathlib.Path) -> Mixture:
    """A mixture from ``mixture.json`` of ``camel-jax mix`` with its tokens and limits, or from any JSON of domains with shares.

    Args:
      path: the file; "-" for standard input.

    Raises:
      ValueError: it holds no mixture.
    """
    if str(path) != "-" and not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        content = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
        weights = content.get("weights", content)
        shares = {str(name): float(share) for name, share in weights.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f'{path}: holds no mixture: write {{"web": 0.7, "code": 0.3}}, or a mixture.json') from None
    if not shares:
        raise ValueError(f"{path}: holds no mixture: it is empty")
    for name, share in shares.items():
        if not (math.isfinite(share) and share >= 0):
            raise ValueError(f"{path}: the share of {name!r} is {share:g}")
    if abs(sum(shares.values()) - 1) > 1e-3:
        raise ValueError(f"{path}: shares sum to {sum(shares.values()):.6g}, not to 1")
    tokens = content.get("tokens") if "weights" in content else None
    if tokens is not None and not (isinstance(tokens, (int, float)) and tokens > 0):
        raise ValueError(f"{path}: tokens are {tokens!r}")
    mixture = Mixture(shares, tokens)
    for limit in content.get("limits", ()) if "weights" in content else ():
        mixture = _with_limit(mixture, str(limit.get("name", "")) if isinstance(limit, Mapping) else "")
    return mixture


def _with_limit(mixture: Mixture, name: str) -> Mixture:
    """A mixture with a limit that the search was told, read from its name ("cap code <= 0.3")."""
    number = r"([-+.\de]+)"
    shares = mixture.shares
    if match := re.fullmatch(rf"(floor|cap) group (.+) (?:>=|<=) {number}", name):
        members = tuple(part.strip() for part in match[2].split("+"))
        if all(member in shares for member in members):
            here, value = sum(shares[member] for member in members), float(match[3])
            bounds = (min(value, here), 1.0) if match[1] == "floor" else (0.0, max(value, here))
            return dataclasses.replace(mixture, groups=(*mixture.groups, (match[2], members, *bounds)))
    elif match := re.fullmatch(rf"floor (.+) >= {number}", name):
        if match[1] in shares:
            return dataclasses.replace(
                mixture, floors=mixture.floors | {match[1]: min(float(match[2]), shares[match[1]])}
            )
    elif match := re.fullmatch(rf"cap (.+) <= {number}", name):
        if match[1] in shares:
            return dataclasses.replace(mixture, caps=mixture.caps | {match[1]: max(float(match[2]), shares[match[1]])})
    elif match := re.fullmatch(rf"supply (.+) \({number} tokens x {number} epochs, share <= {number}\)", name):
        domain, available, epochs = match[1], float(match[2]), float(match[3])
        if domain in shares and mixture.tokens is not None:
            # the name rounds to four digits; the share that the search chose is within the limit itself
            available = max(available * (1 - 5e-4), shares[domain] * mixture.tokens / epochs)
            return dataclasses.replace(mixture, supply=mixture.supply | {domain: available}, max_epochs=epochs)
    return mixture


def make_plan(mixture: Mixture, lattice: int, *, random_sequences: int | None = None) -> Plan:
    """Round a mixture to a lattice within its limits.

    Args:
      mixture: the mixture with its limits.
      lattice: number of parts.
      random_sequences: where the loader draws each sequence at random, how many it draws: shares then stay below supply by four
        standard deviations of the draw, so that no source runs into another epoch. None where the loader counts.

    Raises:
      ValueError: limits that the mixture breaks, or that the lattice cannot meet.

    >>> plan = make_plan(Mixture({"web": 0.7501, "code": 0.2499}, 1e9, supply={"web": 8e8, "code": 1e9}, max_epochs=1), 2048)
    >>> plan.counts, plan.tokens_of("web"), round(plan.epochs_of("web"), 3)
    ((1536, 512), 750000000, 0.938)
    """
    names = list(mixture.shares)
    total = sum(mixture.shares.values())
    aims = {name: share / total for name, share in mixture.shares.items()}
    for table in (mixture.floors, mixture.caps, mixture.supply):
        for name in table:
            if name not in aims:
                raise ValueError(f"a limit names {name!r}; the domains are {', '.join(names)}")
    tokens = None if mixture.tokens is None else int(mixture.tokens)
    caps = {name: mixture.caps.get(name, 1.0) for name in names}
    warnings = []
    for name, available in mixture.supply.items():
        if tokens is None:
            raise ValueError("supply is given, and the mixture's file does not say the tokens: give --tokens")
        if math.isfinite(mixture.max_epochs):
            most = float(Fraction(available) * Fraction(mixture.max_epochs) / tokens)
            if aims[name] > most * (1 + 1e-6) + 1e-9:
                taken = aims[name] * tokens
                raise ValueError(
                    f"the mixture takes {format_count(taken)} tokens of {name}, {taken / available:.3g} epochs of its"
                    f" {format_count(available)}; {mixture.max_epochs:g} are allowed: give --max-epochs, or choose the mixture with"
                    " --supply"
                )
            if random_sequences and most < 1:
                spread = 4 * math.sqrt(most * (1 - most) / random_sequences)
                if aims[name] > most - spread:
                    warnings.append(
                        f"{name} is lowered by up to {spread:.2g}: a loader that draws at random may take more than its share"
                    )
                    aims[name] = max(most - spread, 0.0)
                most -= spread
            caps[name] = min(caps[name], max(most, 0.0))
    lost = 1 - sum(aims.values())
    if lost > 0 and warnings:
        free = [name for name in names if name not in mixture.supply] or names
        room = sum(aims[name] for name in free)
        for name in free:
            aims[name] += lost * (aims[name] / room if room else 1 / len(free))
    groups = [
        Group(name, tuple(names.index(member) for member in members), floor, cap)
        for name, members, floor, cap in mixture.groups
    ]
    counts = round_shares(
        [aims[name] for name in names],
        lattice,
        floors=[mixture.floors.get(name, 0.0) for name in names],
        caps=[caps[name] for name in names],
        groups=groups,
        names=names,
    )
    for name, count in zip(names, counts, strict=True):
        aim = mixture.shares[name] / total
        if aim > 0 and count == 0:
            warnings.append(f"{name} is lost: its share {aim:.3g} is below half a part of 1/{lattice}")
        elif aim > 0 and abs(count / lattice - aim) > MATTERS * aim:
            change = count / lattice / aim - 1
            warnings.append(
                f"{name} goes from {aim:.4g} to {count / lattice:.4g} ({change:+.1%}) in parts of 1/{lattice}"
            )
    kept = [k for k, count in enumerate(counts) if count]
    plan = Plan(
        tuple(names[k] for k in kept),
        tuple(int(counts[k]) for k in kept),
        lattice,
        tokens,
        dict(mixture.supply),
        {name: share / total for name, share in mixture.shares.items()},
    )
    for name in plan.domains:
        epochs = plan.epochs_of(name)
        if epochs is not None and epochs > 1 and 0 < epochs % 1 < A_FEW:
            warnings.append(
                f"{name} runs a little into another epoch ({epochs:.4g}): --max-epochs {int(epochs)} keeps it out"
            )
    return dataclasses.replace(plan, warnings=tuple(warnings))
