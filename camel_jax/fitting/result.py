"""What a fit is: its starts and resamples, what it predicts, and how it is saved and loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from camel_jax.downstream.outcomes import NO_BENCHMARKS, OutcomesAt, columns_read, pair, read_benchmarks
from camel_jax.downstream.result import AccuracyFit
from camel_jax.fitting import saved
from camel_jax.fitting.backtest import BackTest
from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.fitting.identifiability import FitError
from camel_jax.fitting.objective import law_fall, mean_log
from camel_jax.fitting.starts import good_starts, some_lanes
from camel_jax.laws.blend import weights_of_parts
from camel_jax.laws.law import (
    Law,
    Units,
    constrain_all,
    flat_leaves,
    in_units,
    nested_leaves,
    predict_rows,
    scale_recipe,
)
from camel_jax.prediction.beyond import corrected, fresh, nearest_fitted
from camel_jax.prediction.discrepancy import Discrepancy
from camel_jax.prediction.draws import Draws, LossesAt, draw_errors
from camel_jax.prediction.residual_field import ResidualField, corrections, field_correction, no_field
from camel_jax.recipes.recipe import Recipe
from camel_jax.solvers import status as status_codes
from camel_jax.storage import read_archive, write_archive
from camel_jax.types import Array
from camel_jax.views.view import Readable, View


@dataclasses.dataclass(frozen=True, repr=False)
class Fit(Readable):
    """A law fitted to a table of runs.

    Attributes:
      law: the law, seen from outside (raw parameters, tokens and nats).
      raw: unconstrained parameters of the random starts, leaves (S, ...).
      objective: (S,) per start.
      status: (S,) per start; see ``solvers.status`` for the codes.
      steps: (S,) iterations of each start.
      resampled: unconstrained parameters of the bootstrap resamples, leaves (B, ...).
      resampled_objective: (B,) per resample.
      resampled_status: (B,) per resample, in the same codes.
      inner_law: the law in units of the table, the one that was fitted.
      units: the units of the table.
      discrepancy: expected error of the law within and beyond the table.
      field: correction near measured mixtures, from the residuals of the law; empty if ``fit(..., field=False)``.
      domains: names of the K training domains.
      sets: names of the V validation sets.
      size_range: smallest and largest active size fitted.
      tokens_range: smallest and largest token count fitted.
      notes: what the table could not tell, in plain words.
      seed: integer from which the errors of draws are made.
      backtests: how wrong the law was at sizes that were held out while the fit was made.
      diagnostics: of the sampler, where the draws are those of a posterior; else None.
      attached: named arrays that travel with the fit, such as a benchmark law.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> fitted.check(), fitted.predict(runs.recipe).shape, fitted.size_range
    ('1 start: 1 converged', (48, 2), (10000000.0, 100000000.0))
    """

    law: Law
    raw: Any
    objective: np.ndarray
    status: np.ndarray
    steps: np.ndarray
    resampled: Any
    resampled_objective: np.ndarray
    resampled_status: np.ndarray
    inner_law: Law
    units: Units
    discrepancy: Discrepancy
    field: ResidualField
    domains: tuple[str, ...]
    sets: tuple[str, ...]
    size_range: tuple[float, float]
    tokens_range: tuple[float, float]
    notes: tuple[str, ...] = ()
    seed: int = 0
    backtests: tuple[BackTest, ...] = ()
    diagnostics: Diagnostics | None = None
    attached: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def _view(self) -> View:
        from camel_jax.views.fits import fit_view

        return fit_view(self)

    def to_frame(self) -> Any:
        """One row a start and a resample, as a pandas DataFrame: objective, and how it ended."""
        from camel_jax.views.fits import fit_columns
        from camel_jax.views.view import to_frame

        return to_frame(fit_columns(self, status_codes.TEXTS))

    def to_xarray(self) -> Any:
        """Parameters of the draws as an xarray Dataset; see ``Draws.to_xarray``."""
        return self.draws().to_xarray()

    def plot(self, ax: Any = None) -> Any:
        """Predicted losses along sizes at the mean mixture, with 90 % intervals; returns the Axes."""
        from camel_jax.views.fits import plot_fit

        return plot_fit(self, ax)

    @property
    def part_weights(self) -> dict[str, float]:
        """Weights of the laws of a blend by name, adding up to 1; empty for a law that is no blend."""
        if not self.inner_law.parts:
            return {}
        weights = weights_of_parts(some_lanes(self.raw, 0))
        return {name: float(w) for (name, _), w in zip(self.inner_law.parts, weights, strict=True)}

    @property
    def members(self) -> Any:
        """Constrained parameters of the starts that count, leaves (S', ...): finite, and near the best objective."""
        keep = good_starts(self.objective)
        return constrain_all(self.inner_law, some_lanes(self.raw, keep))

    def best(self) -> Any:
        """Constrained parameters of the start with the lowest objective, for ``fit.law.predict``."""
        i = int(np.nanargmin(np.where(np.isfinite(self.objective), self.objective, np.inf)))
        return jax.tree.map(lambda x: x[0], constrain_all(self.inner_law, some_lanes(self.raw, np.array([i]))))

    def only_best(self) -> Fit:
        """The same fit with its best start only."""
        i = int(good_starts(self.objective, 0.0)[0])
        one = {name: getattr(self, name)[i : i + 1] for name in ("objective", "status", "steps")}
        return dataclasses.replace(self, raw=jax.tree.map(lambda x: x[i : i + 1], self.raw), **one)

    def predict(self, recipe: Recipe) -> Array:
        """Point prediction: the geometric mean over the starts that count.

        Args:
          recipe: one recipe, or recipes with a leading axis R.

        Returns:
          (V,) or (R, V) losses in nats per token.
        """
        if np.ndim(recipe.tokens) == 0:
            return self.predict(jax.tree.map(lambda x: jnp.asarray(x)[None], recipe))[0]
        keep = good_starts(self.objective)
        traced = any(isinstance(x, Tracer) for x in jax.tree.leaves(recipe))
        if traced or len(keep) > FEW:
            return _point(self.inner_law, self.members, self.units, self.field, self.discrepancy, recipe)
        # the program that the fit itself has compiled, where the table has as many rows
        members, d = [some_lanes(self.raw, i) for i in keep], self.discrepancy
        log_losses = mean_log(self.inner_law, members, scale_recipe(self.units, recipe)) + np.log(self.units.losses)
        bare = dataclasses.replace(recipe, supply=None)
        correction = corrections(self.field, bare)
        if np.any(np.asarray(recipe.n_active) > d.size) or np.any(np.asarray(recipe.tokens) > d.tokens):
            fall = law_fall(self.inner_law, members, recipe, d.size, d.tokens, self.units)
            inside = corrections(self.field, nearest_fitted(bare, d.size, d.tokens, np))
            correction = corrected(d, fall, correction, inside, np)
        return jnp.asarray(np.exp(log_losses + correction))

    def draws(self, field: bool = False) -> Draws:
        """The bootstrap resamples (the starts, if there are none) with their errors in scale.

        Args:
          field: correct near measured mixtures, as ``predict`` does. Off for decisions: a correction that leans towards the
            mixtures that happened to be measured has bumps of its own, and an optimiser would climb them.
        """
        raw, keep = usable_draws(self)
        n = len(keep)
        copies = -(-MIN_DRAWS // n)
        bias, slope, beyond, tail = draw_errors(
            jax.random.key(self.seed), n * copies, len(self.sets), len(self.domains)
        )
        params = constrain_all(self.inner_law, some_lanes(raw, np.tile(keep, copies)))
        return Draws(
            params,
            self.members,
            self.units,
            self.discrepancy,
            self.field if field else no_field(len(self.domains), len(self.sets)),
            bias,
            slope,
            beyond,
            tail,
            self.inner_law,
            self.domains,
            self.sets,
        )

    def losses_at(
        self, size: str | float, tokens: str | float, supply: Array | None = None, *, field: bool = False
    ) -> LossesAt:
        """Losses as a differentiable function of the mixture at one size and token count.

        See ``Draws.losses_at``, and ``draws`` for ``field``.
        """
        return self.draws(field).losses_at(size, tokens, supply)

    @property
    def benchmarks(self) -> AccuracyFit | None:
        """The benchmark law that travels with this fit, or None; see ``with_benchmarks``."""
        return read_benchmarks(self.attached)

    @property
    def benchmark_key(self) -> Array:
        """Key of the benchmark law's draws: the same for every recipe, decision and process."""
        return jax.random.fold_in(jax.random.key(self.seed), 1)

    def with_benchmarks(self, benchmarks: AccuracyFit) -> Fit:
        """The same fit with a benchmark law, which is saved with it.

        Raises:
          ValueError: the benchmark law reads validation sets that this fit does not predict; the message names them.
        """
        columns_read(benchmarks, self.sets)
        kept = {name: x for name, x in self.attached.items() if not name.startswith("accuracy/")}
        return dataclasses.replace(self, attached=kept | benchmarks.to_arrays())

    def outcomes_at(
        self,
        size: str | float,
        tokens: str | float,
        supply: Array | None = None,
        *,
        tasks: Sequence[str] | None = None,
        field: bool = False,
    ) -> OutcomesAt:
        """Losses and benchmark accuracies as a differentiable function of the mixture, at one size and token count.

        Args:
          size: active parameters, as a number or as text such as "7B" or "55B-A1.2B".
          tokens: training tokens, as a number or as text such as "1T".
          supply: unique tokens per domain, (K,), or None for no limit.
          tasks: names of the tasks, flagged or not; None for all tasks without a flag.
          field: as for ``draws``.

        Returns:
          A function from weights (K,) to an ``Outcome`` with losses (V,) in nats per token and accuracies (T,) in [0, 1], for
          ``optimize_mixture(..., objective=mean_accuracy())``.

        Raises:
          ValueError: no benchmark law, an unknown task, or every task is flagged and none is named.

        >>> from camel_jax import laws
        >>> from camel_jax.evaluation import simulate
        >>> from camel_jax.downstream.fit import fit_accuracies
        >>> from camel_jax.fitting.fit import fit
        >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
        >>> knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))  # a table of runs would have measured these
        >>> runs = dataclasses.replace(runs, tasks=("qa", "code"), accuracies=0.25 + 0.5 * knows)
        >>> fitted = fit(laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
        >>> fitted = fitted.with_benchmarks(fit_accuracies(runs, key=jax.random.key(2), resamples=0, starts=1))
        >>> outcome = fitted.outcomes_at("300M", "10B")(np.array([0.5, 0.5]))
        >>> outcome.losses.shape, outcome.accuracies.shape
        ((2,), (2,))
        """
        if (benchmarks := self.benchmarks) is None:
            raise ValueError(NO_BENCHMARKS)
        return pair(self.losses_at(size, tokens, supply, field=field), benchmarks, self.benchmark_key, tasks)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one archive; it appears whole or not at all, and equal fits give equal bytes.

        Raises:
          ArchiveError: the law is not registered by its name, so a header could not name it, or the fit holds what
            no file of a fit may hold.
        """
        header = saved.write_facts({name: getattr(self, name) for name in saved.FACTS}) | saved.named_law(
            self.inner_law
        )
        groups = {"attached": self.attached, "raw": flat_leaves(self.raw), "resampled": flat_leaves(self.resampled)}
        groups |= {name: getattr(self, name)._asdict() for name in saved.TUPLES}
        arrays = {name: np.asarray(getattr(self, name), spec.dtype) for name, spec in saved.LANES.items()}
        for group, leaves in groups.items():
            kind = None if group == "attached" else float
            arrays |= {f"{group}/{leaf}": np.asarray(x, kind) for leaf, x in leaves.items()}
        saved.check_header("this fit cannot be saved", header)
        saved.check_fit("this fit cannot be saved", self.inner_law, header, arrays)
        write_archive(path, saved.KIND, header, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], law: Law | None = None) -> Fit:
        """Read a fit that ``save`` wrote; no code of the file runs.

        Args:
          path: the file.
          law: the law in units of the table; built from the header if None.

        Raises:
          ArchiveError: not a saved fit, of another version, damaged, or not what a fit of its law can be.
          OSError: the file cannot be read.
        """
        header, arrays = read_archive(path, saved.KIND)
        saved.check_header(path, header)
        law = saved.rebuild_law(path, header) if law is None else law
        saved.check_fit(path, law, header, arrays)
        groups: dict[str, Any] = {name: {} for name in ("raw", "resampled", "attached", *saved.TUPLES)}
        for name in [name for name in arrays if "/" in name]:
            group, _, leaf = name.partition("/")
            groups[group][leaf] = arrays.pop(name)
        groups |= {name: build(**groups[name]) for name, build in saved.TUPLES.items()}
        groups["discrepancy"] = Discrepancy(
            *map(jnp.asarray, groups["discrepancy"])
        )  # sums round as they did when it was fitted
        groups |= {name: nested_leaves(groups[name]) for name in ("raw", "resampled")}
        known: dict[str, Any] = dict(arrays)
        return cls(law=in_units(law, groups["units"]), inner_law=law, **groups, **saved.read_facts(header), **known)

    def check(self) -> str:
        """How the lanes ended, counted by status; for draws of a posterior, the verdict on them.

        Raises:
          FitError: no start ended with finite parameters.
        """
        if not np.isfinite(self.objective).any():
            raise FitError(f"{self.law.name}: none of {len(self.objective)} starts reached a finite objective")
        if self.diagnostics is not None:
            return self.diagnostics.verdict()
        parts = []
        for what, status in (("starts", self.status), ("resamples", self.resampled_status)):
            if len(status):
                counts = [
                    f"{np.sum(status == code)} {text}"
                    for code, text in status_codes.TEXTS.items()
                    if np.any(status == code)
                ]
                parts.append(f"{len(status)} {what[:-1] if len(status) == 1 else what}: {', '.join(counts)}")
        return "; ".join(parts)


def usable_draws(fit: Fit) -> tuple[Any, np.ndarray]:
    """What stands for the spread of a fit: its resamples that ended with finite values, or its good starts if those are fewer than two.

    Returns:
      Unconstrained parameters, leaves (n, ...), and the indices to keep of them.
    """
    usable = np.isfinite(fit.resampled_objective) & (fit.resampled_status != status_codes.NON_FINITE)
    return (fit.resampled, np.flatnonzero(usable)) if usable.sum() >= 2 else (fit.raw, good_starts(fit.objective))


FEW = 8  # members that are predicted one after the other
MIN_DRAWS = 128  # draws repeat resamples until there are this many, each with its own error in scale


@partial(jax.jit, static_argnums=0)
def _point(law: Law, members: Any, units: Units, field: ResidualField, d: Discrepancy, recipe: Recipe) -> Array:
    seen = in_units(law, units)
    log_losses = jnp.log(jax.vmap(lambda params: predict_rows(seen, params, recipe))(members))
    bare = dataclasses.replace(recipe, supply=None)  # a shared supply has no leading axis to map over
    inside = nearest_fitted(bare, d.size, d.tokens)
    logs = lambda r: jnp.mean(jnp.log(jax.vmap(lambda params: predict_rows(seen, params, r))(members)), 0)  # noqa: E731
    fall = jnp.maximum(logs(inside) - logs(fresh(bare)), 0.0)
    at, near = (jax.lax.map(partial(field_correction, field), one, batch_size=256) for one in (bare, inside))
    return jnp.exp(jnp.mean(log_losses, axis=0) + corrected(d, fall, at, near))


def load_fit(path: str | os.PathLike[str], law: Law | None = None) -> Fit:
    """Read a fit that ``Fit.save`` wrote; no code of the file runs.

    Args:
      path: the file.
      law: the law in units of the table; built from what the file says of it if None.

    Raises:
      ArchiveError: not a saved fit, of another version, damaged, or not what a fit of its law can be.
      OSError: the file cannot be read.

    >>> import jax
    >>> import pathlib, tempfile
    >>> from camel_jax import laws
    >>> from camel_jax.evaluation import simulate
    >>> from camel_jax.fitting.fit import fit
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = fit(laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted.save(pathlib.Path(folder) / "fit.npz")
    ...     again = load_fit(pathlib.Path(folder) / "fit.npz")
    >>> again.law.name, bool((again.predict(runs.recipe) == fitted.predict(runs.recipe)).all())
    ('chinchilla', True)
    """
    return Fit.load(path, law)
