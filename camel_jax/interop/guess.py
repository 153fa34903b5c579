"""A first mapping for a source, from the names and the values of its columns. It is shown and confirmed, never used unseen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from camel_jax.interop.mapping import OUTCOMES, PLAIN, PREFIXES, ColumnMapping, values_of
from camel_jax.interop.tracked import Found, as_number

_HEAD = re.compile(r"(config|params|hparams|tags|summary|metrics|data)[./]", re.IGNORECASE)
_RUN = ("run", "run_name", "run name", "runname", "name", "run_id", "runid", "id", "experiment", "model")
_SIZE = (
    "size", "n_params", "num_params", "num_parameters", "n_parameters", "nparams", "params", "parameters", "model_size",
    "total_params", "total_parameters", "parameter_count", "param_count", "params_count", "non_embedding_params",
    "n_non_embedding_params", "model_num_parameters",
)  # fmt: skip
_ACTIVE = ("n_active", "active_params", "active_parameters", "n_active_params", "num_active_params", "n_params_active")
_TOKENS = (
    "tokens", "n_tokens", "num_tokens", "tokens_seen", "num_tokens_seen", "total_tokens", "train_tokens", "training_tokens",
    "tokens_trained", "consumed_tokens", "num_input_tokens_seen", "token_count", "total tokens", "max_tokens", "n_train_tokens",
)  # fmt: skip
_MIX = (
    "mix", "mixture", "data_mix", "data_mixture", "mixing", "ratios", "ratio", "mixture_weights", "domain_weights", "source_weights",
    "data_weights", "train_weights", "sampling_weights", "proportions", "shares", "share", "weights", "weight", "sampling", "domains",
)  # fmt: skip
_EVAL = re.compile(
    r"(eval|evals|evaluation|val|valid|validation|test|heldout|held-out|lm|metrics|final|downstream|in_loop)"
)
_TRAIN = re.compile(r"(^|[^a-z])(train|training|grad|optim|aux|router|z|mtp)([^a-z]|$)")
_METRICS = (  # last word or words of a name, what it measures, unit, rank among those of one set
    (re.compile(r"(bits[ _]per[ _]byte|bpb)(_corr|_v\d)?"), "loss", "bits per byte", 1),
    (re.compile(r"bits[ _]per[ _]token"), "loss", "bits per token", 2),
    (re.compile(r"byte[ _]perplexity"), "loss", "byte perplexity", 4),
    (re.compile(r"word[ _]perplexity"), "", "", 9),
    (re.compile(r"perplexity|ppl"), "loss", "perplexity", 3),
    (re.compile(r"ce[ _]loss|cross[ _]entropy([ _]loss)?|nll|ce|loss"), "loss", "nats per token", 0),
    (re.compile(r"primary_score"), "acc", "", 0),
    (re.compile(r"acc|accuracy"), "acc", "", 1),
    (re.compile(r"exact_match"), "acc", "", 2),
    (re.compile(r"acc_norm|length[- ]normalized[ _]accuracy|acc_per_char"), "acc", "", 3),
)


class Guess(NamedTuple):
    """A mapping, and why columns that look like measurements are not in it."""

    mapping: ColumnMapping
    notes: list[str]


def guess(found: Sequence[Found]) -> Guess:
    """Guess what the columns of sources mean.

    Args:
      found: the sources.

    Returns:
      ``Guess``: a mapping, and notes about what was left out.

    >>> from camel_jax.interop.tracked import TrackedRun
    >>> row = {"Name": "a", "n_params": 7e7, "tokens": 2e9, "mix.web": 1.0, "eval/web/loss": 3.0, "train/loss": 2.0}
    >>> guess([Found("t.csv", "table", [TrackedRun("line 2", history=[row], flat=True)])]).mapping.columns
    {'tokens': 'tokens', 'Name': 'run', 'n_params': 'size', 'mix.web': 'mix/web', 'eval/web/loss': 'loss/web'}
    """
    cells = {name: values for name, values in values_of(found).items() if values and name != "step"}
    numeric = {name: _numbers(values) for name, values in cells.items()}
    columns: dict[str, str] = {name: name for name in cells if _is_ours(name)}
    taken = set(columns.values())
    notes: list[str] = []
    for one in found:  # each source calls runs and tokens in its own way
        here = {name: 0 for run in one.runs for part in (run.config, *run.history) for name in part if name in cells}
        if all(run.flat for run in one.runs) and "run" not in map(columns.get, here):
            _first(columns, here, _RUN, "run")
    active = _first(columns, cells, _ACTIVE, "size") if "size" not in taken else None
    if "size" not in taken:
        _first(columns, cells, _SIZE, "size_total" if active else "size")
    for one in found:
        logged = {name: 0 for run in one.runs for row in run.history for name in row if name in cells}
        here = logged | {name: 0 for run in one.runs for name in run.config if name in cells}
        if "tokens" not in map(columns.get, here) and _first(columns, logged, _TOKENS, "tokens") is None:
            _first(columns, here, _TOKENS, "tokens")
    if not any(ours.startswith("mix/") for ours in columns.values()):
        columns |= _shares(cells, numeric, columns)
    units: dict[str, str] = {}
    _outcomes(found, numeric, columns, units, notes)
    return Guess(ColumnMapping(columns, units), notes)


def _is_ours(name: str) -> bool:
    return name in PLAIN or any(name.startswith(prefix) and len(name) > len(prefix) for prefix in PREFIXES)


def _numbers(values: Sequence[Any]) -> list[float] | None:
    """The values that are numbers, or None where most are not: the odd cell that is none is for the import to name."""
    out = [as_number(value.strip().removesuffix("%") if isinstance(value, str) else value) for value in values]
    known = [value for value in out if value is not None]
    return known if 2 * len(known) > len(values) else None


def _bare(name: str) -> str:
    return _HEAD.sub("", name.strip(), count=1)


def _first(columns: dict[str, str], cells: Mapping[str, Any], words: Sequence[str], ours: str) -> str | None:
    """Map the column whose last part is the earliest of these words; None where there is none."""
    best: tuple[int, int, str] | None = None
    for name in cells:
        if name in columns:
            continue
        bare = _bare(name).lower()
        for part in {bare, re.split(r"[./]", bare)[-1]}:
            if part in words and (best is None or (words.index(part), len(bare)) < best[:2]):
                best = (words.index(part), len(bare), name)
    if best is not None:
        columns[best[2]] = ours
        return best[2]
    return None


def _shares(
    cells: Mapping[str, list[Any]], numeric: Mapping[str, list[float] | None], columns: Mapping[str, str]
) -> dict[str, str]:
    """Columns of one nest that is called as mixtures are, with the name of the domain behind it."""
    nests: dict[tuple[int, str], dict[str, str]] = {}
    for name in cells:
        numbers = numeric[name]
        if name in columns or numbers is None or min(numbers) < 0:
            continue
        bare = _bare(name)
        parts = re.split(r"[./]", bare)
        at = next((i for i, part in enumerate(parts[:-1]) if part.lower() in _MIX), None)
        if at is not None:
            nest, domain = ".".join(parts[: at + 1]), bare[len(".".join(parts[: at + 1])) + 1 :]
            rank = _MIX.index(parts[at].lower())
        else:
            word = next(
                (w for w in _MIX if bare.lower().startswith((w + "_", w + " ", w + ":")) and len(bare) > len(w) + 1),
                None,
            )
            if word is None:
                continue
            nest, domain, rank = word, bare[len(word) + 1 :].strip(), len(_MIX) + _MIX.index(word)
        nests.setdefault((rank, nest), {})[name] = f"mix/{domain}"
    return min(nests.items(), key=lambda item: (len(item[1]) < 2, item[0]))[1] if nests else {}


class _Metric(NamedTuple):
    column: str
    kind: str
    unit: str
    rank: int
    name: str
    evaluated: bool


def read_metric(column: str) -> _Metric | None:
    """What a column's name says that it measures, and on what.

    >>> read_metric("eval/lm/books-validation/CE loss")[1:5], read_metric("eval_web_loss")[1:5], read_metric("arc_easy/acc")[1:3]
    (('loss', 'nats per token', 0, 'books-validation'), ('loss', 'nats per token', 0, 'web'), ('acc', ''))
    >>> read_metric("train/loss"), read_metric("lr")
    (None, None)
    """
    bare = _bare(column)
    words = bare
    suffix = re.fullmatch(r"(.*\S)\s*\(([^()]*)\)", bare)  # as in "arc_easy (accuracy)"
    if suffix:
        words = f"{suffix[1]}/{suffix[2].lower().removesuffix(' v1').removesuffix(' v2')}"
    lower = words.lower()
    if _TRAIN.search(lower) or re.search(r"[._/](min|max|mean|best|std|stderr)$", lower):
        return None
    for pattern, kind, unit, rank in _METRICS:
        end = re.fullmatch(rf"(?:(.*?)[/._ ])?(?:{pattern.pattern})", lower)
        begin = None if end else re.fullmatch(rf"(?:{pattern.pattern})[/._ ](.*)", lower)
        match = end or begin
        if match is None or not kind:
            if match is not None:
                return None
            continue
        if end:
            rest = words[: len(end[1])] if end[1] else ""
        else:
            assert begin is not None
            rest = words[-len(begin.groups()[-1]) :]
        parts = [part for part in rest.split("/") if part]
        kept = [part for part in parts if not _EVAL.fullmatch(part.lower())]
        evaluated = len(kept) < len(parts)
        if kept:
            pieces = re.fullmatch(
                r"(?:(eval|val|valid|validation|test)[_.])?(.*?)(?:[_.](eval|val|valid|validation|test))?",
                kept[0],
                re.IGNORECASE,
            )
            if pieces and pieces[2] and not parts[1:]:
                evaluated |= bool(pieces[1] or pieces[3])
                kept[0] = pieces[2]
        if kept == ["test"] or (len(kept) == 1 and _EVAL.fullmatch(kept[0].lower())):
            kept, evaluated = [], True
        return _Metric(column, kind, unit, rank, "/".join(kept), evaluated)
    return None


def _outcomes(
    found: Sequence[Found],
    numeric: Mapping[str, list[float] | None],
    columns: dict[str, str],
    units: dict[str, str],
    notes: list[str],
) -> None:
    metrics = [m for name in numeric if name not in columns and numeric[name] is not None and (m := read_metric(name))]
    has_loss = any(ours.startswith("loss/") for ours in columns.values())
    losses = [] if has_loss else [m for m in metrics if m.kind == "loss"]
    if any(m.evaluated for m in losses):
        losses = [m for m in losses if m.evaluated or m.name]
    accuracies = [m for m in metrics if m.kind == "acc"]
    kept = [*_one_unit(losses, notes), *accuracies]
    by_name: dict[str, list[_Metric]] = {}
    for metric in kept:
        by_name.setdefault(f"{metric.kind}/{metric.name or 'validation'}", []).append(metric)
    for ours, several in by_name.items():
        best = min(metric.rank for metric in several)
        same = [metric for metric in several if metric.rank == best]
        if len(same) > 1 and _overlap(found, [metric.column for metric in same]):
            notes.append(
                f"{' and '.join(repr(m.column) for m in same[:3])} both look like {ours}: the first is taken; map the other by hand"
            )
            same = same[:1]
        for metric in same:
            columns[metric.column] = ours
    for name, ours in columns.items():
        if ours.startswith(OUTCOMES):
            numbers = numeric[name] or [0.0]
            metric = read_metric(name)
            if ours.startswith("loss/"):
                units[name] = (
                    metric.unit
                    if metric is not None and metric.kind == "loss" and not _is_ours(name)
                    else "nats per token"
                )
            else:
                units[name] = "percent" if max(numbers) > 1 and min(numbers) >= 0 else "fraction"


def _one_unit(losses: list[_Metric], notes: list[str]) -> list[_Metric]:
    """The losses of the unit that most sets have; the others are named in a note."""
    sets: dict[str, set[str]] = {}
    for metric in losses:
        sets.setdefault(metric.unit, set()).add(metric.name)
    if len(sets) < 2:
        return losses
    rank = {metric.unit: metric.rank for metric in losses}
    best = max(sets, key=lambda unit: (len(sets[unit]), -rank[unit]))
    others = [f"{metric.column} ({metric.unit})" for metric in losses if metric.unit != best]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    notes.append(f"losses in {best} are taken; left out: {', '.join(others[:3])}{more}")
    return [metric for metric in losses if metric.unit == best]


def _overlap(found: Sequence[Found], columns: Sequence[str]) -> bool:
    """Whether a run has more than one of these columns."""
    for one in found:
        for run in one.runs:
            names = set(run.config).union(*run.history)
            if run.flat:
                names = {name for name in names if run.history[0].get(name) not in (None, "")}
            if sum(name in names for name in columns) > 1:
                return True
    return False
