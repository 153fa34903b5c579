"""Closing the loop: each law's mixture for the largest proxy, trained for real: python benchmarks/proxy_closing.py [--workers 1].

CAMEL, DML and SODM are fitted to the dense runs of camel_jax/data/proxy_runs.csv below the largest size, as the leaderboard fits
them (the residual field is CAMEL's alone) but with steps enough to converge. Their mixtures for the largest size, the uniform one,
the natural one and the random one that measured best at the largest size are trained there with seeds that no fit and no choice
has seen, the same for all, so that differences are paired. It can be stopped at any time and goes on where it was. Writes
benchmarks/results/proxy_closing.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import numpy as np
from make_proxy_table import LARGEST, ROOT, TABLE, TOKENS, current_commit

from camel_jax.runtime import start_engine
from camel_jax.storage import replacing

RESULT = ROOT / "benchmarks" / "results" / "proxy_closing.json"
LAWS = ("camel", "dml", "sodm")
FIT: dict[str, Any] = {"starts": 8, "resamples": 8, "max_steps": 1000}
T90 = {3: 2.920, 4: 2.353, 5: 2.132, 6: 2.015, 7: 1.943, 8: 1.895}  # Student's t at 95 %, by number of seeds


def main() -> None:
    """Fit, recommend, train, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, choices=sorted(T90), help="seeds of every mixture")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "proxy_closing", help="finished rows")
    parser.add_argument("--workers", type=int, default=None, help="processes on a CPU; one a core")
    args = parser.parse_args()
    commit = current_commit()
    start_engine()
    from camel_jax.proxy.corpus import BUILT_IN, build_corpus
    from camel_jax.proxy.sweep import sweep
    from camel_jax.proxy.train import Settings
    from camel_jax.recipes.recipe import Recipe
    from camel_jax.tables.read import read_runs

    table = read_runs(TABLE)
    note = args.folder / "laws.txt"  # kept, so that a stopped experiment goes on with the mixtures it began with
    if not note.exists():
        args.folder.mkdir(parents=True, exist_ok=True)
        with replacing(note) as part:
            part.write_text(json.dumps([commit, recommend(table)]))
    commit, told = json.loads(note.read_text())
    mixtures = {law: np.array(found["weights"]) for law, found in told.items()} | references(table)
    seeds = list(range(1, args.seeds + 1))
    names = [f"{name}-s{seed}" for name in mixtures for seed in seeds]
    count = len(names)
    recipe = Recipe(
        np.full(count, float(LARGEST.n_total)),
        np.full(count, float(LARGEST.n_active)),
        np.full(count, float(TOKENS)),
        np.repeat(np.stack(list(mixtures.values())), len(seeds), axis=0),
    )
    result = sweep(
        recipe,
        names,
        build_corpus(BUILT_IN),
        args.folder / "rows",
        seeds=seeds * len(mixtures),
        settings=Settings(),
        resume=True,
        workers=args.workers,
        tell=lambda line: print(line, flush=True),
    )
    losses = np.asarray(result.runs.losses).reshape(len(mixtures), len(seeds), -1)
    accuracies = np.asarray(result.runs.accuracies).reshape(len(mixtures), len(seeds), -1)
    measured = compare(list(mixtures), losses, accuracies)
    for name, mixture in mixtures.items():
        measured[name] |= {
            "weights": dict(zip(result.runs.domains, np.round(mixture, 5).tolist(), strict=True)),
            "losses": dict(
                zip(result.runs.sets, losses[list(mixtures).index(name)].mean(0).round(5).tolist(), strict=True)
            ),
            "accuracies": dict(
                zip(result.runs.tasks, accuracies[list(mixtures).index(name)].mean(0).round(5).tolist(), strict=True)
            ),
        }
    record = {key: result.record[key] for key in ("device", "cores", "versions", "settings", "seconds")}
    written = {
        "commit": commit,
        **record,
        "size": LARGEST.n_active,
        "tokens": TOKENS,
        "seeds": seeds,
        "interval": "90 %, Student's t over seeds; differences are paired by seed",
        "fit": FIT,
        "laws": told,
        "mixtures": measured,
    }
    with replacing(RESULT) as part:
        part.write_text(json.dumps(written, indent=1) + "\n")
    for name, row in sorted(measured.items(), key=lambda item: item[1]["mean_loss"]):
        gap, accuracy = row["loss_minus_camel"], row["mean_accuracy"]
        print(
            f"{name:>12} loss {row['mean_loss']:.4f} ({gap[0]:+.4f} [{gap[1]:+.4f}, {gap[2]:+.4f}]) accuracy {accuracy:.4f}"
        )


def recommend(table: Any) -> dict[str, dict[str, Any]]:
    """Per law the mixture for the largest size, and what it predicts there.

    A mixture with shares that no fitted run has had gets a second one beside it, searched within the shares that were fitted.
    """
    import jax

    from camel_jax.fitting.fit import fit
    from camel_jax.laws import CONSTRUCTORS
    from camel_jax.mixture.objectives import mean_loss
    from camel_jax.mixture.optimize import optimize_mixture
    from camel_jax.tables.runs import select

    active, total = np.asarray(table.recipe.n_active), np.asarray(table.recipe.n_total)
    below = select(table, (active == total) & (active < LARGEST.n_active))
    low, high = (limit(np.asarray(below.recipe.weights), axis=0) for limit in (np.min, np.max))
    told = {}
    for law in LAWS:
        fitted = fit(CONSTRUCTORS[law](), below, key=jax.random.key(0), field=law == "camel", **FIT)
        at = fitted.losses_at(str(LARGEST.n_active), TOKENS)
        found = {law: optimize_mixture(at, objective=mean_loss())}
        if np.any(found[law].weights < low) or np.any(found[law].weights > high):
            within = {name: (low[k], high[k]) for k, name in enumerate(table.domains)}
            found[f"{law}_in_range"] = optimize_mixture(at, objective=mean_loss(), bounds=within)
        for name, best in found.items():
            told[name] = {
                "fitted_rows": len(below),
                "status": fitted.check(),
                "weights": best.weights.tolist(),
                "predicted_mean_loss": [best.value.value, best.value.lower, best.value.upper],
                "search": best.status,
            }
            print(name, np.round(best.weights, 3), f"predicted {best.value.value:.4f}", flush=True)
    return told


def references(table: Any) -> dict[str, np.ndarray]:
    """The uniform mixture, the natural one, and the random one of the lowest mean loss at the largest size."""
    at = np.flatnonzero(np.asarray(table.recipe.n_active) == LARGEST.n_active)
    names = [table.run_names[table.run[i]].split("-", 1)[1] for i in at]
    shares = dict(zip(names, np.asarray(table.recipe.weights)[at], strict=True))
    means = dict(zip(names, np.asarray(table.losses)[at].mean(1), strict=True))
    best = min((name for name in names if name not in ("uniform", "natural")), key=means.__getitem__)
    print("best random mixture:", best, np.round(shares[best], 3), f"{means[best]:.4f}", flush=True)
    return {"uniform": shares["uniform"], "natural": shares["natural"], "best_random": shares[best]}


def compare(names: list[str], losses: np.ndarray, accuracies: np.ndarray) -> dict[str, dict[str, Any]]:
    """Means over sets and seeds with intervals, and paired differences to CAMEL's mixture; arrays are (mixtures, seeds, sets)."""

    def interval(values: np.ndarray) -> list[float]:
        half = T90[len(values)] * values.std(ddof=1) / np.sqrt(len(values))
        return [round(float(x), 5) for x in (values.mean(), values.mean() - half, values.mean() + half)]

    mean_losses, mean_accuracies = losses.mean(2), accuracies.mean(2)
    first = names.index("camel")
    return {
        name: {
            "mean_loss": round(float(mean_losses[i].mean()), 5),
            "mean_loss_interval": interval(mean_losses[i])[1:],
            "loss_minus_camel": interval(mean_losses[i] - mean_losses[first]),
            "mean_accuracy": round(float(mean_accuracies[i].mean()), 5),
            "mean_accuracy_interval": interval(mean_accuracies[i])[1:],
            "accuracy_minus_camel": interval(mean_accuracies[i] - mean_accuracies[first]),
            "mean_loss_by_seed": mean_losses[i].round(5).tolist(),
            "mean_accuracy_by_seed": mean_accuracies[i].round(5).tolist(),
        }
        for i, name in enumerate(names)
    }


if __name__ == "__main__":
    main()
