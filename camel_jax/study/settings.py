"""What a study is about: domains, target, sizes that may be run, law, objective and limits; checked once, kept as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from camel_jax.design.ladder import Ladder, make_ladder
from camel_jax.laws.by_name import law_by_name
from camel_jax.laws.law import Law
from camel_jax.mixture.limits import Limits, parse_limits
from camel_jax.mixture.objectives import Objective, parse_objective
from camel_jax.recipes.costs import cost_by_name
from camel_jax.recipes.plain_data import as_plain_data
from camel_jax.recipes.sizes import format_count, format_size, parse_size, parse_tokens
from camel_jax.study.store import StudyError

LAW = "blend"
TOKENS_PER_PARAMETER = 20.0
_LIMITS = ("bounds", "groups", "fixed", "supply", "max_epochs", "kl", "distance", "cost", "max_domains")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a study is about.

    Attributes:
      domains: names of the K domains.
      size: the target's size as text, "7B" or "55B-A1.2B".
      tokens: its training tokens.
      ladder: sizes that may be run, as text.
      tokens_per_parameter: of the runs, over active parameters; several offer each size with each of them.
      law: its name. skills: of CAMEL, None for the law's own number.
      objective: as text, "mean-loss" or names with weights.
      limits: keyword arguments of ``parse_limits``, as data.
      noise: standard deviation of the log loss of a run; None if it is to be measured.
      cost_model: name of a registered cost model.
      seed: of every random choice.
    """

    domains: tuple[str, ...]
    size: str
    tokens: float
    ladder: tuple[str, ...]
    tokens_per_parameter: tuple[float, ...]
    law: str
    skills: int | None
    objective: str
    limits: Mapping[str, Any]
    noise: float | None
    cost_model: str
    seed: int

    def rungs(self) -> Ladder:
        """The sizes that may be run, with their tokens and costs."""
        sizes, ratios = list(self.ladder), list(self.tokens_per_parameter)
        return make_ladder(sizes, tokens_per_parameter=ratios, cost=cost_by_name(self.cost_model))

    def the_law(self) -> Law:
        """The law."""
        return law_by_name(self.law, self.skills)

    def goal(self) -> Objective:
        """The objective."""
        return parse_objective(self.objective)

    def limit_options(self) -> dict[str, Any]:
        """The limits as keyword arguments of decisions."""
        return dict(self.limits) | ({"tokens": self.tokens} if "supply" in self.limits else {})

    def named_limits(self) -> Limits:
        """The limits, checked and named."""
        return parse_limits(self.domains, **self.limit_options())

    def target_text(self) -> str:
        """Size and tokens of the target in words."""
        return f"{format_size(*parse_size(self.size))} on {format_count(self.tokens)} tokens"

    def to_data(self) -> dict[str, Any]:
        """As data for JSON."""
        return as_plain_data(dataclasses.asdict(self))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Settings:
        """Back from data.

        Raises:
          StudyError: it does not hold the settings of a study.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if sorted(data) != sorted(names):
            raise StudyError(f"the settings of the study do not hold {', '.join(names)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**plain)


def make_settings(
    domains: Sequence[str],
    target: Any,
    ladder: Sequence[str | float] | None,
    *,
    tokens_per_parameter: Sequence[float] | float | None = None,
    law: str | None = None,
    skills: int | None = None,
    objective: str | None = None,
    noise: float | None = None,
    cost_model: str | None = None,
    seed: int | None = None,
    **limits: Any,
) -> Settings:
    """Settings from what a user says, all of it checked; arguments as in ``Study``.

    Raises:
      ValueError: a part that is missing or makes no sense; the message names it.

    >>> made = make_settings(["web", "code"], "1B", ["10M", "30M"], bounds={"code": (None, 0.3)})
    >>> made.tokens, made.law, made.named_limits().items[0].name
    (20000000000.0, 'blend', 'cap code <= 0.3')
    """
    names = tuple(map(str, [domains] if isinstance(domains, str) else domains))
    if len(names) < 2 or len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise StudyError(f"domains: name at least two, each once; got {', '.join(names) or 'none'}")
    size, tokens = (target, None) if isinstance(target, str | int | float) else _pair(target)
    n_total, n_active = parse_size(size)
    if ladder is None or isinstance(ladder, str) or not len(ladder):
        raise StudyError('ladder: give the sizes that may be run, as in ["10M", "30M", "100M"]')
    ratios = np.atleast_1d(np.asarray(tokens_per_parameter or TOKENS_PER_PARAMETER, float))
    if noise is not None and not (np.isfinite(noise) and noise > 0):
        raise StudyError(f"noise must be above zero, got {noise!r}")
    if unknown := [name for name in limits if name not in _LIMITS]:
        raise StudyError(f"unknown setting {unknown[0]!r} of a study; limits are {', '.join(_LIMITS)}")
    made = Settings(
        names,
        format_exactly(n_total, n_active),
        TOKENS_PER_PARAMETER * n_active if tokens is None else parse_tokens(tokens),
        tuple(format_exactly(*parse_size(one)) for one in ladder),
        tuple(ratios.tolist()),
        (law or LAW).strip().lower(),
        skills,
        objective or "mean-loss",
        as_plain_data({name: value for name, value in limits.items() if value is not None}),
        None if noise is None else float(noise),
        cost_model or "flops",
        int(seed or 0),
    )
    for check in (made.rungs, made.the_law, made.named_limits):
        check()
    if made.goal().kind not in ("losses", "accuracies"):
        raise StudyError(f"objective {objective!r}: a study keeps objectives of losses or of accuracies")
    return made


def differences(kept: Settings, given: Mapping[str, Any]) -> list[str]:
    """Names of settings given that are not those kept."""
    parts = {"target": ("size", "tokens")}
    given = {"law": kept.law, **given}
    again = make_settings(
        given.get("domains") or kept.domains,
        given.get("target") or (kept.size, kept.tokens),
        given.get("ladder") or kept.ladder,
        **{name: value for name, value in given.items() if name not in ("domains", "target", "ladder")},
    )
    limits = {name for name in given if name in _LIMITS}
    wrong = [name for name in limits if again.limits.get(name) != kept.limits.get(name)]
    for name in given.keys() - limits:
        wrong += [name] if any(getattr(again, f) != getattr(kept, f) for f in parts.get(name, (name,))) else []
    return sorted(wrong)


def format_exactly(n_total: float, n_active: float) -> str:
    """A size as text that ``parse_size`` reads back to the same numbers: short where that is exact.

    >>> format_exactly(1e9, 1e9), format_exactly(6224, 6224), format_exactly(5.9e8, 1.2e7)
    ('1B', '6224', '590M-A12M')
    """

    def one(value: float) -> str:
        short = format_count(value)
        return short if parse_tokens(short) == value else f"{value:.17g}"

    return one(n_total) if n_total == n_active else f"{one(n_total)}-A{one(n_active)}"


def _pair(target: Any) -> tuple[Any, Any]:
    if not hasattr(target, "__len__") or len(target) != 2:
        raise StudyError(f'target: give a size, or size and tokens, as in ("7B", "140B"); got {target!r}')
    return target[0], target[1]
