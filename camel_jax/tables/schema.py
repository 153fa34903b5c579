"""The rules of a run table, on columns of cells wherever they came from: what is rejected, and in which words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.sizes import parse_size, parse_tokens
from camel_jax.tables.sheet import Problem, Sheet, TableError, _listed, is_missing

SUM_TOLERANCE = 1e-3
LOSS_RANGE = (1e-6, 100.0)
_PREFIXES = ("mix/", "loss/", "acc/", "supply/")
_PLAIN = ("run", "size", "size_total", "tokens")
_NEAR_PREFIX = re.compile(
    r"(mix|mixture|mixes|loss|losses|acc|accs|accuracy|accuracies|supply|supplies)\s*[/_\-.:|\\ ]\s*\S.*", re.IGNORECASE
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII)


class Checked:
    """Every rule of the schema applied to a sheet; problems are collected, then raised together by ``finish``.

    Attributes:
      values: column name -> float array (R,); NaN where not measured.
      domains, sets, tasks: names in the order of the table.
      run_ids: run id per row; ``run_names`` the distinct ones and ``run_index`` the index of each row's run.
    """

    def __init__(
        self, sheet: Sheet, need_losses: bool = False, only_mixtures: bool = False, need_mixtures: bool = True
    ):
        self.sheet, self.need_losses, self.only_mixtures = sheet, need_losses, only_mixtures
        self.need_mixtures = need_mixtures
        self.problems: list[Problem] = []
        self.values: dict[str, np.ndarray] = {}
        self.cells = dict(zip(sheet.names, sheet.cells, strict=True))
        self.n_rows = len(sheet.rows)
        self.domains, self.sets, self.tasks, self.supplied = (
            tuple(name[len(prefix) :] for name in sheet.names if name.startswith(prefix) and name != prefix)
            for prefix in _PREFIXES
        )
        if not need_losses:
            self.sets = self.tasks = ()
        self.run_ids: list[str] = []
        self.run_names: tuple[str, ...] = ()
        self.run_index = np.zeros(self.n_rows, np.int64)
        self._header()
        if self.n_rows == 0 and not self.problems:
            self.problem("", "has a header and no rows")
        if self.n_rows:
            self._runs()
            self._sizes()
            self._mixtures()
            self._outcomes()
            self._across_rows()

    def problem(self, column: str, rule: str, rows: Any = ()) -> None:
        """Note a broken rule at these row indices."""
        places = []
        for i in np.asarray(rows, int).reshape(-1):
            run = f" (run {self.run_ids[i]})" if self.run_ids and self.run_ids[i] else ""
            places.append(self.sheet.rows[i] + run)
        self.problems.append(Problem(column, tuple(places), rule))

    def finish(self, on_ignored: Callable[[list[str]], None] | None = None) -> None:
        """Raise what was found, or tell which columns were not used."""
        if self.problems:
            raise TableError(self.sheet.source, self.problems)
        ignored = [name for name in self.sheet.names if name not in _PLAIN and not name.startswith(_PREFIXES)]
        if ignored and on_ignored is not None:
            on_ignored(ignored)

    def recipe(self, domains: tuple[str, ...]) -> Recipe:
        """The recipes of all rows, with shares in the order of ``domains``."""
        supply = None
        if self.supplied:
            unlimited = np.full(self.n_rows, np.inf)
            supply = np.stack([self.values.get(f"supply/{d}", unlimited) for d in domains], -1)
        shares = [self.values[f"mix/{d}"] for d in domains]
        weights = np.stack(shares, -1) if shares else np.zeros((self.n_rows, 0))
        return Recipe(self.values["size_total"], self.values["size"], self.values["tokens"], weights, supply)

    def _header(self) -> None:
        names = self.sheet.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            self.problem("", f"column {', '.join(map(repr, twice))} occurs twice")
        for prefix in _PREFIXES:
            if prefix in names:
                self.problem(prefix, "no name after the slash")
        near = {}
        for name in names:
            if name in _PLAIN or name.startswith(_PREFIXES):
                continue
            close = difflib.get_close_matches(name.strip().lower().replace("-", "_"), _PLAIN, 1, 0.8)
            if _NEAR_PREFIX.fullmatch(name):
                near[name] = (
                    "looks like a column of the schema but is not: write mix/<domain>, loss/<set>, acc/<task> or"
                )
                near[name] += " supply/<domain>, or map it"
            elif close and close[0] not in names:
                near[name] = f"did you mean {close[0]!r}? Rename or map it"
        for name, rule in near.items():
            self.problem(name, rule)
        required = () if self.only_mixtures else ("run", "size", "tokens")
        missing = [name for name in required if name not in names]
        missing += [] if self.domains or not self.need_mixtures else ["mix/<domain>"]
        missing += [] if self.sets or not self.need_losses else ["loss/<set>"]
        if missing:
            self.problem("", f"no column {', '.join(map(repr, missing))}; the table has {_listed(names)}")
        orphans = [d for d in self.supplied if d not in self.domains]
        if orphans and self.domains:
            self.problem("", f"supply of {', '.join(map(repr, orphans))}, which is no mix/ domain")

    def _runs(self) -> None:
        if "run" not in self.cells:
            return
        ids = [_run_id(cell) for cell in self.cells["run"]]
        self.run_ids = ids
        names: dict[str, int] = {}
        self.run_index = np.array([names.setdefault(run, len(names)) for run in ids], np.int64)
        self.run_names = tuple(names)
        empty = [i for i, run in enumerate(ids) if not run]
        if empty:
            self.problem("run", "no run id", empty)

    def _sizes(self) -> None:
        columns = {"size": parse_size, "size_total": parse_size, "tokens": parse_tokens}
        parsed = {name: self._counts(name, parse) for name, parse in columns.items() if name in self.cells}
        if "tokens" in parsed:
            self.values["tokens"] = parsed["tokens"]
        if "size" in parsed:
            total, active = parsed["size"].T
            if "size_total" in parsed:
                given, inner = parsed["size_total"].T
                both = np.isfinite(given) & np.isfinite(active)
                self._reject("size_total", "must be one number, the total parameters", both & (given != inner))
                self._reject(
                    "size_total", "differs from the total in column 'size'", both & (total != active) & (total != given)
                )
                self._reject("size", "more active than total parameters", both & (active > given))
                total = given
            self.values["size"], self.values["size_total"] = active, total
        for domain in self.supplied:
            name = f"supply/{domain}"
            self.values[name] = self._counts(name, parse_tokens, blank=np.inf)

    def _counts(self, name: str, parse: Callable[[Any], Any], blank: float = np.nan) -> np.ndarray:
        """Counts of a column: (R,), or (R, 2) for sizes; NaN where rejected."""
        wide = parse is parse_size
        known: dict[Any, Any] = {}
        rules: dict[str, list[int]] = {}
        out = np.full((self.n_rows, 2) if wide else self.n_rows, np.nan)
        for i, cell in enumerate(self.cells[name]):
            if is_missing(cell):
                if np.isinf(blank):
                    out[i] = blank
                else:
                    rules.setdefault("is blank", []).append(i)
                continue
            key = (type(cell), cell) if isinstance(cell, (str, int, float)) else None
            try:
                if key is None or key not in known:
                    known[key] = parse(cell)
                out[i] = known[key]
            except ValueError as error:
                rules.setdefault(str(error), []).append(i)
        for rule, rows in rules.items():
            self.problem(name, rule, rows)
        return out

    def _floats(self, name: str, required: bool) -> np.ndarray:
        """Numbers of a column (R,); NaN where blank or rejected."""
        cells = self.cells[name]
        if cells.dtype != object:
            out = cells.astype(float)
            blank = np.isnan(out)
            bad: list[int] = []
        else:
            out, blank, bad = np.full(self.n_rows, np.nan), np.zeros(self.n_rows, bool), []
            for i, cell in enumerate(cells):
                if is_missing(cell):
                    blank[i] = True
                elif isinstance(cell, str):
                    text = cell.strip()
                    if self.sheet.comma and text.count(",") == 1 and "." not in text:
                        text = text.replace(",", ".")
                    if _NUMBER.fullmatch(text):
                        out[i] = float(text)
                    else:
                        bad.append(i)
                else:
                    try:
                        out[i] = np.nan if isinstance(cell, (bool, np.bool_)) else float(cell)
                    except (TypeError, ValueError):
                        out[i] = np.nan
                    if np.isnan(out[i]):
                        bad.append(i)
        if bad:
            shown = repr(cells[bad[0]])
            hint = "; write it without thousands separators" if "," in shown else ""
            hint = "; write 25 % as 0.25" if "%" in shown else hint
            self.problem(name, f"{shown[:40]} is not a number{hint}", bad)
        if required:
            self._reject(name, "is blank", blank)
        return out

    def _reject(self, name: str, rule: str, mask: np.ndarray) -> None:
        if np.any(mask):
            self.problem(name, rule, np.flatnonzero(mask))

    def _mixtures(self) -> None:
        names = [f"mix/{d}" for d in self.domains]
        if not names:
            return
        before = len(self.problems)
        columns = [self._floats(name, required=True) for name in names]
        weights = np.stack(columns, -1)
        whole = np.all(np.isfinite(weights), axis=1)
        total = np.where(whole, np.where(np.isfinite(weights), weights, 0.0).sum(1), np.nan)
        percent = whole & (np.abs(total - 100) <= 1)
        for name, column in zip(names, columns, strict=True):
            self._reject(name, "shares must be finite", np.isinf(column))
            self._reject(name, "negative share", np.isfinite(column) & (column < 0))
        if np.any(percent):
            self.problem("mix/*", "shares sum to 100: write fractions of 1, not percent", np.flatnonzero(percent))
        off = (
            whole
            & ~percent
            & (np.abs(total - 1) > SUM_TOLERANCE)
            & np.all(np.where(whole[:, None], weights, 0) >= 0, axis=1)
        )
        if np.any(off):
            worst = total[np.flatnonzero(off)[0]]
            self.problem("mix/*", f"shares sum to {worst:.6g}, not to 1 within {SUM_TOLERANCE:g}", np.flatnonzero(off))
        if len(self.problems) == before:
            exact = np.abs(total - 1) <= 1e-12
            weights = np.where(exact[:, None], weights, weights / total[:, None])
        for name, column in zip(names, weights.T, strict=True):
            self.values[name] = column

    def _outcomes(self) -> None:
        low, high = LOSS_RANGE
        for s in self.sets:
            name = f"loss/{s}"
            column = self.values[name] = self._floats(name, required=False)
            self._reject(name, "losses must be finite", np.isinf(column))
            self._reject(name, "losses must be positive", column <= 0)
            self._reject(name, f"loss below {low:g} nats per token", (column > 0) & (column < low))
            rule = f"loss above {high:g} nats per token: is it a perplexity, or another column?"
            self._reject(name, rule, np.isfinite(column) & (column > high))
            if np.all(np.isnan(column)) and all(problem.column != name for problem in self.problems):
                self.problem(name, "holds no measured loss: drop the column")
        for t in self.tasks:
            name = f"acc/{t}"
            column = self.values[name] = self._floats(name, required=False)
            outside = (column < 0) | (column > 1)
            percent = np.any(column > 1) and bool(np.all(np.isnan(column) | ((column >= 0) & (column <= 100))))
            hint = ": write fractions of 1, not percent" if percent else ""
            self._reject(name, f"accuracies lie between 0 and 1{hint}", outside)

    def _across_rows(self) -> None:
        """A run is one recipe, seen once at each token count."""
        if not self.run_ids or "tokens" not in self.values or not all(self.run_ids):
            return
        seen: dict[tuple[int, float], int] = {}
        again = []
        for i, key in enumerate(zip(self.run_index.tolist(), self.values["tokens"].tolist(), strict=True)):
            if key[1] == key[1] and seen.setdefault(key, i) != i:
                again.append(i)
        if again:
            self.problem("run", "occurs twice with the same tokens", again)
        first = np.zeros(len(self.run_names), np.int64)
        first[self.run_index[::-1]] = np.arange(self.n_rows)[::-1]
        origin = first[self.run_index]
        for name in ("size", "size_total"):
            if name in self.values:
                column = self.values[name]
                known = np.isfinite(column) & np.isfinite(column[origin])
                if name == "size" or not any(p.rule.startswith("changes between") for p in self.problems):
                    self._reject(name, "changes between checkpoints of one run", known & (column != column[origin]))
        if self.domains:
            weights = np.stack([self.values[f"mix/{d}"] for d in self.domains], -1)
            gap = np.where(np.isfinite(weights), weights, 0) - np.where(
                np.isfinite(weights[origin]), weights[origin], 0
            )
            whole = np.all(np.isfinite(weights) & np.isfinite(weights[origin]), axis=1)
            moved = whole & (np.abs(gap).max(1) > SUM_TOLERANCE)
            self._reject(
                "mix/*", "the mixture changes between checkpoints of one run: give each recipe its own run id", moved
            )


def _run_id(cell: Any) -> str:
    if is_missing(cell):
        return ""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()
