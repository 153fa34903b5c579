"""What relaxing a limit is said to gain, against solving again: random limits on planted laws.

    python benchmarks/decisions/multipliers.py [--files 200]

Each file is a random set of limits (floors, caps, groups, fixed shares, supply, cost, KL and distance limits, numbers of domains) on
a law with random parameters; nothing is fitted. Every limit that is told as reached is relaxed by as much in the words of a person who
sets it, and the decision is made again from other starts. Writes benchmarks/results/multipliers.json as it goes, and goes on there.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import continued, write

TOKENS = 1e11  # of training, for supply
AGREE, NOISE = 0.05, 2e-7  # relative and absolute difference that counts as agreement
SMALL = 1e-4  # step for the multiplier, which holds for small steps alone


def main() -> None:
    """Decide, relax, decide again, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--starts", type=int, default=16)
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    head = provenance("camel_jax.mixture.optimize", "camel_jax.evaluation.simulate") | {"starts": args.starts}
    path = RESULTS / "multipliers.json"
    result = continued(path, head, {"files": []})
    for seed in range(len(result["files"]), args.files):
        result["files"].append(judge(seed, args.starts))
        if seed % 10 == 9 or seed == args.files - 1:
            result["summary"] = summarize(result["files"])
            write(path, result)
            print(result["summary"], flush=True)


def judge(seed: int, starts: int) -> dict[str, Any]:
    """One file of limits: the decision, and every limit that it reaches, solved again."""
    import jax

    from camel_jax.mixture.feasibility import InfeasibleError
    from camel_jax.mixture.optimize import optimize_mixture

    rng = np.random.default_rng(seed)
    name = ("camel", "sodm", "dml")[seed % 3]
    domains = tuple("abcdef")
    function = planted(name, len(domains), seed)
    ask = functools.partial(
        optimize_mixture, function, domains=domains, starts=starts, reference=np.full(len(domains), 1 / len(domains))
    )
    while True:
        limits = random_limits(rng, domains)
        try:
            best = ask(**limits)
            break
        except InfeasibleError:
            continue
    told = []
    for at, limit in enumerate(best.limits):
        if not (limit.binds and np.isfinite(limit.gain)):
            continue
        again = ask(**relaxed(limits, at, limit.step), key=jax.random.key(seed + 1), relax=0.0)
        row: dict[str, Any] = {
            "limit": limit.name,
            "said": limit.relaxing(best.objective),
            "step": limit.step,
            "gain": limit.gain,
            "at_least": limit.at_least,
            "solved_again": max(best.value.point - again.value.point, 0.0),
        }
        if np.isfinite(limit.multiplier):
            near = ask(**relaxed(limits, at, SMALL), key=jax.random.key(seed + 1), relax=0.0)
            row |= {"multiplier": limit.multiplier, "small_step": max(best.value.point - near.value.point, 0.0) / SMALL}
        told.append(row | {"right": right(row)})
    return {
        "seed": seed,
        "law": name,
        "limits": [limit.name for limit in best.limits],
        "gain": best.gain.point,
        "gap": best.certificate.gap,
        "convex": best.certificate.convex,
        "violation": best.violation,
        "status": best.status,
        "told": told,
    }


def right(row: dict[str, Any]) -> bool:
    """Whether what is said of a limit is true: as much as solving again gains, or no more if it says "at least"."""
    said, found = row["gain"], row["solved_again"]
    close = abs(said - found) <= AGREE * max(said, found) + NOISE
    return bool(close or (row["at_least"] and said <= found))


def summarize(files: list[dict[str, Any]]) -> dict[str, Any]:
    """How many statements are true, how many are one-sided, and how tight certificates are."""
    told = [row for file in files for row in file["told"]]
    rates = [row for row in told if "multiplier" in row]
    gaps = np.array([file["gap"] / abs(file["gain"]) for file in files if file["convex"] and file["gain"] != 0])
    return {
        "files": len(files),
        "told": len(told),
        "right": sum(row["right"] for row in told),
        "at_least": sum(row["at_least"] for row in told),
        "multipliers": len(rates),
        "multipliers_right": sum(
            bool(
                abs(r["multiplier"] - r["small_step"]) <= AGREE * max(r["multiplier"], r["small_step"]) + NOISE / SMALL
            )
            for r in rates
        ),
        "convex": sum(file["convex"] for file in files),
        "gap_over_gain_median": float(np.median(gaps)) if len(gaps) else None,
        "gap_over_gain_above_a_tenth": int((gaps > 0.1).sum()),
        "violated": sum(file["violation"] > 1e-9 for file in files),
        "not_converged": sum(file["status"] != "converged" for file in files),
    }


@functools.cache
def law_function(name: str) -> Any:
    """The losses of a law at a target of 1B parameters and 30B tokens, as a function of its parameters and the mixture."""
    import jax.numpy as jnp

    from camel_jax import laws
    from camel_jax.recipes.recipe import Recipe

    law = {"camel": laws.camel(skills=4), "sodm": laws.sodm(), "dml": laws.dml()}[name]

    def losses(params: Any, weights: Any) -> Any:
        size = jnp.asarray(10.0)  # in units of 1e8 parameters and 1e9 tokens
        return law.predict(params, Recipe(size, size, jnp.asarray(30.0), weights))

    return law, losses


def planted(name: str, n_domains: int, seed: int) -> Any:
    """A law with random parameters, as a function of the mixture."""
    import jax

    from camel_jax.evaluation import simulate

    law, losses = law_function(name)
    shape = simulate.study(jax.random.key(0), n_domains=n_domains, n_mixtures=2, sizes=(1e8, 1e9), checkpoints=2)
    return jax.tree_util.Partial(losses, law.constrain(law.init(jax.random.key(seed), shape)))


def random_limits(rng: np.random.Generator, domains: tuple[str, ...]) -> dict[str, Any]:
    """Some limits as keywords; they may exclude each other."""
    names = [str(name) for name in rng.permutation(domains)]
    out: dict[str, Any] = {}
    bounds = {}
    for _ in range(rng.integers(0, 4)):
        floor = round(rng.uniform(0.02, 0.3), 3) if rng.random() < 0.5 else None
        cap = round(rng.uniform(0.05, 0.5), 3) if floor is None or rng.random() < 0.3 else None
        bounds[names.pop()] = (floor, cap)
    if bounds:
        out["bounds"] = bounds
    if rng.random() < 0.2:
        out["fixed"] = {names.pop(): round(rng.uniform(0.02, 0.3), 3)}
    if rng.random() < 0.4:
        members = [str(name) for name in rng.permutation(domains)[: rng.integers(2, 4)]]
        low = round(rng.uniform(0.1, 0.5), 3)
        out["groups"] = {"g": (members, low, None) if rng.random() < 0.5 else (members, None, low)}
    if rng.random() < 0.3:
        chosen = [str(name) for name in rng.permutation(domains)[: rng.integers(1, 3)]]
        out |= {"supply": {name: round(rng.uniform(0.5e9, 1e10), -7) for name in chosen}, "tokens": TOKENS}
        out["max_epochs"] = 4.0
    if rng.random() < 0.25:
        out["cost"] = (
            {str(name): round(rng.uniform(0.5, 4.0), 2) for name in domains},
            round(rng.uniform(1.5, 2.5), 2),
        )
    near = 0.5 / len(domains) + 0.5 * rng.dirichlet(np.ones(len(domains)))
    if rng.random() < 0.25:
        out["kl"] = (near, round(rng.uniform(0.02, 0.3), 3))
    if rng.random() < 0.2:
        out["distance"] = (near, round(rng.uniform(0.05, 0.3), 3))
    if rng.random() < 0.3:
        out["max_domains"] = int(rng.integers(2, len(domains)))
    return out


def relaxed(limits: dict[str, Any], at: int, step: float) -> dict[str, Any]:
    """The same keywords with the limit at that position, in the order of ``parse_limits``, relaxed by a step."""
    out: dict[str, Any] = {name: dict(value) if isinstance(value, dict) else value for name, value in limits.items()}
    for position, (group, name, side) in enumerate(positions(limits)):
        if position != at:
            continue
        if group in ("bounds", "groups"):
            floor, cap = out[group][name][-2:]
            new = (max(floor - step, 0.0), cap) if side == "floor" else (floor, min(cap + step, 1.0))
            out[group][name] = new if group == "bounds" else (out[group][name][0], *new)
        elif group == "fixed":
            share = out["fixed"].pop(name)
            out["bounds"] = out.get("bounds", {}) | {name: (max(share - step, 0.0), min(share + step, 1.0))}
        elif group == "supply":
            out["supply"][name] += step * limits["tokens"] / limits["max_epochs"]
        elif group == "max_domains":
            out["max_domains"] += 1
        else:
            out[group] = (out[group][0], out[group][1] + step)
    return out


def positions(limits: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(keyword, name, side) of every limit, in the order of ``parse_limits``."""
    for group in ("bounds", "groups"):
        for name, entry in limits.get(group, {}).items():
            yield from (
                (group, name, side)
                for side, value in zip(("floor", "cap"), entry[-2:], strict=True)
                if value is not None
            )
    yield from (("fixed", name, "") for name in limits.get("fixed", {}))
    short = {n: s for n, s in limits.get("supply", {}).items() if s * limits["max_epochs"] < limits["tokens"]}
    yield from (("supply", name, "") for name in sorted(short))
    yield from ((group, "", "") for group in ("cost", "kl", "distance", "max_domains") if group in limits)


if __name__ == "__main__":
    main()
