"""How fast and how right is the solver of many mixture problems: a batch of random constrained ones against SLSQP with many starts.

Each problem has 2 to 20 domains, floors and caps, two limits on sums or costs, and the mean of several validation losses,
each a sum of skill terms ``c (q + e)^-a`` plus, in half of the problems, a bump that makes the problem non-convex. SLSQP
(scipy) gets a numpy objective with its analytic gradient and 16 starts, one problem after the other in one process and thread;
ours (``camel_jax.mixture.batched``) gets the cost as a function of seven readings of the mixture (six skills and the bump) and
the first six of the same starts, finds its own inner points and 14 more starts along the readings, and differentiates the
cost itself. Problems are padded to
the next of four widths, so that the batch is four programs, spread over the devices (both cores of a CPU). Both sides are
timed in alternating rounds in one run; compilation is told apart.

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
import scipy
from jax.sharding import Mesh, PartitionSpec
from scipy.optimize import minimize

from camel_jax.mixture.barrier import NO_CAP
from camel_jax.mixture.batched import Best, Problems, solve_many
from camel_jax.mixture.search import random_starts
from camel_jax.runtime import start_engine

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


def jax_cost(readings: jax.Array, p: dict) -> jax.Array:
    """The same objective from readings (skills and bump), a lane each."""
    terms = p["scale"] * jnp.exp(-p["power"] * jnp.log(readings[:SKILLS] + 1e-2))
    return terms.sum(0) + 0.15 * jnp.sin(readings[SKILLS])


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


def batch_program(options: argparse.Namespace):
    """``(problems, args, starts) -> results``: problems spread over the devices along the leading axis."""

    @functools.partial(
        jax.shard_map,
        mesh=Mesh(np.array(jax.devices()), ("problems",)),
        in_specs=(PartitionSpec("problems"), PartitionSpec("problems"), PartitionSpec()),
        out_specs=PartitionSpec("problems"),
        check_vma=False,
    )
    def solve(problems: Problems, args: dict, points: jax.Array) -> Best:
        mine = jax.tree.map(lambda leaf: leaf[0], (problems, args))
        best = solve_many(jax_cost, *mine, points, first_steps=options.first_steps, valleys=options.valleys)
        return jax.tree.map(lambda leaf: leaf[None], best)

    return jax.jit(solve)


def solve_all(program, groups: list[tuple], points: np.ndarray, n_problems: int) -> tuple:
    """Values, mixtures, statuses and steps of all problems, in their order."""
    under_way = [program(*batch, points[:, :width]) for width, _, batch in groups]
    values, status, steps = np.empty(n_problems), np.empty(n_problems, int), np.empty(n_problems, int)
    weights: list = [None] * n_problems
    for (_, index, _), best in zip(groups, under_way, strict=True):
        flat = [np.moveaxis(np.asarray(leaf), 0, -2) for leaf in (best.value, best.weights, best.status, best.steps)]
        value, w, state, count = (leaf.reshape(*leaf.shape[:-2], -1)[..., : len(index)] for leaf in flat)
        values[index], status[index], steps[index] = value, state, count
        for i, column in zip(index, w.T, strict=True):
            weights[i] = column
    return values, weights, status, steps


def in_groups(problems: list[dict]) -> list[tuple]:
    """``(width, positions, (problems, args))`` of every width, lanes last, with a leading axis of devices."""
    groups, n = [], len(jax.devices())
    for width in WIDTHS:
        index = [i for i, p in enumerate(problems) if len(p["live"]) == width]
        if index:
            padded = np.array(index + index[:1] * (-len(index) % n)).reshape(n, -1)

            def lanes(name: str, padded: np.ndarray = padded) -> np.ndarray:
                return np.stack([np.stack([problems[i][name] for i in row], -1) for row in padded])

            readings = np.concatenate([np.moveaxis(lanes("skills"), 2, 1), lanes("bump")[:, None]], 1)
            region = Problems(lanes("lower"), lanes("upper"), lanes("rows"), lanes("limits"), readings)
            groups.append((width, index, (region, {"scale": lanes("scale"), "power": lanes("power")})))
    return groups


def main() -> None:
    """Run both solvers and print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--starts", type=int, default=16, help="starts of SLSQP")
    parser.add_argument(
        "--our-starts", type=int, default=6, help="random starts of ours; 14 along its readings join them"
    )
    parser.add_argument("--first-steps", type=int, default=5, help="Newton steps from every start of ours")
    parser.add_argument("--valleys", type=int, default=6, help="most candidates that are finished")
    parser.add_argument(
        "--compiled", action="store_true", help="say that an earlier run has filled the compilation cache"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=RESULT)
    options = parser.parse_args()
    asked = ["git", "-C", str(RESULT.parent), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    start_engine(quick=False)  # what is timed comes after compilation
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
        "valleys": options.valleys,
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
        "first_call_finds_compiled_programs": options.compiled,
        "dtype": "float64",
        "devices": [str(d) for d in jax.devices()],
        "machine": platform.machine(),
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "scipy": scipy.__version__},
        "commit": commit,
    }
    print(json.dumps(report, indent=1))
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
