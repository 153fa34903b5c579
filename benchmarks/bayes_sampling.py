"""Does the sampler converge on a real table, how fast, and what do its start and coordinates buy?

CAMEL with 6 skills on final checkpoints of ``slimpajama``, 20 mixtures at each of 122M and 310M: ``sample_posterior`` with 4 chains
of 1,000 draws, and numpyro's own NUTS with its default start (uniform, no whitening) on the same model, in one run on the same cores.
Every iteration of the latter runs into the largest tree, so it gets fewer of them, and less warm-up, which is in its favour in
effective draws a second. Seconds include fit, compilation and warm-up; no compilation cache is used.

    python benchmarks/bayes_sampling.py [--data DIR] [--skills 6] [--draws 1000] [--out PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import subprocess
import time

import numpy as np
from tested_code import digest

RESULT = pathlib.Path(__file__).parent / "results" / "bayes_sampling.json"
DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
PER_SIZE = 20
PLAIN = 200, 200  # draws and warm-up of each chain of the plain sampler


def provenance(*modules: str, leave_out: tuple[str, ...] = ()) -> dict[str, object]:
    """Commit, digest of the code of these modules and their imports, versions and device; asked before the work begins."""
    import jax
    import numpyro

    asked = ["git", "-C", str(RESULT.parents[1]), "rev-parse", "HEAD"]
    return {
        "commit": subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip(),
        "code": digest(*modules, leave_out=leave_out),
        "jax": jax.__version__,
        "numpyro": numpyro.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "dtype": "float64",
    }


def table(folder: pathlib.Path):
    """The first 20 mixtures of the two smallest sizes, last checkpoints."""
    from camel_jax import read_runs, select
    from camel_jax.tables.runs import final_rows, scales

    runs = read_runs(folder / "slimpajama.csv", on_ignored=lambda names: None)
    runs = select(runs, final_rows(runs))
    size = np.asarray(runs.recipe.n_active)
    return select(runs, np.concatenate([np.flatnonzero(size == s)[:PER_SIZE] for s in scales(runs)[:2]]))


def ours(runs, skills: int, draws: int):
    """Sample, and the diagnostics."""
    import jax

    from camel_jax import laws, sample_posterior

    begun = time.perf_counter()
    told = [0.0]

    def progress(done: int, total: int) -> None:
        if time.perf_counter() - told[0] > 20:
            told[0] = time.perf_counter()
            print(f"{done} of {total}, {told[0] - begun:.0f} s", flush=True)

    found = sample_posterior(
        laws.camel(skills=skills), runs, jax.random.key(0), chains=4, draws=draws, progress=progress
    )
    return found, report(found.diagnostics, time.perf_counter() - begun)


def report(found, seconds: float) -> dict[str, object]:
    """Diagnostics as data."""
    kept = {k: v for k, v in found._asdict().items() if k not in ("method", "k_hat")}
    smallest = min(found.ess, found.ess_tail)
    return {**kept, "seconds": seconds, "ess_per_second": smallest / seconds, "converged": found.converged}


def plain(posterior, draws: int, warmup: int) -> dict[str, object]:
    """numpyro's NUTS with its default start on the same model, all chains as vectors."""
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree
    from numpyro.infer import MCMC, NUTS

    from camel_jax.bayes.convergence import diagnose
    from camel_jax.bayes.model import model
    from camel_jax.bayes.posterior import all_draws

    begun = time.perf_counter()
    plan, data = posterior.plan, posterior.table
    mcmc = MCMC(
        NUTS(model),
        num_warmup=warmup,
        num_samples=draws,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.PRNGKey(0), plan, data, data.log_losses, extra_fields=("diverging", "num_steps"))
    z = jax.vmap(jax.vmap(lambda x: ravel_pytree(x)[0]))(mcmc.get_samples(group_by_chain=True))
    raw, noise = jax.tree.map(np.asarray, all_draws(plan, jnp.asarray(z), data.mean))
    extra = mcmc.get_extra_fields(group_by_chain=True)
    seconds = time.perf_counter() - begun
    named = raw | {f"noise_{name}": x for name, x in noise._asdict().items() if np.ptp(x) > 0}
    return report(diagnose(named, extra["diverging"], extra["num_steps"] >= 1023), seconds)


def main() -> None:
    """Run both, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    parser.add_argument("--skills", type=int, default=6)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--skip-plain", action="store_true", help="Only ours; for a look.")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    args = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    from camel_jax.bayes.rounds import EXPLORE
    from camel_jax.bayes.sampling import SETTINGS
    from camel_jax.storage import replacing

    head = provenance("camel_jax.bayes.sampling")
    runs = table(args.data)
    warmup = (EXPLORE + 1) * SETTINGS.warmup
    posterior, found = ours(runs, args.skills, args.draws)
    print(posterior.verdict(), f"{found['seconds']:.0f} s", flush=True)
    result = {
        **head,
        "table": f"slimpajama, final checkpoints, {len(runs)} runs, {len(runs.sets)} sets",
        "skills": args.skills,
        "parameters": posterior.z.shape[-1],
        "warmup": warmup,
        "iterations_a_draw": SETTINGS.thin,
        "sample_posterior": found,
    }

    def write() -> None:
        args.out.parent.mkdir(exist_ok=True)
        with replacing(args.out) as part:
            part.write_text(json.dumps(result, indent=1) + "\n")

    write()  # a run stopped in the second half keeps the first
    if not args.skip_plain:
        result["numpyro_default_start"] = {**plain(posterior, *PLAIN), "warmup": PLAIN[1]}
        write()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
