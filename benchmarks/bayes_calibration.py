"""Is the sampler right? Simulation-based calibration (Talts et al. 2018, arXiv 1804.06788) of the posterior of DML and CAMEL.

Parameters are drawn from the prior and a table from the model; if the sampler is right, the rank of the true value among draws of
its posterior is uniform, for every quantity. Ranks of 200 tables are compared with the uniform by chi-square over 10 bins. Skills of
CAMEL can trade names, so its quantities are those that do not depend on their order. No table is left out. Nothing of a table's truth
reaches the sampler: it starts at the center of the prior, climbs to the mode and goes through the same rounds as ``sample_posterior``.

Model, priors, laws, sampler and its rounds are the code under test: a change there throws the tables of a law away when it is asked for
again. Each law carries the digest of the code that its tables went through.

    python benchmarks/bayes_calibration.py [--laws dml,camel] [--tables 200] [--batch 10] [--seed 0] [--out PATH]

The result kept here is of seed 1; "before" in it sums up an earlier study of CAMEL, of seed 0 and with chains of half the length.
With --pool nothing is sampled: it prints the smallest p of each law of a result, alone and together with what was before.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import numpy as np
from bayes_sampling import provenance

RESULT = pathlib.Path(__file__).parent / "results" / "bayes_calibration.json"
DOMAINS, SETS, SKILLS, MIXTURES, SIZES, CHECKPOINTS = 2, 2, 2, 4, (0.3, 1.0, 3.0), 2
CHAINS, DRAWS, RANKED, BINS = 2, 600, 99, 10
WARMUP, DEPTH, ACCEPT = 100, (6, 8), 0.9
TESTED = tuple(f"camel_jax.{name}" for name in ("bayes.rounds", "bayes.model", "laws.mixing", "laws.camel"))


def design(law):
    """The recipes of every table: 4 mixtures at each of 3 sizes, two checkpoints; in units of the table."""
    import jax

    from camel_jax.bayes.noise import lay_out
    from camel_jax.bayes.priors import layout
    from camel_jax.recipes.recipe import Recipe
    from camel_jax.tables.runs import Runs

    rng = np.random.default_rng(0)
    n = MIXTURES * len(SIZES)
    run = np.repeat(np.arange(n), CHECKPOINTS)
    size = np.repeat(SIZES, MIXTURES)[run]
    mixtures = rng.dirichlet(np.ones(DOMAINS), n)[run]
    tokens = np.tile([0.6, 1.7], n)
    names = tuple(f"d{i}" for i in range(DOMAINS)), tuple(f"v{i}" for i in range(SETS))
    runs = Runs(Recipe(size, size, tokens, mixtures), np.ones((len(run), SETS)), np.zeros((len(run), 0)), run, *names)
    table = lay_out(runs)
    return layout(law, law.init(jax.random.key(0), runs), CHECKPOINTS, SETS), table


def quantities(plan, table, z):
    """What is ranked, by name, of standard normals by site."""
    import jax.numpy as jnp

    from camel_jax.bayes.coordinates import from_raw
    from camel_jax.bayes.model import run_noise
    from camel_jax.bayes.priors import to_raw
    from camel_jax.recipes.recipe import Recipe

    raw, noise = to_raw(plan, z, table.mean)
    at = from_raw(plan.law, raw, table.mean)
    far = plan.law.predict(
        plan.law.constrain(raw), Recipe(*(jnp.asarray(x) for x in (30.0, 30.0, 10.0)), jnp.array([0.9, 0.1]))
    )
    out = {"log likelihood": run_noise(plan, table, z).log_prob(table.log_losses)}
    out |= {f"level {v}": at["level"][v] for v in range(SETS)} | {f"far loss {v}": far[v] for v in range(SETS)}
    out |= {
        "noise scale 0": noise.scale[0],
        "noise common": noise.common,
        "noise own": noise.own,
        "noise tail": noise.tail,
    }
    if plan.law.name == "camel":
        for name in ("capacity_exponents", "data_exponents"):
            ordered = jnp.sort(raw[name])
            out |= {f"{name} smallest": ordered[0], f"{name} largest": ordered[-1]}
        return out | {f"floor {v}": raw["floors"][v] for v in range(SETS)}
    named = {name: raw[name][0] for name in ("floor", "size_exponent", "data_exponent", "size_scale", "data_scale")}
    return out | {f"{name} 0": x for name, x in named.items()} | {"slope 00": at["slope"][0, 0]}


def study(plan, table, numbers, seed: int):
    """Ranks (B, Q) of a batch of tables, with R-hat of the ranked quantities and divergences."""
    import jax
    import jax.numpy as jnp

    from camel_jax.bayes import whitening
    from camel_jax.bayes.convergence import r_hat
    from camel_jax.bayes.model import simulate
    from camel_jax.bayes.nuts import Settings
    from camel_jax.bayes.rounds import in_rounds

    settings = Settings(warmup=WARMUP, accept=ACCEPT, depth=DEPTH, thin=1)
    drawn = jax.jit(lambda key: simulate(plan, table, key))

    @jax.jit
    def look(data, truth, z):
        values = jax.vmap(jax.vmap(lambda x: quantities(plan, data, whitening.unflatten(plan, x))))(z)
        return quantities(plan, data, truth), values

    rows = []
    for number in numbers:
        key = jax.random.fold_in(jax.random.key(seed), number)
        truth, losses = drawn(jax.random.fold_in(key, 0))
        data = table._replace(log_losses=losses)
        target = whitening.whiten(plan, data, {name: np.zeros(shape) for name, shape in plan.sites.items()})
        samples, _ = in_rounds(plan, target, jax.random.fold_in(key, 1), CHAINS, DRAWS, settings)
        true, values = jax.tree.map(np.asarray, look(data, truth, jnp.asarray(samples.z)))
        every = CHAINS * DRAWS // (RANKED + 1)
        rows.append(
            {
                "ranks": {
                    k: int(np.sum(v.reshape(-1)[every - 1 :: every][:RANKED] < true[k])) for k, v in values.items()
                },
                "r_hat": {k: float(r_hat(v)) for k, v in values.items()},
                "divergences": int(samples.diverging.sum()),
                "steps": float(samples.steps.mean()),
            }
        )
    return rows


def summarize(rows) -> dict[str, object]:
    """Chi-square of every quantity against the uniform, and how the chains fared."""
    from scipy.stats import chisquare

    found = {}
    for name in rows[0]["ranks"]:
        ranks = np.array([row["ranks"][name] for row in rows])
        counts = np.bincount(ranks * BINS // (RANKED + 1), minlength=BINS)
        found[name] = {"p": float(chisquare(counts).pvalue), "counts": counts.tolist()}
    hats = np.array([max(row["r_hat"].values()) for row in rows])
    return {
        "tables": len(rows),
        "smallest_p": min(x["p"] for x in found.values()),
        "below_0.01": [name for name, x in found.items() if x["p"] <= 0.01],
        "quantities": found,
        "r_hat_median": float(np.median(hats)),
        "r_hat_above_1.05": int((hats > 1.05).sum()),
        "divergences": int(sum(row["divergences"] for row in rows)),
        "tables_with_divergences": int(sum(row["divergences"] > 0 for row in rows)),
    }


def pooled(result: dict) -> dict[str, dict[str, float]]:
    """Smallest p of each law, and that of its counts added to those of the study before, with the name of the quantity."""
    from scipy.stats import chisquare

    told = {}
    for name, law in result["laws"].items():
        told[name] = {"tables": law["tables"], "smallest_p": law["smallest_p"]}
        if (old := result.get("before", {}).get(name)) is not None:
            both = {
                k: float(chisquare(np.add(x["counts"], old["quantities"][k]["counts"])).pvalue)
                for k, x in law["quantities"].items()
            }
            least = min(both, key=both.__getitem__)
            told[name] |= {"smallest_p_before": old["smallest_p"], f"smallest_p_of_both ({least})": both[least]}
    return told


def main() -> None:
    """Run batch after batch, and write after each one; a run that was stopped continues."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--laws", default="dml,camel")
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    parser.add_argument("--pool", action="store_true", help="Only read the result.")
    args = parser.parse_args()
    if args.pool:
        print(json.dumps(pooled(json.loads(args.out.read_text())), indent=1))
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    from camel_jax import laws
    from camel_jax.storage import replacing

    settings = {
        "chains": CHAINS,
        "draws": DRAWS,
        "warmup": WARMUP,
        "accept": ACCEPT,
        "depth": list(DEPTH),
        "seed": args.seed,
    }
    head = provenance(*TESTED) | {"settings": settings}
    result: dict = json.loads(args.out.read_text()) if args.out.exists() else {"laws": {}}
    for name in args.laws.split(","):
        law = laws.camel(skills=SKILLS) if name == "camel" else laws.CONSTRUCTORS[name]()
        plan, table = design(law)
        known = result["laws"].get(name, {})
        same = all(known.get(key) == head[key] for key in ("code", "settings", "jax", "numpyro"))
        rows = known["rows"] if same else []
        while len(rows) < args.tables:
            begun = time.perf_counter()
            batch = range(len(rows), min(len(rows) + args.batch, args.tables))
            rows += study(plan, table, batch, args.seed)
            seconds = time.perf_counter() - begun
            result["laws"][name] = {**head, **summarize(rows), "rows": rows}
            args.out.parent.mkdir(exist_ok=True)
            with replacing(args.out) as part:
                part.write_text(json.dumps(result) + "\n")
            told = {k: v for k, v in result["laws"][name].items() if k not in (*head, "rows", "quantities")}
            print(name, f"{seconds:.0f} s a batch", json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
