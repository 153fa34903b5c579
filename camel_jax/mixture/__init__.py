"""Which mixture: limits, objectives, search, and the evidence that the answer is the best."""

from camel_jax.mixture.feasibility import InfeasibleError
from camel_jax.mixture.near_optimal import near_optimal
from camel_jax.mixture.objectives import mean_accuracy, mean_loss, single_set, weighted_sum
from camel_jax.mixture.optimize import optimize_mixture, probability_best
from camel_jax.mixture.pareto import pareto_front
from camel_jax.mixture.path import optimum_path
from camel_jax.mixture.result import MixtureResult

__all__ = [
    "InfeasibleError",
    "MixtureResult",
    "mean_accuracy",
    "mean_loss",
    "near_optimal",
    "optimize_mixture",
    "optimum_path",
    "pareto_front",
    "probability_best",
    "single_set",
    "weighted_sum",
]
