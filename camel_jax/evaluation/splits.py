"""What a leaderboard holds out: the largest sizes of a table, a share of its mixtures in turn, or its longest training."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from camel_jax.tables.runs import Runs, count_mixtures, mixture_ids, scales, select, split_by_scale

RULE = "say sizes=K (how many of the largest sizes; K alone will do), mixtures=SHARE (such as 0.25) or tokens"


class Split(NamedTuple):
    """One way of holding out rows of a table.

    Attributes:
      name: what is held out, such as "sizes=1" or "mixtures=0.25, fold 1 of 4".
      below: rows to fit. above: rows to judge on.
    """

    name: str
    below: Runs
    above: Runs


def parse_holdout(holdout: int | str) -> tuple[str, float]:
    """Kind and amount of a hold-out: sizes and their number, mixtures and a share, or tokens and a share.

    Args:
      holdout: "sizes=2", 2, "2" or "largest" (one size); "mixtures=0.25"; "tokens" or "tokens=0.5".

    Raises:
      ValueError: it is none of these.

    >>> parse_holdout("largest"), parse_holdout("mixtures=0.25"), parse_holdout("tokens")
    (('sizes', 1), ('mixtures', 0.25), ('tokens', 0.5))
    """
    text = str(holdout).strip().lower()
    kind, equals, amount = text.partition("=")
    if text == "largest":
        return "sizes", 1
    if text == "tokens":
        return "tokens", 0.5
    if not equals:
        kind, amount = "sizes", text
    try:
        number = float(amount)
    except ValueError:
        number = math.nan
    if kind == "sizes" and number >= 1 and number == int(number):
        return "sizes", int(number)
    if kind in ("mixtures", "tokens") and 0.0 < number < 1.0:
        return kind, number
    raise ValueError(f"holdout {holdout}: {RULE}")


def split(runs: Runs, holdout: int | str = 1) -> list[Split]:
    """Hold out rows of a table.

    ``sizes=K`` holds out the K largest sizes. ``mixtures=SHARE`` makes round(1 / SHARE) folds of mixtures, drawn at random and always
    the same, and holds out each in turn. ``tokens=SHARE`` holds out, at every size with several token counts, the rows with more than
    that share of the most tokens there (a half if no share is given).

    Args:
      runs: the table.
      holdout: as for ``parse_holdout``.

    Returns:
      One split, or one for each fold.

    Raises:
      ValueError: the table has too few sizes, mixtures or token counts.
    """
    kind, amount = parse_holdout(holdout)
    if kind == "sizes":
        if not amount < len(scales(runs)):
            raise ValueError(
                f"cannot hold out {amount} size(s) of a table with {len(scales(runs))}; hold out mixtures=0.25 or tokens"
            )
        return [Split(f"sizes={amount}", *split_by_scale(runs, int(amount)))]
    if kind == "tokens":
        held = _longest(runs, amount)
        if not held.any():
            raise ValueError("cannot hold out tokens of a table with one token count at each size")
        return [Split("tokens" if amount == 0.5 else f"tokens={amount:g}", select(runs, ~held), select(runs, held))]
    folds, count = max(2, round(1.0 / amount)), count_mixtures(runs)
    if count < 2 * folds:
        raise ValueError(
            f"cannot hold out mixtures={amount:g} of a table with {count} mixture(s): {2 * folds} are needed"
        )
    fold = np.random.default_rng(0).permutation(count)[mixture_ids(runs)] % folds
    return [
        Split(f"mixtures={amount:g}, fold {k + 1} of {folds}", select(runs, fold != k), select(runs, fold == k))
        for k in range(folds)
    ]


def token_levels(runs: Runs) -> np.ndarray:
    """Which token count each row has, (R,) from 0, ascending; counts that are within 2 % of the next are one."""
    order = np.argsort(np.asarray(runs.recipe.tokens, float), kind="stable")
    logs = np.log(np.asarray(runs.recipe.tokens, float)[order])
    out = np.empty(len(order), int)
    out[order] = np.concatenate([[0], np.cumsum(np.diff(logs) > 0.02)])
    return out


def _longest(runs: Runs, share: float) -> np.ndarray:
    """Boolean mask (R,) of rows with more than a share of the most tokens of their size, where others have less."""
    size, tokens = np.asarray(runs.recipe.n_active), np.asarray(runs.recipe.tokens, float)
    held = np.zeros(len(runs), bool)
    for one in np.unique(size):
        at = size == one
        long = at & (tokens > share * tokens[at].max() * (1.0 + 1e-9))
        if (at & ~long).any():
            held |= long
    return held
