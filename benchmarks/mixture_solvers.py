"""How fast and how right is the mixture solver: a batch of random constrained problems against SLSQP with many starts.

Each problem has 2 to 20 domains, floors and caps, two limits on sums or costs, and the mean of several validation losses,
each a sum of skill terms ``c (q + e)^-a`` plus, in half of the problems, a bump that makes the problem non-convex. SLSQP
gets a numpy objective with its analytic gradient and the same number of starts; ours solves the whole batch in one
program, which finds its own inner points. Both sides are timed in alternating rounds in one run.

    python benchmarks/mixture_solvers.py --out mixture_solvers.json
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from camel_jax import interior
from camel_jax.interior import NO_CAP, Region
from camel_jax.search import random_starts

WIDTH, SKILLS, ROWS = 20, 6, 2


def random_problem(rng: np.random.Generator) -> dict:
    """One problem, padded to 20 domains with shares fixed at zero; feasible by construction, with room."""
    k = int(rng.integers(2, WIDTH + 1))
    skills = np.zeros((WIDTH, SKILLS))
    skills[:k] = rng.dirichlet(np.full(SKILLS, 0.3), k)
    live = np.arange(WIDTH) < k
    middle = np.where(live, rng.dirichlet(np.ones(WIDTH)) + 0.1 / k, 0.0) * live
    middle /= middle.sum()
    lower = np.where(live & (rng.random(WIDTH) < 0.4), middle * rng.uniform(0.1, 0.8, WIDTH), 0.0)
    upper = np.where(live & (rng.random(WIDTH) < 0.4), middle + rng.uniform(0.02, 0.3, WIDTH), NO_CAP)
    upper = np.where(live, upper, 0.0)
    rows = np.zeros((ROWS, WIDTH))
    rows[0] = live * (rng.random(WIDTH) < 0.5)
    rows[1] = live * rng.uniform(0.0, 1.0, WIDTH)
    rows /= np.maximum(np.linalg.norm(rows, axis=1), 1e-9)[:, None]
    limits = rows @ middle + rng.uniform(0.01, 0.2, ROWS)
    scale, power = rng.uniform(0.2, 1.0, SKILLS), rng.uniform(0.1, 0.5, SKILLS)
    bump = np.where(live, rng.normal(size=WIDTH), 0.0) * (3.0 if rng.random() < 0.5 else 0.0)
    return {
        "k": k, "skills": skills, "scale": scale, "power": power, "bump": bump,
        "lower": lower, "upper": upper, "live": live, "rows": rows, "limits": limits,
    }  # fmt: skip


def numpy_cost(p: dict, w: np.ndarray) -> tuple[float, np.ndarray]:
    """Objective and gradient for SLSQP, in the problem's own dimension."""
    k = p["k"]
    demand = w @ p["skills"][:k] + 1e-2
    terms = p["scale"] * demand ** -p["power"]
    wave = w @ p["bump"][:k]
    slope = p["skills"][:k] @ (-p["power"] * terms / demand) + 0.15 * np.cos(wave) * p["bump"][:k]
    return float(terms.sum() + 0.15 * np.sin(wave)), slope


def jax_cost(w: jax.Array, p: dict, smoothing: jax.Array) -> jax.Array:
    """The same objective for one padded mixture."""
    del smoothing
    demand = w @ p["skills"] + 1e-2
    return jnp.sum(p["scale"] * demand ** -p["power"]) + 0.15 * jnp.sin(w @ p["bump"])


def slsqp(p: dict, starts: np.ndarray) -> float:
    """Best feasible objective of SLSQP over its starts."""
    k, rows, limits = p["k"], p["rows"][:, : p["k"]], p["limits"]
    ones = np.ones(k)
    constraints = (
        {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: ones},
        {"type": "ineq", "fun": lambda w: limits - rows @ w, "jac": lambda w: -rows},
    )
    low, high = p["lower"][:k], np.minimum(p["upper"][:k], 1.0)
    best = np.inf
    for start in starts:
        w0 = np.clip(start[:k] / start[:k].sum(), low, high)
        found = minimize(
            lambda w: numpy_cost(p, w), w0, jac=True, bounds=list(zip(low, high, strict=True)),
            constraints=constraints, method="SLSQP", options={"ftol": 1e-12, "maxiter": 200},
        )  # fmt: skip
        w = found.x
        broken = max(abs(w.sum() - 1), (rows @ w - limits).max(), (low - w).max(), (w - high).max())
        if np.isfinite(found.fun) and broken < 1e-8:
            best = min(best, float(found.fun))
    return best


def inner_point(p: dict) -> jax.Array:
    """A strictly inner point, found in the program: a box point, then Newton on the worst row with the rows loosened."""
    cap = jnp.where(p["live"], jnp.minimum(p["upper"], 1.0), 0.0)
    share = (1.0 - p["lower"].sum()) / jnp.maximum((cap - p["lower"]).sum(), 1e-12)
    center = p["lower"] + share * (cap - p["lower"])
    region = region_of(p, center)._replace(limits=jnp.full(ROWS, 1e3))

    def worst(w: jax.Array, args: dict, smoothing: jax.Array) -> jax.Array:
        del smoothing
        return 0.004 * jax.nn.logsumexp((args["rows"] @ w - args["limits"]) / 0.004)

    inside = interior.interior_finish(
        worst, interior.nothing_inside, center, region, p, jnp.asarray(1.0), max_steps=25, barrier=1e-3,
        last_barrier=1e-3,
    ).weights  # fmt: skip
    middle = interior.interior_finish(  # analytic center: starts pulled toward it stay spread out
        lambda w, args, smoothing: 0.0 * w[0], interior.nothing_inside, inside, region_of(p, inside), p, jnp.asarray(1.0),
        max_steps=15, barrier=1.0, last_barrier=1.0,
    )  # fmt: skip
    return jnp.where(middle.status == interior.NOT_FINITE, inside, middle.weights)


def region_of(p: dict, center: jax.Array) -> Region:
    """The region of one padded problem."""
    equal = p["live"] / jnp.sqrt(p["live"].sum())
    return Region(p["lower"], p["upper"], p["live"], p["rows"], p["limits"], equal[None], center)


def solve_one(p: dict, points: jax.Array, finishers: int, steps: int) -> tuple[jax.Array, ...]:
    """Best objective, mixture and status of one problem; vmapped over the batch."""
    region = region_of(p, inner_point(p))
    starts = jax.vmap(lambda w: interior.retract(w, region, interior.nothing_inside, p))(points)
    scale = interior.objective_scale(jax_cost, starts[:4], region, p)
    if steps:
        starts, values = jax.vmap(
            lambda w: interior.softmax_descent(jax_cost, interior.nothing_inside, w, region, p, scale, steps=steps)
        )(starts)
    else:
        values = jax.vmap(lambda w: jax_cost(w, p, scale))(starts)
    chosen = starts[jnp.argsort(values)[:finishers]]
    found = jax.vmap(
        lambda w: interior.interior_finish(jax_cost, interior.nothing_inside, w, region, p, scale, max_steps=40)
    )(chosen)
    best = jnp.argmin(found.value)
    return found.value[best], found.weights[best], found.status[best], found.steps[best]


def main() -> None:
    """Run both solvers and print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--starts", type=int, default=16, help="starts of SLSQP")
    parser.add_argument(
        "--our-starts", type=int, default=64, help="starts of ours; the first of them are those of SLSQP"
    )
    parser.add_argument("--finishers", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30, help="softmax steps before the finish")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    problems: list[dict] = []
    while len(problems) < options.problems:
        p = random_problem(rng)
        problems.append(p)
    batch = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *problems)
    points = random_starts(jax.random.key(0), max(options.our_starts, options.starts), WIDTH)
    program = jax.jit(jax.vmap(lambda p, q: solve_one(p, q, options.finishers, options.steps), in_axes=(0, None)))
    began = time.perf_counter()
    jax.block_until_ready(program(batch, points))
    first = time.perf_counter() - began

    ours, theirs, mine, rival = [], [], None, None
    per_round = np.array_split(np.arange(len(problems)), options.rounds)
    rival = np.full(len(problems), np.inf)
    for chunk in per_round:  # alternate, so that a busy machine hurts both
        began = time.perf_counter()
        mine = jax.tree.map(np.asarray, program(batch, points))
        ours.append(len(problems) / (time.perf_counter() - began))
        began = time.perf_counter()
        for i in chunk:
            rival[i] = slsqp(problems[i], np.asarray(points)[: options.starts])
        theirs.append(len(chunk) / (time.perf_counter() - began))
    assert mine is not None
    values, weights, status, steps = mine
    excess = values - rival
    broken = max(
        np.abs(weights.sum(1) - 1).max(),
        *((p["rows"] @ w - p["limits"]).max() for p, w in zip(problems, weights, strict=True)),
        *((p["lower"] - w).max() for p, w in zip(problems, weights, strict=True)),
        *((w - p["upper"]).max() for p, w in zip(problems, weights, strict=True)),
    )
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    report = {
        "problems": len(problems),
        "starts_slsqp": options.starts,
        "starts_ours": options.our_starts,
        "finishers": options.finishers,
        "softmax_steps": options.steps,
        "ours_worse_than_slsqp_by_more_than_1e-6": int((excess > 1e-6).sum()),
        "ours_better_by_more_than_1e-6": int((excess < -1e-6).sum()),
        "agree_within_1e-6": int((np.abs(excess) <= 1e-6).sum()),
        "largest_excess": float(excess.max()),
        "largest_violation": float(broken),
        "status_counts": {str(s): int((status == s).sum()) for s in np.unique(status)},
        "median_steps": float(np.median(steps)),
        "ours_problems_per_s": float(np.median(ours)),
        "slsqp_problems_per_s": float(np.median(theirs)),
        "ratios": [a / b for a, b in zip(ours, theirs, strict=True)],
        "ratio": float(np.median(np.array(ours) / np.array(theirs))),
        "first_call_s": first,
        "dtype": "float64",
        "device": str(jax.devices()[0]),
        "machine": platform.machine(),
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
        "git": git.stdout.strip(),
    }
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
