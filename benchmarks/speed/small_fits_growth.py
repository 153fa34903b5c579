"""How the batched solver of small fits grows: fits per second against resamples, rows, sets, domains and devices, and its memory.

    python benchmarks/speed/small_fits_growth.py [--data FOLDER] [--axes resamples rows sets domains devices] [--batch 2841]

The largest batch, a million fits, runs in a process of its own, which also tells its peak memory: once on a CPU, three times elsewhere.
Every other point is the second of two calls, so that compilation is apart. Runs on any device that JAX finds; on one with its own
memory, --axes resamples is the question: fits a second at a million. Writes a figure next to the JSON.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import ROOT
from common.results import write
from speed.small_fits_problem import (
    N_STARTS,
    arguments,
    declare,
    draw_counts,
    draw_starts,
    environment,
    load,
    one_device_a_core,
    parse,
)


def growth(args, table):
    """Fits per second of the structured solver as one dimension grows; simulated tables where the real one is too small."""
    import jax

    from camel_jax.solvers.least_squares import least_squares

    shares, log_size, losses = table
    rng = np.random.default_rng(args.seed)

    def timed(shares, log_size, losses, n_resamples, n_starts=N_STARTS, n_devices=None):
        counts = draw_counts(rng, n_resamples, log_size)
        starts = draw_starts(rng, n_starts, losses.shape[1], shares.shape[1])
        law, seconds = declare(shares, log_size), []
        for _ in range(2):
            begin = time.perf_counter()
            fit = least_squares(
                law, starts, losses, weights=counts, rtol=args.rtol, devices=jax.local_devices()[:n_devices]
            )
            seconds.append(time.perf_counter() - begin)
        return {
            "fits": int(fit.objective.size),
            "fits_per_second": fit.objective.size / seconds[-1],
            "first_call_seconds": seconds[0],
            "mean_steps": float(fit.steps.mean()),
        }

    def simulate(n_rows, n_domains, n_sets=4):
        r = rng.dirichlet(np.ones(n_domains), n_rows)
        n = rng.choice(np.unique(log_size), n_rows)
        slope = 0.7 * rng.standard_normal((n_sets, n_domains))
        value = 1.5 + np.exp(r @ slope.T) + 0.5 * np.exp(-0.15 * n)[:, None]
        return r, n, value * np.exp(0.005 * rng.standard_normal(value.shape))

    n_devices = len(jax.local_devices())
    axes = {
        "resamples": {n: lambda n=n: timed(shares, log_size, losses, n) for n in (1, 16, 256)},
        "rows": {n: lambda n=n: timed(*simulate(n, 5), 64) for n in (52, 104, 416, 1664)},
        "sets": {n: lambda n=n: timed(shares, log_size, losses[:, :n], 128) for n in (1, 4, 22)},
        "domains": {
            n: lambda n=n: timed(*simulate(max(104, 3 * n), n), 64 if n < 20 else 8) for n in (2, 5, 10, 20, 50)
        },
        "devices": {n: lambda n=n: timed(shares, log_size, losses, 64, n_devices=n) for n in range(1, n_devices + 1)},
    }
    out = {}
    for axis in args.axes:
        out[axis] = {str(n): measure() for n, measure in axes[axis].items()}
        print(axis, {n: round(e["fits_per_second"]) for n, e in out[axis].items()}, flush=True)
    return out


MILLION = """
import json, pathlib, resource, sys, time
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import speed.small_fits_problem as s
from camel_jax.solvers.least_squares import least_squares
r, n, y, _ = s.load(pathlib.Path(sys.argv[2]))
rng = np.random.default_rng(0)
law, starts, counts = s.declare(r, n), s.draw_starts(rng, 16, 22, 5), s.draw_counts(rng, int(sys.argv[3]), n)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds = []
for _ in range(1 if jax.default_backend() == "cpu" else 3):  # compilation is lost in a CPU's minutes, not in a GPU's second
    begin = time.perf_counter()
    fit = least_squares(law, starts, y, weights=counts, rtol=float(sys.argv[4]))
    seconds.append(time.perf_counter() - begin)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
results = sum(a.nbytes for a in jax.tree.leaves(fit)) / 2**20
print(json.dumps({"fits": int(fit.objective.size), "seconds_with_compilation": seconds[0], "seconds_again": seconds[1:],
                  "fits_per_second": fit.objective.size / min(seconds), "success": float((fit.status == 0).mean()),
                  "mean_steps": float(fit.steps.mean()),
                  "peak_rss_mb": after / 1024, "before_call_mb": before / 1024, "results_mb": results,
                  "beyond_results_mb": after / 1024 - results, "finite": bool(np.isfinite(fit.objective).all())}))
"""


def million(args):
    """Speed and peak resident memory of the largest batch, in a process of its own."""
    inputs = (str(ROOT / "benchmarks"), str(args.data), str(args.batch), str(args.rtol))
    done = subprocess.run([sys.executable, "-c", MILLION, *inputs], capture_output=True, text=True, check=True)
    out = json.loads(done.stdout.splitlines()[-1])
    print("largest batch", out, flush=True)
    return out


def draw(results, path):
    """Fits per second along every axis that was measured."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    growth = results["growth"]
    figure, axes = plt.subplots(1, len(growth), figsize=(3.0 * len(growth), 3.2), squeeze=False)
    for ax, (name, points) in zip(axes[0], growth.items(), strict=True):
        x = [p["fits"] for p in points.values()] if name == "resamples" else [int(n) for n in points]
        y = [p["fits_per_second"] for p in points.values()]
        if name == "resamples" and "largest" in results:
            x, y = [*x, results["largest"]["fits"]], [*y, results["largest"]["fits_per_second"]]
        ax.plot(x, y, "o-", color="#1f77b4")
        if name != "devices":
            ax.set_xscale("log")
        ax.set_ylim(0, 1.15 * max(y))
        ax.set_xlabel("fits in one call" if name == "resamples" else name)
        ax.grid(alpha=0.3)
    axes[0][0].set_ylabel("fits per second")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main():
    def more(parser):
        parser.add_argument("--axes", nargs="*", default=["resamples", "rows", "sets", "domains", "devices"])
        parser.add_argument("--batch", type=int, default=2841, help="resamples of the largest; 2841: a million fits")
        parser.add_argument("--no-largest", action="store_true", help="leave the largest batch out")

    args = parse(__doc__, "small_fits_growth.json", more)
    one_device_a_core()
    import jax

    jax.config.update("jax_enable_x64", True)
    table = load(args.data)[:3]
    results = {"environment": environment(), "arguments": arguments(args)}
    results["growth"] = growth(args, table)
    write(args.out, results)
    if not args.no_largest:
        results["largest"] = million(args)
        write(args.out, results)
    if results["growth"]:
        draw(results, args.out.with_suffix(".png"))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
