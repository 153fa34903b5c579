"""A study that is kept: it proposes runs, takes their results as they come, and recommends a mixture."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from camel_jax.design.value_of_runs import Worth, worth
from camel_jax.mixture.limits import LimitOptions
from camel_jax.mixture.limits import mixture as checked_mixture
from camel_jax.recipes.sizes import parse_size, parse_tokens
from camel_jax.runtime import require_float64
from camel_jax.study.ask import design_next, fit_table, pick_replicates, replicate_runs, runs_of, table_of
from camel_jax.study.proposal import Proposal, history_columns
from camel_jax.study.recommend import (
    Recommendation,
    as_decision,
    decide_mixture,
    decision_line,
    judge,
)
from camel_jax.study.settings import Settings, differences, make_settings
from camel_jax.study.store import DROPPED, FINISHED, UNDER_WAY, Snapshot, Store, StudyError
from camel_jax.study.tell import as_result, rows_of_table, take_in
from camel_jax.tables.runs import Runs
from camel_jax.types import Array
from camel_jax.views.view import Readable, View, to_frame

ATTEMPTS = 20  # of an ask, where others ask meanwhile
RESAMPLES = 32


class Study(Readable):
    """A study that is kept in a database: ask for runs, tell their results, take its recommendation, from several processes at once.

    Without ``domains`` a study that is there is opened; with them it is begun, or opened if it is there with the same settings.

    Args:
      path: a file, for SQLite, or a URL as in "postgresql://user@host/database".
      domains: names of the K domains.
      target: what the mixture is for: a size as in "7B", or size and tokens as in ("55B-A1.2B", "1T"); else 20 tokens a parameter.
      ladder: sizes that may be run, as in ["10M", "30M", "100M"].
      name: of the study, where a database holds several.
      tokens_per_parameter: training tokens of the runs over their active parameters, 20 if not said; several offer each size with each.
      law: its name, as in "blend" (if not said), "camel", "sodm" or one of your own.
      skills: latent skills of CAMEL; the law's own number if not said.
      objective: as text: "mean-loss" (if not said), names with weights as in "code=2,web=1", or "accuracy".
      noise: standard deviation of the log loss of a run; measured if not said.
      cost_model: what runs cost, the name of a registered cost model; "flops" if not said.
      seed: of every random choice, 0 if not said.
      limits: on the mixture, each as in :func:`camel_jax.mixture.limits.parse_limits`; tokens are the target's.

    Raises:
      StudyError: no study there and no domains to begin one, one that is there with other settings, or a database that cannot be used.
      ValueError: a setting that makes no sense; the message names it.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> study = Study(f"{folder}/study.db", domains=["web", "code"], target="1B", ladder=["10M", "30M"], law="dml")
    >>> proposal = study.ask(1e17)
    >>> proposal.total_cost <= 1e17, len(study.history()) == len(proposal)
    (True, True)
    >>> study.tell(proposal.runs[0].run, {"web": 3.1, "code": 2.4})
    1
    >>> study.tell(proposal.runs[0].run, {"web": 3.1, "code": 2.4})  # told again: nothing is there twice
    0
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        domains: Sequence[str] | None = None,
        target: Any = None,
        ladder: Sequence[str | float] | None = None,
        name: str = "study",
        tokens_per_parameter: Sequence[float] | float | None = None,
        law: str | None = None,
        skills: int | None = None,
        objective: str | None = None,
        noise: float | None = None,
        cost_model: str | None = None,
        seed: int | None = None,
        **limits: Unpack[LimitOptions],
    ):
        self._store = Store(path, name)
        given: dict[str, Any] = {"domains": domains, "target": target, "ladder": ladder, "law": law, "skills": skills}
        given |= {"tokens_per_parameter": tokens_per_parameter, "objective": objective, "noise": noise}
        given |= {"cost_model": cost_model, "seed": seed, **limits}
        given = {key: value for key, value in given.items() if value is not None}
        if not self._store.exists():
            if domains is None or target is None:
                raise StudyError(
                    f"{self._store.place}: there is no study {name!r}; to begin one, give domains, target and ladder"
                )
            self._store.create(make_settings(**{"ladder": None, **given}).to_data())
        self.settings: Settings = Settings.from_data(self._store.read().settings)
        if wrong := differences(self.settings, given):
            raise StudyError(f"{self._store.place}: the study is there with another {', '.join(wrong)}")

    @classmethod
    def new(cls, path: str | os.PathLike[str], *, name: str = "study", **settings: Any) -> Study:
        """Begin a study that is not there yet.

        Args:
          path: a file or a URL, as for the class.
          name: of the study.
          settings: all others, as for the class.

        Raises:
          StudyError: the study is there already.
        """
        store = Store(path, name)
        if store.exists():
            raise StudyError(f"{store.place}: the study {name!r} is there already")
        return cls(path, name=name, **settings)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the K domains."""
        return self.settings.domains

    def ask(self, budget: float, *, max_runs: int = 32, replicates: int = 0) -> Proposal:
        """The next runs to train, noted as under way; their mixtures are new, but for replicates.

        The design is that of most worth for choosing the mixture of the target: it counts on the runs under way, keeps within the
        study's limits, and looks where the best mixture may be by what was told so far.

        Args:
          budget: what the runs may cost together, in FLOPs or the unit of the study's cost model.
          max_runs: most new runs.
          replicates: how many finished runs to repeat besides, so that the noise of a run is measured.

        Raises:
          ValueError: a budget that buys no run, or replicates where nothing is finished.
        """
        require_float64("a study's next runs")
        if not (np.isfinite(budget) and budget > 0):
            raise ValueError(f"the budget must be above zero, got {budget!r}")
        if max_runs < 0 or replicates < 0 or not max_runs + replicates:
            raise ValueError(
                f"max_runs and replicates must not be below 0, nor both 0; got {max_runs} and {replicates}"
            )
        for _ in range(ATTEMPTS):
            now = self._store.read()
            again = pick_replicates(now, self.settings, replicates, budget)
            design, sentence = None, ""
            if max_runs:
                left = budget - sum(run.cost for run in again)
                design, spare = design_next(now, self.settings, left, max_runs)
                runs = runs_of(design, spare, now, self.settings, again)
                sentence = worth(design).sentence
            else:
                runs = replicate_runs(again, [run.run for run in now.runs])
            runs = [run._replace(ask=now.asks + 1, asked=time.time()) for run in runs]
            if self._store.add_runs(runs, now.asks):
                return Proposal(tuple(runs), self.domains, design, sentence)
        raise StudyError(f"{self._store.place}: others asked {ATTEMPTS} times while this ask was designed; try again")

    def tell(
        self,
        run: str,
        losses: Mapping[str, float] | None = None,
        *,
        accuracies: Mapping[str, float] | None = None,
        tokens: str | float | None = None,
        size: str | float | None = None,
        mixture: Mapping[str, float] | Array | None = None,
        finished: bool | None = None,
        replace: bool = False,
    ) -> int:
        """Take a result: one checkpoint of one run, in one transaction. Telling the same again changes nothing.

        Args:
          run: its name; one that the study asked for, or any other with its recipe.
          losses: validation set to loss, nats per token.
          accuracies: task to accuracy in [0, 1].
          tokens: that it was trained on so far; those asked if None.
          size: active parameters that were trained, as in "14K"; as asked if None.
          mixture: shares that were trained; as asked if None.
          finished: whether the run is; None if it is from nine tenths of the tokens asked.
          replace: whether this result may change one that is there.

        Returns:
          How many results are new or changed, 0 or 1.

        Raises:
          StudyError: a run that was not asked and has no recipe, a recipe that is not what was asked, a number that is no loss, or a
            result that contradicts one that is there.
        """
        shares = None if mixture is None else checked_mixture(mixture, self.domains, f"run {run}: mixture").tolist()
        recipe, count = None if size is None else parse_size(size), None if tokens is None else parse_tokens(tokens)
        with self._store.telling() as (now, write):
            row = as_result(now, self.settings, run, losses or {}, accuracies or {}, recipe, count, shares)
            runs, results, states = take_in(now, self.settings, [row], finished=finished, replace=replace)
            write(runs, results, states)
        return len(results)

    def tell_runs(self, runs: Runs, *, finished: bool | None = None, replace: bool = False) -> int:
        """Take a whole table of results, such as ``sweep`` writes, in one transaction: all of it or nothing.

        Args:
          runs: the table; its runs are joined to those asked by name, and others are taken with their own recipes.
          finished: whether its runs are; None for those that reached nine tenths of the tokens asked.
          replace: whether these results may change those that are there.

        Returns:
          How many rows are new or changed.

        Raises:
          StudyError: as for ``tell``.
        """
        rows = rows_of_table(self.settings, runs)
        with self._store.telling() as (now, write):
            fresh, results, states = take_in(now, self.settings, rows, finished=finished, replace=replace)
            write(fresh, results, states)
        return len(results)

    def drop(self, *runs: str) -> None:
        """Give runs up, such as those that crashed: they are under way no more, and what they told is left out.

        Args:
          runs: their names.

        Raises:
          StudyError: a run that the study does not have.
        """
        with self._store.telling() as (now, write):
            there = {run.run for run in now.runs}
            if wrong := [run for run in runs if run not in there]:
                raise StudyError(f"{self._store.place}: the study has no run {wrong[0]!r}")
            write([], [], dict.fromkeys(runs, DROPPED))

    def runs(self) -> Runs:
        """All results as a table of runs, as ``fit`` takes it.

        Raises:
          StudyError: nothing was told yet.
        """
        return self._told(self._store.read())

    def under_way(self) -> Proposal:
        """The runs that are not finished, as they were asked."""
        now = self._store.read()
        return Proposal(tuple(run for run in now.runs if run.state == UNDER_WAY), self.domains)

    def recommend(self, *, budget: float | None = None, resamples: int = RESAMPLES) -> Recommendation:
        """The mixture for the target by all that was told, its evidence, and whether more runs are worth their cost.

        Args:
          budget: what the next batch would cost; as much as the last ask if None.
          resamples: bootstrap resamples of the runs, for intervals.

        Raises:
          FitError: too few results for the study's law.
          StudyError: nothing was told yet.
        """
        require_float64("a study's recommendation")
        now = self._store.read()
        table = self._told(now)
        fitted = fit_table(self.settings, table, resamples, backtests=3)
        if self.settings.goal().kind == "accuracies":
            import jax

            from camel_jax.downstream.fit import fit_accuracies

            key = jax.random.fold_in(jax.random.key(self.settings.seed), 1)
            fitted = fitted.with_benchmarks(fit_accuracies(table, key=key, resamples=resamples))
        best, ranges, evidence = decide_mixture(self.settings, fitted)
        told, why_not = self._worth_of_more(now, fitted, budget)
        kept = [run for run in now.runs if run.state != DROPPED]
        runs = sum(run.state == FINISHED for run in kept)
        under_way = len(kept) - runs
        go_on, reasons = judge(best, ranges, fitted, told, now.decisions, runs, under_way, why_not)
        made = Recommendation(
            best,
            ranges,
            evidence,
            go_on,
            reasons,
            told,
            self.settings.target_text(),
            runs,
            under_way,
            float(sum(run.cost for run in now.runs)),
            fitted,
        )
        self._store.add_decision(runs, as_decision(made))
        return made

    def history(self) -> Any:
        """Every run with its recipe, state and results, in the order of asking, as a pandas DataFrame: one row a checkpoint."""
        return to_frame(self.history_columns())

    def history_columns(self) -> dict[str, Any]:
        """The same as named columns; times are UTC."""
        return history_columns(self._store.read(), self.domains)

    def states(self) -> dict[str, int]:
        """How many runs are finished, under way and dropped."""
        found = [run.state for run in self._store.read().runs]
        return {state: found.count(state) for state in (FINISHED, UNDER_WAY, DROPPED)}

    def to_dict(self) -> dict[str, Any]:
        """The study as data, ready for JSON: settings, runs with their results, and recommendations."""
        now = self._store.read()
        runs = [
            run._asdict() | {"results": [one._asdict() for one in now.results if one.run == run.run]}
            for run in now.runs
        ]
        return {"settings": now.settings, "asks": now.asks, "runs": runs, "decisions": list(now.decisions)}

    def decisions(self) -> tuple[dict[str, Any], ...]:
        """Earlier recommendations as data, the oldest first."""
        return self._store.read().decisions

    def _told(self, now: Snapshot) -> Runs:
        table = table_of(now, self.settings)
        if table is None:
            raise StudyError(f"{self._store.place}: no result was told yet")
        return table

    def _worth_of_more(self, now: Snapshot, fitted: Any, budget: float | None) -> tuple[Worth | None, str]:
        """What the next batch would save, and otherwise why it could not be designed."""
        last = [run.cost for run in now.runs if run.ask == now.asks and run.ask]
        cost = budget if budget is not None else sum(last) or sum(run.cost for run in now.runs)
        try:
            design, _ = design_next(now, self.settings, cost, fitted=fitted)
        except ValueError as error:
            return None, str(error)
        return worth(design), ""

    def _view(self) -> View:
        now, s = self._store.read(), self.settings
        facts = {
            "kept in": self._store.place,
            "domains": ", ".join(s.domains),
            "target": s.target_text(),
            "sizes to run": ", ".join(s.ladder),
            "law": s.law,
            "objective": s.objective,
            "limits": "; ".join(limit.name for limit in s.named_limits().items) or "none",
            "runs": ", ".join(f"{n} {state}" for state, n in self.states().items()),
            "results": str(len(now.results)),
            "spent": f"{sum(run.cost for run in now.runs):.3g}",
        }
        notes = [decision_line(one, s.domains) for one in now.decisions[-5:]]
        return View(f"study of {len(now.runs)} runs for {s.target_text()}", facts, (), notes)
