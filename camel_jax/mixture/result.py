"""What a decision says: the mixture, what it is predicted to give, which limits bind, and the evidence that it is the best."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from camel_jax.recipes.outcome import Interval
from camel_jax.recipes.plain_data import as_plain_data
from camel_jax.storage import replacing
from camel_jax.views.view import Readable, View


class Binding(NamedTuple):
    """One limit at the answer.

    Attributes:
      name: the limit. slack: how far the answer is from it, in its own unit. binds: whether it is reached.
      multiplier: what relaxing it gains in the objective at first, per unit (a share of 1, a unit of cost, a nat); for a fixed share,
        what moving it to the better side gains. NaN for a limit on the number of domains.
      step: how far it was relaxed to solve again, in its own unit; one domain more where their number is limited. NaN if it was not.
      gain: what that gained in the objective, not negative; NaN if it was not solved again.
      at_least: whether more may be gained: the cost is not convex, or not every choice of domains was tried.
    """

    name: str
    slack: float
    binds: bool
    multiplier: float
    step: float = math.nan
    gain: float = math.nan
    at_least: bool = False

    def relaxing(self, objective: str = "the objective") -> str:
        """What relaxing the limit gains, in words; empty if it was not solved again.

        Args:
          objective: its label.

        >>> Binding("cap code <= 0.3", 0.0, True, 0.12, 0.01, 0.0011).relaxing("mean loss")
        'relaxed by 0.01, mean loss improves by 0.0011'
        """
        if not math.isfinite(self.gain):
            return ""
        how = "with one more" if self.name.startswith("at most") else f"relaxed by {self.step:.2g}"
        return f"{how}, {objective} improves by {'at least ' if self.at_least else ''}{self.gain:.3g}"


class Certificate(NamedTuple):
    """Evidence that the answer is the best there is.

    Attributes:
      gap: no feasible mixture is better by more than this if the cost is convex (Frank-Wolfe gap, in objective units). Where the number
        of domains is limited it holds for the sets of domains that were tried.
      convex: whether no random chord of the region showed the cost to be non-convex. chords: how many were tried.
      residual: violation of the optimality conditions, relative to the slope of the cost.
      starts: number of starts. agreeing: how many finished candidates reached the same objective within 1e-6 of its
        size. finished: how many candidates were finished.
      exhaustive: whether every set of domains that the limits allow was tried.
    """

    gap: float
    convex: bool
    chords: int
    residual: float
    starts: int
    agreeing: int
    finished: int
    exhaustive: bool = True


@dataclasses.dataclass(frozen=True, repr=False)
class MixtureResult(Readable):
    """A recommended mixture with what it is predicted to give; plain data.

    All intervals are those of 90 %, with NaN bounds where there are no draws.

    Attributes:
      weights: (K,), sums to 1, meets every limit.
      domains: K names.
      objective: label.
      maximize: whether larger is better.
      risk: mean, cvar or worst.
      value: objective at the mixture (under the risk), with the interval of the plain objective over draws.
      losses: predicted losses (V,) in nats per token.
      accuracies: predicted accuracies (T,) in [0, 1], None if there are none.
      sets: V names.
      tasks: T names.
      reference: (K,) mixture to compare with.
      reference_value: its objective.
      reference_losses: (V,) its losses.
      gain: how much better the objective is than at the reference; positive is better.
      loss_difference: losses minus those of the reference, (V,); negative is better.
      reference_accuracies: (T,) accuracies of the reference; None without.
      accuracy_difference: accuracies minus those of the reference, (T,); positive is better, None without.
      probability_better: share of draws in which the mixture beats the reference; NaN without draws, and where the outcomes
        say that no run mixes domains (``unmixed``): draws that agree there only agree on what the law assumes.
      limits: every limit with slack and multiplier.
      violation: largest violation of any limit or of the sum.
      certificate: evidence of global optimality.
      status: "converged" or what went wrong.

    >>> import jax.numpy as jnp
    >>> import camel_jax as cj
    >>> losses = lambda w: (2.0 + jnp.array([0.1, 0.2, 0.1]) @ (w + 0.05) ** -0.5)[None]
    >>> best = cj.optimize_mixture(losses, domains=["web", "code", "wiki"], starts=4)
    >>> best.status, float(best.gain.point) > 0, best.to_dict()["domains"]
    ('converged', True, ['web', 'code', 'wiki'])
    """

    weights: np.ndarray
    domains: tuple[str, ...]
    objective: str
    maximize: bool
    risk: str
    value: Interval
    losses: Interval
    accuracies: Interval | None
    sets: tuple[str, ...]
    tasks: tuple[str, ...]
    reference: np.ndarray
    reference_value: float
    reference_losses: np.ndarray
    gain: Interval
    loss_difference: Interval
    reference_accuracies: np.ndarray | None
    accuracy_difference: Interval | None
    probability_better: float
    limits: tuple[Binding, ...]
    violation: float
    certificate: Certificate
    status: str

    def to_dict(self) -> dict[str, Any]:
        """The result as plain lists, numbers and text, ready for JSON (NaN becomes None)."""
        out = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        out["weights"] = dict(zip(self.domains, self.weights.tolist(), strict=True))
        out["reference"] = dict(zip(self.domains, self.reference.tolist(), strict=True))
        return as_plain_data(out)

    def _view(self) -> View:
        from camel_jax.views.decisions import mixture_view

        return mixture_view(self)

    def to_frame(self) -> Any:
        """One row a domain: share and reference share as a pandas DataFrame."""
        from camel_jax.views.decisions import mixture_columns
        from camel_jax.views.view import to_frame

        return to_frame(mixture_columns(self))

    def outcome_frame(self) -> Any:
        """One row a set and task as a pandas DataFrame: point, low and high, and the same of the difference to the reference."""
        from camel_jax.views.decisions import outcome_columns
        from camel_jax.views.view import to_frame

        return to_frame(outcome_columns(self))

    def plot(self, ax: Any = None) -> Any:
        """The mixture as bars beside the reference; returns the Axes."""
        from camel_jax.views.decisions import plot_mixture

        return plot_mixture(self, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the decision as JSON, whole or not at all; ``load`` reads it."""
        with replacing(path) as part:
            pathlib.Path(part).write_text(
                json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MixtureResult:
        """Read a decision that ``save`` or ``camel-jax mix --out`` wrote; numbers that were not known are NaN.

        Raises:
          ValueError: the file is not one.
        """
        try:
            told = json.loads(pathlib.Path(path).read_text())
            return cls(**_read(told))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a saved mixture ({type(error).__name__}: {error!s:.80})") from None


_NUMBERS = ("reference_value", "probability_better", "violation")
_INTERVALS = ("value", "losses", "accuracies", "gain", "loss_difference", "accuracy_difference")


def _read(told: dict[str, Any]) -> dict[str, Any]:
    def array(values: Any) -> Any:
        out = np.asarray(values, float)  # None becomes NaN
        return out if out.ndim else float(out)

    out = {field.name: told[field.name] for field in dataclasses.fields(MixtureResult)}
    domains = tuple(out["domains"])
    for name in ("weights", "reference"):
        out[name] = np.array([out[name][domain] for domain in domains], float)
    for name in _INTERVALS:
        out[name] = None if out[name] is None else Interval(*(array(out[name][part]) for part in Interval._fields))
    for name in ("reference_losses", "reference_accuracies"):
        out[name] = None if out[name] is None else array(out[name])
    for name in _NUMBERS:
        out[name] = array(out[name])
    out |= {name: tuple(out[name]) for name in ("domains", "sets", "tasks")}
    limits: list[dict[str, Any]] = [
        {name: math.nan if value is None else value for name, value in limit.items()} for limit in out["limits"]
    ]
    out["limits"] = tuple(Binding(**limit) for limit in limits)
    return out | {"certificate": Certificate(**out["certificate"])}
