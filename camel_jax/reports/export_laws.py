"""A fit as plain numbers from which a page in a browser predicts what Python does: parameters, draws and the errors of both.

The scripts beside it (``explorer/numbers.js``, ``laws.js`` and ``outlook.js``) read what is written here. Arrays travel as base64 of
little-endian numbers. The largest part of the draws, their slopes over mixtures, is not written at all: it is made again from its key
by the same generator. Where a page would grow too large, numbers lose digits or draws are left out, and the page says so.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax.laws.blend import without_idle
from camel_jax.laws.law import Law
from camel_jax.prediction.beyond import field_share
from camel_jax.prediction.discrepancy import MOST_MIXTURES, expected_slope
from camel_jax.prediction.measured import thin
from camel_jax.prediction.residual_field import FADE, STEADY

EVALUATORS = ("camel", "camel_paper", "chinchilla", "concave", "dml", "sodm", "sodm_joint")
LEVEL = 0.9  # of all intervals
LARGEST = 2_000_000  # bytes of numbers in a page
FEW_DRAWS = 16  # members that small versions keep
# and measured mixtures that the nearest is looked for among: with fewer it is farther, and intervals are wider
FEW_MIXTURES = 96


class Digits(NamedTuple):
    """How numbers are written.

    Attributes:
      point: all that decides a point. drawn: what is drawn around it.
      members: how many refits are kept.
      mixtures: the shares of measured mixtures.
      nearest: among how many measured mixtures the nearest is looked for.
    """

    point: str = "f64"
    drawn: str = "f64"
    members: int = 128
    mixtures: str = "f64"
    nearest: int = MOST_MIXTURES


TIERS = (
    Digits(),
    Digits("f64", "f48"),
    Digits("f48", "f48", 64),
    Digits("f48", "f32", 32),
    Digits("f48", "f32", FEW_DRAWS),
    Digits("f32", "f32", FEW_DRAWS // 2, "f32"),
    Digits("f32", "f32", FEW_DRAWS // 2, "f24"),
    Digits("f32", "f32", FEW_DRAWS // 2, "f24", FEW_MIXTURES),
    Digits("f32", "f32", FEW_DRAWS // 2, "f16", FEW_MIXTURES),
)
TOLD = {
    "f64": "double precision",
    "f48": "36 binary digits",
    "f32": "24 binary digits",
    "f24": "16 binary digits",
    "f16": "8 binary digits",
}


def pack(values: Any, kind: str = "f64") -> dict[str, Any]:
    """An array as text: its shape, the kind of its numbers and their bytes.

    Args:
      values: of any shape.
      kind: f64, f48 (the upper six bytes of a double, rounded), f32, f24 and f16 (the upper three and two bytes of a single,
        rounded) or i32.

    >>> pack([1.0, 2.0])["data"], pack([1.0], "f48")["data"]
    ('AAAAAAAA8D8AAAAAAAAAQA==', 'AAAAAPA/')
    """
    array = np.asarray(values)
    if kind == "f48":
        bits = np.ascontiguousarray(array, "<f8").view("<u8")
        rounded = np.where(np.isfinite(array), bits + np.uint64(0x8000), bits)
        raw = rounded.reshape(-1, 1).view(np.uint8)[:, 2:].tobytes()
    elif kind in ("f24", "f16"):
        dropped = 1 if kind == "f24" else 2
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        rounded = np.where(np.isfinite(array), bits + np.uint32(0x80 << 8 * (dropped - 1)), bits)
        raw = rounded.astype("<u4").reshape(-1, 1).view(np.uint8)[:, dropped:].tobytes()
    else:
        raw = np.ascontiguousarray(array, {"f64": "<f8", "f32": "<f4", "i32": "<i4"}[kind]).tobytes()
    return {"shape": list(array.shape), "kind": kind, "data": base64.b64encode(raw).decode()}


def why_not(law: Law) -> str:
    """Why a page cannot evaluate a law; empty where it can.

    >>> import camel_jax as cj
    >>> why_not(cj.laws.camel()), why_not(cj.laws.chinchilla()._replace(name="mine"))
    ('', 'pages have no evaluator of the law mine')
    """
    for name, one in law.parts or ((law.name, law),):
        own = str(getattr(one.predict, "__module__", "")).startswith("camel_jax.laws.")
        if not (own and one.name in EVALUATORS):
            return f"pages have no evaluator of the law {name}"
    return ""


def export_fit(fit: Any, objective: Any, largest: int = LARGEST) -> dict[str, Any]:
    """Everything that a page needs to predict with a fit.

    Args:
      fit: the fit.
      objective: what mixtures are judged by, an ``Objective`` of losses or accuracies.
      largest: bytes that the numbers may take; digits and draws are given up until they fit, or are as few as can be.

    Raises:
      ValueError: pages have no evaluator of its law.

    >>> import jax
    >>> import camel_jax as cj
    >>> from camel_jax.evaluation import simulate
    >>> runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=8, sizes=(1e7, 1e8))
    >>> fitted = cj.fit(cj.laws.chinchilla(), runs, key=jax.random.key(1), starts=1, backtests=0)
    >>> told = export_fit(fitted, cj.mean_loss())
    >>> told["law"]["center"]["name"], told["draws"]["count"], told["digits"]
    ('chinchilla', 128, '')
    """
    if reason := why_not(fit.inner_law):
        raise ValueError(reason)
    told: dict[str, Any] = {}
    for digits in TIERS:
        told = _export(fit, objective, digits)
        if _size(told) <= largest:
            break
    return told


def _size(told: Any) -> int:
    if isinstance(told, Mapping):
        return sum(_size(x) for x in told.values())
    if isinstance(told, list):
        return sum(_size(x) for x in told)
    return len(told) if isinstance(told, str) else 12


def _export(fit: Any, objective: Any, digits: Digits) -> dict[str, Any]:
    draws, d = fit.draws(), fit.discrepancy
    count, distinct = len(draws.bias), _distinct(fit)
    kept = min(distinct, digits.members)
    if kept < distinct:  # the first ones of every cycle; the draws' own errors go on as they are
        draws = dataclasses.replace(draws, params=jax.tree.map(lambda x: x[np.arange(kept)], draws.params))
    law, center, members = without_idle(fit.inner_law, fit.members, draws.params)
    key = jax.random.key_data(jax.random.split(jax.random.key(fit.seed), 3)[2])
    plain = {name: float(getattr(d, name)) for name in PLAIN}
    told = {
        "domains": list(fit.domains),
        "sets": list(fit.sets),
        "level": {"mass": LEVEL, "z": _z(0.5 + LEVEL / 2)},
        "units": {"size": float(fit.units.size), "tokens": float(fit.units.tokens), "losses": pack(fit.units.losses)},
        "law": {
            "center": describe_law(law, center, digits.point),
            "center_count": len(jax.tree.leaves(fit.members)[0]),
            "members": describe_law(law, members, digits.drawn, kept),
            "member_count": kept,
        },
        "discrepancy": plain
        | {name: pack(getattr(d, name)) for name in d._fields if name not in (*PLAIN, "mixtures")}
        | {
            "mixtures": pack(thin(np.asarray(d.mixtures), digits.nearest), digits.mixtures),
            "expected_slope": pack(expected_slope(d)),
            "field_share": float(field_share(d)),
        },
        "draws": {
            "count": count,
            "bias": pack(draws.bias, digits.drawn),
            "beyond": pack(draws._slopes(), digits.drawn),
            "slope_key": [int(x) for x in np.asarray(key)],
        },
        "field": _field(fit.field, digits),
        "accuracy": _accuracy(fit, count, digits),
        "objective": _objective(fit, objective),
        "digits": _told(digits, kept, distinct, len(d.mixtures)),
    }
    return told


PLAIN = (
    *("size", "tokens", "size_span", "tokens_span", "width", "tokens_share", "mixture_growth", "mixture_share"),
    *("finished", "typical"),
)


def _distinct(fit: Any) -> int:
    """How many draws of the law there are before they are repeated."""
    from camel_jax.fitting.result import usable_draws

    return len(usable_draws(fit)[1])


def _told(digits: Digits, kept: int, distinct: int, measured: int) -> str:
    parts = []
    if digits.point != "f64" or digits.drawn != "f64":
        parts.append(f"parameters are kept to {TOLD[digits.point]}, draws to {TOLD[digits.drawn]}")
    if digits.mixtures != "f64":
        parts.append(f"measured mixtures to {TOLD[digits.mixtures]}")
    if kept < distinct:
        parts.append(f"{kept} of {distinct} refits are kept")
    if digits.nearest < measured:
        parts.append(f"the nearest measured mixture is looked for among {digits.nearest} of {measured}")
    return f"To keep this page small, {', and '.join(parts)}." if parts else ""


def _z(mass: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(mass))


def describe_law(law: Law, params: Any, kind: str = "f64", members: int | None = None) -> dict[str, Any]:
    """A law with its parameters, arrays with a leading axis of members.

    Args:
      law: the law. params: constrained, leaves (M, ...). kind: of the numbers. members: how many to keep; all if None.
    """
    if law.parts:
        parts = [describe_law(one, params[name], kind, members) for name, one in law.parts]
        return {
            "name": "blend",
            "settings": {},
            "params": _packed({"share": params["share"]}, kind, members),
            "parts": parts,
        }
    leaves = params._asdict() if hasattr(params, "_asdict") else dict(params)
    settings = {name: value for name, value in law.settings if name == "exact"}
    return {"name": law.name, "settings": settings, "params": _packed(leaves, kind, members), "parts": []}


def _packed(leaves: Mapping[str, Any], kind: str, members: int | None) -> dict[str, Any]:
    return {
        name: _packed(leaf, kind, members) if isinstance(leaf, Mapping) else pack(np.asarray(leaf)[:members], kind)
        for name, leaf in leaves.items()
        if leaf is not None
    }


def _is_idle(field: Any) -> bool:
    """Whether a field corrects nothing."""
    return not len(field.log_size) or not np.any(field.coefficients)


def _field(field: Any, digits: Digits) -> dict[str, Any] | None:
    if _is_idle(field):
        return None
    kind = digits.point
    mixtures, which = np.unique(np.asarray(field.weights), axis=0, return_inverse=True)
    return {
        "mixtures": pack(mixtures, digits.mixtures),
        "which": pack(which.ravel(), "i32"),
        "coefficients": pack(field.coefficients, kind),
        "steady": STEADY,
        "fade": FADE,
        **{name: pack(getattr(field, name)) for name in ("log_size", "log_tokens")},
        **{name: float(getattr(field, name)) for name in ("length", "common", "reach", "finished")},
    }


def _accuracy(fit: Any, count: int, digits: Digits) -> dict[str, Any] | None:
    from camel_jax.downstream.outcomes import columns_read
    from camel_jax.downstream.result import PER_TASK
    from camel_jax.fitting.intervals import ACCURACY_DRAWS

    if (law := fit.benchmarks) is None:
        return None
    refits = len(law.samples.bias)
    numbered = dataclasses.replace(
        law, samples=law.samples._replace(bias=np.tile(np.arange(refits, dtype=float)[:, None], len(law.tasks)))
    )
    copies = -(-ACCURACY_DRAWS // count)
    law_key, noise_key = jax.random.split(fit.benchmark_key)
    forecast = numbered.sample(law_key, copies * count)
    noise = law.noise * jax.random.normal(noise_key, forecast.error.shape)
    decision = numbered.sample(fit.benchmark_key, count)

    def drawn(sampled: Any, noise: Any) -> dict[str, Any]:
        return {
            "pick": pack(np.asarray(sampled.refits.bias[:, 0]).round(), "i32"),
            "error": pack(np.asarray(sampled.error + noise), digits.drawn),
        }

    return {
        "tasks": list(law.tasks),
        "flags": dict(law.flags),
        "columns": pack(columns_read(law, fit.sets), "i32"),
        "center": pack(law.params.center),
        "scale": pack(law.params.scale),
        "params": {name: pack(np.asarray(getattr(law.params, name))[None]) for name in PER_TASK},
        "samples": {name: pack(getattr(law.samples, name), digits.drawn) for name in PER_TASK},
        "forecast": drawn(forecast, noise),
        "decision": drawn(decision, jnp.zeros(())),
    }


def _objective(fit: Any, objective: Any) -> dict[str, Any]:
    """An objective as (position, weight) pairs over all sets, or all tasks."""
    if objective.kind not in ("losses", "accuracies"):
        raise ValueError(f"pages can show objectives of losses or of accuracies, not {objective.label!r}")
    tasks = () if fit.benchmarks is None else fit.benchmarks.tasks
    weights = objective.bind(fit.sets, tasks).weights
    if not weights and objective.kind == "accuracies":
        assert fit.benchmarks is not None
        usable = fit.benchmarks.objective_weights()
        weights = [(tasks.index(name), weight) for name, weight in usable.items()]
    elif not weights:
        weights = [(v, 1.0 / len(fit.sets)) for v in range(len(fit.sets))]
    return {
        "kind": objective.kind,
        "label": objective.label,
        "maximize": objective.maximize,
        "weights": [[int(at), float(weight)] for at, weight in weights],
    }
