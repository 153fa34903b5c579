"""What a decision was asked for, so that it can be asked again: target, objective, limits, seed; kept in the file of a mixture."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from camel_jax.recipes.plain_data import as_plain_data
from camel_jax.storage import check_source

LIMITS = ("bounds", "measured", "groups", "fixed", "supply", "max_epochs", "kl", "distance", "cost", "max_domains")


class Request(NamedTuple):
    """What a decision was asked for.

    Attributes:
      size: of the target, as a command takes it. tokens: of its training.
      objective: as ``mix --objective`` takes it.
      near: percent of the best objective within which mixtures count as nearly optimal; 0 for none.
      risk, tail, starts, seed: of the search.
      limits: as keyword arguments of ``optimize_mixture``.
      reference: shares of the mixture to compare with, (K,); None for the mean of the fitted table.

    >>> Request("7B", "1T").objective
    'mean-loss'
    """

    size: str
    tokens: str
    objective: str = "mean-loss"
    near: float = 0.1
    risk: str = "mean"
    tail: float = 0.1
    starts: int = 16
    seed: int = 0
    limits: Mapping[str, Any] = {}
    reference: Any = None

    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``recommend``."""
        more = {} if self.reference is None else {"reference": np.asarray(self.reference, float)}
        names = ("objective", "near", "risk", "tail", "starts", "seed")
        return {name: getattr(self, name) for name in names} | dict(self.limits) | more

    def to_dict(self) -> dict[str, Any]:
        """The request as data that JSON can write."""
        return as_plain_data(self._asdict())


def make_request(
    fitted: Any,
    size: str | None = None,
    tokens: str | None = None,
    *,
    limits: Mapping[str, Any] | None = None,
    **options: Any,
) -> Request:
    """What is asked of a fit, with its usual target where none is given.

    Args:
      fitted: the fit.
      size: of the target; ten times the largest fitted one if None.
      tokens: of the target; as many a parameter as the largest fitted run had if None.
      limits: keyword arguments of ``optimize_mixture``.
      options: the other fields of ``Request``.
    """
    from camel_jax.reports.recommend import default_target

    _, n_active, n_tokens = default_target(fitted, size, tokens)
    return Request(size or f"{n_active:.17g}", tokens or f"{n_tokens:.17g}", limits=limits or {}, **options)


def read_request(path: str | os.PathLike[str]) -> Request | None:
    """The request in a file of ``mix``: its size and tokens, where a file has no more and no limits were set, and None without these.

    Raises:
      ValueError: the file is none, or what it has is no request.
    """
    check_source(path)
    try:
        whole = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        told = whole.get("request")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a mixture.json ({type(error).__name__})") from None
    if told is None:
        size, tokens = whole.get("size"), whole.get("tokens")
        if not isinstance(size, str) or not isinstance(tokens, int | float) or isinstance(tokens, bool):
            return None
        if whole.get("limits") or whole.get("objective") != "mean loss":
            raise ValueError(
                f"{path}: it does not hold what was asked for (no request): choose the mixture again with camel-jax mix"
            )
        return Request(size, f"{tokens:.17g}")
    known = isinstance(told, dict) and set(told) <= set(Request._fields) and {"size", "tokens"} <= set(told)
    limits = told.get("limits", {}) if known else None
    if not known or not isinstance(limits, dict) or not set(limits) <= set(LIMITS):
        raise ValueError(f"{path}: its request has other parts than {', '.join(Request._fields)}")
    words = all(isinstance(told[name], str) for name in ("size", "tokens"))
    numbers = [told.get(name, 0) for name in ("near", "tail", "starts", "seed")]
    if not words or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers):
        raise ValueError(f"{path}: its request has text where a number belongs, or a number where text does")
    return Request(**told)
