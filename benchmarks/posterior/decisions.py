"""With few runs from a planted law: does the interval of a predicted gain hold, and is the mixture good, for posterior and
bootstrap?

A study: a random CAMEL with 3 skills is the truth, drawn from the prior; half of 8, 16, 32 or 64 runs at each of two sizes, 3 domains
and 3 sets, noise of 0.4 %, half of it shared by the run. Both methods fit the same law to the same runs and choose a mixture for ten
times the larger size; its predicted gain over the mean mixture of the table and the true one are compared, and its loss with that of
the best mixture. The law is right, so the posterior is sampled without a discrepancy; the bootstrap keeps its own, and is also shown
without it. Tables are padded with runs of which nothing was measured, so that two programs serve all.

    python benchmarks/posterior/decisions.py [--studies 12] [--runs 8,16,32,64] [--out PATH]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, provenance
from common.results import continued, write

RESULT = RESULTS / "bayes_decisions.json"
DOMAINS, SETS, SKILLS, SIZES, NOISE = 3, 3, 3, (3e7, 3e8), 0.004
TARGET, TOKENS = 3e9, 6e10
CHAINS, DRAWS, RESAMPLES = 2, 300, 32
WARMUP, DEPTH, ACCEPT = 100, (6, 8), 0.9
PADDED = 16, 64  # runs to which tables are padded: two programs serve all run counts
CODE = tuple(f"camel_jax.{name}" for name in ("bayes.sampling", "mixture.optimize", "evaluation.simulate"))


def planted(law, key):
    """Natural parameters of the truth, in units of 1e8 parameters and 1e9 tokens."""
    import jax
    import jax.numpy as jnp

    from camel_jax.bayes.priors import layout, to_raw
    from camel_jax.recipes.recipe import Recipe
    from camel_jax.tables.runs import Runs

    one = np.ones(2)
    names = tuple(f"d{i}" for i in range(DOMAINS)), tuple(f"v{i}" for i in range(SETS))
    recipe = Recipe(one, one, one, np.full((2, DOMAINS), 1 / DOMAINS))
    empty = Runs(recipe, np.ones((2, SETS)), np.zeros((2, 0)), np.arange(2), *names)
    plan = layout(law, law.init(key, empty), 1, SETS)
    keys = jax.random.split(key, len(plan.sites))
    z = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, plan.sites.items(), strict=True)}
    return law.constrain(to_raw(plan, z, jnp.full(DOMAINS, 1 / DOMAINS))[0])


def padded(table, runs: int):
    """A table of more runs, of which nothing was measured: they change no density, and tables of one shape share a program."""
    import jax
    import jax.numpy as jnp

    more, checkpoints = runs - len(table.wear), table.wear.shape[1]
    first = jax.tree.map(lambda x: jnp.repeat(x[:1], more * checkpoints, axis=0), table.recipe)
    return table._replace(
        recipe=jax.tree.map(lambda x, y: jnp.concatenate([x, y]), table.recipe, first),
        log_losses=jnp.pad(table.log_losses, ((0, more), (0, 0), (0, 0))),
        measured=jnp.pad(table.measured, ((0, more), (0, 0), (0, 0))),
        wear=jnp.pad(table.wear, ((0, more), (0, 0)), constant_values=1.0),
    )


def studies(law, n_runs: int, numbers, seed: int) -> list[dict[str, dict[str, float]]]:
    """Planted laws: what both methods decide, and what is true."""
    import jax

    from camel_jax.bayes.nuts import Settings
    from camel_jax.bayes.rounds import in_rounds
    from camel_jax.bayes.sampling import start_at
    from camel_jax.bayes.whitening import whiten
    from camel_jax.evaluation import simulate
    from camel_jax.fitting import fit

    rows = []
    room = next(n for n in PADDED if n >= n_runs)
    for number in numbers:
        begun = time.perf_counter()
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), n_runs), number)
        truth_key, table_key, fit_key, sample_key = jax.random.split(key, 4)
        params = planted(law, truth_key)
        shape = {"n_domains": DOMAINS, "n_sets": SETS, "n_mixtures": n_runs // 2, "sizes": SIZES, "checkpoints": 2}
        runs = simulate.study(table_key, law=law, params=params, noise=NOISE, **shape)
        fitted = fit(law, runs, key=fit_key, starts=2, resamples=RESAMPLES, pad_rows=2 * room)
        plan, table, start = start_at(fitted, runs)
        table = padded(table, room)
        told = time.perf_counter() - begun
        settings = Settings(warmup=WARMUP, accept=ACCEPT, depth=DEPTH, thin=1)
        samples, _ = in_rounds(plan, whiten(plan, table, start), sample_key, CHAINS, DRAWS, settings)
        print(
            f"{n_runs} runs, study {number}: fit {told:.0f} s, sampled {time.perf_counter() - begun:.0f} s", flush=True
        )
        names = ("common", "own", "common_variance", "own_variance")
        nothing = {name: 0.0 * getattr(fitted.discrepancy, name) for name in names}
        nothing["scale"] = 1e-9 * fitted.discrepancy.scale
        bare = dataclasses.replace(fitted, discrepancy=fitted.discrepancy._replace(**nothing))
        posterior, found = as_posterior(plan, table, fitted, runs, samples, sample_key)
        sources = {"bootstrap": fitted, "bootstrap without discrepancy": bare, "posterior": posterior}
        row = decide(law, params, sources)
        row["posterior"] |= {"r_hat": found.r_hat, "divergences": found.divergences}
        rows.append(row)
    return rows


def as_posterior(plan, table, fitted, runs, samples, key):
    """The last lines of ``sample_posterior``, for chains that were run elsewhere: the posterior as a fit, and diagnostics."""
    import jax
    import jax.numpy as jnp

    from camel_jax.bayes.convergence import diagnose
    from camel_jax.bayes.posterior import all_draws
    from camel_jax.bayes.sampling import posterior_as_fit

    raw, noise = jax.tree.map(np.asarray, all_draws(plan, jnp.asarray(samples.z), table.mean))
    spread = {f"noise_{name}": x for name, x in noise._asdict().items() if np.ptp(x) > 0}
    found = diagnose(raw | spread, samples.diverging, samples.steps >= 2 ** DEPTH[1] - 1)
    seed = int(jax.random.randint(jax.random.fold_in(key, 9), (), 0, 2**31 - 1))
    return posterior_as_fit(fitted, runs, raw, noise, samples, found, seed, False, True), found


@functools.cache
def at_target(law):
    """Losses at the target, of parameters and a mixture."""
    from camel_jax.recipes.recipe import dense

    return lambda params, w: law.predict(params, dense(TARGET / 1e8, TOKENS / 1e9, w))


def decide(law, params, sources) -> dict[str, dict[str, float]]:
    """What each fit decides, beside the truth."""
    import jax
    import jax.numpy as jnp

    from camel_jax import optimize_mixture

    true = jax.tree_util.Partial(at_target(law), params)  # a pytree: one program for all studies
    ideal = optimize_mixture(true, domains=sources["posterior"].domains, starts=16)
    out = {}
    for name, source in sources.items():
        best = optimize_mixture(source.losses_at(TARGET, TOKENS), starts=16)
        losses = [float(jnp.mean(true(jnp.asarray(w)))) for w in (best.reference, best.weights)]
        out[name] = {
            "gain": float(best.gain.point),
            "lower": float(best.gain.low),
            "upper": float(best.gain.high),
            "true": losses[0] - losses[1],
            "regret": losses[1] - float(ideal.value.point),
        }
    return out


def summarize(rows) -> dict[str, dict[str, float]]:
    """Coverage of the gain, regret and width of every method."""
    found = {}
    for name in rows[0]:
        table = {k: np.array([row[name][k] for row in rows]) for k in ("gain", "lower", "upper", "true", "regret")}
        inside = (table["lower"] <= table["true"]) & (table["true"] <= table["upper"])
        missed = np.maximum(table["lower"] - table["true"], 0.0) + np.maximum(table["true"] - table["upper"], 0.0)
        score = table["upper"] - table["lower"] + 20.0 * missed  # proper for a 90 % interval, smaller is better
        found[name] = {
            "studies": len(rows),
            "inside": int(inside.sum()),
            "coverage90": float(inside.mean()),
            "mean_regret": float(table["regret"].mean()),
            "median_regret": float(np.median(table["regret"])),
            "worse_than_reference": float((table["true"] < 0).mean()),
            "interval_score": float(score.mean()),
            "median_width": float(np.median(table["upper"] - table["lower"])),
            "mean_true_gain": float(table["true"].mean()),
        }
    found["posterior"]["r_hat_above_1.05"] = sum(row["posterior"]["r_hat"] > 1.05 for row in rows)
    return found


def main() -> None:
    """Run the studies in turns over the run counts, and write after each one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=12)
    parser.add_argument("--runs", default="8,16,32,64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    args = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    from camel_jax import laws

    settings = {"chains": CHAINS, "draws": DRAWS, "warmup": WARMUP, "accept": ACCEPT, "depth": list(DEPTH)}
    settings |= {"resamples": RESAMPLES, "seed": args.seed, "noise": NOISE}
    head = provenance(*CODE) | {"settings": settings}
    result = continued(args.out, head, {"runs": {}})
    law = laws.camel(skills=SKILLS)
    for n in args.runs.split(","):
        begun = time.perf_counter()
        rows = result["runs"].get(n, {}).get("rows", [])
        if len(rows) >= args.studies:
            continue
        rows = rows + studies(law, int(n), range(len(rows), args.studies), args.seed)
        result["runs"][n] = {"summary": summarize(rows), "rows": rows}
        write(args.out, result)
        told = {k: (v["coverage90"], round(v["mean_regret"], 5)) for k, v in result["runs"][n]["summary"].items()}
        print(n, len(rows), f"{time.perf_counter() - begun:.0f} s", json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
