"""Public names and where each lives; `__init__.py` loads them from here when they are first used."""

from . import laws as laws
from .bayes.posterior import Posterior as Posterior
from .bayes.sampling import sample_posterior as sample_posterior
from .budget.best_recipe import best_recipe as best_recipe
from .budget.best_recipe import budget_path as budget_path
from .budget.equivalent import EquivalentCompute as EquivalentCompute
from .budget.equivalent import equivalent_compute as equivalent_compute
from .design.candidates import mixtures_around as mixtures_around
from .design.candidates import target_region as target_region
from .design.knowledge import know_nothing as know_nothing
from .design.knowledge import know_runs as know_runs
from .design.ladder import make_ladder as make_ladder
from .design.propose import compare_shapes as compare_shapes
from .design.propose import propose_runs as propose_runs
from .design.value_of_runs import worth as worth
from .downstream.fit import fit_accuracies as fit_accuracies
from .downstream.outcomes import OutcomesAt as OutcomesAt
from .downstream.result import AccuracyFit as AccuracyFit
from .evaluation.estimator import LawRegressor as LawRegressor
from .evaluation.leaderboard import Leaderboard as Leaderboard
from .evaluation.leaderboard import leaderboard as leaderboard
from .evaluation.methods import Prediction as Prediction
from .evaluation.methods import register_method as register_method
from .fitting.fit import fit as fit
from .fitting.identifiability import FitError as FitError
from .fitting.intervals import accuracy_interval as accuracy_interval
from .fitting.intervals import predict_interval as predict_interval
from .fitting.many import ManyFits as ManyFits
from .fitting.many import fit_many as fit_many
from .fitting.result import Fit as Fit
from .fitting.result import load_fit as load_fit
from .laws.by_name import register_law as register_law
from .laws.coordinates import Prior as Prior
from .laws.law import Law as Law
from .laws.law import raw_coordinates as raw_coordinates
from .mixture.feasibility import InfeasibleError as InfeasibleError
from .mixture.limits import Limits as Limits
from .mixture.limits import parse_limits as parse_limits
from .mixture.near_optimal import near_optimal as near_optimal
from .mixture.objectives import custom as custom
from .mixture.objectives import mean_accuracy as mean_accuracy
from .mixture.objectives import mean_loss as mean_loss
from .mixture.objectives import single_set as single_set
from .mixture.objectives import weighted_sum as weighted_sum
from .mixture.optimize import optimize_mixture as optimize_mixture
from .mixture.optimize import probability_best as probability_best
from .mixture.pareto import pareto_front as pareto_front
from .mixture.path import optimum_path as optimum_path
from .mixture.result import MixtureResult as MixtureResult
from .prediction.discrepancy import Discrepancy as Discrepancy
from .prediction.draws import Draws as Draws
from .prediction.draws import LossesAt as LossesAt
from .prediction.measured import within_measured as within_measured
from .proxy.corpus import build_corpus as build_corpus
from .proxy.sweep import sweep as sweep
from .recipes.costs import register_cost as register_cost
from .recipes.outcome import Outcome as Outcome
from .recipes.recipe import Recipe as Recipe
from .recipes.recipe import dense as dense
from .reports.card import evidence_card as evidence_card
from .study.proposal import Proposal as Proposal
from .study.recommend import Recommendation as Recommendation
from .study.store import StudyError as StudyError
from .study.study import Study as Study
from .tables.combine import concat as concat
from .tables.read import read_recipes as read_recipes
from .tables.read import read_runs as read_runs
from .tables.runs import Runs as Runs
from .tables.runs import select as select
from .tables.runs import split_by_scale as split_by_scale
from .tables.sheet import TableError as TableError
from .tables.tasks import read_tasks as read_tasks
from .tables.write import runs_to_frame as runs_to_frame
from .tables.write import write_runs as write_runs

__version__: str
__all__ = [
    "AccuracyFit",
    "Discrepancy",
    "Draws",
    "EquivalentCompute",
    "Fit",
    "FitError",
    "InfeasibleError",
    "Law",
    "LawRegressor",
    "Leaderboard",
    "Limits",
    "LossesAt",
    "ManyFits",
    "MixtureResult",
    "Outcome",
    "OutcomesAt",
    "Posterior",
    "Prediction",
    "Prior",
    "Proposal",
    "Recipe",
    "Recommendation",
    "Runs",
    "Study",
    "StudyError",
    "TableError",
    "accuracy_interval",
    "best_recipe",
    "budget_path",
    "build_corpus",
    "compare_shapes",
    "concat",
    "custom",
    "dense",
    "equivalent_compute",
    "evidence_card",
    "fit",
    "fit_accuracies",
    "fit_many",
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
    "parse_limits",
    "predict_interval",
    "probability_best",
    "propose_runs",
    "raw_coordinates",
    "read_recipes",
    "read_runs",
    "read_tasks",
    "register_cost",
    "register_law",
    "register_method",
    "runs_to_frame",
    "sample_posterior",
    "select",
    "single_set",
    "split_by_scale",
    "sweep",
    "target_region",
    "weighted_sum",
    "within_measured",
    "worth",
    "write_runs",
]
