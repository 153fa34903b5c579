"""What do the priors allow before the first run? The prior predictive of CAMEL and DML beside the shipped measured table, and the
list of priors, for the page on the posterior: python benchmarks/posterior/prior_predictive.py [--data DIR].

Tables are drawn from the priors at the recipes of camel_jax/data/proxy_runs.csv (dense, longest training, first seed), which chose
nothing: priors are in units of a table, the geometric means of its sizes, tokens and losses, and are the same for every table. Per law:
all losses; one mixture over the sizes; and how much mixtures matter, the standard deviation of log loss over mixtures at one size.
The last is also told for the second smallest size of public tables, which no benchmark holds out.
Writes docs/figures/prior_predictive.png, the list in docs/posterior_model.md and results/prior_predictive.json.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from common.pages import fill
from common.provenance import DATA, RESULTS, ROOT, provenance
from common.results import write

FIGURE = ROOT / "docs" / "figures" / "prior_predictive.png"
DRAWS, LINES, SKILLS = 400, 40, 6
PUBLIC = "slimpajama", "pile5", "redpajama7"
HEAD = "| coordinate | center | deviation | spread over sets or skills |", "|---|---|---|---|"


def table():
    """The rows that are drawn."""
    from camel_jax import read_runs, select

    runs = read_runs(ROOT / "camel_jax" / "data" / "proxy_runs.csv", on_ignored=lambda names: None)
    r, names = runs.recipe, np.array([runs.run_names[i] for i in runs.run])
    first = ~np.array([name.rsplit("-", 1)[-1].startswith("s") for name in names])
    tokens = np.asarray(r.tokens)
    return select(runs, (np.asarray(r.n_active) == np.asarray(r.n_total)) & (tokens == tokens.max()) & first)


def draw(law, runs):
    """A table laid out, log losses (M, G, V) that the priors allow there, and those measured, (G, V); at the end of runs."""
    import jax

    from camel_jax.bayes.model import prior_predictive
    from camel_jax.bayes.noise import lay_out
    from camel_jax.bayes.priors import layout
    from camel_jax.laws.law import scale_runs, table_units

    scaled = scale_runs(table_units(runs), runs)
    laid = lay_out(scaled)
    plan = layout(law, law.init(jax.random.key(0), scaled), 1, len(runs.sets))
    drawn = np.asarray(prior_predictive(plan, laid, jax.random.key(1), DRAWS))[:, :, 0]
    return laid, drawn, np.where(np.asarray(laid.measured), np.asarray(laid.log_losses), np.nan)[:, 0]


def public(law, path: pathlib.Path) -> dict[str, list[float]]:
    """How much mixtures matter at the second smallest size of a table."""
    from camel_jax import read_runs, select
    from camel_jax.tables.runs import final_rows, scales

    runs = read_runs(path, on_ignored=lambda names: None)
    runs = select(runs, final_rows(runs) & (np.asarray(runs.recipe.n_active) == scales(runs)[1]))
    _, drawn, measured = draw(law, runs)
    return told(drawn.std(1).ravel(), np.nanstd(measured, axis=0))


def told(prior, seen) -> dict[str, list[float]]:
    """Deviations of log loss over mixtures in percent: quantiles of the prior's, and the measured ones."""
    return {
        "allowed_5_50_95_99": np.round(100 * np.quantile(prior, [0.05, 0.5, 0.95, 0.99]), 2).tolist(),
        "measured_by_set": np.round(100 * seen, 2).tolist(),
    }


def panels(law, runs, row, name: str) -> dict[str, list[float]]:
    """One row of the figure: losses, sizes, mixtures; and the numbers behind the last panel, in percent."""
    from camel_jax.figures import losses, style
    from camel_jax.laws.law import table_units

    laid, drawn, measured = draw(law, runs)
    losses.prior_predictive(drawn, measured, ax=row[0], title=f"{name}: losses")
    size = np.asarray(laid.recipe.n_active)
    even = np.flatnonzero(np.ptp(np.asarray(laid.recipe.weights), axis=1) < 1e-3)
    even = even[np.argsort(size[even])]
    x = size[even] * float(table_units(runs).size)
    row[1].plot(x, np.exp(drawn[:LINES, even, 0]).T, color=style.COLORS[5], lw=0.7, alpha=0.6)
    for v in range(measured.shape[1]):
        row[1].plot(x, np.exp(measured[even, v]), color=style.COLORS[3], marker="o", ms=3, lw=1.2)
    row[1].set(xscale="log", xlabel="parameters", ylabel="loss over the mean loss of its set")
    row[1].set_title("the uniform mixture over sizes", loc="left", fontsize=11)
    largest = np.isclose(size, size.max())
    prior, seen = drawn[:, largest].std(1).ravel(), measured[largest].std(0)
    row[2].hist(
        100 * prior,
        bins=np.geomspace(0.2, 100, 41),
        weights=np.full(prior.size, 100 / prior.size),
        color=style.COLORS[5],
    )
    for v in seen:
        row[2].axvline(100 * v, color=style.COLORS[3], lw=1.2)
    row[2].set(xscale="log", xlabel="deviation of loss over mixtures (%)", ylabel="share (%)")
    row[2].set_title("how much mixtures matter", loc="left", fontsize=11)
    return told(prior, seen)


def listing(runs) -> str:
    """The priors as tables, those of the law as they are on this table and those of the noise."""
    import jax

    from camel_jax import laws
    from camel_jax.bayes.priors import layout

    lines, seen = [], {}
    for law in (laws.camel(skills=SKILLS), laws.dml(), laws.sodm(), laws.sodm_joint()):
        leaves = layout(law, law.init(jax.random.key(0), runs), 2, len(runs.sets)).leaves
        lines += [f"**`{law.name}`**", "", *HEAD]
        lines += [line(name, prior) for name, _, prior in leaves if not name.startswith("noise_")] + [""]
        seen |= {name: prior for name, _, prior in leaves if name.startswith("noise_")}
    return "\n".join([*lines, "**noise**", "", *HEAD, *(line(*item) for item in seen.items()), ""])


def line(name: str, prior) -> str:
    """One prior."""
    spread = "" if prior.spread is None else f"{prior.spread:g}"
    return f"| `{name}` | {prior.center:.2f} | {prior.sd:g} | {spread} |"


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, default=DATA)
    args = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    from camel_jax import laws
    from camel_jax.figures import style
    from camel_jax.storage import replacing

    runs = table()
    figure = style.new_figure(11.0, 6.4)
    rows = figure.subplots(2, 3)
    spread = {
        "camel": panels(laws.camel(skills=SKILLS), runs, rows[0], f"CAMEL, {SKILLS} skills"),
        "dml": panels(laws.dml(), runs, rows[1], "DML"),
    }
    camel = laws.camel(skills=SKILLS)
    spread |= {f"camel, {name}": public(camel, args.data / f"{name}.csv") for name in PUBLIC}
    result = provenance("camel_jax.bayes.model", "camel_jax.laws.camel", "camel_jax.laws.dml")
    result |= {"draws": DRAWS, "deviation_over_mixtures_percent": spread}
    write(RESULTS / "prior_predictive.json", result)
    with replacing(FIGURE) as part:
        figure.savefig(part, format="png")
    fill("priors", listing(runs))


if __name__ == "__main__":
    main()
