"""Whether the best mixture is the same from every seed of the search.

    python benchmarks/decisions/seeds.py [--seeds 20] [--starts 64] [--fits FOLDER]

Decisions under random limits and under none: on laws with parameters as they are started (planted) and thrown three standard deviations
further (rugged: SODM of that kind is rarely convex), and on fits of the package's table and of a planted table, at the largest size of
the table and at ten times that. Each is made from every seed with nothing else changed. A decision agrees if all objectives lie within
1e-6 of the best; where they do not, what matters is whether the answers that are worse say so: that fewer than half of the candidates
were as good. Writes benchmarks/results/seeds.json as it goes, and goes on there.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import continued, write
from decisions.multipliers import law_function, planted, random_limits

AGREE = 1e-6  # of the objective, nats
LAWS = ("sodm", "camel", "dml", "sodm_joint", "blend")
PLANTED_LAWS = ("camel", "sodm", "dml")
PLANTED, RUGGED = 4, 3.0  # planted and rugged laws of each kind; how far the parameters of the latter are thrown


def main() -> None:
    """Decide from every seed, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--starts", type=int, default=64)
    parser.add_argument("--planted", type=int, default=PLANTED)
    parser.add_argument("--laws", default=",".join(LAWS), help="fitted to tables; none if empty")
    parser.add_argument("--fits", type=pathlib.Path, help="folder where fits are kept, and read if they are there")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "seeds.json")
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    head = provenance("camel_jax.mixture.optimize", "camel_jax.evaluation.simulate")
    result = continued(args.out, head | {"starts": args.starts, "seeds": args.seeds}, {"decisions": {}})
    laws = tuple(filter(None, args.laws.split(",")))
    for name, function, limits in decisions(args.planted, laws, args.fits):
        if name in result["decisions"]:
            continue
        row = result["decisions"][name] = judge(function, limits, args.seeds, args.starts)
        result["summary"] = summarize(result["decisions"])
        write(args.out, result)
        if not row["agree"]:
            print(name, row, flush=True)
    print(result["summary"])


def decisions(
    count: int, laws: tuple[str, ...], keep: pathlib.Path | None
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, function of the mixture, and limits of every decision."""
    from camel_jax.mixture.feasibility import InfeasibleError
    from camel_jax.mixture.limits import parse_limits
    from camel_jax.mixture.regions import regions

    domains = tuple("abcdef")

    def some_limits(rng: np.random.Generator, names: tuple[str, ...]) -> dict[str, Any]:
        while True:
            limits = random_limits(rng, names)
            try:
                regions(parse_limits(names, **limits))
                return limits
            except InfeasibleError:
                continue

    for kind in PLANTED_LAWS:
        for seed in range(count):
            for name, function in (
                ("planted", planted(kind, len(domains), seed)),
                ("rugged", rugged(kind, len(domains), seed)),
            ):
                yield f"{name} {kind} {seed}", function, {"domains": domains}
                limits = some_limits(np.random.default_rng(seed), domains)
                yield f"{name} {kind} {seed}, limits", function, {"domains": domains} | limits
    for table, law, fitted in fits(laws, keep):
        for times in (1.0, 10.0):
            at = fitted.losses_at(times * float(fitted.size_range[1]), times * float(fitted.tokens_range[1]))
            name = f"{table} {law} at {times:g} times the largest"
            yield name, at, {}
            rng = np.random.default_rng(int(times))
            yield f"{name}, limits", at, some_limits(rng, fitted.domains)


def rugged(kind: str, n_domains: int, seed: int) -> Any:
    """A law with parameters far from where any fit would start, as a function of the mixture."""
    import jax

    from camel_jax.evaluation import simulate

    law, losses = law_function(kind)
    shape = simulate.study(jax.random.key(0), n_domains=n_domains, n_mixtures=2, sizes=(1e8, 1e9), checkpoints=2)
    raw = law.init(jax.random.key(seed), shape)
    keys = dict(zip(raw, jax.random.split(jax.random.key(1_000 + seed), len(raw)), strict=True))
    thrown = {name: x + RUGGED * jax.random.normal(keys[name], np.shape(x)) for name, x in raw.items()}
    return jax.tree_util.Partial(losses, law.constrain(thrown))


def fits(laws: tuple[str, ...], keep: pathlib.Path | None) -> Iterator[tuple[str, str, Any]]:
    """Table, law and fit: the package's table, and a planted one of four domains."""
    import jax

    import camel_jax as cj
    from camel_jax.evaluation import simulate
    from camel_jax.laws.by_name import law_by_name

    tables = {
        "package": lambda: cj.read_runs(camel_jax_table()),
        "planted": lambda: simulate.study(
            jax.random.key(0), n_domains=4, n_mixtures=12, sizes=(1e7, 3e7, 1e8), checkpoints=1, noise=0.003
        ),
    }
    for table, make in tables.items():
        for law in laws:
            place = None if keep is None else keep / f"{table}-{law}.npz"
            if place is not None and place.exists():
                yield table, law, cj.load_fit(place)
                continue
            fitted = cj.fit(law_by_name(law), make(), key=jax.random.key(0), starts=2, resamples=4, backtests=0)
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                fitted.save(place)
            yield table, law, fitted


def camel_jax_table() -> pathlib.Path:
    """The run table that comes with the package."""
    import camel_jax

    assert camel_jax.__file__ is not None
    return pathlib.Path(camel_jax.__file__).parent / "data" / "proxy_runs.csv"


def judge(function: Any, limits: dict[str, Any], seeds: int, starts: int) -> dict[str, Any]:
    """The same decision from every seed."""
    import jax

    from camel_jax.mixture.optimize import optimize_mixture

    began = time.monotonic()
    found = [
        optimize_mixture(function, key=jax.random.key(seed), starts=starts, relax=0.0, **limits)
        for seed in range(seeds)
    ]
    values = np.array([one.value.point for one in found])
    worse = values > values.min() + AGREE
    agreeing = np.array([one.certificate.agreeing / one.certificate.finished for one in found])
    apart = max(float(np.abs(one.weights - found[int(values.argmin())].weights).sum() / 2) for one in found)
    return {
        "best": float(values.min()),
        "spread": float(np.ptp(values)),
        "agree": bool(not worse.any()),
        "worse": int(worse.sum()),
        "worse_that_say_so": int((worse & (agreeing < 0.5)).sum()),
        "least_agreeing": float(agreeing.min()),
        "apart": apart,
        "convex": bool(all(one.certificate.convex for one in found)),
        "seconds": round(time.monotonic() - began, 2),
    }


def summarize(decided: dict[str, Any]) -> dict[str, Any]:
    """How many decisions agree, and how far apart the others are."""
    rows = list(decided.values())
    return {
        "decisions": len(rows),
        "agree": sum(row["agree"] for row in rows),
        "largest_spread": max(row["spread"] for row in rows),
        "not_convex": sum(not row["convex"] for row in rows),
        "worse_answers": sum(row["worse"] for row in rows),
        "worse_answers_that_say_so": sum(row["worse_that_say_so"] for row in rows),
    }


if __name__ == "__main__":
    main()
