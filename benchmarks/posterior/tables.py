"""Do 90 % posterior predictive intervals hold at a scale that was left out, and how do they compare with the bootstrap's?

For each real table: final checkpoints, the first mixtures of every size below the largest are fitted, and all final checkpoints
at the largest are predicted. Both columns use the same law (CAMEL with 6 skills), the same rows and the same back-tests; no
width is chosen by the held-out rows. CRPS and width are of log loss, in thousandths. A posterior whose chains do not agree is
marked, not left out; tables of more sets get fewer draws, for time. ``--below`` puts the largest size aside and holds out the one
below it: choices are made there.

    python benchmarks/posterior/tables.py [--tables slimpajama,pile5,redpajama7] [--mixtures 20] [--draws 1000] [--below] [--out PATH]
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import DATA, RESULTS, provenance
from common.results import continued, write
from common.tested_code import digest

RESULT = RESULTS / "bayes_tables.json"
SKILLS, RESAMPLES = 6, 32
CODE = (
    "camel_jax.bayes.comparison",
    "camel_jax.fitting.intervals",
)  # a change of them or of what they import starts again


def split(path: pathlib.Path, mixtures: int, below_largest: bool):
    """Fitted and held-out runs of a table, final checkpoints."""
    from camel_jax import read_runs, select, split_by_scale
    from camel_jax.tables.runs import final_rows, scales

    runs = read_runs(path, on_ignored=lambda names: None)
    runs = select(runs, final_rows(runs))
    below, held = split_by_scale(split_by_scale(runs)[0] if below_largest else runs)
    size = np.asarray(below.recipe.n_active)
    return select(below, np.concatenate([np.flatnonzero(size == s)[:mixtures] for s in scales(below)])), held


def by_bootstrap(fitted, held) -> dict[str, float]:
    """Scores of the log-normal intervals of a fit with resamples."""
    from scipy.stats import norm

    from camel_jax import predict_interval

    interval = predict_interval(fitted, held.recipe, 0.9)
    point, low, high = (np.log(np.asarray(x)) for x in interval)
    measured = np.log(np.asarray(held.losses, float))
    seen = np.isfinite(measured)
    spread = (high - low) / (2 * norm.ppf(0.95))
    z = np.where(seen, (measured - point) / spread, 0.0)
    crps = spread * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    inside = (low <= measured) & (measured <= high)
    return {
        "error_percent": 100 * float(np.expm1(np.abs(point - measured))[seen].mean()),
        "coverage": float(inside[seen].mean()),
        "width_thousandths": 1e3 * float((high - low)[seen].mean()),
        "crps_thousandths": 1e3 * float(crps[seen].mean()),
        "coverage_by_set": by_set(inside, seen),
        "bias_thousandths_by_set": by_set(1e3 * (measured - point), seen),
    }


def by_set(values, seen) -> list[float]:
    """Mean of every set over the rows where it was measured, to three digits."""
    return [round(float(x[s].mean()), 3) for x, s in zip(values.T, seen.T, strict=True)]


def study(
    name: str, folder: pathlib.Path, mixtures: int, draws: int, below_largest: bool, keep: pathlib.Path | None
) -> dict[str, object]:
    """One table."""
    import jax

    from camel_jax import laws, load_fit, sample_posterior
    from camel_jax.bayes.comparison import score_at
    from camel_jax.bayes.whitening import unflatten
    from camel_jax.fitting import fit

    below, held = split(folder / f"{name}.csv", mixtures, below_largest)
    law, key = laws.camel(skills=SKILLS), jax.random.key(0)
    begun = time.perf_counter()
    kept = None if keep is None else keep / f"{name}-{'below-' if below_largest else ''}{digest(*CODE)[:12]}.npz"
    again = kept is not None and kept.exists()
    fitted = load_fit(kept) if again else fit(law, below, key=key, starts=4, resamples=RESAMPLES)
    if kept is not None and not again:
        kept.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(kept)
    boot = {**by_bootstrap(fitted, held), "seconds": None if again else time.perf_counter() - begun}
    print(name, json.dumps(boot), flush=True)
    begun, told = time.perf_counter(), [0.0]

    def progress(done: int, total: int) -> None:
        if time.perf_counter() - told[0] > 30:
            told[0] = time.perf_counter()
            print(f"{name}: {done} of {total}, {told[0] - begun:.0f} s", flush=True)

    posterior = sample_posterior(fitted, below, key, draws=draws, resume=keep, progress=progress)
    score = score_at(posterior, held)
    logs, measured = np.log(posterior.sample_losses(held.recipe)), np.log(np.asarray(held.losses, float))
    seen, law_alone = np.isfinite(measured), np.log(posterior.sample_losses(held.recipe, noise=False))
    low, high = np.quantile(logs, [0.05, 0.95], axis=0)
    typical = unflatten(posterior.plan, posterior.z.mean((0, 1)))  # standard normals if the prior were right
    found = {
        "error_percent": 100 * score.error,
        "coverage": score.coverage,
        "width_thousandths": 1e3 * score.width,
        "crps_thousandths": 1e3 * score.crps,
        "law_variance_share": float((law_alone.var(0) / logs.var(0))[seen].mean()),
        "coverage_by_set": by_set((low <= measured) & (measured <= high), seen),
        "bias_thousandths_by_set": by_set(
            1e3 * (measured - np.log(np.asarray(posterior.fit.predict(held.recipe)))), seen
        ),
        "seconds": None if again else time.perf_counter() - begun,
        "draws": draws,
        "far_from_prior": {k: round(float(x), 2) for k, x in typical.items() if np.size(x) == 1 and abs(float(x)) > 2},
        "verdict": posterior.verdict(),
        "converged": score.converged,
        "r_hat": posterior.diagnostics.r_hat,
        "divergences": posterior.diagnostics.divergences,
    }
    print(name, json.dumps(found), flush=True)
    return {
        "fitted_runs": len(below),
        "held_out_runs": len(held),
        "sets": len(held.sets),
        "parameters": posterior.z.shape[-1],
        "back_tests": [test._asdict() for test in fitted.backtests],
        "bootstrap": boot,
        "posterior": found,
    }


def main() -> None:
    """Run the tables, and write after each one; tables that are done are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    parser.add_argument("--tables", default="slimpajama,pile5,redpajama7")
    parser.add_argument("--mixtures", type=int, default=20)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--below", action="store_true", help="Put the largest size aside; for choices.")
    parser.add_argument("--keep", type=pathlib.Path, help="Folder of chunks, to continue a run that was stopped.")
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    args = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    settings = {"skills": SKILLS, "resamples": RESAMPLES, "mixtures": args.mixtures, "below_largest": args.below}
    head = provenance(*CODE) | {"settings": settings}
    result = continued(args.out, head, {"tables": {}})
    for name in args.tables.split(","):
        if name in result["tables"]:
            continue
        result["tables"][name] = study(name, args.data, args.mixtures, args.draws, args.below, args.keep)
        write(args.out, result)


if __name__ == "__main__":
    main()
