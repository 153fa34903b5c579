"""A fitted benchmark law: accuracies from losses, draws of them with their errors, and the form in which it travels with a fit."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.downstream import law
from camel_jax.recipes.brief import brief_repr
from camel_jax.storage import Declared, check_arrays
from camel_jax.types import Array
from camel_jax.views.view import Readable, View

NORMAL = 1e6  # degrees of freedom without which an older file was written
OK, NO_DATA, AT_CHANCE, DROWNED, LATE = "ok", "no data", "at chance", "drowned in noise", "late take-off"


class AccuracyDraws(NamedTuple):
    """M draws of a benchmark law for T tasks, as arrays: one bootstrap refit and one error of the law each.

    Attributes:
      params: best fit; leaves (T, ...).
      refits: leaves (M, T, ...), centre and scale shared.
      error: (M, T) error of the law at a new scale, as accuracy; the same for every recipe.
    """

    params: law.AccuracyParams
    refits: law.AccuracyParams
    error: Array

    __repr__ = brief_repr

    def point(self, losses: Array) -> Array:
        """Accuracies (..., T) of the best fit from losses (..., V) in nats per token."""
        return law.predict_accuracy(self.params, losses)

    def predict(self, losses: Array, noise: Array | float = 0.0) -> Array:
        """Accuracies (M, ..., T) in [0, 1] of every draw from its own losses (M, ..., V); ``noise`` is added before clipping."""
        predicted = jax.vmap(law.predict_accuracy, in_axes=(_PER_DRAW, 0))(self.refits, losses)
        error = self.error.reshape(len(self.error), *(1,) * (predicted.ndim - 2), -1)
        return jnp.clip(predicted + error + noise, 0.0, 1.0)


@dataclasses.dataclass(frozen=True, repr=False)
class AccuracyFit(Readable):
    """A fitted benchmark law.

    Attributes:
      params: best fit; leaves (T, ...).
      samples: bootstrap refits; leaves (B, T, ...), centre and scale shared.
      spread: (T,) model error at the next scale, as accuracy: what ``draws`` adds to the refits.
      common: share of the model error's variance that all tasks have in common.
      noise: (T,) binomial standard deviation of one measured accuracy; 0 where the item count is unknown.
      flags: task -> "ok", or why it should not be used.
      reasons: task -> the numbers behind the flag, in words.
      choice: the weights' prior that the forward split chose.
      scores: prior -> mean absolute error at the inner split's held-out scale, over the usable tasks; empty without one.
      tasks: T names, in the order of the arrays.
      sets: names of the V validation sets that are read, in the order of the arrays.
      status: share of refits that converged.
      freedom: degrees of freedom of that error, a Student t: how many independent looks its spread rests on.

    >>> import dataclasses
    >>> import numpy as np
    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))  # a table of runs would have measured these
    >>> runs = dataclasses.replace(runs, tasks=("qa", "code"), accuracies=0.25 + 0.5 * knows)
    >>> fitted = cj.fit_accuracies(runs, key=jax.random.key(2), resamples=0, starts=1)
    >>> fitted.predict(runs.losses).shape, fitted.flags
    ((48, 2), {'qa': 'ok', 'code': 'ok'})
    """

    params: law.AccuracyParams
    samples: law.AccuracyParams
    spread: np.ndarray
    common: float
    noise: np.ndarray
    flags: dict[str, str]
    reasons: dict[str, str]
    choice: str
    scores: dict[str, float]
    tasks: tuple[str, ...]
    sets: tuple[str, ...]
    status: float = 1.0
    freedom: float = NORMAL

    def _view(self) -> View:
        from camel_jax.views.fits import accuracy_view

        return accuracy_view(self)

    def to_frame(self) -> Any:
        """One row a task: flag, reason, floor, ceiling and error as a pandas DataFrame."""
        from camel_jax.views.fits import accuracy_columns
        from camel_jax.views.view import to_frame

        return to_frame(accuracy_columns(self))

    @property
    def usable(self) -> np.ndarray:
        """(T,) boolean: tasks without a flag, those that objectives average by default."""
        return np.array([self.flags[task] == OK for task in self.tasks], bool)

    def predict(self, losses: Array) -> Array:
        """Accuracies (..., T) from validation losses (..., V) in nats per token; differentiable and jittable."""
        return _predict(self.params, jnp.asarray(losses, float))

    def mean(self, losses: Array) -> Array:
        """Mean accuracy (...) over the usable tasks; the average of predictions, never a law of the average.

        Raises:
          ValueError: every task is flagged.
        """
        if not self.usable.any():
            raise ValueError(f"no task is usable: {self.flags}")
        return self.predict(losses)[..., np.flatnonzero(self.usable)].mean(-1)

    def objective_weights(self) -> dict[str, float]:
        """Equal weights of the usable tasks, by name: what an objective averages by default."""
        return {
            task: 1 / int(self.usable.sum()) for task, usable in zip(self.tasks, self.usable, strict=True) if usable
        }

    def draws(self, losses: Array, key: Array, *, measured: bool = False) -> Array:
        """Accuracies that carry the uncertainty of the losses, of the parameters, and of the law itself.

        Draw m takes the m-th losses, one bootstrap refit, and one error of the law per task. Errors of a law at a new scale
        hit all recipes alike, so within a draw every recipe gets the same one; part of it (``common``) hits all tasks alike.

        Args:
          losses: (M, ..., V) draws of losses; (M identical copies if they are certain).
          key: a ``jax.random`` key.
          measured: add the binomial noise of the items, for intervals that are to cover measured accuracies.

        Returns:
          (M, ..., T) accuracies in [0, 1].
        """
        losses = jnp.asarray(losses, float)
        law_key, noise_key = jax.random.split(key)
        noise = self.noise * jax.random.normal(noise_key, (*losses.shape[:-1], len(self.tasks))) if measured else 0.0
        return _predict_draws(self.sample(law_key, len(losses)), losses, noise)

    def sample(self, key: Array, n_draws: int, tasks: Sequence[str] | None = None) -> AccuracyDraws:
        """Draws of the law, to be paired with as many draws of losses.

        Args:
          key: a ``jax.random`` key; a task gets the same draws whichever other tasks are asked for.
          n_draws: number of draws M; refits are repeated, each time with its own error.
          tasks: names, in the order wanted; None for all tasks.

        Raises:
          ValueError: a task that the law does not have.
        """
        at = positions(self.tasks if tasks is None else tasks, self.tasks, "acc/", "the benchmark law")
        samples = {k: getattr(self.samples, k) for k in PER_TASK}
        refits, error = _sample(samples, jnp.asarray(self.spread), self.common, self.freedom, key, n_draws)

        def some(leaves: Mapping[str, Array]) -> law.AccuracyParams:
            kept = {
                k: jnp.asarray(leaves[k])[(..., at, slice(None)) if k == "weights" else (..., at)] for k in PER_TASK
            }
            return law.AccuracyParams(
                **kept, center=jnp.asarray(self.params.center), scale=jnp.asarray(self.params.scale)
            )

        return AccuracyDraws(some(self.params._asdict()), some(refits), error[:, at])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays under names that start with ``accuracy/``, ready for a file; nothing in them is code."""
        header = {
            "flags": self.flags,
            "reasons": self.reasons,
            "choice": self.choice,
            "scores": self.scores,
            "tasks": self.tasks,
            "sets": self.sets,
            "status": self.status,
            "common": self.common,
            "freedom": self.freedom,
        }
        arrays = {f"accuracy/params/{k}": np.asarray(v) for k, v in self.params._asdict().items()}
        arrays |= {f"accuracy/samples/{k}": np.asarray(getattr(self.samples, k)) for k in PER_TASK}
        arrays |= {"accuracy/spread": np.asarray(self.spread), "accuracy/noise": np.asarray(self.noise)}
        return arrays | {"accuracy/header": np.frombuffer(json.dumps(header).encode(), np.uint8)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> AccuracyFit:
        """The inverse of ``to_arrays``; other names in ``arrays`` are ignored.

        Raises:
          ValueError: the arrays hold no benchmark law.
          KeyError, TypeError: they hold a damaged one.
        """
        if "accuracy/header" not in arrays:
            raise ValueError("no benchmark law in this file: it was fitted on a table without accuracies")
        own = {name: np.asarray(x) for name, x in arrays.items() if name.startswith("accuracy/")}
        header = json.loads(own.pop("accuracy/header").tobytes().decode())
        header["tasks"], header["sets"] = tuple(header["tasks"]), tuple(header["sets"])
        if set(header["flags"]) != set(header["tasks"]) or not {*header["reasons"]} <= set(header["tasks"]):
            raise ValueError("its flags are not those of its tasks")
        check_arrays("its arrays", _SCHEMA, own, {"T": len(header["tasks"]), "V": len(header["sets"])})
        params = law.AccuracyParams(*(own[f"accuracy/params/{k}"] for k in law.AccuracyParams._fields))
        per_task = {k: own[f"accuracy/samples/{k}"] for k in PER_TASK}
        spread, noise = own["accuracy/spread"], own["accuracy/noise"]
        return cls(params, params._replace(**per_task), spread, noise=noise, **header)


PER_TASK = ("floor", "ceiling", "bias", "weights")
_SCHEMA = {f"accuracy/params/{k}": Declared("float64", ("T",), False) for k in ("floor", "ceiling", "bias")}
_SCHEMA |= {"accuracy/params/weights": Declared("float64", ("T", "V"), False)}
_SCHEMA |= {f"accuracy/params/{k}": Declared("float64", ("V",)) for k in ("center", "scale")}
_SCHEMA |= {f"accuracy/samples/{k}": Declared("float64", ("B", "T"), False) for k in ("floor", "ceiling", "bias")}
_SCHEMA |= {"accuracy/samples/weights": Declared("float64", ("B", "T", "V"), False)}
_SCHEMA |= {f"accuracy/{k}": Declared("float64", ("T",), False) for k in ("spread", "noise")}
_PER_DRAW = law.AccuracyParams(0, 0, 0, 0, None, None)  # axes of a draw  # pyright: ignore[reportArgumentType]
_predict = jax.jit(law.predict_accuracy)
_predict_draws = jax.jit(AccuracyDraws.predict)


@functools.partial(jax.jit, static_argnames="n_draws")
def _sample(
    samples: dict[str, Array], spread: Array, common: Array, freedom: Array, key: Array, n_draws: int
) -> tuple[Any, Array]:
    pick_key, own_key, common_key = jax.random.split(key, 3)
    pick = jax.random.permutation(pick_key, jnp.arange(n_draws) % samples["bias"].shape[0])
    own = jax.random.normal(own_key, (n_draws, len(spread)))
    error = jnp.sqrt(1 - common) * own + jnp.sqrt(common) * jax.random.normal(common_key, (n_draws, 1))
    # one factor a draw: if the spread was judged too small, it was for all tasks
    squares = jax.random.chisquare(jax.random.fold_in(common_key, 1), freedom, (n_draws, 1))
    return {name: leaf[pick] for name, leaf in samples.items()}, spread * error * jnp.sqrt(freedom / squares)


def positions(wanted: Sequence[str], names: Sequence[str], prefix: str, owner: str) -> np.ndarray:
    """Where names stand in a longer list, (len(wanted),).

    Args:
      wanted: names to find. names: where to find them. prefix, owner: what they are and whose, for the message.

    Raises:
      ValueError: naming every name that is not there.

    >>> positions(["b"], ["a", "b"], "loss/", "the fit").tolist()
    [1]
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        shown = ", ".join(prefix + name for name in missing)
        raise ValueError(f"{owner} does not have {shown}; it has {', '.join(prefix + name for name in names)}")
    return np.array([list(names).index(name) for name in wanted], int)


def flagged(benchmarks: Any) -> dict[str, str]:
    """Tasks of a benchmark law that should not be relied on, and why; empty without a law."""
    flags = {} if benchmarks is None else benchmarks.flags
    return {task: flag for task, flag in flags.items() if flag != "ok"}
