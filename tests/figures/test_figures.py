"""Figures: what is drawn is what was given, nothing global is touched, and every figure can be written."""

import io
import sys

import numpy as np
import pytest

from camel_jax.evaluation.scores import Row
from camel_jax.figures import leaderboard, losses, mixtures, overview, style

SETS = ("web", "code", "math")


@pytest.fixture
def panels():
    rng = np.random.default_rng(0)
    measured = rng.uniform(1.5, 3.5, (20, 3))
    measured[3, 1] = np.nan
    sizes = np.geomspace(2e7, 3e9, 7)
    point = 1.5 + (sizes[:, None] / 1e8) ** -0.2 * np.array([1.0, 0.7, 0.5])
    curves = losses.Curves(sizes, point, point * 0.99, point * 1.01)
    weights = np.array([0.6, 0.05, 0.35])
    return {
        "backtest": {"measured": measured, "predicted": measured * 1.01, "names": SETS},
        "prior_predictive": {"drawn": rng.normal(0, 0.3, (50, 20, 3)), "measured": np.log(measured) - 0.8},
        "mixture": {
            "domains": SETS,
            "weights": weights,
            "reference": np.array([0.3, 0.3, 0.4]),
            "low": weights * 0.8,
            "high": weights * 1.1,
        },
        "loss_curves": {"recommended": curves, "reference": curves, "names": SETS, "fitted_up_to": 4e8},
        "optimum_path": {"sizes": sizes, "weights": np.tile(weights, (7, 1)), "domains": SETS, "fitted": [4e8]},
    }


def written(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["backtest", "mixture", "loss_curves", "optimum_path"])
def test_draws_on_the_given_axes(name, panels):
    ax = style.new_figure().subplots()
    wing = mixtures if name in ("mixture", "optimum_path") else losses
    assert getattr(wing, name)(**panels[name], ax=ax) is ax
    assert ax.get_xlabel() and ax.get_title(loc="left")
    assert written(ax.figure).startswith(b"\x89PNG")


def test_backtest_shows_errors_of_measured_runs(panels):
    ax = losses.backtest(**panels["backtest"])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:3] == ["web  1.00 %", "code  1.00 %", "math  1.00 %"]
    assert any("1.00 %" in text.get_text() for text in ax.texts)


def test_mixture_bars_are_the_shares(panels):
    ax = mixtures.mixture(**panels["mixture"])
    assert [bar.get_width() for bar in ax.patches] == [0.6, 0.05, 0.35]
    shown = [text.get_text() for text in ax.texts if "%" in text.get_text()]
    assert shown[::2] == ["60.0 %", "5.0 %", "35.0 %"]
    assert shown[1::2] == ["reference 30.0 %", "reference 30.0 %", "reference 40.0 %"]  # no value is read as another's
    assert [text.get_text() for text in ax.get_yticklabels()] == list(SETS)


def test_end_labels_do_not_overlap(panels):
    curves = panels["loss_curves"]["recommended"]
    close = losses.Curves(curves.sizes, curves.point * 0 + 2.0, curves.low * 0 + 1.9, curves.high * 0 + 2.1)
    ax = losses.loss_curves(close, None, SETS, fitted_up_to=4e8)
    heights = sorted(text.get_position()[1] for text in ax.texts if text.get_text() in SETS)
    low, high = ax.get_ylim()
    assert np.diff(heights).min() > 0.04 * (high - low)


@pytest.mark.parametrize(
    "names", [["backtest"], ["backtest", "mixture"], ["backtest", "mixture", "loss_curves", "optimum_path"]]
)
def test_overview_has_the_panels_asked_for(names, panels):
    figure = overview.overview({name: panels[name] for name in names}, title="A study", note="simulated")
    assert sum(ax.get_visible() for ax in figure.axes) == len(names)
    assert {"A study", "simulated"} <= {text.get_text() for text in figure.texts}
    assert written(figure).startswith(b"\x89PNG")


def test_same_figure_same_bytes(panels):
    one, two = (written(overview.overview(panels, title="t")) for _ in range(2))
    assert one == two


def test_pyplot_is_not_used(panels):
    before = "matplotlib.pyplot" in sys.modules
    overview.overview(panels, title="t")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_leaderboard_draws_every_law_that_has_an_error():
    rows = [
        Row("t", name, 10, 5, error=e, error_low=0.9 * e, error_high=1.1 * e, error_final=e)
        for name, e in (("camel", 0.4), ("dml", 0.9), ("dml_published", 1.5))
    ]
    failed = Row("t", "trees", 10, 5, failure="not installed")
    ax = leaderboard.leaderboard([*rows, failed])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dml published", "dml", "camel"]
    assert len(written(leaderboard.leaderboards({"t": rows, "u": rows, "v": rows[:1]}))) > 1000
    single = leaderboard.leaderboards({"t": rows})
    written(single)
    edge = single.get_window_extent().x1
    assert all(text.get_window_extent().x1 <= edge for text in single.texts)
    with pytest.raises(ValueError, match="no row"):
        leaderboard.leaderboard([failed])
