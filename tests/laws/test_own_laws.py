"""Laws of one's own, as the how-to page has them: registered, fitted, saved, loaded in a new process, decided with and ranked."""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import camel_jax as cj
from camel_jax import laws
from camel_jax.bayes.priors import layout
from camel_jax.evaluation import simulate
from camel_jax.evaluation.methods import METHODS, methods
from camel_jax.laws.by_name import LAWS, law_by_name
from camel_jax.laws.law import scale_runs, table_units
from camel_jax.recipes.recipe import dense
from camel_jax.recipes.registry import PLUGINS, Registry, load_plugins
from camel_jax.storage import ArchiveError

ROOT = pathlib.Path(cj.__file__).parents[1]
PAGE = ROOT / "docs" / "guide" / "own_laws.md"


def from_page():
    """Name of a law -> the block of the page that defines it."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    named = {}
    for block in blocks:
        for name in re.findall(r'register_law\("(\w+)"', block):
            named[name] = block
    return named


BLOCKS = from_page()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a file for every law of the page, run once in this process."""
    folder = tmp_path_factory.mktemp("laws")
    for name, block in BLOCKS.items():
        (folder / f"{name}.py").write_text(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLUGINS, os.pathsep.join(str(folder / f"{name}.py") for name in BLOCKS))
        load_plugins()
        yield folder
    for name in BLOCKS:
        LAWS.own.pop(name)


@pytest.fixture(scope="module")
def runs():
    return simulate.study(jax.random.key(0), n_domains=4, n_sets=2, n_mixtures=10, sizes=(1e7, 2e7, 5e7), checkpoints=1)


def test_the_page_has_three_laws_of_twenty_to_sixty_lines():
    lengths = {name: len(block.splitlines()) for name, block in BLOCKS.items()}
    assert set(BLOCKS) == {"power_of_mix", "curriculum", "neural"}
    assert all(20 <= length <= 60 for length in lengths.values()), lengths


@pytest.mark.parametrize("name", list(BLOCKS))
def test_a_law_of_the_page_is_whole(name, files, runs):
    law = law_by_name(name)
    scaled = scale_runs(table_units(runs), runs)
    raw = law.init(jax.random.key(1), scaled)
    losses = law.predict(law.constrain(raw), dense(1.0, 1.0, jnp.array([0.5, 0.5, 0.0, 0.0])))
    assert losses.shape == (2,) and np.isfinite(losses).all() and np.isfinite(law.log_prior(raw))
    plan = layout(law, raw, 1, 2)  # what a sampler moves
    assert sum(np.prod(shape, dtype=int) for _, shape, _ in plan.leaves) >= len(ravel_pytree(raw)[0])


@pytest.mark.parametrize("name", ["power_of_mix", pytest.param("curriculum", marks=pytest.mark.slow), "neural"])
def test_a_fit_of_it_survives_a_file(name, files, runs, tmp_path):
    fit = cj.fit(law_by_name(name), runs, key=jax.random.key(2), starts=1, backtests=0, max_steps=60)
    fit.save(tmp_path / "fit.npz")
    again = cj.load_fit(tmp_path / "fit.npz")
    np.testing.assert_allclose(again.predict(runs.recipe), fit.predict(runs.recipe), rtol=1e-12)
    assert jax.tree.structure(again.raw) == jax.tree.structure(fit.raw) and again.inner_law.name == name
    code = f"import camel_jax as cj; cj.load_fit({str(tmp_path / 'fit.npz')!r})"
    env = os.environ | {PLUGINS: "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert f"its law '{name}' comes from '{name}': import or install that" in done.stderr


def command(folder, *arguments):
    """A command in a process of its own that knows the laws of the page only by the variable."""
    code = "from camel_jax.cli import main; main()"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BLOCKS))
def test_the_command_line_takes_it(name, files, runs, tmp_path):
    runs.save(tmp_path / "runs.csv")
    command(tmp_path, "fit", "runs.csv", "--law", name, "--out", "fit.npz", "--resamples", 2, "--starts", 1)
    command(tmp_path, "predict", "fit.npz", "--recipes", "runs.csv", "--out", "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == len(runs) + 1
    assert "over the reference" in command(tmp_path, "mix", "fit.npz", "--size", "100M", "--tokens", "2B")
    table = command(
        tmp_path, "leaderboard", "runs.csv", "--laws", f"{name},chinchilla", "--starts", 1, "--out", "board.csv"
    )
    assert name in table and "chinchilla" in table
    assert [row.failure for row in cj.Leaderboard.load(tmp_path / "board.csv")] == ["", ""]


def flat(key, runs):
    return {"level": 0.1 * jax.random.normal(key, (len(runs.sets),))}


@lru_cache
def level_only():
    return cj.Law("level_only", flat, lambda params, recipe: jnp.exp(params["level"]) + 0.0 * recipe.tokens)


@pytest.fixture
def registered():
    cj.register_law("level_only", level_only)
    yield level_only()
    LAWS.own.pop("level_only")


def test_a_registered_law_is_blended_and_ranked(registered, runs):
    blend = law_by_name("chinchilla+level-only")
    assert blend.settings == (("skills", 16), ("parts", ("chinchilla", "level_only"))) and len(blend.parts) == 2
    fit = cj.fit(blend, runs, key=jax.random.key(0), starts=1, backtests=0)
    assert fit.part_weights.keys() == {"chinchilla", "level_only"}
    rows = cj.leaderboard({"t": runs}, ("level_only", "chinchilla"), key=jax.random.key(0), starts=1)
    assert [row.method for row in rows] == ["level_only", "chinchilla"] and rows[0].error > rows[1].error
    assert "level_only" in methods()


@pytest.mark.parametrize(
    ("name", "constructor", "said"),
    [
        ("camel", level_only, "is there already, from camel_jax"),
        ("Level-Only", level_only, "lower-case letters"),
        ("other", level_only, "a law of another name, 'level_only'"),
        ("other", level_only(), "give a function that returns the law"),
        ("other", lambda x: level_only(), "without arguments"),
        ("other", lambda: 3, "returns int, not a Law"),
        ("other", lambda: cj.Law("other", flat, flat, settings=(("a", [1]),)), "setting 'a'"),
        ("other", lambda: cj.Law("other", flat, flat, settings=(("a", 1),)), "not arguments of its constructor"),
        ("other", lambda a=1: cj.Law("other", flat, flat, settings=(("a", 2 * a),)), "other settings"),
    ],
)
def test_what_is_no_law_is_refused(name, constructor, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        LAWS.register(name, constructor)


def test_a_law_that_is_not_registered_cannot_be_saved(runs, tmp_path):
    fit = cj.fit(level_only(), runs, key=jax.random.key(0), starts=1, backtests=0)
    with pytest.raises(ArchiveError, match=r"no law 'level_only'.*register it before"):
        fit.save(tmp_path / "fit.npz")
    posing = dataclasses.replace(
        fit, inner_law=fit.inner_law._replace(name="chinchilla", settings=(("upgraded", True),))
    )
    with pytest.raises(ArchiveError, match="registered as 'chinchilla' is another one"):
        posing.save(tmp_path / "fit.npz")


def test_plugins_that_fail_are_named(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.setenv(PLUGINS, str(tmp_path / "broken.py"))
    with pytest.raises(ValueError, match=r"broken\.py cannot be run \(ZeroDivisionError"):
        law_by_name("nothing")


def test_installed_packages_offer_laws(tmp_path, monkeypatch):
    (tmp_path / "offers.py").write_text(
        "import camel_jax as cj\ndef build():\n    return cj.Law('offered', None, None)\ndef bad():\n    return 3\n"
    )
    info = tmp_path / "offers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[camel_jax.laws]\noffered = offers:build\nbad = offers:bad\ngone = offers:gone\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert law_by_name("offered").name == "offered" and LAWS.package_of("offered") == "offers"
        with pytest.raises(ValueError, match=r"'bad'.*returns int"):
            law_by_name("bad")
        with pytest.raises(ValueError, match="'gone' of the package offers cannot be loaded"):
            law_by_name("gone")
    finally:
        LAWS.own.pop("offered", None)


def test_baselines_and_cost_models_by_name(runs):
    from camel_jax.recipes.costs import COSTS, cost_by_name, flops

    def guess(table, recipe, key):
        return cj.Prediction(np.tile(np.nanmean(table.losses, 0), (len(recipe), 1)), {}, 0)

    try:
        cj.register_method("guess", guess)
        (row,) = cj.leaderboard({"t": runs}, ("guess",), key=jax.random.key(0))
        assert np.isfinite(row.error) and row.parameters == 0 and row.failure == ""
        with pytest.raises(ValueError, match="there already"):
            cj.register_method("nearest_run", guess)
        cj.register_cost("hours", lambda recipe: flops(recipe) / 3600.0)
        assert cost_by_name("hours")(dense(1e9, 1e9, [1.0])) == pytest.approx(6e18 / 3600)
        with pytest.raises(ValueError, match="fails on a batch"):
            cj.register_cost("wrong", lambda recipe: -1.0)
        with pytest.raises(ValueError, match="no cost model 'hour'; did you mean 'hours'"):
            cost_by_name("hour")
    finally:
        METHODS.own.pop("guess", None)
        COSTS.own.pop("hours", None)


def test_names_of_one_module_may_be_registered_again():
    registry = Registry("thing", "camel_jax.none", lambda name, value: None)
    registry.register("a", 1, "mine")
    registry.register("a", 2, "mine")
    assert registry.find("a") == 2
    with pytest.raises(ValueError, match="from mine: choose another"):
        registry.register("a", 3, "theirs")


def test_the_papers_setting_follows_its_formula(runs):
    law = laws.camel_paper()
    scaled = scale_runs(table_units(runs), runs)
    p = {k: np.asarray(x) for k, x in law.constrain(law.init(jax.random.key(0), scaled)).items()}
    equal = p | {"capacity_exponents": np.full(4, 0.3)}  # with equal exponents the closed form is the exact split
    r, n, d = np.array([0.4, 0.6, 0.0, 0.0]), 2.0, 3.0
    q = (1 - p["leak"]) * r + p["leak"] / 4
    share = (q * p["amplitudes"] * 0.3) ** (1 / 1.3)
    m = n * share / share.sum()
    expected = p["floors"] + p["capacity_coefficients"] @ m**-0.3
    expected = expected + p["data_coefficients"] @ (q * d) ** -p["data_exponents"]
    np.testing.assert_allclose(
        law.predict({k: jnp.asarray(x) for k, x in equal.items()}, dense(n, d, r)), expected, rtol=1e-10
    )


def too_many(params, recipe):
    return params["level"] @ jnp.ones(9)


def asks(params, recipe):
    return params["level"] if recipe.tokens > 1 else 2 * params["level"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"predict": too_many},
            ["predict of the law 'level_only'", "test_own_laws.py, line", "level (2,)", "weights (4,)"],
        ),
        ({"predict": asks}, ["predict of the law", "jnp.where in place of if"]),
        ({"predict": lambda p, r: p["level"].sum()}, ["must give losses (2,)", "not ()"]),
        ({"init": lambda key, runs: runs.nothing}, ["init of the law", "4 domains and 2 sets", "AttributeError"]),
        ({"init": lambda key, runs: jnp.ones(3)}, ["must give a dictionary of arrays"]),
        ({"constrain": lambda raw: raw["floor"]}, ["constrain of the law", "KeyError"]),
        ({"log_prior": lambda raw: raw["level"]}, ["log_prior of the law", "one number"]),
        ({"min_runs": lambda runs: runs.nothing}, ["min_runs of the law", "4 domains and 2 sets", "AttributeError"]),
        ({"notes": lambda runs: runs.nothing}, ["notes of the law", "test_own_laws.py, line", "AttributeError"]),
        ({"notes": lambda runs: "one text"}, ["notes of the law", "a tuple of sentences"]),
    ],
)
def test_errors_of_a_law_name_its_function(changes, said, runs):
    law = level_only()._replace(**changes)
    with pytest.raises(ValueError) as error:
        cj.fit(law, runs, key=jax.random.key(0), starts=1, backtests=0)
    message = str(error.value)
    assert all(part in message for part in said) and "Tracer" not in message and "\n" not in message, message
