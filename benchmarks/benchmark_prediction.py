"""Losses to benchmark accuracies: does the law predict a larger scale and an unseen corpus better than simpler rules?

    python benchmarks/benchmark_prediction.py [--data FOLDER] [--out benchmarks/results/benchmark_prediction.json]

Protocol, printed with the numbers:
  scale    fit on runs at or below 154M, test on the runs at 412M with their true losses. Tasks with signal: those the law leaves
           unflagged on the training rows. Every choice of every method (prior, loss set, depth) minimises the error of the inner
           split <= 79M -> 154M, over the same tasks.
  corpus   leave one training corpus out, fit on all runs of the other two, predict every run. A pair is two runs of the same size
           and token multiple, one of the held-out corpus: right if the law orders their mean accuracy as measured.
           Clear: the measured difference exceeds twice its binomial noise (at 11M most accuracies are at chance).
           Corpora: the same comparison of corpora rather than runs: per size, means over the token multiples all three have.
           Seen: the same share for a law fitted on all three corpora, a hint of what noise leaves to be had.
           Weighted: the truth stays the plain mean of the unflagged tasks; the law's prediction averages them with weights by
           what a task tells (its rise, or the precision of its items). Fitted and judged at or below 154M alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import platform
import subprocess
import time
import warnings
from importlib.metadata import version

import jax
import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression

import camel_jax
from camel_jax.downstream.fit import fit_accuracies
from camel_jax.recipes.recipe import Recipe
from camel_jax.tables.runs import Runs, scales, select
from camel_jax.tables.tasks import Task, read_tasks

DATA = pathlib.Path(camel_jax.__file__).parents[2] / "shared" / "data"
RESULTS = pathlib.Path(__file__).parent / "results" / "benchmark_prediction.json"


def load(folder: pathlib.Path) -> Runs:
    frame = pd.read_csv(folder / "openlm_benchmarks.csv")

    def block(prefix: str) -> tuple[np.ndarray, tuple[str, ...]]:
        columns = [c for c in frame if c.startswith(prefix)]
        return frame[columns].to_numpy(float), tuple(c[len(prefix) :] for c in columns)

    size = frame["size"].to_numpy(float)
    (mix, domains), (losses, sets), (acc, tasks) = block("mix/"), block("loss/"), block("acc/")
    recipe = Recipe(size, size, frame["tokens"].to_numpy(float), mix)
    return Runs(recipe, losses, acc, np.arange(len(frame)), domains, sets, tasks, tuple(frame["run"]))


# Rivals. Each is fit(losses (R, V), accuracies (R,)) -> predict(losses); one task at a time, no look at the test rows.


def curve(form, starts, bounds, column):
    """Least squares of a curve of one loss, from several starts."""

    def fit(losses, accuracy):
        x = losses[:, column]
        best = None
        for start in starts:
            found = least_squares(lambda p: form(p, x) - accuracy, start, bounds=bounds, x_scale="jac", max_nfev=400)
            if best is None or found.cost < best.cost:
                best = found
        return lambda new: form(best.x, new[:, column])

    return fit


def exponential(p, x):
    return p[0] + p[1] * np.exp(-p[2] * (x - 4.0))


def sigmoid(p, x):
    return p[0] + (p[1] - p[0]) / (1 + np.exp(np.clip(p[2] * (x - p[3]), -500, 500)))


def linear(columns):
    def fit(losses, accuracy):
        model = LinearRegression().fit(losses[:, columns], accuracy)
        return lambda new: model.predict(new[:, columns])

    return fit


def boosting(depth, trees, rate):
    def fit(losses, accuracy):
        model = GradientBoostingRegressor(max_depth=depth, n_estimators=trees, learning_rate=rate, random_state=0)
        model.fit(losses, accuracy)
        return model.predict

    return fit


def rivals(n_sets: int) -> dict[str, list]:
    """Variants of each rival; the inner split chooses among them."""
    exp_starts = list(itertools.product((0.0, 0.25), (0.02, 0.2), (0.5, 2.0)))
    exp_bounds = ([-0.5, 0.0, 0.0], [1.0, 5.0, 10.0])
    sig_starts = list(itertools.product((0.1,), (0.5, 0.9), (1.0, 4.0), (3.0, 4.0)))
    sig_bounds = ([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 20.0, 10.0])
    sets = range(n_sets)
    return {
        "linear, one loss": [linear([v]) for v in sets],
        "linear, all losses": [linear(list(sets))],
        "exponential, one loss": [curve(exponential, exp_starts, exp_bounds, v) for v in sets],
        "sigmoid, one loss": [curve(sigmoid, sig_starts, sig_bounds, v) for v in sets],
        "gradient boosting": [boosting(d, n, r) for d in (1, 2, 3) for n, r in ((50, 0.1), (200, 0.1), (300, 0.03))],
    }


def run_rival(fit, train: Runs, test: Runs, columns: np.ndarray) -> np.ndarray:
    """Predicted accuracies (R, T) of one variant."""
    return np.stack([fit(train.losses, train.accuracies[:, t])(test.losses) for t in columns], 1)


def scale_split(runs: Runs, tasks: dict[str, Task], key, subset: dict[str, bool], resamples: int) -> dict:
    """All methods, fitted below the largest scale and tested at it."""
    sizes = scales(runs)
    size = np.asarray(runs.recipe.n_active)
    train, test = select(runs, size < sizes[-1]), select(runs, size == sizes[-1])
    inner, inner_test = select(runs, size < sizes[-2]), select(runs, size == sizes[-2])

    began = time.perf_counter()
    fit = fit_accuracies(train, tasks, key=key, resamples=resamples)
    seconds = time.perf_counter() - began
    signal = np.flatnonzero(fit.usable)
    truth = test.accuracies

    def score(predicted: np.ndarray, columns: np.ndarray) -> dict:
        error = predicted - truth[:, columns]
        of_mean = error.mean(1)
        return {
            "task_mae_points": 100 * float(np.abs(error).mean()),
            "mean_mae_points": 100 * float(np.abs(of_mean).mean()),
            "mean_bias_points": 100 * float(of_mean.mean()),
        }

    law = np.asarray(fit.predict(test.losses))
    rows = {"camel_jax": score(law[:, signal], signal)}
    copies = np.broadcast_to(test.losses, (1000, *test.losses.shape))
    drawn = np.asarray(fit.draws(copies, jax.random.key(1), measured=True))
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    coverage = ((truth >= low) & (truth <= high))[:, signal].mean()
    low, high = np.quantile(drawn[..., signal].mean(-1), [0.05, 0.95], axis=0)
    mean_truth = truth[:, signal].mean(1)
    coverage_mean = ((mean_truth >= low) & (mean_truth <= high)).mean()

    extra = np.flatnonzero([subset.get(t, False) for t in runs.tasks])
    rows_subset = {"camel_jax": score(law[:, extra], extra)}
    chosen = {"camel_jax": fit.choice}
    for name, variants in rivals(len(runs.sets)).items():
        inner_error = [
            np.abs(run_rival(v, inner, inner_test, signal) - inner_test.accuracies[:, signal]).mean() for v in variants
        ]
        best = int(np.argmin(inner_error))
        chosen[name] = runs.sets[best] if len(variants) == len(runs.sets) else best
        rows[name] = score(run_rival(variants[best], train, test, signal), signal)
        rows_subset[name] = score(run_rival(variants[best], train, test, extra), extra)
    return {
        "train_sizes": [float(s) for s in sizes[:-1]],
        "test_size": float(sizes[-1]),
        "tasks_with_signal": [runs.tasks[t] for t in signal],
        "flags": fit.flags,
        "inner_scores_points": {k: 100 * v for k, v in fit.scores.items()},
        "chosen": chosen,
        "methods": rows,
        "published_17": rows_subset,
        "per_task_mae_points": {runs.tasks[t]: 100 * float(np.abs(law[:, t] - truth[:, t]).mean()) for t in signal},
        "coverage_90_tasks": float(coverage),
        "coverage_90_mean": float(coverage_mean),
        "seconds_with_compilation": seconds,
    }


def order_of_runs(predicted, truth, groups, held=None, rows=None) -> list[bool]:
    """Right or wrong for each pair of runs of different corpora (and one of them held out) in the same group."""
    corpus, same = groups
    hits = []
    for i, j in itertools.combinations(range(len(corpus)), 2):
        if rows is not None and not (rows[i] and rows[j]):
            continue
        if same[i] == same[j] and corpus[i] != corpus[j] and (held is None or held in (corpus[i], corpus[j])):
            hits.append(bool(np.sign(predicted[i] - predicted[j]) == np.sign(truth[i] - truth[j])))
    return hits


def corpus_means(values, corpus, size, multiple) -> np.ndarray:
    """(size x corpus,) means over the token multiples at which every corpus has a run of that size."""
    means = []
    for s in np.unique(size):
        everywhere = [
            m for m in np.unique(multiple) if len(set(corpus[(size == s) & (multiple == m)])) == corpus.max() + 1
        ]
        rows = (size == s) & np.isin(multiple, everywhere)
        means += [values[rows & (corpus == c)].mean() for c in range(corpus.max() + 1)]
    return np.array(means)


def corpus_split(runs: Runs, tasks: dict[str, Task], key, below: float = np.inf) -> dict:
    """Order of pairs with one corpus held out, fitted on the other corpora at or below a size."""
    corpus = np.argmax(runs.recipe.weights, 1)
    size = np.asarray(runs.recipe.n_active)
    multiple = np.round(np.log2(np.asarray(runs.recipe.tokens) / size))
    right: dict[str, list[bool]] = {}
    sizes_of_pairs: list[float] = []
    errors, clear = [], []
    weighted: dict[str, list[bool]] = {}
    chosen = {}
    items = np.array([tasks[t].n_items for t in runs.tasks])
    corpora: dict[str, list[bool]] = {}
    n_corpora, sizes = len(runs.domains), scales(runs)
    of_means = (np.tile(np.arange(n_corpora), len(sizes)), np.repeat(sizes, n_corpora))
    for held in range(len(runs.domains)):
        train_rows = (corpus != held) & (size <= below)
        fit = fit_accuracies(select(runs, train_rows), tasks, key=key, resamples=0)
        chosen[runs.domains[held]] = fit.choice
        columns = np.flatnonzero(fit.usable)
        truth = runs.accuracies[:, columns].mean(1)
        predicted = np.asarray(fit.mean(runs.losses))
        truth_means = corpus_means(truth, corpus, size, multiple)
        for name, value in {"camel_jax": predicted, **dict(zip(runs.sets, -runs.losses.T, strict=True))}.items():
            name = name if name == "camel_jax" else f"loss {name}"
            means = corpus_means(value, corpus, size, multiple)
            corpora.setdefault(name, []).extend(order_of_runs(means, truth_means, of_means, held))
        errors.append(np.abs(predicted - truth)[corpus == held].mean())
        for i, j in itertools.product(np.flatnonzero(corpus == held), np.flatnonzero(corpus != held)):
            if size[i] == size[j] and multiple[i] == multiple[j]:
                sizes_of_pairs.append(float(size[i]))
                level = runs.accuracies[[i, j]][:, columns]
                noise = np.sqrt((level * (1 - level) / items[columns]).sum()) / len(columns)
                clear.append(abs(truth[i] - truth[j]) > 2 * noise)
                sign = np.sign(truth[i] - truth[j])
                right.setdefault("camel_jax", []).append(sign == np.sign(predicted[i] - predicted[j]))
                for v, name in enumerate(runs.sets):
                    lower = np.sign(runs.losses[j, v] - runs.losses[i, v])
                    right.setdefault(f"loss {name}", []).append(sign == lower)
        for name, weights in weightings(
            fit, runs.accuracies[train_rows][:, columns], items[columns], columns, runs.losses[train_rows]
        ).items():
            score = np.asarray(fit.predict(runs.losses))[:, columns] @ (weights / weights.sum())
            hits = order_of_runs(score, truth, (corpus, list(zip(size, multiple, strict=True))), held, size <= below)
            weighted.setdefault(name, []).extend(hits)
    pair_size = np.array(sizes_of_pairs)
    everything = fit_accuracies(select(runs, size <= below), tasks, key=key, resamples=0)
    truth = runs.accuracies[:, np.flatnonzero(everything.usable)].mean(1)
    group = (corpus, list(zip(size, multiple, strict=True)))
    seen = order_of_runs(np.asarray(everything.mean(runs.losses)), truth, group)
    return {
        "pairs": len(pair_size),
        "right": {name: float(np.mean(hits)) for name, hits in right.items()},
        "right_all_corpora_seen": float(np.mean(seen)),
        "corpus_pairs": len(corpora["camel_jax"]),
        "right_corpora": {name: float(np.mean(hits)) for name, hits in corpora.items()},
        "clear_pairs": int(np.sum(clear)),
        "right_clear": {name: float(np.mean(np.array(hits)[clear])) for name, hits in right.items()},
        "right_largest_size": {
            name: float(np.mean(np.array(hits)[pair_size == pair_size.max()])) for name, hits in right.items()
        },
        "right_by_size": {
            f"{s:.3g}": float(np.mean(np.array(right["camel_jax"])[pair_size == s])) for s in np.unique(pair_size)
        },
        "held_out_mean_mae_points": 100 * float(np.mean(errors)),
        "chosen": chosen,
        # never judged at the largest size, where it could become a choice made there
        "right_weighted_at_fitted_sizes": {name: float(np.mean(hits)) for name, hits in weighted.items()}
        if np.isfinite(below)
        else None,
    }


def weightings(fit, accuracies, items, columns, losses) -> dict[str, np.ndarray]:
    """Weights of the unflagged tasks: equal, by the precision of their items, by their rise, by the square of rise over noise."""
    noise = np.sqrt(accuracies * (1 - accuracies) / items).mean(0)
    predicted = np.asarray(fit.predict(losses))[:, columns]
    rise = np.ptp(predicted, 0)
    return {
        "plain": np.ones(len(columns)),
        "precision": noise**-2,
        "rise": rise,
        "rise over noise": (rise / noise) ** 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=32)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="scipy")

    runs = load(options.data)
    tasks = read_tasks(options.data / "openlm_benchmark_tasks.csv")
    listed = pd.read_csv(options.data / "openlm_benchmark_tasks.csv").set_index("task")["in_paper_17"]
    key = jax.random.key(options.seed)
    print(__doc__)

    scale = scale_split(runs, tasks, key, listed.to_dict(), options.resamples)
    print(f"scale: {len(scale['tasks_with_signal'])} tasks with signal: {', '.join(scale['tasks_with_signal'])}")
    print(f"{'':26s}{'signal tasks':>30s}{'the 17 published tasks':>34s}")
    print(
        f"{'points of accuracy':26s}{'per task':>10s}{'average':>10s}{'bias':>10s}{'per task':>14s}{'average':>10s}{'bias':>10s}"
    )
    for name, row in scale["methods"].items():
        cells = [*row.values(), *scale["published_17"][name].values()]
        numbers = "".join(f"{c:{14 if i == 3 else 10}.2f}" for i, c in enumerate(cells))
        print(f"{name:26s}{numbers}   {scale['chosen'][name]}")
    print(
        f"90 % intervals cover {scale['coverage_90_tasks']:.2f} of tasks x runs, {scale['coverage_90_mean']:.2f} of the averages"
    )
    print(f"inner split, points: { {k: round(v, 2) for k, v in scale['inner_scores_points'].items()} }")

    corpora = {}
    for label, below in (("all sizes", np.inf), ("sizes <= 154M", 1.6e8)):
        corpora[label] = corpus_split(runs, tasks, key, below)
        result = corpora[label]
        print(f"\ncorpus, fitted at {label}: share in the right order")
        counts = (
            f"{result['pairs']} runs",
            f"{result['clear_pairs']} clear",
            "412M",
            f"{result['corpus_pairs']} corpora",
        )
        print(" " * 28 + "".join(f"{c:>12s}" for c in counts))
        columns = [result[k] for k in ("right", "right_clear", "right_largest_size", "right_corpora")]
        for name in result["right"]:
            print(f"  {name:26s}" + "".join(f"{column[name]:12.2f}" for column in columns))
        print(f"  seen: {result['right_all_corpora_seen']:.2f} of the runs")
        if np.isfinite(below):
            print(f"  weighted: { {k: round(v, 2) for k, v in result['right_weighted_at_fitted_sizes'].items()} }")
        print(f"  camel_jax by size {result['right_by_size']}; chosen {result['chosen']}")
        print(f"  error of the held-out corpus's average: {result['held_out_mean_mae_points']:.2f} points")

    packages = {name: version(name) for name in ("jax", "numpy", "scipy", "scikit-learn")}
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=False, capture_output=True, text=True, cwd=pathlib.Path(__file__).parent
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "protocol": __doc__,
        "scale": scale,
        "corpus": corpora,
        "seed": options.seed,
        "resamples": options.resamples,
        "git": git.stdout.strip(),
        "versions": {"python": platform.python_version(), **packages},
        "device": str(jax.devices()[0]),
        "dtype": "float64",
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
