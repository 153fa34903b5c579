"""The evidence card of a fit: how far its numbers are to be trusted, in plain lines that stand beside them.

How it did at sizes it had not seen, whether it has shown that it sees mixtures, how far a target lies beyond the table in size,
tokens and mixture, what the posterior's diagnostics say, and how good an optimum is proved to be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from camel_jax.prediction.measured import away_from, none_mix
from camel_jax.recipes.sizes import format_count, parse_size, parse_tokens
from camel_jax.types import Array

FAR = 4.0  # times the largest fitted size, beyond which back-tests say little of intervals
MARGIN = 0.0005  # of a share: measured shares are kept to three digits
NAMED = 6  # shares beyond those measured that are named, the farthest out
UNSURE = "no run of the table mixes domains, so draws cannot say which mixture is better"


def evidence_card(
    fit: Any,
    size: str | float | None = None,
    tokens: str | float | None = None,
    weights: Array | None = None,
    results: Sequence[Any] = (),
) -> tuple[str, ...]:
    """How far the numbers of a fit are to be trusted, in plain lines.

    Args:
      fit: the fit.
      size: active parameters of the target, as a number or as text such as "7B"; None for no target.
      tokens: its training tokens; None for no target.
      weights: its mixture (K,), or several (M, K), of which the farthest is told; None for those of ``results``.
      results: each a ``MixtureResult``, whose certificates are told: that of the weakest, if there are several.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1)
    >>> evidence_card(fitted, "400M", "2B")[-1]
    'target: 4 times the largest fitted size, 100M; 2.11 times the most fitted tokens, 949M'
    """
    if weights is None and results:
        weights = np.stack([result.weights for result in results])
    lines = [*_back_tests(fit), *_sight(fit), *_reach(fit, size, tokens)]
    if weights is not None:
        lines += _mixtures(fit, np.atleast_2d(np.asarray(weights, float)))
    if fit.diagnostics is not None:
        lines.append(f"posterior: {fit.diagnostics.verdict()}")
    if results:
        lines.append(_certificate(results))
    return tuple(lines)


def certificate_text(certificate: Any, gain: float) -> str:
    """What speaks for a mixture being the best there is, in a line; the bound on a better one in units of the gain.

    Args:
      certificate: of a ``MixtureResult``. gain: how much better the mixture is than the reference.
    """
    agree = f"{certificate.agreeing} of the {certificate.finished} best candidates, searched to the end, are as good as this mixture"
    if certificate.finished == 1:
        agree = "this mixture is the only candidate that was searched to the end"
    starts = "1 start" if certificate.starts == 1 else f"{certificate.starts} starts"
    if not certificate.convex:
        proof = (
            f"the objective is not convex (one of {certificate.chords} lines between mixtures shows it),"
            " so another optimum may exist"
        )
    else:
        proof = (
            f"the objective was convex along all {certificate.chords} random lines between mixtures that were tried;"
            f" if it is convex everywhere, {bound(certificate.gap, gain)}"
        )
    tried = (
        "" if certificate.exhaustive else "; not every set of domains was tried, and nothing is proved about the others"
    )
    return f"optimum: {agree} (of {starts}); {proof}{tried}"


def bound(gap: float, gain: float) -> str:
    """What a bound on how much better a mixture could be says beside a gain over the reference.

    Args:
      gap: no mixture is better by more than this. gain: over the reference.

    >>> bound(1e-8, 0.01)
    'no mixture gains more over the reference than this one, to 0.01 % of the gain'
    >>> bound(0.002, 0.01)
    'no mixture gains over the reference more than 1.2 times what this one does'
    >>> bound(0.1, 0.001)
    'no mixture is better by more than 0.1, which is more than the gain of 0.001 and so proves nothing at that scale'
    >>> bound(0.001, 0.0)
    'no mixture is better by more than 0.001; this one is no better than the reference'
    """
    if not gain > 0:
        return f"no mixture is better by more than {gap:.1g}; this one is no better than the reference"
    if gap <= 0.01 * gain:
        return f"no mixture gains more over the reference than this one, to {max(100 * gap / gain, 0.01):.1g} % of the gain"
    if gap < gain:
        return f"no mixture gains over the reference more than {1 + gap / gain:.2g} times what this one does"
    return f"no mixture is better by more than {gap:.1g}, which is more than the gain of {gain:.1g} and so proves nothing at that scale"


def better_in_draws(probability: float) -> str:
    """In what share of draws a mixture is better than the reference, in words; NaN where draws cannot say so.

    >>> better_in_draws(0.69)
    'better in 69 % of draws'
    """
    return UNSURE if math.isnan(probability) else f"better in {100 * probability:.0f} % of draws"


def _back_tests(fit: Any) -> list[str]:
    """How wrong the law was at sizes that were held out, the largest first."""
    told = [test for test in reversed(fit.backtests) if math.isfinite(test.mean_relative_error)]
    if not told:
        why = (
            "nothing was measured at the sizes that were held out"
            if fit.backtests
            else "none, as the table has fewer than three sizes or none was asked for"
        )
        return [f"back-test: {why}; intervals beyond the table come from how laws did on other tables"]
    largest, *smaller = told
    lines = [
        f"back-test: fitted below {format_count(largest.size)}, the law was off by {100 * largest.mean_relative_error:.2f} % on average"
        f" there; {100 * largest.coverage:.0f} % of the losses were inside its 90 % intervals (half-width {100 * largest.width:.2f} %)"
    ]
    if smaller:
        each = [
            f"{format_count(t.size)} ({100 * t.mean_relative_error:.2f} %, {100 * t.coverage:.0f} % inside)"
            for t in smaller
        ]
        lines.append(f"back-test at smaller sizes: {', '.join(each)}")
    return lines


def _sight(fit: Any) -> list[str]:
    """Whether the law has shown that it sees mixtures."""
    if none_mix(fit.discrepancy.mixtures):
        return ["mixtures: no run of the table mixes domains; what a mixture does is the law's assumption"]
    if len(fit.discrepancy.mixtures) == 1:
        return ["mixtures: the table has one, and cannot show what another does"]
    told = [test for test in fit.backtests if math.isfinite(test.blind_error)]
    if not told:
        return ["mixtures: no back-test compares any, so this table does not show that the law sees them"]
    seen, blind = told[-1].mean_relative_error, told[-1].blind_error
    if blind <= seen:
        return [
            f"mixtures: averaged over them, the same predictions were off by {100 * blind:.2f} %, no more:"
            " this table does not show that the law sees mixtures"
        ]
    return [
        f"mixtures: averaged over them, as a law blind to mixtures would, the predictions were off by {100 * blind:.2f} %"
    ]


def _reach(fit: Any, size: str | float | None, tokens: str | float | None) -> list[str]:
    """How far a target lies from the fitted sizes and tokens."""
    parts, far = [], False
    for what, value, fitted in (
        ("size", None if size is None else parse_size(size)[1], fit.size_range),
        ("tokens", None if tokens is None else parse_tokens(tokens), fit.tokens_range),
    ):
        if value is None:
            continue
        least, most = fitted
        if value > most * (1 + 1e-9):
            end = "largest fitted size" if what == "size" else "most fitted tokens"
            parts.append(f"{value / most:.3g} times the {end}, {format_count(most)}")
            far |= what == "size" and value > FAR * most
        elif value < least * (1 - 1e-9):
            end = "smallest fitted size" if what == "size" else "fewest fitted tokens"
            parts.append(f"1/{least / value:.3g} of the {end}, {format_count(least)}")
        else:
            parts.append(f"{what} within what was fitted")
    if not parts:
        return []
    return [f"target: {'; '.join(parts)}" + ("; intervals so far out are little tested" if far else "")]


def _mixtures(fit: Any, weights: np.ndarray) -> list[str]:
    """How far mixtures lie from the measured ones."""
    known = np.asarray(fit.discrepancy.mixtures, float)
    low, high, lines = known.min(0), known.max(0), []
    outside = []
    for k, name in enumerate(fit.domains):
        least, most = weights[:, k].min(), weights[:, k].max()
        for share, edge, which in ((most, high[k], "at most"), (least, low[k], "at least")):
            if (beyond := share - edge if which == "at most" else edge - share) > MARGIN:
                outside.append((beyond, f"{name} {100 * share:.1f} % ({which} {100 * edge:.1f} % was measured)"))
    if outside:
        told = outside if len(outside) <= NAMED else sorted(outside, key=lambda one: -one[0])[:NAMED]
        more = f" and {len(outside) - NAMED} more" if len(outside) > NAMED else ""
        lines.append(f"shares beyond those measured: {', '.join(words for _, words in told)}{more}")
    away = away_from(known, weights)
    farthest = np.lexsort((away.nearest, away.hull))[-1]
    whose = "the mixture" if len(weights) == 1 else "the farthest mixture"
    nearest = f"{away.nearest[farthest]:.2g} (Euclidean distance of shares)"
    if away.nearest[farthest] < MARGIN:
        lines.append(f"{whose} is one of the {len(known)} measured mixtures")
    elif len(known) == 1:
        lines.append(f"{whose} lies {nearest} from the one measured mixture")
    else:
        where = f"{away.hull[farthest]:.2g} outside" if away.hull[farthest] > MARGIN else "inside"
        lines.append(
            f"{whose} lies {where} the hull of {len(known)} measured mixtures; the nearest is away by {nearest}"
        )
    return lines


def _certificate(results: Sequence[Any]) -> str:
    """The certificate of a mixture; of several, the one that bounds a better mixture least, in units of its gain."""

    def looseness(result: Any) -> float:
        gain = float(result.gain.point)
        return result.certificate.gap / gain if gain > 0 else math.inf

    weakest = max(results, key=lambda result: (not result.certificate.convex, looseness(result)))
    text = certificate_text(weakest.certificate, float(weakest.gain.point))
    return text if len(results) == 1 else f"{text} (the weakest certificate of {len(results)} optima)"
