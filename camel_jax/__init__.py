"""camel_jax: data-mixture scaling laws in JAX, from a table of small runs to the mixture for the large one.

Names are imported when they are first used, so that ``import camel_jax`` costs nothing and ``camel-jax --help`` does not
wait for JAX.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from camel_jax import laws
    from camel_jax.bayes.posterior import Posterior
    from camel_jax.bayes.sampling import sample_posterior
    from camel_jax.benchmark import AccuracyFit, fit_accuracies
    from camel_jax.benchmark_tasks import read_tasks
    from camel_jax.budget import best_recipe, budget_path
    from camel_jax.decisions import near_optimal, optimum_path, pareto_front
    from camel_jax.design import compare_shapes, propose_runs
    from camel_jax.draws import Discrepancy, Draws, LossesAt
    from camel_jax.evaluate import leaderboard
    from camel_jax.feasibility import InfeasibleError
    from camel_jax.fit import Fit, fit, load_fit
    from camel_jax.goals import mean_accuracy, mean_loss, single_set, weighted_sum
    from camel_jax.identifiability import FitError
    from camel_jax.knowledge import know_nothing, know_runs, mixtures_around, target_region
    from camel_jax.ladder import make_ladder
    from camel_jax.laws.law import Law
    from camel_jax.mixture import MixtureResult, optimize_mixture, probability_best
    from camel_jax.outcomes import OutcomesAt
    from camel_jax.proxy.corpus import build_corpus
    from camel_jax.proxy.sweep import sweep
    from camel_jax.runs import Recipe, Runs, dense, select, split_by_scale
    from camel_jax.schema import TableError
    from camel_jax.stopping import worth
    from camel_jax.tables import read_recipes, read_runs, runs_to_frame, write_runs
    from camel_jax.uncertainty import accuracy_interval, predict_interval

__version__ = "0.1.0"

# public name -> module it lives in
_HOME = {
    "AccuracyFit": "benchmark",
    "Discrepancy": "draws",
    "Draws": "draws",
    "Fit": "fit",
    "FitError": "identifiability",
    "InfeasibleError": "feasibility",
    "Law": "laws.law",
    "LossesAt": "draws",
    "MixtureResult": "mixture",
    "OutcomesAt": "outcomes",
    "Posterior": "bayes.posterior",
    "Recipe": "runs",
    "Runs": "runs",
    "TableError": "schema",
    "accuracy_interval": "uncertainty",
    "best_recipe": "budget",
    "budget_path": "budget",
    "build_corpus": "proxy.corpus",
    "compare_shapes": "design",
    "dense": "runs",
    "fit": "fit",
    "fit_accuracies": "benchmark",
    "know_nothing": "knowledge",
    "know_runs": "knowledge",
    "laws": "laws",
    "leaderboard": "evaluate",
    "load_fit": "fit",
    "make_ladder": "ladder",
    "mean_accuracy": "goals",
    "mean_loss": "goals",
    "mixtures_around": "knowledge",
    "near_optimal": "decisions",
    "optimize_mixture": "mixture",
    "optimum_path": "decisions",
    "pareto_front": "decisions",
    "predict_interval": "uncertainty",
    "probability_best": "mixture",
    "propose_runs": "design",
    "read_recipes": "tables",
    "read_runs": "tables",
    "read_tasks": "benchmark_tasks",
    "runs_to_frame": "tables",
    "sample_posterior": "bayes.sampling",
    "select": "runs",
    "single_set": "goals",
    "split_by_scale": "runs",
    "sweep": "proxy.sweep",
    "target_region": "knowledge",
    "weighted_sum": "goals",
    "worth": "stopping",
    "write_runs": "tables",
}

__all__ = [
    "AccuracyFit",
    "Discrepancy",
    "Draws",
    "Fit",
    "FitError",
    "InfeasibleError",
    "Law",
    "LossesAt",
    "MixtureResult",
    "OutcomesAt",
    "Posterior",
    "Recipe",
    "Runs",
    "TableError",
    "accuracy_interval",
    "best_recipe",
    "budget_path",
    "build_corpus",
    "compare_shapes",
    "dense",
    "fit",
    "fit_accuracies",
    "know_nothing",
    "know_runs",
    "laws",
    "leaderboard",
    "load_fit",
    "make_ladder",
    "mean_accuracy",
    "mean_loss",
    "mixtures_around",
    "near_optimal",
    "optimize_mixture",
    "optimum_path",
    "pareto_front",
    "predict_interval",
    "probability_best",
    "propose_runs",
    "read_recipes",
    "read_runs",
    "read_tasks",
    "runs_to_frame",
    "sample_posterior",
    "select",
    "single_set",
    "split_by_scale",
    "sweep",
    "target_region",
    "weighted_sum",
    "worth",
    "write_runs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'camel_jax' has no attribute {name!r}")
    module = importlib.import_module(f"camel_jax.{_HOME[name]}")
    value = module if _HOME[name] == name and not hasattr(module, name) else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Package(types.ModuleType):
    """Importing the module ``camel_jax.fit`` must not hide the function ``camel_jax.fit``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType) and name in _HOME and hasattr(value, name):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
