"""Figures of designs, fronts and paths: counts as a table, mixtures as a map, gains with intervals and the measured range."""

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax.figures import decisions, designs, sizes, spaces

DOMAINS = ("web", "code", "books", "wiki")


@pytest.fixture(scope="module")
def found():
    """Two designs for one budget, of four domains."""
    mixtures = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    ladder, target = cj.make_ladder(["10M", "100M"]), cj.target_region("1B", None, mixtures)
    known = cj.know_nothing(cj.laws.dml(), ladder, target, DOMAINS, key=jax.random.key(0), draws=1)
    return cj.compare_shapes(known, ladder, 1e19, target, mixtures, shapes=("small", "uniform"), max_runs=12)


def test_a_map_keeps_what_is_alike_close_and_areas_are_counts():
    mixtures = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.19, 0.11], [0.1, 0.1, 0.1, 0.7]])
    ax = designs.mixture_map(DOMAINS, mixtures, [1, 2, 4], ["10M", "10M", "100M"], aim=mixtures[:1])
    small, large, aim = (c for c in ax.collections)
    np.testing.assert_allclose(small.get_sizes(), [18, 36])
    np.testing.assert_allclose(large.get_sizes(), [72])
    a, b, c = (np.asarray(x) for x in (*small.get_offsets(), *large.get_offsets()))
    np.testing.assert_allclose(np.linalg.norm(a - b), np.linalg.norm(mixtures[0] - mixtures[1]), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(a - c), np.linalg.norm(mixtures[0] - mixtures[2]), rtol=1e-6)
    np.testing.assert_allclose(aim.get_offsets()[0], a, atol=1e-12)
    assert "100 % of the spread" in " ".join(text.get_text() for text in ax.texts)


def test_three_domains_have_a_triangle_for_a_map():
    ax = designs.mixture_map(("a", "b", "c"), np.eye(3), [1, 1, 1], ["10M"] * 3)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), spaces.CORNERS)


def test_a_front_shows_what_was_not_measured_and_what_was_chosen():
    gains = np.array([[[0.1, 0.0, 0.2], [0.3, 0.2, 0.4]], [[0.2, 0.1, 0.3], [0.1, 0.0, 0.2]]])
    ax = spaces.gains_traded(gains, gains[1], ("mean loss", "loss on code"), measured=[True, False])
    drawn = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines}
    assert drawn["best trade-offs, 90 % intervals"] == (0.1, 0.3) and drawn["beyond the measured shares"] == (0.2, 0.1)
    assert drawn["recommended"] == (0.2, 0.1) and drawn["reference"] == (0, 0)
    assert [line.get_xdata()[:].tolist() for line in ax.lines[:4:2]] == [[0.0, 0.2], [0.1, 0.3]]


@pytest.mark.slow
def test_results_draw_themselves_with_intervals_bands_and_the_table(found):
    losses = lambda n, d: lambda w: 2.0 + (n / 1e8) ** -0.1 * (1.0 - w) ** 2  # noqa: E731
    front = cj.pareto_front(losses(1e8, 1e9), cj.single_set(0), cj.single_set(1), 3, domains=["a", "b"], starts=2)
    assert np.isnan(front.gains[..., 1:]).all() and front.measured is None
    np.testing.assert_allclose(front.gains[:, 0, 0], 0.25 - (1 - front.weights[:, 0]) ** 2, atol=1e-9)
    assert front.plot().get_xlabel().startswith("gain in")
    path = cj.optimum_path(losses, [1e7, 1e8], 1e9, near=0.01, domains=["a", "b"], starts=2)
    assert (path.low < path.weights).all() and (path.high > path.weights).all() and path.fitted == ()
    assert len(path.plot().collections) == 2
    page = decisions.path_page(path, [1e7, 1e8], (1e7, 3e7), title="A path")
    assert any(text.get_text() == "beyond the table" for text in page.axes[0].texts)
    design = found[0]
    assert design.plot(kind="mixtures").get_title(loc="left").startswith("Mixtures")
    with pytest.raises(ValueError, match="kind must be"):
        design.plot(kind="pie")


def test_a_design_is_a_table_of_counts(found):
    page = designs.design_page(found, found[0])
    told = [text.get_text() for text in page.axes[0].texts]
    for size, count in found[0].runs_per_size().items():
        assert size in told and (not count or any(cell.startswith(f"{count}  (") for cell in told))
    assert str(int(found[0].counts.sum())) in told and not page.axes[0].patches


def test_gains_along_sizes_are_differences():
    ax = sizes.gain_along([1e7, 1e8], [[0.1, 0.0, 0.2]] * 2, "mean loss", fitted_up_to=3e7)
    assert ax.lines[0].get_ydata().tolist() == [0.1, 0.1] and "above zero is better" in ax.texts[-1].get_text()
