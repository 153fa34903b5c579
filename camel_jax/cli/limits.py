"""Limits on a mixture on the command line: options, and a file that holds them all."""

from __future__ import annotations

import json
import pathlib
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from camel_jax.cli.inputs import read_mixture
from camel_jax.cli.options import NearLimits, Pairs, ShareLimits, Spending, split_pairs
from camel_jax.recipes.sizes import number, parse_tokens
from camel_jax.storage import check_source

_TABLES = ("min", "max", "fix", "supply", "cost")
_NUMBERS = ("cost_budget", "max_epochs", "kl", "distance", "max_domains")


def gather(
    domains: Sequence[str],
    given: ShareLimits,
    near_by: NearLimits = NearLimits(),  # noqa: B008 immutable
    spending: Spending = Spending(),  # noqa: B008
    within: Any = None,
) -> dict[str, Any]:
    """All limits as arguments of ``optimize_mixture``; those of the file come first.

    Args:
      domains: of the fit.
      given, near_by, spending: options. within: a fit whose measured shares bound those of the answer.

    Raises:
      ValueError: a limit that is given twice, stands alone where it needs another, or makes no sense.
    """
    file, prior = given.limits, near_by.prior
    tables: dict[str, list[str]] = {name: [] for name in _TABLES}
    single: dict[str, Any] = {}
    near = None
    if file is not None:
        content = _read(file)
        for name in _TABLES:
            tables[name] = _as_pairs(file, name, content.pop(name, {}))
        near = content.pop("prior", None)
        single = {name: _single(file, name, content.pop(name)) for name in _NUMBERS if name in content}
        if content:
            known = ", ".join((*_TABLES, *_NUMBERS, "prior"))
            raise ValueError(f"{file}: unknown limit {next(iter(content))!r}; there are {known}")
    more = {"min": given.floors, "max": given.caps, "fix": given.fixed, "supply": given.supply, "cost": spending.costs}
    for name, items in more.items():
        tables[name] += items or []
    numbers = {"max_epochs": given.max_epochs, "cost_budget": spending.cost_budget}
    for name, value in (numbers | {x: getattr(near_by, x) for x in ("kl", "distance", "max_domains")}).items():
        if value is not None:
            if name in single:
                raise ValueError(f"--{name.replace('_', '-')} is in {file} too; give it once")
            single[name] = value
    if near is not None and prior is not None:
        raise ValueError(f"--prior is in {file} too; give it once")
    near = _near(file, near, domains) if near is not None else None if prior is None else read_mixture(prior, domains)
    out = share_limits(domains, tables["min"], tables["max"], tables["fix"])
    if within is not None:
        from camel_jax.prediction.measured import within_measured

        out["measured"] = within_measured(within)
    if supplies := {name: parse_tokens(text) for name, text in pairs("--supply", tables["supply"])}:
        out |= {"supply": supplies, "max_epochs": single.get("max_epochs", 1.0)}
    elif "max_epochs" in single:
        raise ValueError("--max-epochs is about the supply: give --supply DOMAIN=TOKENS too")
    if bool(tables["cost"]) != ("cost_budget" in single):
        raise ValueError("--cost and --cost-budget belong together: what a share of 1 costs, and what may be spent")
    if tables["cost"]:
        per_domain = {name: number("--cost", name, text) for name, text in pairs("--cost", tables["cost"])}
        out["cost"] = (per_domain, single["cost_budget"])
    if (near is None) == bool({"kl", "distance"} & set(single)):
        raise ValueError("--prior belongs together with --kl or --distance: a mixture, and how near to stay to it")
    out |= {name: (near, single[name]) for name in ("kl", "distance") if name in single}
    if "max_domains" in single:
        out["max_domains"] = single["max_domains"]
    return out


def _read(path: pathlib.Path) -> dict[str, Any]:
    if path.suffix.lower() not in (".toml", ".json"):
        raise ValueError(f"--limits {path}: limits are read from .toml or .json")
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    check_source(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:  # of TOML, JSON or UTF-8
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: give names with limits, as in max = {{code = 0.3}}")
    return content


def _as_pairs(path: pathlib.Path, name: str, table: Any) -> list[str]:
    if not isinstance(table, Mapping):
        raise ValueError(f"{path}: {name} must be a table, as in {name} = {{code = 0.3}}")
    return [f"{key}={value!r}" if isinstance(value, int | float) else f"{key}={value}" for key, value in table.items()]


def _single(path: pathlib.Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{path}: {name} must be a number, got {value!r}")
    return value


def _near(path: pathlib.Path | None, prior: Any, domains: Sequence[str]) -> Any:
    assert path is not None
    if isinstance(prior, str):
        return read_mixture(path.parent / prior, domains)
    if not isinstance(prior, Mapping):
        raise ValueError(f"{path}: prior must be a table of shares or the name of a file")
    if missing := [name for name in domains if name not in prior]:
        raise ValueError(f"{path}: prior has no share of {', '.join(missing)}; write 0 where there is none")
    if unknown := [name for name in prior if name not in domains]:
        raise ValueError(f"{path}: prior names {', '.join(unknown)}; the domains of the fit are {', '.join(domains)}")
    return {name: number("prior", name, str(share)) for name, share in prior.items()}


def pairs(option: str, items: Pairs) -> list[tuple[str, str]]:
    """NAME=VALUE options, every name once."""
    split = split_pairs(option, items)
    twice = [name for name, times in Counter(name for name, _ in split).items() if times > 1]
    if twice:
        raise ValueError(f"{option} {twice[0]} is given twice")
    return split


def share_limits(domains: Sequence[str], floors: Pairs, caps: Pairs, fixed: Pairs) -> dict[str, Any]:
    """Floors, caps and fixed shares as arguments of ``optimize_mixture``; sums are written with ``+``."""
    bounds: dict[str, list[float | None]] = {}
    groups: dict[str, list[float | None]] = {}
    for at, option, given in ((0, "--min", floors), (1, "--max", caps)):
        for name, text in pairs(option, given):
            table = groups if name not in domains and "+" in name else bounds
            table.setdefault(name, [None, None])[at] = number(option, name, text)
    out: dict[str, Any] = {}
    if bounds:
        out["bounds"] = {name: tuple(pair) for name, pair in bounds.items()}
    if groups:
        out["groups"] = {name: ([part.strip() for part in name.split("+")], *pair) for name, pair in groups.items()}
    if fixed:
        out["fixed"] = {name: number("--fix", name, text) for name, text in pairs("--fix", fixed)}
    return out
