"""Does the best mixture move with size? Answered from the measured runs alone: python benchmarks/proxies/figures.py.

At each dense size of camel_jax/data/proxy_runs.csv a smooth surface is fitted to each measured loss over mixtures, no law of scale in
it: ridge regression on the shares, the logarithm of the set's own share and its square, with the offset of the logarithm and the
penalty chosen by leaving one mixture out. The lowest point of their mean on the simplex is that size's best mixture; bands come from
resampling mixtures. Draws docs/figures/proxy_optimum.png and writes benchmarks/results/proxy_optimum.json.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import numpy as np

from camel_jax.figures import style
from camel_jax.recipes.simplex import lattice
from camel_jax.recipes.sizes import format_count
from camel_jax.storage import replacing
from camel_jax.tables.read import read_runs

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.provenance import RESULTS, ROOT, provenance
from common.results import write
from proxies.make_table import TABLE, TOKENS

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
OFFSETS = (0.001, 0.003, 0.01, 0.03, 0.1)  # of a share, inside the logarithm
RESAMPLES = 200


def features(weights: np.ndarray, own: int, offset: float) -> np.ndarray:
    """Shares, and a quadratic in the logarithm of one of them, (..., K + 2)."""
    log = np.log(weights[..., [own]] + offset)
    return np.concatenate([weights, log / 2, log**2 / 8], -1)


def fit_surface(
    x: np.ndarray, y: np.ndarray, counts: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Ridge regression with an intercept: (coefficients, center, mean)."""
    share = counts / counts.sum()
    center, mean = share @ x, float(share @ y)
    gram = (x - center).T @ (share[:, None] * (x - center)) + penalty * np.eye(x.shape[1]) / len(y)
    return np.linalg.solve(gram, (x - center).T @ (share * (y - mean))), center, mean


def left_out(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Prediction of each mixture from the others."""
    out = np.empty(len(y))
    for i in range(len(y)):
        coefficients, center, mean = fit_surface(x, y, (np.arange(len(y)) != i).astype(float), penalty)
        out[i] = mean + (x[i] - center) @ coefficients
    return out


def main() -> None:
    """Fit the surfaces, draw and write."""
    head, runs = provenance(), read_runs(TABLE)
    active, total = np.asarray(runs.recipe.n_active), np.asarray(runs.recipe.n_total)
    first = np.array([not runs.run_names[i].rsplit("-", 1)[-1].startswith("s") for i in runs.run])
    use = (active == total) & (np.asarray(runs.recipe.tokens) == TOKENS) & first
    grid = lattice(len(runs.domains), 40)
    rng = np.random.default_rng(0)
    sizes = np.unique(active[use])
    found: dict[float, dict[str, Any]] = {}
    for size in sizes:
        at = use & (active == size)
        weights, losses = np.asarray(runs.recipe.weights)[at], np.asarray(runs.losses)[at]
        n, sets = losses.shape
        counts = [np.ones(n), *rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)]
        values, guess = np.zeros((len(counts), len(grid))), np.zeros(n)
        for k in range(sets):
            guesses = {
                (offset, penalty): left_out(features(weights, k, offset), losses[:, k], penalty)
                for offset in OFFSETS
                for penalty in PENALTIES
            }
            offset, penalty = min(guesses, key=lambda key: float(np.mean((guesses[key] - losses[:, k]) ** 2)))
            guess += guesses[offset, penalty] / sets
            x, on_grid = features(weights, k, offset), features(grid, k, offset)
            for b, count in enumerate(counts):
                coefficients, center, mean = fit_surface(x, losses[:, k], count, penalty)
                values[b] += (mean + (on_grid - center) @ coefficients) / sets
        y = losses.mean(1)
        found[size] = {
            "explained": 1 - float(np.mean((guess - y) ** 2) / np.var(y)),
            "optima": grid[np.argmin(values, 1)],
            "surface": values[0],
            "values": values,
            "mixtures": int(at.sum()),
        }
    regret = np.array(
        [
            [float(f["surface"][np.argmin(g["surface"])] - f["surface"].min()) for f in found.values()]
            for g in found.values()
        ]
    )
    moved = found[sizes[-1]]["optima"][1:] - found[sizes[0]]["optima"][1:]
    # how much worse the smallest size's mixture is at each larger size, over the resamples of both
    cost = {
        size: np.array(
            [
                f["values"][b][np.argmin(found[sizes[0]]["values"][b])] - f["values"][b].min()
                for b in range(RESAMPLES + 1)
            ]
        )
        for size, f in found.items()
    }
    written = {
        **head,
        "tokens": TOKENS,
        "sizes": sizes.astype(int).tolist(),
        "domains": list(runs.domains),
        "explained_leaving_one_out": [round(f["explained"], 4) for f in found.values()],
        "optimum": [f["optima"][0].tolist() for f in found.values()],
        "band_80": [np.quantile(f["optima"][1:], [0.1, 0.9], axis=0).T.round(4).tolist() for f in found.values()],
        "regret_of_optimum_of_row_at_size_of_column": regret.round(5).tolist(),
        "smallest_to_largest": {
            domain: {
                "moved": round(float(np.median(moved[:, k])), 4),
                "probability_up": round(float(np.mean(moved[:, k] > 0)), 4),
            }
            for k, domain in enumerate(runs.domains)
        },
        "regret_of_smallest_optimum": {
            str(int(size)): np.quantile(value[1:], [0.05, 0.5, 0.95]).round(5).tolist() for size, value in cost.items()
        },
    }
    write(RESULTS / "proxy_optimum.json", written)
    draw(sizes, found, cost, runs.domains)
    print(json.dumps(written, indent=1))


def draw(
    sizes: np.ndarray, found: dict[float, dict[str, Any]], cost: dict[float, np.ndarray], domains: tuple[str, ...]
) -> None:
    """Shares of the measured optimum against size, and what the smallest size's optimum costs at larger ones."""
    figure = style.new_figure(10.0, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for ax in (left, right):
        style.given_axes(ax)
        ax.set_xscale("log")
        ax.set_xticks(sizes, [format_count(size) for size in sizes])
        ax.minorticks_off()
        ax.set_xlabel("parameters without the embedding")
    spread = np.linspace(-0.06, 0.06, len(domains))
    ends = []
    for k, domain in enumerate(domains):
        color, x = style.color_of(k), sizes * np.exp(spread[k])
        middle = np.array([np.median(f["optima"][1:, k]) for f in found.values()])
        low, high = (np.array([np.quantile(f["optima"][1:, k], q) for f in found.values()]) for q in (0.1, 0.9))
        left.vlines(x, low, high, color=color, alpha=0.35, linewidth=4)
        left.plot(x, middle, color=color, marker="o", markersize=4.5, linewidth=1.8)
        ends.append((float(middle[-1]), domain, color))
    at = -1.0
    for value, domain, color in sorted(ends):
        at = max(value, at + 0.022)
        left.text(sizes[-1] * 1.14, at, domain, color=color, fontsize=9, va="center")
    left.set_xlim(sizes[0] * 0.85, sizes[-1] * 2.0)
    left.set_ylim(0, None)
    left.set_ylabel("share in the measured optimum")
    style.put_title(
        left,
        "Best mixture at each size",
        "lowest point of surfaces through the measured losses; bars: 80 % of resamples",
    )
    low, middle, high = (np.array([np.quantile(cost[size][1:], q) for size in sizes]) for q in (0.05, 0.5, 0.95))
    right.vlines(sizes, low, high, color=style.COLORS[0], alpha=0.35, linewidth=4)
    right.plot(sizes, middle, color=style.COLORS[0], marker="o", markersize=4.5, linewidth=1.8)
    right.set_ylim(0, None)
    right.set_ylabel("mean loss above own best, nats per byte")
    style.put_title(right, "Cost of the smallest size's mixture", "median; bars: 90 % of resamples")
    with replacing(ROOT / "docs" / "figures" / "proxy_optimum.png") as part:
        figure.savefig(part)


if __name__ == "__main__":
    main()
