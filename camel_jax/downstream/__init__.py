"""From losses to benchmark accuracies: a law of its own, fitted apart."""

from camel_jax.downstream.fit import fit_accuracies
from camel_jax.downstream.outcomes import OutcomesAt
from camel_jax.downstream.result import AccuracyFit

__all__ = ["AccuracyFit", "OutcomesAt", "fit_accuracies"]
