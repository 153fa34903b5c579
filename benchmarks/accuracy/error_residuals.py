"""Errors of laws on parts of public tables: what the prior of the error model is learnt from.

    python benchmarks/accuracy/error_residuals.py FOLDER KEPT [--tables a,b] [--laws camel,sodm]

Every law is fitted to the sizes up to each size of a table (at most ten of them), to three quarters of its mixtures (in the whole
table and below the largest size), to three quarters of its runs, and to its first tokens; each time all rows are predicted. KEPT holds
one file a table and law, with residuals and corrections of the residual field, and is continued; ``error_prior.py`` reads it.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import jax
import numpy as np

from camel_jax import laws
from camel_jax.fitting.fit import ROBUST
from camel_jax.fitting.lanes import best_solver, solve_lanes
from camel_jax.fitting.objective import as_data, log_predictions, row_weights
from camel_jax.fitting.plan import Lanes
from camel_jax.fitting.starts import good_starts, seeds
from camel_jax.laws.law import scale_runs, table_units
from camel_jax.prediction.residual_field import corrections, fit_field
from camel_jax.tables.read import read_runs
from camel_jax.tables.runs import Runs, mixture_ids, scales, select

LAWS = ("camel", "sodm", "sodm_joint", "dml", "chinchilla")
FEW, FOLDS = 8, 4  # mixtures below which none are left out
SIZES = 10  # at most, that parts end at
TOKENS = (0.25, 0.5)
PACKAGE = pathlib.Path(laws.__file__).parents[1] / "data" / "proxy_runs.csv"


def parts(runs: Runs) -> list[tuple[str, int, np.ndarray]]:
    """Kind of a part, how many sizes it has, and its rows as a mask."""
    active, tokens = np.asarray(runs.recipe.n_active, float), np.asarray(runs.recipe.tokens, float)
    sizes, rng = scales(runs), np.random.default_rng(0)
    ends = sorted(set(np.linspace(0, len(sizes) - 1, min(SIZES, len(sizes))).round().astype(int).tolist()))
    found = [("size", i + 1, active <= sizes[i] * (1 + 1e-9)) for i in ends]
    ids = mixture_ids(runs)
    if ids.max() + 1 >= FEW:
        fold = (rng.permutation(ids.max() + 1) % FOLDS)[ids]
        found += [("mixture", len(sizes), fold != k) for k in range(FOLDS)]
        if len(sizes) > 1:
            smaller = active < sizes[-1] * (1 - 1e-9)
            found += [("mixture", len(sizes) - 1, smaller & (fold != k)) for k in range(FOLDS)]
    run = np.asarray(runs.run)
    fold = (rng.permutation(run.max() + 1) % FOLDS)[run]
    found += [("run", len(sizes), fold != k) for k in range(FOLDS)]
    if len(np.unique(tokens)) > 3:
        early = [tokens <= share * tokens.max() * (1 + 1e-9) for share in TOKENS]
        found += [("tokens", len(sizes), rows) for rows in early if rows.sum() > 10 and (~rows).sum() > 5]
    return found


def residuals_of(law, runs: Runs, rows: list[np.ndarray], starts: int) -> tuple[np.ndarray, np.ndarray]:
    """Log measured minus log predicted losses, and corrections of the field, (parts, R, V) each; NaN where a fit failed."""
    scaled = scale_runs(table_units(runs), runs)
    data = as_data(scaled)
    raw = jax.vmap(lambda k: law.init(k, scaled))(seeds(jax.random.key(0), starts)[0])
    settings = Lanes(law, best_solver(law, data, raw), ROBUST, None)
    usual = np.asarray(data.weights)
    errors = np.full((len(rows), len(runs), len(runs.sets)), np.nan, np.float32)
    fields = np.zeros_like(errors)
    for i, keep in enumerate(rows):
        part, weights = select(runs, keep), np.zeros(len(runs))
        weights[keep] = row_weights(part)
        counts = np.divide(weights, usual, out=np.zeros_like(usual), where=usual > 0)
        solved = solve_lanes(settings, data, raw, np.tile(counts, (starts, 1)))
        values = np.asarray(solved.objective).reshape(starts, -1)
        values = np.where(np.isfinite(values), values, np.inf)
        if law.separable:
            best, sets = values.argmin(0), np.arange(values.shape[1])
            members = [jax.tree.map(lambda x, b=best, s=sets: np.asarray(x)[b, s], solved.params)]
        else:
            good = good_starts(values[:, 0]) if np.isfinite(values).any() else []
            members = [jax.tree.map(lambda x, g=g: np.asarray(x)[g], solved.params) for g in good]
        if members:
            said = np.mean([np.asarray(log_predictions(law, one, data.recipe)) for one in members], 0)
            errors[i] = np.where(np.asarray(data.measured), np.asarray(data.log_losses) - said, np.nan)
            fields[i] = corrections(fit_field(part, errors[i][keep].astype(float)), runs.recipe)
    return errors, fields


def main() -> None:
    """Fit, and keep the residuals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("kept", type=pathlib.Path)
    parser.add_argument("--tables", default="", help="names with commas; all that have mixtures if empty")
    parser.add_argument("--laws", default=",".join(LAWS))
    parser.add_argument("--starts", type=int, default=2)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    args.kept.mkdir(parents=True, exist_ok=True)
    for path in tables(args.folder, args.tables):
        for name in args.laws.split(","):
            out = args.kept / f"{path.stem}.{name}.npz"
            if out.exists():
                continue
            runs = read_runs(path)
            found = parts(runs)
            errors, fields = residuals_of(laws.CONSTRUCTORS[name](), runs, [rows for *_, rows in found], args.starts)
            np.savez(
                out,
                errors=errors,
                fields=fields,
                fitted=np.array([rows for *_, rows in found]),
                kinds=np.array([kind for kind, *_ in found]),
                sizes=np.array([n for _, n, _ in found]),
            )
            jax.clear_caches()
            print(out.name, flush=True)


def tables(folder: pathlib.Path, names: str = "") -> list[pathlib.Path]:
    """Run tables with mixtures in a folder, and the package's own."""
    found = [p for p in sorted(folder.glob("*.csv")) if "mix/" in p.read_text()[:5000].splitlines()[0]]
    wanted = [x for x in names.split(",") if x]
    return [p for p in [*found, PACKAGE] if not wanted or p.stem in wanted]


if __name__ == "__main__":
    sys.exit(main())
