"""Options that several commands have, and the topics under which ``--help`` lists all of them."""

from __future__ import annotations

import functools
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

TOPICS = {
    "Input": (
        "study",
        "name",
        "results",
        "run",
        "losses",
        "accuracies",
        "failed",
        "replace",
        "recipes",
        "runs",
        "fit",
        "decision",
        "columns",
        "benchmarks",
        "benchmark_columns",
        "tasks",
        "folders",
        "holdout",
    ),
    "Target": ("size", "tokens", "target_size", "target_tokens", "flops", "sizes", "sparsity", "budget"),
    "Objective": ("objective", "first", "second", "risk", "tail", "reference", "near"),
    "Limits on the mixture": (
        *("limits", "floors", "caps", "fixed", "supply", "max_epochs", "max_domains", "measured"),
        *("costs", "cost_budget", "prior", "kl", "distance"),
    ),
    "Law": ("law", "laws", "skills"),
    "Uncertainty": ("resamples", "bayes", "chains", "draws", "level", "noise"),
    "Runs to choose from": (
        *("ladder", "tokens_per_parameter", "mixtures", "candidates", "domains", "shapes"),
        *("criterion", "min_runs", "max_runs", "replicates"),
    ),
    "Training": ("batch", "context", "rate", "corpus_seed", "domain_bytes"),
    "Price": ("cost_model", "gpu_hour", "peak", "utilization"),
    "Search and seed": ("starts", "points", "steps", "same_tokens", "same_size", "seed"),
    "Restarts and processes": ("resume", "workers", "distributed", "coordinator", "processes", "process_id"),
    "What the columns mean": (
        *("mapping", "save_mapping", "units", "constants", "yes", "kind", "name_by", "domain_column", "normalize"),
        *("tokens_per_step", "bytes_per_token"),
    ),
    "Which runs": ("checkpoints", "unfinished", "drop_incomplete"),
    "Trainer": ("to", "paths", "lattice", "sequence_length", "batch_tokens", "documents"),
    "Evidence": ("baselines", "next_budget"),
    "Output": ("out", "out_dir", "browser", "figure", "curves", "template", "launch", "under_way", "json"),
}


def by_topic(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command as the command line calls it: options stand under the topics above, and those of a group each by itself.

    Args:
      command: its parameters are options, or groups of options: a ``NamedTuple`` of them, as ``ShareLimits``, or of such groups.
    """
    panels = {name: topic for topic, names in TOPICS.items() for name in names}
    hints = get_type_hints(command, include_extras=True)
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        flat += _options(name, hints[name], parameter.default)
    for parameter in flat:
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(info, type(typer.Option())):
                info.rich_help_panel = panels[parameter.name]

    @functools.wraps(command)
    def called(**given: Any) -> Any:
        return command(**{name: _taken(name, hints[name], given) for name in inspect.signature(command).parameters})

    called.__signature__ = inspect.Signature(flat)  # pyright: ignore[reportAttributeAccessIssue]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return called


def _options(name: str, hint: Any, default: Any) -> list[inspect.Parameter]:
    """The options of a parameter: itself, or those of its group."""
    if not hasattr(hint, "_field_defaults"):
        return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)]
    own = get_type_hints(hint, include_extras=True)
    return [one for field in hint._fields for one in _options(field, own[field], hint._field_defaults[field])]


def _taken(name: str, hint: Any, given: dict[str, Any]) -> Any:
    """The value of a parameter, taken from those of all options."""
    if not hasattr(hint, "_field_defaults"):
        return given.pop(name)
    own = get_type_hints(hint, include_extras=True)
    return hint(*(_taken(field, own[field], given) for field in hint._fields))


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="THEIRS=OURS",
        help="Read column THEIRS of the table as OURS, as in 'val_*=loss/*'; 'THEIRS=' leaves it out. Repeatable.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice; the same seed gives the same bytes.")]


def parse_map(pairs: Sequence[str] | None) -> dict[str, str | None]:
    """``--map`` options as a mapping for ``read_runs``."""
    columns: dict[str, str | None] = {}
    for pair in pairs or ():
        theirs, equals, ours = pair.rpartition("=")
        if not equals or not theirs:
            raise ValueError(f"--map {pair!r} is not THEIRS=OURS")
        columns[theirs] = ours or None
    return columns


def split_names(text: str) -> list[str]:
    """Names between commas.

    >>> split_names("web, code")
    ['web', 'code']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


Pairs = list[str] | None


def split_pairs(option: str, items: Pairs) -> list[tuple[str, str]]:
    """NAME=VALUE options as names and values, in order.

    Raises:
      ValueError: an item is not of that form.

    >>> split_pairs("--max", ["code=0.3"])
    [('code', '0.3')]
    """
    split = []
    for item in items or ():
        name, equals, value = item.rpartition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"{option} {item!r} is not NAME=VALUE")
        split.append((name.strip(), value.strip()))
    return split


Table = Annotated[
    pathlib.Path | None, typer.Option("--out", help="Table to write, .csv or .parquet.", show_default=False)
]
Figure = Annotated[pathlib.Path | None, typer.Option(help="Figure to write, .png, .svg or .pdf.", show_default=False)]
Floors = Annotated[Pairs, typer.Option("--min", help="Least share: code=0.1, or of a sum: web+books=0.3.")]
Caps = Annotated[Pairs, typer.Option("--max", help="Largest share: code=0.3, or of a sum.")]
Fixed = Annotated[Pairs, typer.Option("--fix", help="A share that is given: wiki=0.05.")]
Supply = Annotated[Pairs, typer.Option(help="Unique tokens there are of a domain: web=2T.")]
MaxEpochs = Annotated[float | None, typer.Option(min=0.0, help="How often the supply may be repeated; once if absent.")]
WithinMeasured = Annotated[
    bool,
    typer.Option(
        "--within-measured", help="Keep every share between the smallest and the largest that a run of the table had."
    ),
]
LimitsFile = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--limits",
        help="Limits in a .toml or .json file: tables min, max, fix, supply and cost, and cost_budget, max_epochs,"
        " max_domains, prior, kl and distance.",
        show_default=False,
    ),
]
Objective = Annotated[
    str,
    typer.Option(help="mean-loss, or sets with weights as in 'code=2,web=1', or accuracy, or tasks as in 'acc/qa=1'."),
]
CostName = Annotated[
    str,
    typer.Option("--cost-model", help="What runs cost: flops (6 N D), or a registered model of your own, in its unit."),
]
Size = Annotated[str, typer.Option(help="Size of the target: 7B, or 55B-A1.2B (active).", show_default=False)]
Tokens = Annotated[str, typer.Option(help="Its training tokens, as in 1T.", show_default=False)]
Costs = Annotated[Pairs, typer.Option("--cost", help="What a share of 1 of a domain costs: code=3.")]
CostBudget = Annotated[
    float | None, typer.Option(help="What the mixture may cost, in the unit of --cost.", show_default=False)
]
PriorMixture = Annotated[
    pathlib.Path | None,
    typer.Option(help="Mixture to stay near: a table with mix/ columns or a mixture.json.", show_default=False),
]
Kl = Annotated[float | None, typer.Option(min=0.0, help="How near: Kullback-Leibler limit, nats.", show_default=False)]
Distance = Annotated[
    float | None, typer.Option(min=0.0, help="How near: Euclidean distance of the shares.", show_default=False)
]
MaxDomains = Annotated[
    int | None, typer.Option(min=1, help="Most domains with a share above zero.", show_default=False)
]
Reference = Annotated[
    pathlib.Path | None, typer.Option(help="Mixture to compare with; the mean of the fitted table if absent.")
]
Risk = Annotated[str, typer.Option(help="mean, cvar (mean of the worst --tail of draws) or worst.")]
Tail = Annotated[float, typer.Option(help="Share of draws that cvar averages.")]
Near = Annotated[
    float,
    typer.Option(min=0.0, help="Show how far shares may move within this many percent of the best objective."),
]
Starts = Annotated[int, typer.Option(min=1, help="Starts of the search.")]
TargetSize = Annotated[
    str | None,
    typer.Option("--size", help="Size of the target; ten times the largest fitted one if absent.", show_default=False),
]
TargetTokens = Annotated[
    str | None,
    typer.Option(
        "--tokens", help="Its training tokens; the ratio to size of the largest fitted if absent.", show_default=False
    ),
]


class ShareLimits(NamedTuple):
    """Limits on shares, of every command that looks for a mixture."""

    limits: LimitsFile = None
    floors: Floors = None
    caps: Caps = None
    fixed: Fixed = None
    supply: Supply = None
    max_epochs: MaxEpochs = None


class NearLimits(NamedTuple):
    """How near the mixture stays to another, and how many domains it has."""

    prior: PriorMixture = None
    kl: Kl = None
    distance: Distance = None
    max_domains: MaxDomains = None


class Spending(NamedTuple):
    """What a mixture may cost."""

    costs: Costs = None
    cost_budget: CostBudget = None
