"""Which shape of a budget predicts the target best? Planted laws, simulated runs, refits: shapes and optimal design against FLOPs.

    python benchmarks/design_study.py [--laws 20] [--budgets 1e20,3e20] [--law sodm] [--out benchmarks/results/design_study.json]

For every planted law (a random start of the law's own family) and budget: each design is made before any run, from the prior alone;
its runs are simulated with noise; the law is fitted to them; and the fit is judged at the target.
  error   root mean square of predicted minus planted log loss at the target, over mixtures and sets, in percent
  regret  planted mean loss of the mixture that the fit calls best, minus that of the best, among 512 mixtures, in nats
  cost    FLOPs spent
The family is known to the fit, so this measures how well a design finds parameters, not what a wrong law costs.
Also timed: one optimal design from 1,000 mixtures at 6 sizes, compilation included.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

from camel_jax import laws
from camel_jax.design import compare_shapes, propose_runs
from camel_jax.fit import fit
from camel_jax.knowledge import know_nothing, mixtures_around, target_region
from camel_jax.ladder import SHAPES, make_ladder
from camel_jax.laws.law import in_units, predict_rows
from camel_jax.runs import Recipe, Runs

RESULTS = pathlib.Path(__file__).parent / "results" / "design_study.json"
LADDER = ("20M", "60M", "180M", "540M")


def planted(law, known, key):
    """Parameters from which the runs are simulated: a random start, with the leaves of the knowledge's own table."""
    keys = jax.random.split(key, len(jax.tree.leaves(known.raw)))
    first, tree = jax.tree.flatten(jax.tree.map(lambda x: x[0], known.raw))
    others = jax.tree.leaves(jax.tree.map(jnp.std, known.raw))
    moved = [x + s * jax.random.normal(k, x.shape) for x, s, k in zip(first, others, keys, strict=True)]
    return law.constrain(jax.tree.unflatten(tree, moved))


def simulate(law, params, design, domains, noise, key):
    columns = design.to_columns()
    weights = np.stack([columns[f"mix/{d}"] for d in domains], 1)
    recipe = Recipe(columns["size"], columns["size"], columns["tokens"], weights)
    clean = np.asarray(predict_rows(law, params, recipe))
    losses = clean * np.exp(noise * np.asarray(jax.random.normal(key, clean.shape)))
    n = len(losses)
    return Runs(recipe, losses, np.zeros((n, 0)), np.arange(n), domains, domains, (), tuple(columns["run"]))


def judge(law, params, fitted, target, key):
    at = target.recipe
    truth, told = (np.asarray(x) for x in (predict_rows(law, params, at), fitted.only_best().predict(at)))
    error = 100 * float(np.sqrt(np.mean(np.log(told / truth) ** 2)))
    weights = np.asarray(jax.random.dirichlet(key, jnp.ones(at.weights.shape[1]), (512,)))
    columns = (np.full(512, x[0]) for x in (at.n_total, at.n_active, at.tokens))
    many = Recipe(*columns, weights)
    truth, told = (np.asarray(x).mean(1) for x in (predict_rows(law, params, many), fitted.only_best().predict(many)))
    return error, float(truth[np.argmin(told)] - truth.min())


def timing(domains):
    """Seconds of one optimal design from 1,000 mixtures at 6 sizes."""
    center = np.full(len(domains), 1 / len(domains))
    ladder = make_ladder(["20M", "60M", "100M", "200M", "400M", "1B"])
    target = target_region("7B", None, mixtures_around(jax.random.key(1), 32, center, 2.0))
    mixtures = mixtures_around(jax.random.key(2), 1000, center)
    out = {}
    for name, law in (("sodm", laws.sodm()), ("camel", laws.camel())):
        start = time.perf_counter()
        known = know_nothing(law, ladder, target, domains, key=jax.random.key(0), draws=3)
        jax.block_until_ready(known.precision)
        found = propose_runs(known, ladder, 1e21, target, mixtures)
        out[name] = {"seconds": time.perf_counter() - start, "runs": int(found.counts.sum())}
        print(
            f"1,000 mixtures x 6 sizes, {name}, {known.precision.shape[-1]} parameters: {out[name]['seconds']:.1f} s",
            flush=True,
        )
    return out


def git_hash():
    command, folder = ["git", "rev-parse", "HEAD"], pathlib.Path(__file__).parent
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laws", type=int, default=20, help="planted laws")
    parser.add_argument("--budgets", default="1e20,3e20", help="FLOPs")
    parser.add_argument("--law", default="sodm", choices=["sodm", "dml", "chinchilla"])
    parser.add_argument("--noise", type=float, default=0.004)
    parser.add_argument("--max-runs", type=int, default=60)
    parser.add_argument("--no-timing", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    domains = ("d0", "d1", "d2")
    law, ladder = laws.CONSTRUCTORS[arguments.law](), make_ladder(LADDER)
    center = np.full(3, 1 / 3)
    target = target_region("3B", None, mixtures_around(jax.random.key(1), 32, center, 2.0))
    mixtures = mixtures_around(jax.random.key(2), 100, center)
    known = know_nothing(law, ladder, target, domains, key=jax.random.key(0), noise=arguments.noise)
    outside = in_units(law, known.units)
    rows = []
    for budget in map(float, arguments.budgets.split(",")):
        designs = compare_shapes(known, ladder, budget, target, mixtures, max_runs=arguments.max_runs)
        for i in range(arguments.laws):
            key = jax.random.fold_in(jax.random.key(3), i)
            params = planted(law, known, key)
            for design in designs:
                row = {"budget": budget, "planted": i, "shape": design.shape, "cost": design.total_cost}
                row |= {"runs": int(design.counts.sum()), "expected": 100 * design.error_after}
                try:
                    runs = simulate(outside, params, design, domains, arguments.noise, key)
                    fitted = fit(law, runs, key=key, starts=3, field=False, backtests=0)
                    row["error"], row["regret"] = judge(outside, params, fitted, target, key)
                except ValueError as failure:  # kept: too few runs for the law is a result
                    row["failed"] = str(failure)
                rows.append(row)
        for shape in ("optimal", *SHAPES):
            own = [r for r in rows if r["budget"] == budget and r["shape"] == shape]
            good = [r for r in own if "error" in r]
            error, regret = (np.median([r[k] for r in good]) if good else np.nan for k in ("error", "regret"))
            print(
                f"{budget:.0e} {shape:<10} {own[0]['runs']:3d} runs  expected {own[0]['expected']:.3f} %  median error"
                f" {error:.3f} %  median regret {regret:.5f}  failed {len(own) - len(good)} of {len(own)}",
                flush=True,
            )
    told = {
        "settings": {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in vars(arguments).items()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "numpy": version("numpy")},
        "device": f"{jax.devices()[0].device_kind}, {jax.device_count()}",
        "dtype": "float64",
        "git": git_hash(),
        "rows": rows,
        "timing": None if arguments.no_timing else timing(domains),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(told, indent=1) + "\n")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
