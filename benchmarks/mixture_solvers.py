"""How fast and how right is the mixture solver: a batch of random constrained problems against SLSQP with many starts.

Each problem has 2 to 20 domains, floors and caps, two limits on sums or costs, and the mean of several validation losses,
each a sum of skill terms ``c (q + e)^-a`` plus, in half of the problems, a bump that makes the problem non-convex. SLSQP
gets a numpy objective with its analytic gradient and 16 starts, in one process; ours takes 32 starts, the first of them the
same, a few Newton steps from each and the best eight to the end, and finds its own inner points. Problems are padded to the
next of four widths, so that the batch is four programs, spread over the devices (both cores of a CPU). Both sides are timed in
alternating rounds in one run.

    python benchmarks/mixture_solvers.py --seed 1
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import platform
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from scipy.optimize import minimize

from camel_jax import interior
from camel_jax.cli.console import start_engine
from camel_jax.interior import NO_CAP, Region
from camel_jax.search import random_starts

WIDTHS, SKILLS, ROWS = (5, 10, 15, 20), 6, 2
RESULT = pathlib.Path(__file__).parent / "results" / "mixture_solvers.json"


def random_problem(rng: np.random.Generator) -> dict:
    """One problem of 2 to 20 domains, padded with shares fixed at zero; feasible by construction, with room."""
    k = int(rng.integers(2, WIDTHS[-1] + 1))
    width = min(w for w in WIDTHS if w >= k)
    skills = np.zeros((width, SKILLS))
    skills[:k] = rng.dirichlet(np.full(SKILLS, 0.3), k)
    live = np.arange(width) < k
    middle = np.where(live, rng.dirichlet(np.ones(width)) + 0.1 / k, 0.0) * live
    middle /= middle.sum()
    lower = np.where(live & (rng.random(width) < 0.4), middle * rng.uniform(0.1, 0.8, width), 0.0)
    upper = np.where(live & (rng.random(width) < 0.4), middle + rng.uniform(0.02, 0.3, width), NO_CAP)
    upper = np.where(live, upper, 0.0)
    rows = np.zeros((ROWS, width))
    rows[0] = live * (rng.random(width) < 0.5)
    rows[1] = live * rng.uniform(0.0, 1.0, width)
    rows /= np.maximum(np.linalg.norm(rows, axis=1), 1e-9)[:, None]
    limits = rows @ middle + rng.uniform(0.01, 0.2, ROWS)
    scale, power = rng.uniform(0.2, 1.0, SKILLS), rng.uniform(0.1, 0.5, SKILLS)
    bump = np.where(live, rng.normal(size=width), 0.0) * (3.0 if rng.random() < 0.5 else 0.0)
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


def solve_one(p: dict, points: jax.Array, options: argparse.Namespace) -> tuple[jax.Array, ...]:
    """Best objective, mixture, status and steps of one problem."""
    region = region_of(p, inner_point(p))
    points = jnp.where(p["live"], points, 0.0)
    points = points / points.sum(1, keepdims=True)
    starts = jax.vmap(lambda w: interior.retract(w, region, interior.nothing_inside, p))(points)
    scale = interior.objective_scale(jax_cost, starts[:4], region, p)

    def finish(w: jax.Array, barrier: float, most: int) -> interior.Finish:
        return interior.interior_finish(
            jax_cost, interior.nothing_inside, w, region, p, scale, max_steps=most, barrier=barrier
        )

    near = jax.vmap(lambda w: finish(w, 1e-2, options.first_steps))(starts)
    found = jax.vmap(lambda w: finish(w, 1e-3, 40))(near.weights[jnp.argsort(near.value)[: options.finishers]])
    best = jnp.argmin(found.value)
    return found.value[best], found.weights[best], found.status[best], found.steps[best]


def batch_program(options: argparse.Namespace):
    """``(problems, starts) -> results``: problems spread over the devices, and on a CPU taken a few at a time, to stay in cache."""
    devices = jax.devices()
    few = options.together or (8 if devices[0].platform == "cpu" else None)

    @functools.partial(
        jax.shard_map,
        mesh=Mesh(np.array(devices), ("problems",)),
        in_specs=(PartitionSpec("problems"), PartitionSpec()),
        out_specs=PartitionSpec("problems"),
        check_vma=False,
    )
    def solve(batch: dict, points: jax.Array) -> tuple[jax.Array, ...]:
        one = functools.partial(solve_one, points=points, options=options)
        return jax.vmap(one)(batch) if few is None else jax.lax.map(one, batch, batch_size=few)

    return jax.jit(solve)


def solve_all(program, groups: list[tuple], points: np.ndarray, n_problems: int) -> tuple:
    """Values, mixtures, statuses and steps of all problems, in their order."""
    under_way = [program(batch, points[:, :width]) for width, _, batch in groups]
    values, status, steps = np.empty(n_problems), np.empty(n_problems, int), np.empty(n_problems, int)
    weights: list = [None] * n_problems
    for (_, index, _), results in zip(groups, under_way, strict=True):
        value, w, state, count = (np.asarray(x)[: len(index)] for x in results)
        values[index], status[index], steps[index] = value, state, count
        for i, row in zip(index, w, strict=True):
            weights[i] = row
    return values, weights, status, steps


def in_groups(problems: list[dict]) -> list[tuple]:
    """``(width, positions, stacked problems)`` of every width, padded to a multiple of the number of devices."""
    groups, n = [], len(jax.devices())
    for width in WIDTHS:
        index = [i for i, p in enumerate(problems) if len(p["live"]) == width]
        if index:
            padded = index + index[:1] * (-len(index) % n)
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(problems[i] for i in padded))
            groups.append((width, index, stacked))
    return groups


def main() -> None:
    """Run both solvers and print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--starts", type=int, default=16, help="starts of SLSQP")
    parser.add_argument("--our-starts", type=int, default=32)
    parser.add_argument("--first-steps", type=int, default=5, help="Newton steps from every start of ours")
    parser.add_argument("--finishers", type=int, default=8, help="how many of them are finished")
    parser.add_argument("--together", type=int, help="problems at a time on a device (default: 8 on a CPU, else all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    options = parser.parse_args()
    asked = ["git", "-C", str(RESULT.parent), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    start_engine()
    rng = np.random.default_rng(options.seed)
    problems = [random_problem(rng) for _ in range(options.problems)]
    points = np.asarray(random_starts(jax.random.key(0), max(options.our_starts, options.starts), WIDTHS[-1]))
    program, groups = batch_program(options), in_groups(problems)
    began = time.perf_counter()
    solve_all(program, groups, points[: options.our_starts], len(problems))
    first = time.perf_counter() - began

    ours, theirs, mine = [], [], None
    per_round = np.array_split(np.arange(len(problems)), options.rounds)
    rival = np.full(len(problems), np.inf)
    for chunk in per_round:  # alternate, so that a busy machine hurts both
        began = time.perf_counter()
        mine = solve_all(program, groups, points[: options.our_starts], len(problems))
        ours.append(len(problems) / (time.perf_counter() - began))
        began = time.perf_counter()
        for i in chunk:
            rival[i] = slsqp(problems[i], points[: options.starts])
        theirs.append(len(chunk) / (time.perf_counter() - began))
    assert mine is not None
    values, weights, status, steps = mine
    excess = values - rival
    broken = max(
        *(abs(w.sum() - 1) for w in weights),
        *((p["rows"] @ w - p["limits"]).max() for p, w in zip(problems, weights, strict=True)),
        *((p["lower"] - w).max() for p, w in zip(problems, weights, strict=True)),
        *((w - p["upper"]).max() for p, w in zip(problems, weights, strict=True)),
    )
    report = {
        "problems": len(problems),
        "starts_slsqp": options.starts,
        "starts_ours": options.our_starts,
        "finishers": options.finishers,
        "first_steps": options.first_steps,
        "seed": options.seed,
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
        "devices": [str(d) for d in jax.devices()],
        "machine": platform.machine(),
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
        "commit": commit,
    }
    print(json.dumps(report, indent=1))
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
