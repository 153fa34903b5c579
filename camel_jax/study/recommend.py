"""What a study recommends: the mixture with its evidence, and whether more runs are worth their cost."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from camel_jax.design.value_of_runs import Worth
from camel_jax.fitting.result import Fit
from camel_jax.mixture.near_optimal import NearOptimal, decide
from camel_jax.mixture.result import MixtureResult
from camel_jax.recipes.sizes import format_count
from camel_jax.reports.card import better_in_draws, evidence_card
from camel_jax.reports.recommend import SAMPLE, as_dict, outcomes_of
from camel_jax.study.settings import Settings
from camel_jax.views.view import Readable, View

NEAR = 0.1  # percent of the objective within which shares hardly matter
SETTLED = 2  # recommendations in a row that must hardly differ before a study may stop


@dataclasses.dataclass(frozen=True, repr=False)
class Recommendation(Readable):
    """What a study recommends after so many runs; plain data beside the fit it rests on.

    Attributes:
      mixture: the decision, with limits, intervals and certificate.
      ranges: how far shares may move within ``NEAR`` percent of the best objective.
      evidence: how far the numbers are to be trusted, in plain lines.
      go_on: whether to buy more runs before training the target.
      reasons: why, in plain lines, the deciding one first.
      worth: what the next batch is expected to save; None where it could not be designed.
      target: in words.
      runs: finished runs it rests on.
      under_way: runs that are not finished.
      spent: what the runs so far cost, in the study's unit, those under way included.
      fit: the law fitted to the study's results.

    >>> import tempfile
    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> place = f"{tempfile.mkdtemp()}/study.db"
    >>> study = cj.Study(place, domains=["d0", "d1"], target="1B", ladder=["10M", "100M"], law="chinchilla")
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(1e7, 1e8), checkpoints=1)
    >>> study.tell_runs(runs)
    12
    >>> made = study.recommend(resamples=4)
    >>> made.verdict, made.reasons[0][:31]  # two sizes: none can be held out
    ('go on', 'no size was held out yet, so th')
    """

    mixture: MixtureResult
    ranges: NearOptimal
    evidence: tuple[str, ...]
    go_on: bool
    reasons: tuple[str, ...]
    worth: Worth | None
    target: str
    runs: int
    under_way: int
    spent: float
    fit: Fit

    @property
    def verdict(self) -> str:
        """ "go on" or "stop"."""
        return "go on" if self.go_on else "stop"

    def _view(self) -> View:
        inner, gain = self.mixture._view(), self.mixture.gain
        better = better_in_draws(self.mixture.probability_better)
        facts = {
            "verdict": self.verdict,
            "rests on": f"{self.runs} finished runs, {self.under_way} under way, {self.spent:.3g} spent",
            "gain": f"{gain.point:.4g} over the reference ({gain.low:.4g} to {gain.high:.4g}; {better})",
        }
        title = f"mixture for {self.target}: {self.verdict}"
        return View(title, facts, inner.sheets, (*self.reasons, *self.evidence))

    def to_dict(self) -> dict[str, Any]:
        """The recommendation as lists, numbers and text, ready for JSON."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "target": self.target,
            "runs": self.runs,
            "under_way": self.under_way,
            "spent": self.spent,
            "worth": None if self.worth is None else self.worth._asdict(),
            **as_dict(self.mixture, self.ranges, NEAR),
            "evidence": list(self.evidence),
        }

    def to_frame(self) -> Any:
        """One row a domain: its share, and how far it may move, as a pandas DataFrame."""
        return self.mixture.to_frame()

    def plot(self, ax: Any = None) -> Any:
        """The mixture as bars with the range of every share; returns the Axes."""
        return self.ranges.plot(ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recommended mixture as JSON, as ``MixtureResult.load`` and ``camel-jax export`` read it."""
        self.mixture.save(path)


def decide_mixture(settings: Settings, fitted: Fit) -> tuple[MixtureResult, NearOptimal, tuple[str, ...]]:
    """The best mixture by a fit under the study's limits, with its range and its evidence."""
    goal = settings.goal()
    supply = settings.limits.get("supply")
    at = outcomes_of(fitted, settings.size, settings.tokens, [goal], supply)
    options = settings.limit_options() | {"objective": goal, "key": jax.random.key(settings.seed)}
    best, ranges = decide(at, NEAR / 100, samples=SAMPLE, starts=16, **options)
    return best, ranges, evidence_card(fitted, settings.size, settings.tokens, results=[best])


def judge(
    best: MixtureResult,
    ranges: NearOptimal,
    fitted: Fit,
    worth: Worth | None,
    before: Sequence[dict[str, Any]],
    runs: int,
    under_way: int,
    why_not: str = "",
) -> tuple[bool, tuple[str, ...]]:
    """Whether to go on, and why.

    A study may stop where three things agree: the next batch is expected to save less than its cost would as more tokens of the
    target, the mixture has hardly moved over the last recommendations that rested on fewer runs, and at a size that it had not seen
    the law did better than the same law made blind to mixtures. Runs under way are worth waiting for, whatever the rest says.

    Args:
      best: the decision. ranges: mixtures as good as it. fitted: the law.
      worth: of the next batch; None where there is none. before: earlier recommendations, as the study keeps them.
      runs: finished runs. under_way: runs that are not. why_not: why there is no next batch.
    """
    deciding, others = [], []
    if under_way:
        deciding.append(f"{under_way} runs are under way: tell their results before deciding")
    if not fitted.backtests:
        deciding.append(
            "no size was held out yet, so that nothing tests the law beyond the sizes it has seen: three sizes are needed"
        )
    tested = [test for test in fitted.backtests if math.isfinite(test.blind_error)]
    if fitted.backtests and not (tested and tested[-1].blind_error > tested[-1].mean_relative_error):
        deciding.append("at the size that was held out, the law did no better than one that is blind to mixtures")
    if worth is None:
        others.append(f"the next batch was not designed: {why_not}")
    elif worth.go_on:
        deciding.append(f"the next batch is worth its cost: {worth.sentence}")
    else:
        others.append(f"the next batch is not worth its cost: {worth.sentence}")
    earlier = [one for one in before if one["runs"] < runs][-(SETTLED - 1) :]
    if len(earlier) < SETTLED - 1:
        deciding.append("this is the first recommendation: nothing shows yet how far the next runs would move it")
    for one in earlier:
        then = np.asarray(one["weights"], float)
        moved = 0.5 * np.abs(then - best.weights).sum()
        outside = np.maximum(ranges.low - then, then - ranges.high).max()
        text = f"since the recommendation from {one['runs']} runs, {100 * moved:.1f} points of share have moved"
        if outside > 0.005:
            deciding.append(f"{text}, beyond what hardly matters")
        else:
            others.append(f"{text}, within what hardly matters ({NEAR} % of the objective)")
    return bool(deciding), (*deciding, *others)


def as_decision(made: Recommendation) -> dict[str, Any]:
    """What a study keeps of a recommendation."""
    return {
        "weights": np.asarray(made.mixture.weights, float).tolist(),
        "objective": made.mixture.objective,
        "value": float(made.mixture.value.point),
        "gain": [float(x) for x in (made.mixture.gain.point, made.mixture.gain.low, made.mixture.gain.high)],
        "verdict": made.verdict,
        "reasons": list(made.reasons),
    }


def decision_line(one: dict[str, Any], domains: Sequence[str]) -> str:
    """A kept recommendation in a line."""
    shares = ", ".join(f"{name} {100 * w:.1f} %" for name, w in zip(domains, one["weights"], strict=True))
    return f"after {format_count(one['runs'])} runs: {one['verdict']}; {shares}; {one['objective']} {one['value']:.4f}"
