"""Limits on a mixture: what a team writes down, checked and named.

Every limit keeps its name, so that a contradiction and a multiplier can be reported in the words of the person who set
it. Host code on small arrays.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.sizes import parse_tokens
from camel_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Limit:
    """One named limit: ``row @ w <= value`` if linear, else a curved or counting limit of the given kind.

    Attributes:
      name: the words used in messages, such as "cap code <= 0.3".
      kind: floor, cap, fixed, supply, group, cost, kl, distance or count.
      row: (K,) coefficients, or None if not linear. value: the bound.
      domain: index for limits on a single share, else -1.
    """

    name: str
    kind: str
    row: np.ndarray | None
    value: float
    domain: int = -1


@dataclasses.dataclass(frozen=True, repr=False)
class Limits:
    """All limits of a decision, in the order given.

    Attributes:
      domains: names of the K domains.
      items: the limits.
      prior: (K,) mixture of the KL limit, or None.
      anchor: (K,) mixture of the distance limit, or None.

    >>> limits = parse_limits(["web", "code"], bounds={"code": (None, 0.3)}, kl=([0.5, 0.5], 0.05))
    >>> [limit.name for limit in limits.items], limits.prior.tolist()
    (['cap code <= 0.3', 'KL to the prior <= 0.05'], [0.5, 0.5])
    """

    domains: tuple[str, ...]
    items: tuple[Limit, ...] = ()
    prior: np.ndarray | None = None
    anchor: np.ndarray | None = None

    __repr__ = brief_repr

    def find(self, kind: str) -> Limit | None:
        """The limit of a kind of which there can be only one."""
        return next((limit for limit in self.items if limit.kind == kind), None)


class LimitOptions(TypedDict, total=False):
    """Limits as keyword arguments of decisions, each as in ``parse_limits``; their units are given there."""

    bounds: Mapping[str, Any] | None
    measured: Mapping[str, tuple[float, float]] | None
    groups: Mapping[str, Any] | None
    fixed: Mapping[str, float] | None
    supply: Mapping[str, Any] | Array | None
    tokens: Any
    max_epochs: float
    kl: tuple[Array, float] | None
    distance: tuple[Array, float] | None
    cost: tuple[Array, float] | None
    max_domains: int | None


def parse_limits(
    domains: Sequence[str] | int,
    *,
    bounds: Mapping[str, Any] | None = None,
    measured: Mapping[str, tuple[float, float]] | None = None,
    groups: Mapping[str, Any] | None = None,
    fixed: Mapping[str, float] | None = None,
    supply: Mapping[str, Any] | Array | None = None,
    tokens: Any = None,
    max_epochs: float = 1.0,
    kl: tuple[Array, float] | None = None,
    distance: tuple[Array, float] | None = None,
    cost: tuple[Array, float] | None = None,
    max_domains: int | None = None,
) -> Limits:
    """Check and name the limits of a decision.

    Args:
      domains: names of the K domains, or their number.
      bounds: ``{domain: (floor, cap)}``, either may be None; shares in [0, 1].
      measured: ``{domain: (smallest, largest measured share)}``, as :func:`camel_jax.prediction.measured.within_measured` gives: floors
        and caps of their own beside ``bounds``.
      groups: ``{label: (members, floor, cap)}``: limits on the sum of the members' shares.
      fixed: ``{domain: share}``.
      supply: unique tokens per domain, ``{domain: tokens}`` or (K,), inf where there is no limit; needs ``tokens``.
      tokens: training tokens, as a number or as text such as "1T".
      max_epochs: how often the supply may be repeated: ``share * tokens <= supply * max_epochs``.
      kl: ``(prior weights (K,), limit)``: ``sum_i w_i log(w_i / p_i) <= limit``, in nats.
      distance: ``(weights (K,), limit)``: Euclidean distance to a mixture.
      cost: ``(cost per domain, budget)``: ``sum_i w_i cost_i <= budget``; the cost as (K,) or ``{domain: cost}``, 0 if absent.
      max_domains: at most this many domains with a share above zero.

    Raises:
      ValueError: an unknown domain, a number that is not one, or a bound outside its range; the message names it.

    >>> [limit.name for limit in parse_limits(["web", "code"], bounds={"code": (0.1, 0.3)}).items]
    ['floor code >= 0.1', 'cap code <= 0.3']
    """
    names = tuple(f"domain {i}" for i in range(domains)) if isinstance(domains, int) else tuple(map(str, domains))
    items: list[Limit] = []

    def unit(index: int, sign: float = 1.0) -> np.ndarray:
        row = np.zeros(len(names))
        row[index] = sign
        return row

    def add_bounds(name: str, floor: Any, cap: Any, row: np.ndarray, kind: tuple[str, str], what: str, at: int) -> None:
        for bound, word, sign, symbol in ((floor, kind[0], -1.0, ">="), (cap, kind[1], 1.0, "<=")):
            if bound is not None:
                value = _share(bound, f"{word} of {name}")
                items.append(
                    Limit(f"{word} {what}{name} {symbol} {value:g}", what.strip() or word, sign * row, sign * value, at)
                )

    for name, pair in (bounds or {}).items():
        floor, cap = _pair(pair, f"bounds of {name}")
        index = _index(name, names, "bounds")
        add_bounds(name, floor, cap, unit(index), ("floor", "cap"), "", index)
    for name, pair in (measured or {}).items():
        low, high = (_share(x, f"measured share of {name}") for x in _pair(pair, f"measured shares of {name}"))
        index = _index(name, names, "measured")
        if low > 0:
            items.append(
                Limit(f"smallest measured share of {name} >= {low:.4g}", "floor", unit(index, -1.0), -low, index)
            )
        if high < 1:
            items.append(Limit(f"largest measured share of {name} <= {high:.4g}", "cap", unit(index), high, index))
    for label, entry in (groups or {}).items():
        if len(entry) != 3 or isinstance(entry[0], str):
            raise ValueError(f"group {label}: give (members, floor, cap), got {entry!r}")
        row = sum(
            (unit(_index(member, names, f"group {label}")) for member in dict.fromkeys(entry[0])), np.zeros(len(names))
        )
        add_bounds(label, entry[1], entry[2], row, ("floor", "cap"), "group ", -1)
    for name, share in (fixed or {}).items():
        index, share = _index(name, names, "fixed"), _share(share, f"fixed share of {name}")
        items.append(Limit(f"fixed {name} = {share:g}", "fixed", unit(index), share, index))
    items += _supply_limits(names, supply, tokens, max_epochs)
    if cost is not None:
        per_domain = _vector(cost[0], names, "cost", 0.0)
        budget = float(cost[1])
        if not (np.isfinite(per_domain).all() and np.isfinite(budget)):
            raise ValueError("cost: costs and budget must be finite numbers")
        items.append(Limit(f"cost <= {budget:g}", "cost", per_domain, budget))
    prior = anchor = None
    if kl is not None:
        prior = mixture(kl[0], names, "kl prior")
        items.append(Limit(f"KL to the prior <= {_positive(kl[1], 'kl limit'):g}", "kl", None, float(kl[1])))
    if distance is not None:
        anchor = mixture(distance[0], names, "distance")
        limit = _positive(distance[1], "distance limit")
        items.append(Limit(f"distance <= {limit:g}", "distance", None, limit))
    if max_domains is not None:
        if int(max_domains) != max_domains or max_domains < 1:
            raise ValueError(f"max_domains must be a whole number of at least 1, got {max_domains!r}")
        if max_domains < len(names):
            items.append(Limit(f"at most {int(max_domains)} domains", "count", None, float(max_domains)))
    return Limits(names, tuple(items), prior, anchor)


def _supply_limits(names: tuple[str, ...], supply: Any, tokens: Any, max_epochs: float) -> list[Limit]:
    if supply is None:
        return []
    if tokens is None:
        raise ValueError("supply: the number of training tokens is needed too (tokens=...)")
    available, total = _vector(supply, names, "supply", np.inf, _tokens), parse_tokens(tokens)
    if not (np.isfinite(max_epochs) and max_epochs > 0):
        raise ValueError(f"max_epochs must be above zero, got {max_epochs!r}")
    if np.isnan(available).any() or (available < 0).any():
        raise ValueError("supply: token counts must not be negative or NaN")
    items = []
    for index in np.flatnonzero(available * max_epochs < total):
        share = float(available[index] * max_epochs / total)
        text = f"supply {names[index]} ({available[index]:.4g} tokens x {max_epochs:g} epochs, share <= {share:.4g})"
        row = np.zeros(len(names))
        row[index] = 1.0
        items.append(Limit(text, "supply", row, share, int(index)))
    return items


def curved_value(limits: Limits, kind: str, weights: np.ndarray) -> float:
    """KL divergence to the prior, or distance to the anchor, of a mixture (K,)."""
    if kind == "kl":
        assert limits.prior is not None
        live = weights > 0
        if (limits.prior[live] <= 0).any():
            return np.inf
        return float(np.sum(weights[live] * np.log(weights[live] / limits.prior[live])))
    assert limits.anchor is not None
    return float(np.linalg.norm(weights - limits.anchor))


def slack(limits: Limits, limit: Limit, weights: np.ndarray) -> float:
    """Room left under one limit, in its own unit; negative where it is broken."""
    if limit.kind == "count":
        return limit.value - float(np.count_nonzero(weights))
    if limit.row is None:
        return limit.value - curved_value(limits, limit.kind, weights)
    room = limit.value - math.fsum(limit.row * weights)
    return -abs(room) if limit.kind == "fixed" else room


def violation(limits: Limits, weights: np.ndarray) -> float:
    """Largest violation of any limit, of the sum, or of a share not being negative; 0 where all hold."""
    worst = max(abs(1.0 - math.fsum(weights)), float(-np.min(weights)), 0.0)
    return max([worst, *(-slack(limits, limit, weights) for limit in limits.items)])


def _index(name: Any, names: tuple[str, ...], where: str) -> int:
    if name in names:
        return names.index(name)
    close = difflib.get_close_matches(str(name), names, 1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; the domains are {', '.join(names[:30])}"
    raise ValueError(f"{where}: unknown domain {name!r}{hint}")


def _tokens(value: Any) -> float:
    return parse_tokens(value) if isinstance(value, str) else float(value)  # zero and inf are legal supplies


def _share(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {value!r} is not a number") from None
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{where}: {number:g} is not a share between 0 and 1")
    return number


def _positive(value: Any, where: str) -> float:
    number = float(value)
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"{where}: must be above zero and finite, got {value!r}")
    return number


def _pair(pair: Any, where: str) -> tuple[Any, Any]:
    if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
        raise ValueError(f"{where}: give (floor, cap), got {pair!r}")
    return pair[0], pair[1]


def _vector(values: Any, names: tuple[str, ...], where: str, default: float, parse: Any = float) -> np.ndarray:
    if isinstance(values, Mapping):
        out = np.full(len(names), default)
        for name, value in values.items():
            out[_index(name, names, where)] = parse(value)
        return out
    out = np.asarray(values, float)
    if out.shape != (len(names),):
        raise ValueError(f"{where}: {len(names)} numbers are needed, one per domain, got shape {out.shape}")
    return out


def mixture(values: Any, names: tuple[str, ...], where: str) -> np.ndarray:
    """A checked mixture (K,) from numbers or from ``{domain: share}``, scaled to sum to 1."""
    out = _vector(values, names, where, 0.0)
    if not np.isfinite(out).all() or (out < 0).any() or abs(out.sum() - 1.0) > 1e-3:
        raise ValueError(f"{where}: shares must be finite, not negative, and sum to 1; they sum to {out.sum():g}")
    return out / out.sum()
