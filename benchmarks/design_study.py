"""Which shape of a budget predicts the target best? Planted laws, simulated runs, refits: error and regret against FLOPs.

    python benchmarks/design_study.py FOLDER [--families a,b] [--tables a,b] [--budgets 4,8,16] [--seconds 540]

Planted laws are bootstrap draws of each family's fit to public tables of real runs (4 of their sets, 3 checkpoints a run). For every
family, table and budget each design is made before any run, from the prior of the family alone. Its runs are simulated with
the noise that the fit found, the law is fitted to them anew, from random starts, and judged at three times the largest size:
  error   root mean square of predicted minus planted log loss, over 32 mixtures and 4 sets, in percent
  regret  planted mean loss of the mixture that the fit calls best of 512, minus that of the best, in nats
Budgets are in runs a size of the uniform shape. The family is known to the fit, so this measures how well a design finds
parameters, not what a wrong law costs; for that see design_tables.py. One JSON, written after every design; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess
import time
from functools import partial

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "design_study.json"
PLANTED = {"dml": 68, "sodm": 68, "sodm_joint": 24, "camel": 24}  # draws a table
STARTS = {"dml": 4, "sodm": 4, "sodm_joint": 2, "camel": 1}
SETS, CANDIDATES, MOST_RUNS, REFITTED = 4, 96, 128, 512
FIXED = ("hourglass", "small", "uniform", "large")
DRAWS = 4  # of the prior that a design averages over
OPTIMAL = {  # what is asked of the optimal designs
    "optimal": {"copies": 1},
    "optimal_worst": {"copies": 1, "criterion": "worst"},
    "optimal_repeats": {},
}


def law_of(family: str):
    """The law of a family; CAMEL with few skills, so that thousands of refits are affordable."""
    from camel_jax import laws

    return laws.camel(skills=6) if family == "camel" else laws.CONSTRUCTORS[family]()


def some_rows(folder: pathlib.Path, table: str):
    """Three checkpoints a run and a few sets of a table, and its sizes with their final tokens."""
    import dataclasses

    from camel_jax.tables.read import read_runs
    from camel_jax.tables.runs import select

    runs = read_runs(folder / f"{table}.csv")
    tokens, run = np.asarray(runs.recipe.tokens), np.asarray(runs.run)
    keep = np.zeros(len(runs), bool)
    last = np.zeros(run.max() + 1)
    for r in np.unique(run):
        own = np.flatnonzero(run == r)
        own = own[np.argsort(tokens[own])]
        keep[own[np.linspace(0, len(own) - 1, 4).round().astype(int)[1:]]] = True
        last[r] = tokens[own[-1]]
    sizes = np.unique(runs.recipe.n_active)
    final = [float(np.median(last[run[runs.recipe.n_active == size]])) for size in sizes]
    sets = np.linspace(0, len(runs.sets) - 1, SETS).round().astype(int)
    runs = dataclasses.replace(runs, losses=np.asarray(runs.losses)[:, sets], sets=tuple(runs.sets[v] for v in sets))
    return select(runs, keep), [float(size) for size in sizes], final


def plant(family: str, runs, path: pathlib.Path):
    """The fit of a family to a table, with bootstrap draws; made once."""
    import jax

    from camel_jax.fitting.fit import fit
    from camel_jax.fitting.result import load_fit

    if not path.exists():
        options = {"starts": 2, "resamples": PLANTED[family], "field": False, "backtests": 0}
        fitted = fit(law_of(family), runs, key=jax.random.key(0), **options)
        path.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(path)
    return load_fit(path)


class Planted:
    """Planted laws of one family and table: losses they give at any recipe."""

    def __init__(self, fitted):
        import jax

        from camel_jax.laws.law import constrain_all

        usable = np.isfinite(fitted.resampled_objective)
        raw = jax.tree.map(lambda x: x[usable], fitted.resampled)
        self.law, self.units, self.count = fitted.inner_law, fitted.units, int(usable.sum())
        self.params = constrain_all(self.law, raw)
        self.noise = np.maximum(np.asarray(fitted.discrepancy.scale), 1e-3)

    def losses(self, recipe):
        """(L, R, V) in nats."""
        return np.asarray(_losses(self.law, self.units, self.params, recipe))


def _losses(law, units, params, recipe):
    import jax

    from camel_jax.laws.law import in_units, predict_rows

    return jax.jit(jax.vmap(lambda one: predict_rows(in_units(law, units), one, recipe)))(params)


def refit(family: str, law, recipe, losses, domains, sets, at, pad: int):
    """Laws fitted to simulated losses (L, R, V), and what they predict at recipes: (L, R', V)."""
    return (_refit_joint if family == "camel" else _refit_sets)(law, recipe, losses, domains, sets, at, pad, family)


def _table(recipe, losses, domains, sets):
    from camel_jax.tables.runs import Runs

    n = len(losses)
    return Runs(recipe, losses, np.zeros((n, 0)), np.arange(n), tuple(domains), tuple(sets))


def _refit_sets(law, recipe, losses, domains, sets, at, pad, family):
    """A separable law: the sets of all planted laws are the sets of one table."""
    import jax

    from camel_jax.fitting.fit import fit

    count = len(losses)
    names = [f"{i}/{name}" for i in range(count) for name in sets]
    wide = np.moveaxis(losses, 0, 1).reshape(losses.shape[1], -1)
    table = _table(recipe, wide, domains, names)
    options = {"starts": STARTS[family], "field": False, "backtests": 0, "pad_rows": pad}
    fitted = fit(law, table, key=jax.random.key(1), **options).only_best()
    said = np.asarray(fitted.predict(at))
    return np.moveaxis(said.reshape(len(said), count, -1), 1, 0)


def _refit_joint(law, recipe, losses, domains, sets, at, pad, family):
    """CAMEL: one lane a planted law, all in one program."""
    import jax
    import jax.numpy as jnp

    from camel_jax.fitting.fit import ROBUST
    from camel_jax.fitting.identifiability import check_table
    from camel_jax.fitting.joint_newton import minimize_joint
    from camel_jax.fitting.objective import as_data
    from camel_jax.laws.law import scale_recipe, scale_runs, table_units

    check_table(law, _table(recipe, losses[0], domains, sets))
    scaled = [scale_runs(table_units(t), t) for t in (_table(recipe, one, domains, sets) for one in losses)]
    units = [table_units(_table(recipe, one, domains, sets)) for one in losses]
    data = as_data(scaled[0], rows=pad)
    logs = np.stack([np.asarray(as_data(one, rows=pad).log_losses) for one in scaled])
    raw = jax.vmap(lambda key: law.init(key, scaled[0]))(jax.random.split(jax.random.key(1), len(losses)))

    def one(given):
        start, log_losses = given
        found = minimize_joint(law, start, data._replace(log_losses=log_losses), ROBUST).params
        return jax.vmap(partial(law.predict, law.constrain(found)))(
            jax.tree.map(jnp.asarray, scale_recipe(units[0], at))
        )

    said = _map(one, (raw, jnp.asarray(logs)))
    return np.asarray(said) * np.stack([u.losses for u in units])[:, None]


def _map(one, given):
    import jax

    return jax.jit(lambda x: jax.lax.map(one, x))(given)


def recipe_of(design, domains):
    """The runs of a design, one a row."""
    from camel_jax.recipes.recipe import Recipe

    columns = design.to_columns()
    weights = np.stack([columns[f"mix/{d}"] for d in domains], 1)
    return Recipe(columns["size"], columns["size"], columns["tokens"], weights)


def study(
    family: str, table: str, folder: pathlib.Path, work: pathlib.Path, multiples, shapes, told, save, late
) -> None:
    """All designs of one family on one table that are not there yet."""
    import jax

    from camel_jax.design.candidates import mixtures_around, target_region
    from camel_jax.design.knowledge import know_nothing
    from camel_jax.design.ladder import make_ladder
    from camel_jax.design.propose import compare_shapes
    from camel_jax.fitting.identifiability import FitError
    from camel_jax.recipes.recipe import Recipe

    done = {(r["family"], r["table"], r["multiple"], r["shape"]) for r in told["rows"]}
    missing = [m for m in multiples if any((family, table, m, s) not in done for s in shapes)]
    if not missing:
        return
    clock = time.perf_counter()
    runs, sizes, tokens = some_rows(folder, table)
    planted = Planted(plant(family, runs, work / f"{family}-{table}.npz"))
    law, center = law_of(family), np.asarray(runs.recipe.weights).mean(0)
    center = center / center.sum()
    keys = jax.random.split(jax.random.key(7), 4)
    ladder = make_ladder(sizes, tokens=tokens)
    target = target_region(3 * sizes[-1], tokens[-1], mixtures_around(keys[0], 32, center, 2.0))
    candidates = mixtures_around(keys[1], CANDIDATES, center)
    many = mixtures_around(keys[2], REFITTED, center)
    columns = (target.recipe.n_total, target.recipe.n_active, target.recipe.tokens)
    size = (np.full(len(many) + 32, x[0]) for x in columns)
    at = Recipe(*size, np.concatenate([target.recipe.weights, many]))
    truth = planted.losses(at)
    known = know_nothing(law, ladder, target, runs.domains, runs.sets, key=keys[3], draws=DRAWS)
    print(f"{family} {table}: {planted.count} laws planted, {time.perf_counter() - clock:.1f} s", flush=True)
    for multiple in missing:
        if late():
            return
        clock = time.perf_counter()
        budget = multiple * float(ladder.cost.sum())
        ask = partial(compare_shapes, known, ladder, budget, target, candidates, max_runs=MOST_RUNS)
        wanted = [s for s in shapes if (family, table, multiple, s) not in done]
        fixed = [s for s in wanted if s in FIXED]
        designs = dict(zip(fixed, ask(shapes=fixed), strict=True)) if fixed else {}
        for shape in [s for s in wanted if s in OPTIMAL]:
            designs[shape] = ask(shapes=("optimal",), **OPTIMAL[shape])[0]
        spent = time.perf_counter() - clock
        for shape, design in designs.items():
            clock = time.perf_counter()
            recipe = recipe_of(design, runs.domains)
            clean = planted.losses(recipe)
            noise = np.random.default_rng([multiple, *shape.encode()]).standard_normal(clean.shape) * planted.noise
            row = {"family": family, "table": table, "multiple": multiple, "shape": shape, "budget": budget}
            row |= {"cost": design.total_cost, "runs": list(design.runs_per_size().values())}
            row |= {"distinct": len(np.unique(recipe.weights.round(6), axis=0))}
            row |= {"expected": 100 * design.error_after, "expected_worst": 100 * design.worst_after}
            try:
                pad = MOST_RUNS if family != "camel" else 32 if len(recipe) <= 32 else 64 if len(recipe) <= 64 else 128
                said = refit(family, law, recipe, clean * np.exp(noise), runs.domains, runs.sets, at, pad)
            except FitError as failure:  # kept: too few runs for the law is a result
                row["failed"] = str(failure)
            else:
                log_error = np.log(said[:, :32] / truth[:, :32])
                row["error"] = (100 * np.sqrt(np.mean(log_error**2, axis=(1, 2)))).tolist()
                row["worst"] = (100 * np.abs(log_error).max((1, 2))).tolist()
                means, guess = truth[:, 32:].mean(2), said[:, 32:].mean(2)
                chosen = np.take_along_axis(means, np.argmin(guess, 1)[:, None], 1)[:, 0]
                row["regret"] = (chosen - means.min(1)).tolist()
            row["seconds"] = {"designs": spent, "fits": time.perf_counter() - clock}
            told["rows"].append(row)
            save()
            mid = {k: round(float(np.nanmedian(row[k])), 5) for k in ("error", "regret") if k in row}
            head = f"{family} {table} {multiple} {shape:<13} {row['runs']} expected {row['expected']:.3f}"
            print(head, mid, row["seconds"], flush=True)


def main() -> None:
    """Plant, design, simulate, refit, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--families", default="dml,sodm,camel,sodm_joint")
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7")
    shapes = ("optimal", "optimal_worst", *FIXED)
    parser.add_argument("--shapes", default=",".join(shapes), help="also: optimal_repeats")
    parser.add_argument("--budgets", default="4,8,16", help="runs a size of the uniform shape")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further budget after so long")
    parser.add_argument(
        "--work",
        type=pathlib.Path,
        default=RESULTS.parents[1] / "build" / "design_study",
        help="where planted laws are kept",
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    import jax

    began = time.monotonic()
    asked = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    made = {
        "commit": subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "dtype": "float64",
    }
    told = json.loads(args.out.read_text()) if args.out.exists() else {"made": [], "rows": []}
    told["made"] += [made] if made not in told["made"] else []

    def save() -> None:
        args.out.parent.mkdir(exist_ok=True)
        args.out.with_suffix(".part").write_text(json.dumps(told, default=float) + "\n")
        args.out.with_suffix(".part").replace(args.out)

    def late() -> bool:
        return time.monotonic() - began > args.seconds

    multiples = [int(m) for m in args.budgets.split(",")]
    shapes = args.shapes.split(",")
    for family in args.families.split(","):
        for table in args.tables.split(","):
            if late():
                print("time is up; the same command continues")
                return
            study(family, table, args.folder, args.work, multiples, shapes, told, save, late)


if __name__ == "__main__":
    main()
