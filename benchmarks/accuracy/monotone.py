"""Whether predictions of the default fall with size and tokens beyond a table, and their intervals hold the point and widen.

    python benchmarks/accuracy/monotone.py FOLDER [--tables marin3,pile5] [--keep FITS]

Each table is fitted with the default. From its largest size and tokens outward, in 31 steps to 1,000 times as much of either or of
both, losses at 500 random mixtures (half of them with shares of zero) must not rise, with tokens that never repeat, and the 90 %
intervals must hold the point and widen in log loss. Shares of zero must leave gradient and Hessian of the prediction finite. Counts are
of steps times mixtures times sets. Writes benchmarks/results/monotone.json as it goes, and goes on there.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import continued, write

TABLES = "marin3,moe_routed,datablations,kempner6,openlm_benchmarks,olmix24,pile5,redpajama7,regmix_pile17,slimpajama"
STEPS, REACH, MIXTURES = 31, 1000.0, 500
ROUNDING = 1e-9  # relative change of a loss, or of a width, that counts as none
HESSIANS = 16  # mixtures with zero shares at which second derivatives are taken
A_CALL = 2_048  # rows predicted at once
WAYS = {"size": (1.0, 0.0), "tokens": (0.0, 1.0), "both": (1.0, 1.0)}


def main() -> None:
    """Fit, predict outward, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default=TABLES)
    parser.add_argument("--resamples", type=int, default=16)
    parser.add_argument("--keep", type=pathlib.Path, help="folder where fits are kept, and read if they are there")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "monotone.json")
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    head = provenance("camel_jax.fitting.fit", "camel_jax.fitting.intervals") | {
        "resamples": args.resamples,
        "mixtures": MIXTURES,
        "steps": STEPS,
        "reach": REACH,
    }
    result = continued(args.out, head, {"tables": {}})
    for name in args.tables.split(","):
        if name in result["tables"]:
            continue
        began = time.monotonic()
        fitted = fit_of(args.folder / f"{name}.csv", args.resamples, args.keep)
        seconds = time.monotonic() - began
        result["tables"][name] = judge(fitted) | {"fit_seconds": round(seconds, 1)}
        result["summary"] = summarize(result["tables"])
        write(args.out, result)
        print(name, result["tables"][name], flush=True)
    print(result["summary"])


def fit_of(table: pathlib.Path, resamples: int, keep: pathlib.Path | None) -> Any:
    """The default fitted to a table, from a kept file if there is one."""
    import jax

    import camel_jax as cj
    from camel_jax import laws

    place = None if keep is None else keep / f"{table.stem}.npz"
    if place is not None and place.exists():
        return cj.load_fit(place)
    fitted = cj.fit(
        laws.blend(), cj.read_runs(table), key=jax.random.key(0), starts=1, resamples=resamples, backtests=2
    )
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(place)
    return fitted


def mixtures_to_try(rng: np.random.Generator, n_domains: int) -> np.ndarray:
    """Random mixtures (500, K): half with all shares above zero, half with some of zero."""
    out = rng.dirichlet(np.ones(n_domains), MIXTURES)
    gone = rng.random(out.shape) < rng.random((MIXTURES, 1))
    gone[: MIXTURES // 2] = False
    gone[np.arange(MIXTURES), rng.integers(n_domains, size=MIXTURES)] = False
    out = np.where(gone, 0.0, out)
    return out / out.sum(1, keepdims=True)


def judge(fitted: Any) -> dict[str, Any]:
    """What holds and what does not for one fit, by way outward."""
    weights = mixtures_to_try(np.random.default_rng(0), len(fitted.domains))
    far = np.geomspace(1.0, REACH, STEPS)
    out: dict[str, Any] = {"domains": len(fitted.domains), "sets": len(fitted.sets)}
    for way, (size, tokens) in WAYS.items():
        out[way] = along(fitted, fitted.size_range[1] * far**size, fitted.tokens_range[1] * far**tokens, weights)
    zero = weights[(weights == 0).any(1)][:HESSIANS] if len(fitted.domains) > 1 else np.ones((1, 1))
    out["derivatives_not_finite"] = not_finite(fitted, zero)
    return out


def along(fitted: Any, sizes: np.ndarray, tokens: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Rises of the point, points outside of their interval, and steps in which it narrows, on one way outward."""
    from camel_jax.fitting.intervals import predict_interval
    from camel_jax.recipes.recipe import Recipe

    steps, mixtures = len(sizes), len(weights)
    n, d, w = np.repeat(sizes, mixtures), np.repeat(tokens, mixtures), np.tile(weights, (steps, 1))
    parts = []
    for first in range(0, len(n), A_CALL):
        one = slice(first, first + A_CALL)
        parts.append(predict_interval(fitted, Recipe(n[one], n[one], d[one], w[one])))
    point, low, high = (
        np.concatenate([np.asarray(getattr(part, name)) for part in parts]).reshape(steps, mixtures, -1)
        for name in ("point", "low", "high")
    )
    rise = np.diff(np.log(point), axis=0)
    width = np.log(high / low)
    narrower = -np.diff(width, axis=0) / np.maximum(width[:-1], 1e-300)
    return {
        "steps": int(rise.size),
        "rises": int((rise > ROUNDING).sum()),
        "largest_rise_percent": float(100 * max(np.expm1(rise).max(), 0.0)),
        "points_outside": int(((low > point) | (point > high)).sum()),
        "narrowings": int((narrower > ROUNDING).sum()),
        "largest_narrowing_percent": float(100 * max(narrower.max(), 0.0)),
        "not_finite": int((~np.isfinite(point) | ~np.isfinite(low) | ~np.isfinite(high)).sum()),
    }


def not_finite(fitted: Any, weights: np.ndarray) -> int:
    """At how many of these mixtures the prediction, its gradient or its Hessian is not finite, ten times beyond the table."""
    import jax
    import jax.numpy as jnp

    at = fitted.losses_at(10 * float(fitted.size_range[1]), 10 * float(fitted.tokens_range[1]))
    second = jax.jit(lambda w: (at(w), jax.jacrev(at)(w), jax.hessian(at)(w)))
    return sum(not all(bool(jnp.isfinite(x).all()) for x in second(jnp.asarray(w))) for w in weights)


def summarize(tables: dict[str, Any]) -> dict[str, Any]:
    """Counts over all tables and ways."""
    ways = [table[way] for table in tables.values() for way in WAYS]
    counts = ("steps", "rises", "points_outside", "narrowings", "not_finite")
    worst = ("largest_rise_percent", "largest_narrowing_percent")
    return (
        {"tables": len(tables)}
        | {name: sum(way[name] for way in ways) for name in counts}
        | {name: max(way[name] for way in ways) for name in worst}
        | {"derivatives_not_finite": sum(table["derivatives_not_finite"] for table in tables.values())}
    )


if __name__ == "__main__":
    main()
