"""Every public result shows itself: a short repr, escaped HTML, text, a frame and Axes; decisions and scores survive a file."""

import dataclasses
import html.parser
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes

import camel_jax as cj
from camel_jax import laws
from camel_jax.bayes.noise import Noise
from camel_jax.budget.best_recipe import iso_cost
from camel_jax.evaluation import simulate
from camel_jax.evaluation.scores import Row
from camel_jax.fitting.diagnostics import Diagnostics
from camel_jax.recipes.outcome import Interval
from camel_jax.views.fits import draws_dataset
from camel_jax.views.view import Sheet, View, as_html, as_text

pytestmark = pytest.mark.slow

LONGEST = 1_500
NASTY = "<script>alert('x')</script>\x1b[31m"


@pytest.fixture(scope="module")
def shown():
    """One of every public result, small to fit but with names as long as tables have them."""
    many = dataclasses.replace
    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=8, sizes=(1e7, 5e7), checkpoints=2)
    names = (NASTY, "web", "code" * 30)
    runs = many(runs, domains=names, sets=(*names[:1], *runs.sets[1:]))
    knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))
    runs = many(runs, tasks=runs.sets, accuracies=0.25 + 0.5 * knows)
    fit = cj.fit(laws.chinchilla(), runs, key=jax.random.key(1), starts=2, resamples=4, backtests=0)
    benchmarks = cj.fit_accuracies(runs, key=jax.random.key(2), resamples=2, starts=1)
    fit = fit.with_benchmarks(benchmarks)
    params = {"floor": jnp.ones((4, 3)), "pull": jnp.linspace(0.1, 0.3, 36).reshape(4, 3, 3)}
    pulls = laws.Law("pulls", lambda key, runs: params, lambda p, r: p["floor"] + p["pull"] @ (r.weights + 0.1) ** -0.5)
    errors = {
        "bias": np.zeros((4, 3)),
        "slope": np.ones((4, 3, 3)),
        "beyond": np.zeros((4, 4)),
        "tail": np.linspace(0, 1, 4),
    }
    drawn = many(fit.draws(), law=pulls, params=params, center=params, **errors)
    at = drawn.losses_at("1B", "20B")
    best = cj.optimize_mixture(at, starts=4, bounds={"web": (None, 0.4)})
    ladder = cj.make_ladder(["10M", "30M", "100M"])
    target = cj.target_region("1B", None, cj.mixtures_around(jax.random.key(3), 4, np.ones(3) / 3))
    known = cj.know_nothing(laws.chinchilla(), ladder, target, names, key=jax.random.key(0), draws=2)
    design = cj.propose_runs(known, ladder, 1e18, target, target.recipe.weights)
    shape = (2, 5)
    noise = Noise(*(np.ones((*shape, 3)) if name == "scale" else np.ones(shape) for name in Noise._fields))
    raw = {name: np.random.default_rng(0).normal(size=(*shape, *np.shape(x)[1:])) for name, x in fit.raw.items()}
    unread: Any = None  # the plan and the table, of which nothing is shown
    posterior = cj.Posterior(
        many(fit, diagnostics=Diagnostics("nuts", *shape, 1.0, 500.0, 500.0)),
        raw,
        noise,
        np.zeros((*shape, 7)),
        np.zeros(shape),
        unread,
        unread,
    )
    scored: dict[str, Any] = dict(zip(Row._fields[4:14], np.linspace(0.1, 1, 10), strict=True))
    table = [Row(NASTY, name, 10, 4, **scored, parameters=5, seconds=1.0) for name in ("camel", "dml")]
    power = {"sizes": ("10M", "10B"), "starts": 2, "domains": ["web", "code"]}

    def curve(n, d):
        return lambda w: (1 + 400 * n**-0.34 + 400 * d**-0.34 + 0.1 * (w[0] - 0.3) ** 2)[None]

    return {
        "runs": runs,
        "recipe": runs.recipe,
        "fit": fit,
        "law": laws.blend(),
        "draws": fit.draws(),
        "losses": at,
        "outcomes": fit.outcomes_at("1B", "20B", tasks=runs.tasks),
        "accuracy": benchmarks,
        "mixture": best,
        "near": cj.near_optimal(at, samples=8, starts=4),
        "front": cj.pareto_front(at, cj.single_set(0), cj.single_set(1), 3, starts=4),
        "path": cj.optimum_path(lambda n, d: dataclasses.replace(at, n_active=float(n)), [1e8, 1e9], "1B", starts=4),
        "budget": cj.best_recipe(curve, 1e19, **power),
        "budgets": cj.budget_path(curve, [1e18, 1e19], **power),
        "costs": iso_cost(curve, [1e18], np.array([0.5, 0.5]), sizes=("10M", "10B"), points=7, domains=["web", "code"]),
        "ladder": ladder,
        "target": target,
        "known": known,
        "design": design,
        "posterior": posterior,
        "leaderboard": cj.Leaderboard([*table, Row("b", "sodm", 3, 2, failure="too few runs")]),
        "interval": Interval(*np.ones((3, 400, 3))),
        "outcome": cj.Outcome(np.ones(5_000), np.ones(5_000)),
        "discrepancy": fit.discrepancy,
        "field": fit.field,
        "limits": cj.parse_limits(
            100, bounds={f"domain {i}": (0.001, 0.5) for i in range(100)}, kl=(np.ones(100) / 100, 1.0)
        ),
        "members": fit.members,
    }


NOT_VIEWS = ("recipe", "law", "target", "interval", "outcome", "discrepancy", "field", "limits", "members")


class Page(html.parser.HTMLParser):
    """Tags and text of a page; a tag that is not closed is an error."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_no_repr_is_long(shown):
    lengths = {name: len(repr(result)) for name, result in shown.items() if name != "members"}
    assert max(lengths.values()) < LONGEST, lengths
    assert not any("\n" in repr(shown[name]) or "\x1b" in repr(shown[name]) for name in lengths)


def test_views_are_whole_and_escaped(shown):
    for name, result in shown.items():
        if name in NOT_VIEWS:
            continue
        page = Page()
        page.feed(result._repr_html_())
        assert page.open == [] and "script" not in page.tags, name
        assert "\x1b" not in page.text and "\x1b" not in result.summary(), name
        assert len(result.summary()) > 40, name
    page = Page()
    page.feed(shown["runs"]._repr_html_())
    assert "<script>alert('x')</script>" in page.text  # seen, and not obeyed


def test_frames_have_the_numbers(shown):
    best = shown["mixture"]
    np.testing.assert_array_equal(best.to_frame()["share"], best.weights)
    assert list(best.outcome_frame()[["point", "low", "high"]].iloc[0]) == [x[0] for x in best.losses]
    losses = shown["losses"].to_frame(best.weights)
    np.testing.assert_allclose(losses["point"], shown["losses"](best.weights))
    assert (losses["low"] < losses["high"]).all() and list(losses.columns) == ["name", "point", "low", "high"]
    assert len(shown["outcomes"].to_frame()) == 6
    fitted = shown["fit"].to_frame()
    assert list(fitted["kind"].value_counts()[["resample", "start"]]) == [4, 2]
    for name in ("near", "front", "path", "budget", "budgets", "costs", "design", "accuracy", "leaderboard", "runs"):
        assert len(shown[name].to_frame()), name
    raw = shown["posterior"].to_frame().set_index("name")
    assert raw.loc["floor[1]", "mean"] == pytest.approx(shown["posterior"].raw["floor"][..., 1].mean())
    with pytest.raises(ValueError, match="3 shares are needed"):
        shown["losses"].to_frame([0.5, 0.5])


def test_draws_have_named_axes(shown):
    posterior = shown["posterior"].to_xarray()
    assert posterior["noise_scale"].dims == ("chain", "draw", "set") and posterior["log_density"].dims == (
        "chain",
        "draw",
    )
    assert posterior["floor"].dims == ("chain", "draw", "floor_0")  # as many sets as domains: not told
    fit = shown["fit"].to_xarray()
    assert fit["error_slope"].dims == ("draw", "set", "domain") and list(fit["set"].values) == list(shown["fit"].sets)
    apart = draws_dataset({"a": np.ones((5, 2, 3))}, ("draw",), {"set": "xy", "domain": "klm"})
    assert apart["a"].dims == ("draw", "set", "domain")
    tree = shown["posterior"].to_arviz()
    assert "floor" in tree["posterior"]


def test_plots_are_axes(shown):
    for name in (
        "runs",
        "fit",
        "losses",
        "outcomes",
        "mixture",
        "near",
        "front",
        "budget",
        "budgets",
        "costs",
        "design",
    ):
        assert isinstance(shown[name].plot(), Axes), name
    assert isinstance(shown["leaderboard"].plot(), Axes) and isinstance(shown["posterior"].plot(), Axes)
    ax = shown["mixture"].plot()
    assert shown["near"].plot(ax) is ax


def test_decisions_and_scores_survive_a_file(shown, tmp_path):
    best = shown["mixture"]
    best.save(tmp_path / "best.json")
    again = cj.MixtureResult.load(tmp_path / "best.json")
    assert again.to_dict() == best.to_dict() and again.limits == best.limits and again.summary() == best.summary()
    (tmp_path / "best.json").write_text('{"weights": 3}')
    with pytest.raises(ValueError, match="not a saved mixture"):
        cj.MixtureResult.load(tmp_path / "best.json")
    shown["leaderboard"].save(tmp_path / "rows.csv")
    rows = cj.Leaderboard.load(tmp_path / "rows.csv")
    assert [row.method for row in rows] == ["camel", "dml", "sodm"] and rows[0].error == shown["leaderboard"][0].error
    assert rows[2].failure == "too few runs" and np.isnan(rows[2].error)
    with pytest.raises(ValueError, match="not a leaderboard"):
        (tmp_path / "other.csv").write_text("a,b\n1,2\n")
        cj.Leaderboard.load(tmp_path / "other.csv")
    shown["design"].save(tmp_path / "next.csv")
    assert (tmp_path / "next.csv").read_text().startswith("run,size,tokens")


def test_views_inside_a_program_are_shapes(shown):
    seen = []

    @jax.jit
    def look(at):
        seen.append((repr(at), at._repr_html_()))
        return at(jnp.ones(3) / 3)

    look(shown["losses"])
    assert seen[0][0].startswith("LossesAt(") and len(seen[0][0]) < LONGEST
    assert repr(jax.tree.map(lambda _: None, shown["runs"])).startswith("Runs(")


def test_long_tables_are_cut():
    view = View(
        "many", {}, [Sheet("rows", {"name": [f"n{i}" for i in range(100)], "share": np.ones(100)}, bar="share")]
    )
    assert "76 more rows" in as_text(view) and "76 more rows" in as_html(view) and len(repr(view)) < LONGEST
