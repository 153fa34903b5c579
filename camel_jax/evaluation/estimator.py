"""A law as a scikit-learn estimator over frames, so that its tools for splitting and scoring work on it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

try:
    from sklearn.base import BaseEstimator, RegressorMixin
except ImportError:
    from camel_jax.runtime import require

    require("baselines", "sklearn", "a law as a scikit-learn estimator")
    raise

from camel_jax.fitting.fit import fit as fit_law
from camel_jax.laws.by_name import law_by_name
from camel_jax.tables.read import read_recipes, read_runs


class LawRegressor(RegressorMixin, BaseEstimator):
    """A law that scikit-learn can clone, fit, score and cross-validate: recipes in a frame go in, losses come out.

    A thin adapter around ``fit``. Random splits of one table say how a law fills gaps between runs; how it extrapolates, which is what
    it is for, is told by :func:`camel_jax.evaluation.leaderboard.leaderboard`. Rows of one run belong into one fold: split with
    ``GroupKFold`` by the column ``run`` where runs have several checkpoints.

    Args:
      law: name of a law, as in "blend" or one that is registered.
      skills: latent skills of CAMEL; None for the law's own number.
      starts: random starts.
      field: whether residuals near measured mixtures correct predictions.
      seed: of every random choice.

    >>> import jax
    >>> from camel_jax.evaluation import simulate
    >>> from sklearn.model_selection import cross_val_score
    >>> frame = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8), checkpoints=1).to_frame()
    >>> losses = frame.filter(like="loss/")
    >>> scores = cross_val_score(LawRegressor("chinchilla", starts=1), frame.drop(columns=losses), losses, cv=2)
    >>> scores.shape
    (2,)
    """

    def __init__(
        self, law: str = "blend", *, skills: int | None = None, starts: int = 2, field: bool = True, seed: int = 0
    ):
        self.law, self.skills, self.starts, self.field, self.seed = law, skills, starts, field, seed

    def fit(self, X: Any, y: Any) -> LawRegressor:
        """Fit the law.

        Args:
          X: a frame of recipes with the columns of a run table: ``size``, ``tokens``, ``mix/<domain>``, and ``run`` or one run a row.
          y: losses in nats per token: a frame with a column a validation set, or an array (R,) or (R, V).

        Raises:
          TableError: recipes or losses that a run table may not have; the message names column and row.
          FitError: too few runs for the law.
        """
        columns = _losses(y)
        self.one_set_ = getattr(y, "ndim", 1) == 1
        runs = read_runs(_named(X).assign(**columns), name="the frame")
        law, key = law_by_name(self.law, self.skills), jax.random.key(self.seed)
        self.fit_ = fit_law(law, runs, key=key, starts=self.starts, field=self.field, backtests=0)
        self.sets_ = tuple(name.removeprefix("loss/") for name in columns)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Losses that the law predicts, (R, V), or (R,) where it was fitted to one column.

        Args:
          X: a frame of recipes.

        Raises:
          ValueError: the estimator is not fitted.
        """
        if not hasattr(self, "fit_"):
            raise ValueError("this LawRegressor is not fitted: call fit first")
        recipe, _ = read_recipes(_named(X), domains=self.fit_.domains, name="the frame")
        order = [self.fit_.sets.index(name) for name in self.sets_]
        losses = np.asarray(self.fit_.predict(recipe))[:, order]
        return losses[:, 0] if self.one_set_ else losses


def _named(frame: Any) -> Any:
    """A frame with a column of runs: one a row, if it has none.

    Raises:
      ValueError: it is no frame.
    """
    if not hasattr(frame, "assign"):
        raise ValueError(f"X must be a DataFrame with the columns of a run table, not {type(frame).__name__}")
    return frame if "run" in frame else frame.assign(run=[f"row {i}" for i in range(len(frame))])


def _losses(y: Any) -> dict[str, Any]:
    """Losses as columns of a run table."""
    if hasattr(y, "columns"):
        return {name if str(name).startswith("loss/") else f"loss/{name}": y[name].to_numpy() for name in y.columns}
    values = np.asarray(y, float)
    values = values[:, None] if values.ndim == 1 else values
    return {f"loss/{v}": values[:, v] for v in range(values.shape[1])}
