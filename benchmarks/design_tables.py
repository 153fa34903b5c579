"""What a fraction of the FLOPs buys on real runs: rows of public tables chosen as if they were bought one by one.

    python benchmarks/design_tables.py FOLDER [--tables a,b] [--laws a,b] [--shapes a,b] [--seeds 0] [--seconds 540]

The runs below the largest size of a table are for sale at 6 N D each. Every shape spends a fraction of what all of them cost; a
law is fitted to the runs bought and judged at the largest size, on every row there. Fixed shapes take the mixtures in a random order
(``--seeds``), the same at every size, as many of a size as the shape says or as there are. The optimal design starts from the prior of
CAMEL and nothing else; each further fraction adds the runs that CAMEL, fitted to those bought so far, expects to learn most from.
It sees mixtures, sizes and costs of the runs for sale, and losses of bought ones only.

  error   mean relative error at the largest size, in percent, all checkpoints and sets; error_final: final checkpoints
  regret  measured mean loss of the mixture the law would pick there over the best measured, minus one, in percent

Laws are fitted to at most 5 checkpoints a run; the residual field reads all of them, and rows tell both errors.
A run stopped by --seconds continues from its JSON with the same command.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess
import time

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "design_tables.json"
FRACTIONS = (0.1, 0.2, 0.35, 0.5, 1.0)
FIXED = ("hourglass", "small", "uniform", "large")
CHECKPOINTS = 5


def thinned(runs):
    """At most CHECKPOINTS rows a run: evenly spaced, the first and the last among them."""
    from camel_jax.tables.runs import select

    tokens, run = np.asarray(runs.recipe.tokens), np.asarray(runs.run)
    keep = np.zeros(len(runs), bool)
    for r in np.unique(run):
        own = np.flatnonzero(run == r)
        own = own[np.argsort(tokens[own])]
        keep[own[np.unique(np.linspace(0, len(own) - 1, CHECKPOINTS).round().astype(int))]] = True
    return select(runs, keep)


class Market:
    """The runs of a table that are for sale, and the rows they are judged on."""

    def __init__(self, folder: pathlib.Path, table: str):
        from camel_jax.tables.read import read_runs
        from camel_jax.tables.runs import final_rows, select, split_by_scale

        below, self.above = split_by_scale(read_runs(folder / f"{table}.csv"), 1)
        self.full, self.runs = below, thinned(below)  # the same runs in the same order
        ends = select(self.runs, final_rows(self.runs))
        order = np.argsort(np.asarray(ends.run))
        self.recipe = select(ends, order).recipe  # of run r at row r
        self.cost = 6.0 * self.recipe.n_active * self.recipe.tokens
        self.sizes, self.rung = np.unique(self.recipe.n_active, return_inverse=True)
        _, self.mixture = np.unique(np.round(self.recipe.weights, 4), axis=0, return_inverse=True)

    def bought(self, chosen: np.ndarray, full: bool = False):
        """The table of some runs, with some checkpoints or all."""
        from camel_jax.tables.runs import select

        runs = self.full if full else self.runs
        return select(runs, np.isin(np.asarray(runs.run), np.flatnonzero(chosen)))

    def fixed(self, shape: str, budget: float, seed: int) -> np.ndarray:
        """Runs of a fixed shape, (runs,) boolean; sizes that are sold out leave their share to the others."""
        from camel_jax.design.ladder import shape_weights

        weights = shape_weights(shape, len(self.sizes))
        rank = np.random.default_rng(seed).permutation(self.mixture.max() + 1)[self.mixture]
        place = np.empty(len(rank), int)  # of a run among those of its size
        for rung in range(len(self.sizes)):
            own = np.flatnonzero(self.rung == rung)
            place[own[np.argsort(rank[own], kind="stable")]] = np.arange(len(own))

        def taken(scale: float) -> np.ndarray:
            return place < np.floor(weights[self.rung] * scale + 1e-9)

        low, high = 0.0, 1e5
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.cost[taken(middle)].sum() <= budget * (1 + 1e-9) else (low, middle)
        chosen = taken(low)
        for rung in range(len(self.sizes))[::-1]:  # one more of a size where the rest of the money allows it
            next_one = np.flatnonzero((self.rung == rung) & ~chosen)
            if len(next_one):
                next_one = next_one[np.argmin(place[next_one])]
                chosen[next_one] = self.cost[chosen].sum() + self.cost[next_one] <= budget * (1 + 1e-9)
        return chosen


def target_of(market: Market):
    """The question: all mixtures for sale, at the size and tokens that are held out."""
    from camel_jax.design.candidates import Target
    from camel_jax.recipes.recipe import Recipe

    mixtures = market.recipe.weights[np.unique(market.mixture, return_index=True)[1]]
    n = len(mixtures)
    size, tokens = (float(np.max(x)) for x in (market.above.recipe.n_active, market.above.recipe.tokens))
    return Target(Recipe(np.full(n, size), np.full(n, size), np.full(n, tokens), mixtures))


def more_runs(market: Market, law, bought: np.ndarray, fitted, budget: float) -> np.ndarray:
    """The runs bought and those that the optimal design adds for the rest of the budget."""
    import jax
    import jax.numpy as jnp

    from camel_jax.design import exchange
    from camel_jax.design.knowledge import know_nothing, know_runs
    from camel_jax.design.ladder import make_ladder

    target = target_of(market)
    tokens = [float(np.median(market.recipe.tokens[market.rung == r])) for r in range(len(market.sizes))]
    ladder = make_ladder(list(map(float, market.sizes)), tokens=tokens)
    if fitted is None:
        names = market.runs.domains, market.runs.sets
        known = know_nothing(law, ladder, target, *names, key=jax.random.key(0), draws=2)
    else:
        known = know_runs(fitted, market.bought(bought), ladder, target, draws=2)
    rows = known.slopes(target.recipe) * known.noise[:, None]
    rows = rows.reshape(len(rows), -1, rows.shape[-1])
    targets = jnp.einsum("mqp,mqr->mpr", rows, rows, optimize=True) / rows.shape[1]
    left = np.flatnonzero(~bought)
    pool = exchange.Pool(known.slopes(market.recipe), market.cost, market.rung, known.precision, targets)
    pool = pool._replace(jacobian=pool.jacobian[:, left], cost=pool.cost[left], rung=pool.rung[left])
    limit = exchange.Budget(budget - market.cost[bought].sum(), 10_000, np.zeros(len(market.sizes), int), most=1)
    exchange.check(pool, limit)
    start = exchange.grow(pool, limit, np.zeros(len(left), int), 1.0)
    out = bought.copy()
    out[left[exchange.swap(pool, limit, start, sweeps=1) > 0]] = True
    return out


def judge(market: Market, fitted, chosen: np.ndarray) -> dict:
    """Scores at the held-out size, without and with the residual field, which reads all checkpoints of the runs bought."""
    import dataclasses

    from camel_jax.evaluation.methods import Prediction
    from camel_jax.evaluation.scores import Row, score
    from camel_jax.prediction.residual_field import fit_field

    table = market.bought(chosen, full=True)
    left = np.log(np.asarray(table.losses, float)) - np.log(np.asarray(fitted.predict(table.recipe)))
    corrected = dataclasses.replace(fitted, field=fit_field(table, left))
    out = {}
    for name, one in (("", fitted), ("_field", corrected)):
        said = Prediction(np.asarray(one.predict(market.above.recipe)), {}, 0)
        row = score(Row("", "", 0, 0), said, market.above)
        out |= {f"{key}{name}": getattr(row, key) for key in ("error", "error_final", "rank_mean", "regret")}
    return out


def main() -> None:
    """Buy, fit, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7")
    parser.add_argument("--laws", default="camel,chinchilla,dml,sodm,sodm_joint")
    parser.add_argument("--shapes", default=",".join(("optimal", *FIXED)))
    parser.add_argument("--fractions", default=",".join(map(str, FRACTIONS)))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further fit after so long")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args()
    from camel_jax.runtime import start_engine

    start_engine()
    import jax

    from camel_jax import laws
    from camel_jax.fitting.fit import fit
    from camel_jax.fitting.identifiability import FitError

    began = time.monotonic()
    asked = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    made = {
        "commit": subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "dtype": "float64",
    }
    told = json.loads(args.out.read_text()) if args.out.exists() else {"made": [], "designs": {}, "rows": []}
    told["made"] += [made] if made not in told["made"] else []
    done = {tuple(row[k] for k in ("table", "shape", "seed", "fraction", "law")) for row in told["rows"]}
    starts = {"camel": 2, "chinchilla": 4, "sodm": 4, "dml": 4, "sodm_joint": 2}
    markets = {table: Market(args.folder, table) for table in args.tables.split(",")}
    plan = [
        (table, shape, seed, float(fraction), law)
        for law in args.laws.split(",")
        for table in markets
        for shape in args.shapes.split(",")
        for seed in (map(int, args.seeds.split(",")) if shape in FIXED else (0,))
        for fraction in args.fractions.split(",")
    ]
    last: dict = {}  # the fit that the next optimal batch is designed with
    for table, shape, seed, fraction, law_name in plan:
        market, law = markets[table], laws.CONSTRUCTORS[law_name]()
        full = fraction == 1.0
        name = f"{table} {'all' if full else shape} {0 if full else seed} {fraction}"
        row = {"table": table, "shape": "all" if full else shape, "seed": 0 if full else seed, "fraction": fraction}
        key = (*row.values(), law_name)
        again = shape == "optimal" and law_name == "camel" and not full and (table, fraction) not in last
        if key in done and not again:
            continue
        if time.monotonic() - began > args.seconds:
            print("time is up; the same command continues")
            break
        budget = fraction * market.cost.sum()
        if name in told["designs"]:
            chosen = np.zeros(len(market.cost), bool)
            chosen[told["designs"][name]] = True
        elif full:
            chosen = np.ones(len(market.cost), bool)
        elif shape == "optimal":
            before = [f for f in FRACTIONS if f < fraction]
            bought, fitted = last.get((table, before[-1]), (None, None)) if before else (None, None)
            if before and fitted is None:
                raise SystemExit(f"{table}: the optimal design at {fraction} needs CAMEL's fit at {before[-1]} first")
            bought = np.zeros(len(market.cost), bool) if bought is None else bought
            clock = time.perf_counter()
            chosen = more_runs(market, laws.camel(), bought, fitted, budget)
            print(f"{name}: designed in {time.perf_counter() - clock:.1f} s", flush=True)
        else:
            chosen = market.fixed(shape, budget, seed)
        told["designs"][name] = np.flatnonzero(chosen).tolist()
        subset = market.bought(chosen)
        clock = time.perf_counter()
        half = -(-len(market.runs) // 2)
        small = law_name == "camel" and len(subset) <= half
        # few programs: compiling takes longer than fitting
        pad = half if small else len(market.runs) if law_name == "camel" else -(-len(subset) // 200) * 200
        row |= {"law": law_name, "runs": np.bincount(market.rung[chosen], minlength=len(market.sizes)).tolist()}
        row |= {"share": float(market.cost[chosen].sum() / market.cost.sum()), "rows": len(subset)}
        try:
            options = {"starts": starts[law_name], "backtests": 0, "field": False, "pad_rows": pad}
            fitted = fit(law, subset, key=jax.random.key(0), **options)
        except FitError as failure:
            row["failed"] = str(failure)
        else:
            if shape == "optimal" and law_name == "camel":
                last[table, fraction] = chosen, fitted
            row |= judge(market, fitted, chosen)
        row["seconds"] = time.perf_counter() - clock
        if key not in done:
            told["rows"].append(row)
            done.add(key)
            print(row, flush=True)
        args.out.parent.mkdir(exist_ok=True)
        args.out.with_suffix(".part").write_text(json.dumps(told, indent=1, default=float) + "\n")
        args.out.with_suffix(".part").replace(args.out)


if __name__ == "__main__":
    main()
