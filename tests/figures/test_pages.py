"""Figures of pages: SVG without styles, names as text, and what is drawn is what was given."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from camel_jax.figures import mixtures, sizes, spaces
from camel_jax.figures.svg import VARIABLES, page_figure
from camel_jax.mixture.near_optimal import NearOptimal

SAMPLES = np.random.default_rng(0).dirichlet(np.ones(3), 12)
HOSTILE = ("<b>", '$x^$ & "q"', "a\u202eb")


def test_a_figure_is_whole_without_a_style_sheet_and_names_are_text():
    told = page_figure(
        "near", "A <b>", 'about "it"', lambda ax: spaces.many_mixtures(HOSTILE, SAMPLES, best=SAMPLES[0], ax=ax)
    )
    assert "style" not in told and "\u202e" not in told and "<b>" not in told
    for svg in re.findall("<svg.*?</svg>", told, re.DOTALL):
        ElementTree.fromstring(svg)  # well formed
    ids = re.findall(' id="([^"]+)"', told)
    assert len(set(ids)) == len(ids) and all(f"#{one}" in told for one in ids if one != "figure-near")
    assert not set(re.findall("#[0-9a-f]{6}", told)) & set(VARIABLES)  # light or dark is the page's affair
    assert told.count("<title>A &lt;b&gt;</title>") == 2


def test_three_domains_stand_on_a_triangle_and_others_on_parallel_axes():
    ax = spaces.many_mixtures(["a", "b", "c"], SAMPLES, best=SAMPLES[0], reference=SAMPLES[1])
    drawn = ax.collections[0].get_offsets()
    assert len(drawn) == 12 and np.asarray(drawn)[:, 1].max() <= np.sqrt(0.75)
    np.testing.assert_allclose(drawn[0][1], SAMPLES[0, 2] * np.sqrt(0.75))
    many = np.random.default_rng(0).dirichlet(np.ones(30), 5)
    ax = spaces.many_mixtures([f"domain-{i}" for i in range(30)], many)
    assert len(ax.get_xticks()) == spaces.MOST_AXES and "16 of 30 domains" in ax.texts[0].get_text()
    np.testing.assert_allclose(
        np.sort(ax.lines[0].get_ydata()), np.sort(many[0][np.sort(np.argsort(-np.ptp(many, axis=0))[:16])])
    )


def test_the_sample_of_a_near_optimal_set_can_be_drawn():
    near = NearOptimal(SAMPLES[0], 2.0, 2.1, SAMPLES.min(0), SAMPLES.max(0), ("a", "b", "c"), SAMPLES)
    assert near.plot(kind="mixtures").get_aspect() == 1.0 and len(near.plot().patches) == 3
    with pytest.raises(ValueError, match="kind must be"):
        near.plot(kind="pie")


def test_paths_have_bands_and_mark_the_sizes_of_the_table():
    at = np.array([1e7, 1e8, 1e9])
    weights = np.array([[0.5, 0.5], [0.4, 0.6], [0.3, 0.7]])
    ax = mixtures.optimum_path(at, weights, ["a", "b"], low=weights - 0.1, high=weights + 0.1, fitted=[1e7, 1e8])
    assert [line.get_ydata().tolist() for line in ax.lines[:2]] == weights.T.tolist() and len(ax.collections) == 2
    assert ax.lines[2].get_xdata().tolist() == [1e7, 1e8] and any(t.get_text() == "beyond the table" for t in ax.texts)


def test_runs_stand_beside_the_curve_that_they_were_brought_to():
    at, point = np.array([1e7, 1e9]), np.array([[3.0, 9.0], [2.0, 8.0]])
    moved = sizes.Moved(np.array([1e7]), np.array([[3.1, 9.1]]))
    ax = sizes.losses_along(at, point, 0.9 * point, 1.1 * point, ["a", "b"], moved=moved, fitted_up_to=1e8)
    dots = [c.get_offsets().tolist() for c in ax.collections if type(c).__name__ == "PathCollection"]
    assert dots == [[[1e7, 3.1]], [[1e7, 9.1]]]
    assert ax.get_yscale() == "log" and "brought to this mixture" in ax.texts[-1].get_text() + ax.texts[0].get_text()
    names = [f"set {i}" for i in range(20)]
    shown, told = sizes.chosen_sets(names, np.arange(20.0))
    assert len(shown) == sizes.MOST and shown[0] == 0 and shown[-1] == 19 and "8 of 20" in told
