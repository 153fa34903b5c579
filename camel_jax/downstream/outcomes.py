"""Losses and benchmark accuracies together, as a function of the mixture: two laws in a row, with the errors of both.

    mixture -> losses (the fitted law) -> accuracies (the benchmark law)

Draw m takes the m-th draw of the losses, one bootstrap refit of the benchmark law and one error of that law.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.downstream.result import AccuracyDraws, AccuracyFit, positions
from camel_jax.recipes.outcome import NamedOutcomes, Outcome
from camel_jax.recipes.recipe import Recipe
from camel_jax.storage import ArchiveError
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

NO_BENCHMARKS = "this fit has no benchmark law, which comes from a table with accuracies (columns acc/<task>)"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class OutcomesAt(Readable):
    """A differentiable function from a mixture (K,) to an ``Outcome``, at one size and token count.

    ``self(weights)`` is the point prediction: losses (V,) in nats per token and accuracies (T,) in [0, 1].
    ``self.draws(weights)`` has both with a leading axis of M draws; the errors of the benchmark law are the same for
    every mixture, as errors at a new scale are.

    Attributes:
      losses_at: the losses.
      law: the benchmark law, M draws of it.
      columns: (V',) sets that the benchmark law reads.
      tasks: names of the T tasks (static).

    >>> import dataclasses
    >>> import jax
    >>> import numpy as np
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))  # a table of runs would have measured these
    >>> runs = dataclasses.replace(runs, tasks=("qa", "code"), accuracies=0.25 + 0.5 * knows)
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> fitted = fitted.with_benchmarks(cj.fit_accuracies(runs, key=jax.random.key(2), resamples=0, starts=1))
    >>> at = fitted.outcomes_at("300M", "10B", tasks=["code"])
    >>> at(np.array([0.5, 0.5])).accuracies.shape, at.draws(np.array([0.5, 0.5])).losses.shape
    ((1,), (128, 2))
    """

    losses_at: NamedOutcomes
    law: AccuracyDraws
    columns: Array
    tasks: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the K training domains."""
        return self.losses_at.domains

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the V validation sets."""
        return self.losses_at.sets

    @property
    def reference(self) -> Array:
        """Mean mixture of the fitted table, (K,)."""
        return self.losses_at.reference

    @property
    def unmixed(self) -> bool:
        """Whether no run of the fitted table mixes domains, so that draws cannot tell which mixture is better."""
        return getattr(self.losses_at, "unmixed", False)

    @property
    def measured(self) -> Array | None:
        """Mixtures of the fitted table, (G, K), where the losses know them."""
        return getattr(self.losses_at, "measured", None)

    @property
    def fitted_sizes(self) -> tuple[float, ...]:
        """Smallest and largest active parameters of the fitted table, where the losses know them."""
        return getattr(self.losses_at, "fitted_sizes", ())

    def recipe(self, weights: Array) -> Recipe:
        """The recipe of a mixture at this size and token count."""
        return self.losses_at.recipe(weights)

    def __call__(self, weights: Array) -> Outcome:
        """Point prediction: losses (V,) and accuracies (T,)."""
        losses = self.losses_at(weights)
        return Outcome(losses, self.law.point(losses[self.columns]))

    def draws(self, weights: Array) -> Outcome:
        """Losses (M, V) and accuracies (M, T) of every draw."""
        losses = self.losses_at.draws(weights)
        return Outcome(losses, self.law.predict(losses[:, self.columns]))

    def _view(self) -> View:
        from camel_jax.views.fits import source_view

        return source_view(self.losses_at, self.tasks)

    def to_frame(self, weights: Array | None = None, level: float = 0.9) -> Any:
        """Predicted losses and accuracies at a mixture as a pandas DataFrame: name, point, low and high.

        Args:
          weights: (K,) mixture; ``reference`` if None.
          level: probability of the intervals.
        """
        from camel_jax.views.fits import outcome_columns
        from camel_jax.views.view import to_frame

        return to_frame(outcome_columns(self, weights, level))

    def plot(self, weights: Array | None = None, ax: Any = None) -> Any:
        """Predicted losses at a mixture (``reference`` if None) with 90 % intervals; returns the Axes."""
        from camel_jax.views.fits import plot_outcomes

        return plot_outcomes(self, weights, ax)


def pair(
    losses_at: NamedOutcomes, benchmarks: AccuracyFit, key: Array, tasks: Sequence[str] | None = None
) -> OutcomesAt:
    """Losses at a size and token count, followed by a benchmark law.

    Args:
      losses_at: the losses as a function of the mixture.
      benchmarks: the benchmark law; it may read fewer sets than there are losses, in another order.
      key: a ``jax.random`` key of the benchmark law's draws.
      tasks: names of the tasks; None for the usable ones, that is those without a flag.

    Raises:
      ValueError: the law reads a set that has no losses, a task is unknown, or all tasks are flagged and none is named.
    """
    if tasks is None:
        tasks = tuple(benchmarks.objective_weights())
        if not tasks:
            flags = ", ".join(sorted(set(benchmarks.flags.values())))
            raise ValueError(
                f"all {len(benchmarks.tasks)} tasks of the benchmark law are flagged ({flags}): name tasks"
            )
    columns = columns_read(benchmarks, losses_at.sets)
    return OutcomesAt(losses_at, benchmarks.sample(key, losses_at.n_draws, tasks), jnp.asarray(columns), tuple(tasks))


def columns_read(benchmarks: AccuracyFit, sets: Sequence[str]) -> np.ndarray:
    """Positions (V',) of a benchmark law's sets among the sets of a fit, matched by name.

    Raises:
      ValueError: naming every set that the fit does not have.
    """
    return positions(benchmarks.sets, sets, "loss/", "the fit, whose losses the benchmark law reads,")


def read_benchmarks(attached: Mapping[str, np.ndarray]) -> AccuracyFit | None:
    """The benchmark law among the arrays that travel with a fit; None if there is none.

    Raises:
      ArchiveError: its arrays are damaged.
    """
    if "accuracy/header" not in attached:
        return None
    try:
        return AccuracyFit.from_arrays(attached)
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"the benchmark law of this fit is damaged ({type(error).__name__}: {error})") from None
