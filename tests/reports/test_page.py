"""A page of a decision in a real browser: it moves, agrees with Python, fetches nothing, and names stay text."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from browser import Visit, chromium
from test_export_laws import LAWS, PREDICT, recipes, with_law

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.recipes.names import plain
from camel_jax.reports.decision import tell
from camel_jax.reports.export_laws import export_fit
from camel_jax.reports.page import write_page
from camel_jax.reports.request import Request

pytestmark = pytest.mark.slow
HOSTILE = ("<script>alert(1)</script>", "\"quotes' & `more` </script><!--", "\u05de\u05d9\u05dc\u05d9\u05dd \u202eabc")
SETS = ("<img src=x onerror=alert(2)>", "$x^$ 'a\\b'", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629")


@pytest.fixture(scope="module")
def study():
    runs = simulate.study(jax.random.key(0), n_domains=3, n_mixtures=10, sizes=(1e7, 4e7, 1e8))
    knows = 1 / (1 + np.exp(runs.losses - runs.losses.mean(0)))
    accuracies = 0.25 + 0.5 * knows
    runs = dataclasses.replace(runs, domains=HOSTILE, sets=SETS, tasks=("qa", "</td>", "arc"), accuracies=accuracies)
    fitted = cj.fit(laws.dml(), runs, key=jax.random.key(1), starts=2, resamples=6)
    return runs, fitted.with_benchmarks(cj.fit_accuracies(runs, key=jax.random.key(2), resamples=4, starts=1))


@pytest.fixture(scope="module")
def decision(study):
    limits = {"bounds": {HOSTILE[0]: (0.05, 0.4), HOSTILE[1]: (None, 0.9)}}
    return tell(study[1], Request("300M", "9B", starts=4, limits=limits))


@pytest.fixture(scope="module")
def path(study, decision, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(write_page(study[1], decision, facts={"table": "<b>runs</b>"}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as one:
        yield one


@pytest.fixture
def visit(browser, path):
    one = Visit(browser, path)
    yield one
    assert one.said == [] and one.asked == [
        path.as_uri()
    ]  # whatever was done, nothing was fetched and nothing complained
    one.close()


def test_names_stay_text(visit):
    assert visit.page.evaluate("document.querySelectorAll('img, script:not(#data)').length") == 1  # the page's own
    shown = visit.page.evaluate("[...document.querySelectorAll('#shares label bdi')].map((x) => x.textContent)")
    assert shown == [plain(name) for name in HOSTILE]
    first = visit.page.evaluate("[...document.querySelectorAll('#mixture tbody th bdi')].map((x) => x.textContent)")
    assert first == shown
    assert "<b>runs</b>" in visit.text("#source")
    policy = visit.page.get_attribute("meta[http-equiv='Content-Security-Policy']", "content")
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy and "unsafe" not in policy


def test_sliders_move_and_everything_follows(visit, decision):
    before, losses = visit.text("#gain"), visit.text("#losses")
    assert float(before.replace("\u2212", "-")) == pytest.approx(decision.result.gain.point, abs=6e-5)
    share = visit.page.locator("#share-0")
    share.focus()
    start = float(decision.result.weights[0])
    for _ in range(30):
        visit.page.keyboard.press("ArrowRight")
    visit.settle()
    weights = visit.page.evaluate("[...decisionPage.weights]")
    assert weights[0] == pytest.approx(start + 0.03, abs=1e-3) and sum(weights) == pytest.approx(1, abs=1e-12)
    assert visit.text("#losses") != losses
    assert weights[1] / weights[2] == pytest.approx(decision.result.weights[1] / decision.result.weights[2], rel=1e-6)
    visit.page.check("#lock-1")
    visit.page.evaluate(
        "document.querySelector('#share-0').value = 900; document.querySelector('#share-0').dispatchEvent(new Event('input'))"
    )
    visit.settle()
    after = visit.page.evaluate("[...decisionPage.weights]")
    assert after[1] == pytest.approx(weights[1], abs=1e-12) and after[0] == pytest.approx(
        min(0.9, 1 - weights[1]), abs=1e-9
    )
    assert "above its limit of 40.0 %" in visit.text("#shares")
    visit.page.click("#to-reference")
    visit.settle()
    assert re.fullmatch(r"[+\u2212]0\.0000", visit.text("#gain"))
    visit.page.click("#to-best")
    visit.settle()
    assert visit.text("#gain") == before and visit.text("#losses") == losses


def test_sizes_and_kinds_of_prediction(visit, study, decision):
    fitted, mixture = study[1], decision.result.weights
    visit.page.click("#as-forecast")
    visit.settle()
    told = cj.predict_interval(fitted, cj.dense(3e8, 9e9, mixture))
    cells = visit.page.evaluate("[...document.querySelectorAll('#losses tbody tr')].map((r) => r.cells[1].textContent)")
    np.testing.assert_allclose(np.array(cells, float), told.point, atol=6e-4)
    visit.page.evaluate(
        "const s = document.querySelector('#scale-active'); s.value = 100; s.dispatchEvent(new Event('input'))"
    )
    visit.settle()
    size = visit.page.evaluate("decisionPage.scale.active")
    assert size < 3e8
    told = cj.predict_interval(fitted, cj.dense(size, 9e9, mixture))
    cells = visit.page.evaluate("[...document.querySelectorAll('#losses tbody tr')].map((r) => r.cells[2].textContent)")
    low, high = np.array([cell.split(" to ") for cell in cells], float).T
    np.testing.assert_allclose(low, told.low, atol=6e-4)
    np.testing.assert_allclose(high, told.high, atol=6e-4)


def test_pointing_and_keys_in_charts_set_the_sliders(visit, decision):
    for chart, mixtures in (("#near-chart", decision.ranges.samples), ("#front-chart", decision.trade.front.weights)):
        place = visit.page.locator(chart)
        place.focus()
        visit.page.keyboard.press("End")
        visit.page.keyboard.press("ArrowLeft")
        visit.settle()
        np.testing.assert_allclose(visit.page.evaluate("[...decisionPage.weights]"), mixtures[-2], atol=1e-5)
        assert place.get_attribute("aria-activedescendant") == f"{chart[1:]}-{len(mixtures) - 2}"
        visit.page.locator(f"{chart}-{len(mixtures) - 1} .dot").hover()  # the last one is drawn on top
        visit.settle()
        np.testing.assert_allclose(visit.page.evaluate("[...decisionPage.weights]"), mixtures[-1], atol=1e-5)
        visit.page.mouse.move(5, 5)
        visit.settle()
        np.testing.assert_allclose(visit.page.evaluate("[...decisionPage.weights]"), mixtures[-2], atol=1e-5)


def test_a_mixture_can_be_taken_along(visit, decision, tmp_path):
    with visit.page.expect_download() as download:
        visit.page.click("#download")
    download.value.save_as(tmp_path / "mixture.json")
    told = json.loads((tmp_path / "mixture.json").read_text())
    np.testing.assert_allclose([told["weights"][name] for name in HOSTILE], decision.result.weights, atol=2e-6)
    assert sum(told["weights"].values()) == pytest.approx(1, abs=1e-9)
    visit.page.click("#copy")
    visit.settle()
    command = visit.page.evaluate("decisionPage.command")
    import shlex

    words = shlex.split(command)
    assert words[:3] == ["camel-jax", "mix", "fit.npz"] and words[words.index("--size") + 1] == "300000000"
    shares = dict(words[i + 1].rsplit("=", 1) for i, word in enumerate(words) if word == "--fix")
    np.testing.assert_allclose([float(shares[name]) for name in HOSTILE], decision.result.weights, atol=1e-4)


@pytest.mark.parametrize("name", LAWS)
def test_a_thousand_recipes_agree_with_python(name, visit, study):
    runs, fitted = study
    fitted = with_law(runs, fitted, LAWS[name])
    recipe = recipes(runs, 1000)
    rows = zip(recipe.n_total, recipe.n_active, recipe.tokens, recipe.weights, strict=True)
    given = [
        {"total": float(a), "active": float(b), "tokens": float(c), "weights": w.tolist(), "supply": None}
        for a, b, c, w in rows
    ]
    asked = {
        "fit": export_fit(fitted, cj.mean_loss()),
        "recipes": given,
        "reference": np.asarray(fitted.discrepancy.mean).tolist(),
    }
    program = PREDICT.replace("told = given.recipes", "return given.recipes")
    told = visit.page.evaluate(
        f"(given) => {{ const {{ Outlook, unpackAll }} = decisionPage.tools; {program} }}", asked
    )
    expected, accuracies = cj.predict_interval(fitted, recipe), cj.accuracy_interval(fitted, recipe)
    apart = dict.fromkeys(("losses", "accuracies"), 0.0)
    for end in ("point", "low", "high"):
        found = np.array([one["forecast"][end] for one in told])
        apart["losses"] = max(apart["losses"], np.max(np.abs(found / getattr(expected, end) - 1)))
        found = np.array([one["measured"][end] for one in told])
        apart["accuracies"] = max(apart["accuracies"], np.max(np.abs(found - getattr(accuracies, end))))
    print(
        f"{name}: largest differences {apart['losses']:.1e} (losses, relative), {apart['accuracies']:.1e} (accuracies)"
    )
    assert max(apart.values()) < 1e-9


def test_the_page_says_where_one_is_and_for_which_size_charts_hold(visit):
    here = "[...document.querySelectorAll('nav [aria-current]')].map((x) => x.hash)"
    assert visit.page.evaluate(here) == ["#mixture"]
    visit.page.evaluate("document.documentElement.style.scrollBehavior = 'auto'; location.hash = '#sizes'")
    for _ in range(100):  # the page's policy forbids the function that playwright would wait with
        if visit.page.evaluate(here) == ["#sizes"]:
            break
        visit.page.wait_for_timeout(50)
    assert visit.page.evaluate(here) == ["#sizes"]
    assert visit.text("#near-where") == ""
    move = """(x) => {
      const slider = document.querySelector("#scale-tokens"), was = slider.value;
      slider.value = x ?? 900;
      slider.dispatchEvent(new Event("input"));
      return was;
    }"""
    was = visit.page.evaluate(move, None)
    visit.settle()
    assert "Found for 300M parameters on 9B tokens" in visit.text("#near-where") == visit.text("#front-where")
    visit.page.evaluate(move, was)
    visit.settle()
    assert visit.text("#near-where") == ""


def test_without_scripts_the_page_says_the_same(browser, path, decision):
    visit = Visit(browser, path, scripts=False)
    assert visit.said == [] and not visit.page.is_visible("#play") and not visit.page.is_visible("#near-chart")
    for figure in ("#figure-near", "#figure-front", "#figure-path"):
        assert visit.page.is_visible(f"{figure} svg.wide") and not visit.page.is_visible(f"{figure} svg.narrow")
    shown = visit.text("#mixture")
    assert all(f"{100 * w:.1f} %" in shown for w in decision.result.weights)
    visit.close()


def test_printed_pages_have_the_still_figures(browser, path):
    visit = Visit(browser, path)
    visit.page.emulate_media(media="print")
    assert visit.page.is_visible("#figure-near svg.wide") and not visit.page.is_visible("#play")
    assert len(visit.page.pdf()) > 20_000
    visit.close()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1280, "dark"), (2560, "light")])
def test_every_width_fits_and_is_accessible(width, scheme, browser, path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    visit = Visit(browser, path, width=width, scheme=scheme)
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    found = axe.Axe().run(visit.page).response["violations"]
    told = {
        one["id"]: [node["html"][:120] for node in one["nodes"][:3]]
        for one in found
        if one["impact"] in ("serious", "critical")
    }
    assert told == {}
    visit.close()
