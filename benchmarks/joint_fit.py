"""The joint law on a public table: objective and held-out error against time, ours and L-BFGS, from the same random starts.

    python benchmarks/joint_fit.py --data ../shared/data --starts 3 --resamples 64

Rivals: scipy L-BFGS-B (50 pairs) and optax L-BFGS (40 pairs, zoom) with the jitted gradient of the same objective. Compile time is
kept apart. Best known = the lowest objective any solver reached in this run.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads of small factorizations only wait for each other

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize as scipy_minimize

from camel_jax import laws
from camel_jax.fitting import joint_newton
from camel_jax.fitting.objective import Robust, as_data, objective
from camel_jax.laws.law import scale_recipe, scale_runs, table_units
from camel_jax.solvers import minimize
from camel_jax.tables.read import read
from camel_jax.tables.runs import resample_counts, select


def timed(function, *args):
    begin = time.perf_counter()
    out = jax.block_until_ready(function(*args))
    return out, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--cut", type=float, default=3.2e8, help="largest size fitted")
    parser.add_argument("--skills", type=int, default=16)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=8)
    parser.add_argument("--resample-starts", type=int, default=1, help="solutions that every resample starts from")
    parser.add_argument("--batch", type=int, default=256, help="resamples side by side on an accelerator")
    parser.add_argument("--scipy-steps", type=int, default=3000)
    parser.add_argument("--optax-steps", type=int, default=3000)
    parser.add_argument("--out", default="benchmarks/results/joint_fit.json")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)

    runs = read.read_runs(pathlib.Path(args.data) / "slimpajama.csv")
    below = np.asarray(runs.recipe.n_active) <= args.cut
    fitted, unseen = select(runs, below), select(runs, ~below)
    units, law, robust = table_units(fitted), laws.camel(args.skills), Robust()
    scaled = scale_runs(units, fitted)
    data = as_data(scaled)
    value = objective(law, data, robust)
    raws = [law.init(jax.random.key(i), scaled) for i in range(args.starts)]

    def unseen_error(raw):
        losses = jax.vmap(law.predict, (None, 0))(law.constrain(raw), scale_recipe(units, unseen.recipe)) * units.losses
        measured = np.isfinite(unseen.losses)
        return float(100 * np.mean(np.abs(np.asarray(losses) / unseen.losses - 1)[measured]))

    def ours(steps):
        schedule = joint_newton.Schedule(max_steps=steps)
        return jax.jit(lambda raw: joint_newton.minimize_joint(law, raw, data, robust, schedule)).lower(raws[0])

    def optax_fit(steps):
        return jax.jit(lambda raw: minimize.lbfgs(value, raw, max_steps=steps, rtol=0.0)).lower(raws[0])

    _, unravel = ravel_pytree(raws[0])
    gradient = jax.jit(jax.value_and_grad(lambda x: value(unravel(x))))
    jax.block_until_ready(gradient(ravel_pytree(raws[0])[0]))
    programs, compile_seconds = {}, {}
    for label, lower in (
        ("ours", lambda: ours(250)),
        ("optax_lbfgs", lambda: optax_fit(args.optax_steps)),
        ("optax_lbfgs_third", lambda: optax_fit(args.optax_steps // 3)),
    ):
        begin = time.perf_counter()
        programs[label] = lower().compile()
        compile_seconds[label] = time.perf_counter() - begin

    records = []

    def keep(solver, start, seconds, objective_value, raw, steps, status):
        records.append(
            {
                "solver": solver,
                "start": start,
                "seconds": seconds,
                "objective": float(objective_value),
                "unseen_error_percent": unseen_error(raw),
                "steps": int(steps),
                "status": int(status),
            }
        )
        print(json.dumps(records[-1]), flush=True)

    for i, raw in enumerate(raws):  # solvers alternate within a start
        for label, program in programs.items():
            solution, seconds = timed(program, raw)
            keep(label, i, seconds, solution.objective, solution.params, solution.steps, solution.status)
        path, begin = [], time.perf_counter()

        def evaluate(x, path=path, begin=begin):
            f, g = gradient(x)
            path.append((time.perf_counter() - begin, float(f), x.copy()))
            return float(f), np.asarray(g)

        options = {"maxcor": 50, "maxiter": args.scipy_steps, "maxfun": 2 * args.scipy_steps, "ftol": 0.0, "gtol": 0.0}
        scipy_minimize(evaluate, np.asarray(ravel_pytree(raw)[0]), jac=True, method="L-BFGS-B", options=options)
        for mark in (*(s for s in (1, 2, 4, 8, 16) if s < path[-1][0]), path[-1][0]):
            upto = [p for p in path if p[0] <= mark]
            f, x = min((p[1:] for p in upto), key=lambda p: p[0])
            keep("scipy_lbfgsb", i, mark, f, unravel(jnp.asarray(x)), len(upto), 0)

    best = min(r["objective"] for r in records)
    warm = {}
    if args.resamples:
        own = sorted((r for r in records if r["solver"] == "ours"), key=lambda r: r["objective"])
        begun = [programs["ours"](raws[r["start"]]).params for r in own[: args.resample_starts]]
        counts = resample_counts(jax.random.key(1), fitted, args.resamples)

        @jax.jit
        def refit(start, count):
            lane = data._replace(weights=data.weights * count)
            return joint_newton.minimize_joint(law, start, lane, robust, warm=True)

        def refit_all():
            """One after the other on a CPU, whose cores a single step uses; elsewhere side by side."""
            if jax.default_backend() == "cpu":
                return [refit(start, count) for start in begun for count in counts]
            side = jax.jit(jax.vmap(refit, (None, 0)))
            parts = [counts[i : i + args.batch] for i in range(0, len(counts), args.batch)]
            return [side(start, part) for start in begun for part in parts]

        begin = time.perf_counter()
        jax.block_until_ready(refit(begun[0], counts[0]))
        compile_seconds["resample"] = time.perf_counter() - begin
        if jax.default_backend() != "cpu":
            jax.block_until_ready(refit_all())  # compiles the batched program
        lanes, seconds = timed(refit_all)
        warm = {
            "resamples": args.resamples,
            "starts": len(begun),
            "seconds": seconds,
            "peak_device_mb": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20,
            "steps": [int(x) for s in lanes for x in np.atleast_1d(s.steps)],
            "status": [int(x) for s in lanes for x in np.atleast_1d(s.status)],
        }
        print(json.dumps(warm))

    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result = {
        "git": git,
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "device": str(jax.devices()[0]),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "dtype": "float64",
        "rows": len(fitted),
        "sets": len(fitted.sets),
        "skills": args.skills,
        "compile_seconds": compile_seconds,
        "best_known": best,
        "records": records,
        "warm_resamples": warm,
    }
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
