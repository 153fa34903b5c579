"""What the file of a fit holds, declared: every array with its shape, every fact with its type, and how they hang together.

A file is compared with all of it before any of it is used. K domains, V sets, S starts, B resamples, G rows of the residual
field, M measured mixtures, H scenarios; the parameters of the law are compared with the law's own start on a table of as many
domains and sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

import jax
import numpy as np

from camel_jax.downstream.outcomes import read_benchmarks
from camel_jax.fitting.backtest import BackTest
from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.laws.by_name import LAWS
from camel_jax.laws.law import Law, Units, flat_leaves
from camel_jax.prediction.discrepancy import Discrepancy
from camel_jax.prediction.residual_field import ResidualField
from camel_jax.recipes.recipe import Recipe
from camel_jax.recipes.registry import PLUGINS, UnknownNameError
from camel_jax.solvers import status as status_codes
from camel_jax.storage import ArchiveError, Declared, check_arrays
from camel_jax.tables.runs import Runs

KIND = "saved fit"
MOST_SKILLS = 10_000  # and any other whole number among the settings of a law
LANES = {
    "objective": Declared("float64", ("S",), finite=False),
    "status": Declared("int32", ("S",)),
    "steps": Declared("int32", ("S",)),
    "resampled_objective": Declared("float64", ("B",), finite=False),
    "resampled_status": Declared("int32", ("B",)),
}
TUPLES: dict[str, Any] = {"units": Units, "discrepancy": Discrepancy, "field": ResidualField}
SHAPES = {
    "units/losses": ("V",),
    "discrepancy/scale": ("V",),
    "discrepancy/mean": ("K",),
    "discrepancy/spread": ("K",),
    "discrepancy/mixtures": ("M", "K"),
    "discrepancy/weights": ("H",),
    "discrepancy/common": ("H",),
    "discrepancy/own": ("H", "V"),
    "discrepancy/common_variance": ("H",),
    "discrepancy/own_variance": ("H",),
    "discrepancy/slowing": ("V",),
    "field/weights": ("G", "K"),
    "field/log_size": ("G",),
    "field/log_tokens": ("G",),
    "field/coefficients": ("G", "V"),
    "field/noise": ("G",),  # a scalar in a field without rows
}  # other leaves of the tuples are scalars
POSITIVE = (
    "units/size",
    "units/tokens",
    "units/losses",
    "discrepancy/size",
    "discrepancy/tokens",
    "discrepancy/typical",
    "discrepancy/scale",
    "discrepancy/width",
)
NOT_NEGATIVE = (
    *(f"discrepancy/{leaf}" for leaf in ("size_span", "tokens_span", "tokens_share", "mixture_growth", "finished")),
    *(f"discrepancy/{leaf}" for leaf in ("mixtures", "mean", "weights", "common_variance", "own_variance")),
    "field/weights",
)
FACTS = ("domains", "sets", "size_range", "tokens_range", "notes", "seed", "backtests", "diagnostics")

MOST = 1e300  # of a number that is not an array's
METHODS = ("nuts", "laplace")
COUNT, NUMBER = (0, 2**63), (-MOST, MOST)
RANGES = {
    "size": (1e-300, MOST),
    **dict.fromkeys(("mean_relative_error", "blind_error"), (0.0, MOST)),
    "coverage": (0.0, 1.0),
    "width": (0.0, MOST),
    "slope_variance": NUMBER,
    **dict.fromkeys(("slopes", "chains", "draws", "divergences", "restarted"), COUNT),
    **dict.fromkeys(("r_hat", "ess", "ess_tail"), NUMBER),
    "at_depth": (0.0, 1.0),
    "k_hat": (-math.inf, math.inf),
}
MAY_BE_NAN = ("mean_relative_error", "blind_error", "coverage", "width", "r_hat", "ess", "ess_tail", "k_hat")


def check_header(where: object, header: Mapping[str, Any]) -> None:
    """Compare the facts of a fit with their declared types.

    Raises:
      ArchiveError: naming the file, the fact and the rule.
    """
    for name in sorted({*FACTS, "law", "settings"} ^ (header.keys() - {"package"})):
        raise ArchiveError(
            f"{where}: {name!r} is {'none that belongs in' if name in header else 'missing in'} its header"
        )
    for name, rule in _broken(header):
        raise ArchiveError(f"{where}: {name} must be {rule}")


def _broken(header: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("domains", "sets"):
        names = header[name]
        if not _listed(names, str) or not names or not all(names) or len(set(names)) < len(names):
            yield name, "a list of different names"
    for name in ("size_range", "tokens_range"):
        ends = header[name]
        if not _listed(ends, float) or len(ends) != 2 or not 0 < ends[0] <= ends[1] <= MOST:
            yield name, "the least and the largest of positive numbers"
    if not _listed(header["notes"], str) or not all(header["notes"]):
        yield "notes", "a list of texts"
    if not _is(header["seed"], int) or not 0 <= header["seed"] < 2**63:
        yield "seed", "a whole number"
    if not isinstance(header["law"], str) or not isinstance(header["settings"], dict):
        yield "law and settings", "a name and a table"
    if not isinstance(header.get("package", ""), str):
        yield "package", "a name"
    if not isinstance(header["backtests"], list) or not all(_fits(x, BackTest) for x in header["backtests"]):
        yield "backtests", f"a list of tables of {', '.join(BackTest._fields)}, each in its range"
    told = header["diagnostics"]
    if told is not None and not (_fits(told, Diagnostics) and told["method"] in METHODS):
        yield "diagnostics", f"none, or a table of {', '.join(Diagnostics._fields)}, each in its range"


def _fits(told: Any, build: Any) -> bool:
    """Whether a table has the fields of this named tuple, each of its type and in its range."""
    if not isinstance(told, dict) or told.keys() != set(build._fields):
        return False
    kinds = get_type_hints(build)
    for name, value in told.items():
        if value != value and name in MAY_BE_NAN:
            continue
        if not _is(value, kinds[name]) or (name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]):
            return False
    return True


def write_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a fit as JSON has them."""
    told = facts["diagnostics"]
    plain = {"backtests": [test._asdict() for test in facts["backtests"]], "diagnostics": told and told._asdict()}
    return {**facts, **plain}


def read_facts(header: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a fit from a header that ``check_header`` has passed."""
    facts = {name: tuple(header[name]) if isinstance(header[name], list) else header[name] for name in FACTS}
    tests, told = facts["backtests"], header["diagnostics"]
    tuples = {
        "backtests": tuple(BackTest(**x) for x in tests),
        "diagnostics": None if told is None else Diagnostics(**told),
    }
    return {**facts, **tuples}


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _listed(values: Any, kind: type) -> bool:
    return isinstance(values, (list, tuple)) and all(_is(value, kind) for value in values)


def named_law(law: Law) -> dict[str, Any]:
    """What a header says of a law: its name, its settings, and the package it comes from where that is another.

    Raises:
      ArchiveError: the law is not registered, or registered as another one.
    """
    try:
        known = LAWS.find(law.name)(**dict(law.settings))
    except UnknownNameError as error:
        raise ArchiveError(f"{error}: register it before its fits are saved (camel_jax.register_law)") from None
    if law.settings != known.settings or _origin(law) != _origin(known):
        raise ArchiveError(f"the law that is registered as {law.name!r} is another one: register this one")
    package = LAWS.package_of(law.name)
    return {"law": law.name, "settings": dict(law.settings)} | ({"package": package} if package else {})


def _origin(law: Law) -> tuple[Any, ...]:
    """Where the prediction of a law is written."""
    return tuple(getattr(law.predict, name, None) for name in ("__module__", "__qualname__"))


def rebuild_law(where: object, header: Mapping[str, Any]) -> Law:
    """The law that a header names.

    Raises:
      ArchiveError: there is none of that name and these settings.
    """
    name = header["law"]
    try:
        build = LAWS.find(name)
    except UnknownNameError as error:
        if package := header.get("package", ""):
            raise ArchiveError(
                f"{where}: its law {name!r:.60} comes from {package!r:.80}: import or install that, or name it in {PLUGINS}"
            ) from None
        raise ArchiveError(f"{where}: unknown law {name!r:.60} ({error})") from None
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in header["settings"].items()}
    usual = dict(build().settings)
    more = {k: v for k, v in settings.items() if k not in usual}
    same = usual.keys() <= settings.keys() and all(type(settings[name]) is type(usual[name]) for name in usual)
    same = same and all(isinstance(v, tuple) and all(isinstance(x, str) for x in v) for v in more.values())
    if not same or any(type(x) is int and not 0 < x <= MOST_SKILLS for x in settings.values()):
        raise ArchiveError(f"{where}: the law {header['law']} has no such settings")
    try:
        law = build(**settings)
        if dict(law.settings) == settings:
            return law
        raise ValueError("it drops some")
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ArchiveError(f"{where}: the law {header['law']} has no such settings ({error!s:.80})") from None


def check_fit(where: object, law: Law, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Compare the arrays of a fit with what is declared of them, and with its law.

    Args:
      where: the file, for messages.
      law: the law of the fit, in units of its table.
      header: facts that ``check_header`` has passed.
      arrays: all arrays, by name.

    Raises:
      ArchiveError: naming the file, the array and the rule.
    """
    schema = dict(LANES)
    for group, build in TUPLES.items():
        schema |= {f"{group}/{leaf}": Declared("float64", SHAPES.get(f"{group}/{leaf}", ())) for leaf in build._fields}
    rows, noise = (np.shape(arrays[name]) if name in arrays else None for name in ("field/log_size", "field/noise"))
    if rows == (0,) and noise == ():
        schema["field/noise"] = Declared("float64")
    saved = {name.removeprefix("raw/") for name in arrays if name.startswith("raw/")}
    plain = _template(where, law, header, False, False)
    variants = (_template(where, law, header, *kind) for kind in ((False, True), (True, False), (True, True)))
    template = plain if plain.keys() == saved else next((t for t in variants if t.keys() == saved), plain)
    for group, letter in (("raw", "S"), ("resampled", "B")):
        schema |= {f"{group}/{leaf}": Declared("float64", (letter, *x.shape), False) for leaf, x in template.items()}
    own = {name: x for name, x in arrays.items() if not name.startswith("attached/")}
    sizes = check_arrays(where, schema, own, {"K": len(header["domains"]), "V": len(header["sets"])})
    if not sizes["S"]:
        raise ArchiveError(f"{where}: no starts")
    for group, status, objective in (
        ("raw", "status", "objective"),
        ("resampled", "resampled_status", "resampled_objective"),
    ):
        if not np.isin(own[status], list(status_codes.TEXTS)).all():
            raise ArchiveError(f"{where}: array {status!r} holds a code that is no status")
        used = np.isfinite(own[objective]) & (own[status] != status_codes.NON_FINITE)
        for leaf in template:
            if not np.isfinite(own[f"{group}/{leaf}"][used]).all():
                raise ArchiveError(f"{where}: array '{group}/{leaf}' holds a value that is not finite")
    _check_signs(where, own)
    _check_ranges(where, header, own)
    try:
        read_benchmarks({name.removeprefix("attached/"): x for name, x in arrays.items() if name not in own})
    except ArchiveError as error:
        raise ArchiveError(f"{where}: {error}") from None


def _check_ranges(where: object, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    for name in ("size", "tokens"):
        if not np.isclose(header[f"{name}_range"][1], float(arrays[f"discrepancy/{name}"]), rtol=1e-6):
            raise ArchiveError(f"{where}: {name}_range does not end where array 'discrepancy/{name}' does")


def _check_signs(where: object, arrays: Mapping[str, np.ndarray]) -> None:
    rules: list[tuple[tuple[str, ...], str, Callable[[np.ndarray], Any]]] = [
        (POSITIVE, "positive", lambda x: x > 0),
        (NOT_NEGATIVE, "not negative", lambda x: x >= 0),
        (("discrepancy/mixture_share",), "a share", lambda x: (x >= 0) & (x <= 1)),
        (("discrepancy/weights",), "weights that sum to 1", lambda x: x.size > 0 and abs(x.sum() - 1) < 1e-6),
        (("discrepancy/mixtures",), "different mixtures", lambda x: 0 < len(x) == len(np.unique(x, axis=0))),
        (
            ("field/weights", "discrepancy/mean", "discrepancy/mixtures"),
            "shares that sum to 1",
            lambda x: abs(x.sum(-1) - 1) < 0.01,
        ),
    ]
    for names, rule, holds in rules:
        for name in names:
            if not np.all(holds(arrays[name])):
                raise ArchiveError(f"{where}: array {name!r} must be {rule}")


def _template(where: object, law: Law, header: Mapping[str, Any], sparse: bool, limited: bool) -> dict[str, Any]:
    """Shapes of a start of the law on a table with these names and ranges; ``sparse``: sizes with inactive parameters."""
    size, tokens = np.array(header["size_range"], float), np.array(header["tokens_range"], float)
    n_domains, n_sets = len(header["domains"]), len(header["sets"])
    weights = np.full((2, n_domains), 1 / n_domains)
    recipe = Recipe(
        size * np.array([1.0, 2.0 if sparse else 1.0]), size, tokens, weights, weights + 1e9 if limited else None
    )
    names = tuple(header["domains"]), tuple(header["sets"])
    runs = Runs(recipe, np.ones((2, n_sets)), np.zeros((2, 0)), np.arange(2), *names, (), ("a", "b"))
    try:
        return flat_leaves(jax.eval_shape(lambda key: law.init(key, runs), jax.random.key(0)))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ArchiveError(f"{where}: the law {law.name} has no such parameters ({error!s:.80})") from None
