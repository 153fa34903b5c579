"""The contract between fitting and deciding: a function from a mixture to an outcome."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp

from camel_jax.recipes.brief import brief_repr
from camel_jax.recipes.recipe import Recipe
from camel_jax.types import Array


class Outcome(NamedTuple):
    """What training on a mixture is predicted to give.

    Attributes:
      losses: (V,) in nats per token.
      accuracies: (T,) in [0, 1], or None.

    >>> import jax.numpy as jnp
    >>> Outcome(jnp.array([2.5, 3.0]), jnp.array([0.4])).accuracies.shape
    (1,)
    """

    losses: Array
    accuracies: Array | None = None

    __repr__ = brief_repr


class Interval(NamedTuple):
    """A number or array with an interval around it; NaN bounds where nothing is known of its spread.

    Attributes:
      point: the number or array itself.
      low: lower bound, same shape.
      high: upper bound, same shape.
    """

    point: Array
    low: Array
    high: Array

    __repr__ = brief_repr


@runtime_checkable
class Outcomes(Protocol):
    """A differentiable function from a mixture (K,) to an outcome: losses (V,), draws of losses (M, V), or an ``Outcome``.

    Any such function serves; these attributes are read where it has them:

    ``draws(weights)``  the same with a leading axis of M draws, for risks and intervals
    ``domains``, ``sets``, ``tasks``  names of the K domains, V validation sets and T tasks
    ``reference``  the mixture (K,) that gains are compared with
    """

    def __call__(self, weights: Array, /) -> Any:
        """The outcome of one mixture (K,)."""
        ...


class NamedOutcomes(Outcomes, Protocol):
    """A function from a mixture to losses that knows its names and has draws, as a fitted law gives it."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the K training domains."""
        ...

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the V validation sets."""
        ...

    @property
    def reference(self) -> Array:
        """The mixture (K,) that gains are compared with."""
        ...

    def draws(self, weights: Array) -> Array:
        """Losses of every draw, (M, V)."""
        ...

    @property
    def n_draws(self) -> int:
        """Number M of draws."""
        ...

    def recipe(self, weights: Array) -> Recipe:
        """The recipe of a mixture at the size and token count of this function."""
        ...


def as_outcome(raw: Any) -> Outcome:
    """An outcome from an array of losses or from any object with ``losses`` and perhaps ``accuracies``."""
    if hasattr(raw, "losses"):
        return Outcome(jnp.asarray(raw.losses), getattr(raw, "accuracies", None))
    return Outcome(jnp.asarray(raw))


def draws_of(outcomes: Outcomes, weights: Array) -> Outcome:
    """Draws of the outcome of one mixture: losses (M, V), accuracies (M, T) or None."""
    return as_outcome(getattr(outcomes, "draws", outcomes)(weights))
