"""Hostile names of domains and sets: printed, drawn, rendered and put through commands as text and nothing else."""

import contextlib
import io
import itertools
import json
import os
import re

import numpy as np
import pytest
from commands import call, own_flags, put, refused  # noqa: F401  (own_flags is used by its name)

from camel_jax.cli import console
from camel_jax.figures import losses, mixtures, spaces, style
from camel_jax.recipes.names import is_obeyed, plain
from camel_jax.reports import page_parts

PARTS = (
    ("[/b]", "[bold]", "[red]x[/red]", "[link=http://a]b[/link]", "[", "[[", "\\[b]", ":smile:", "{x}", "%s"),
    ("$x^$", "$", "$$", "$\\frac{1}{0}$", "a_b^c", "\\$x$", "$a$b$", "_hidden", "__", "\\"),
    ("\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "\x00", "\x07", "\x08\x08", "\x7f", "a\tb", "a\rb", "a\nb"),
    (
        "\u202eevil",
        "\u2066x\u2069",
        "\u200b",
        "\u2028",
        "\ufeff",
        "\U000e0041",
        "\ud800",
        "\ufffe",
        "\u061c",
        "\u200ejoin",
    ),
    ("<b>", "<script>alert(1)</script>", "&amp;", "\"'", "]]>", "漢字", "e\u0301", "👩\u200d💻", "العربية", "x" * 3000),
)
BASE = list(itertools.chain(*PARTS))
NAMES = [*BASE, *(f"web{name}" for name in BASE), *(f"{name}{name}" for name in BASE), *(f"{name} 1" for name in BASE)]


def obeyed(text):
    return [c for c in text if is_obeyed(c) and c != "\n"]


def test_200_names_are_printed_as_they_are():
    assert len(set(NAMES)) >= 195
    for name in NAMES:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            console.print_table(name, [name, "share"], [[name, "1"]], caption=name, width=20_000)
            console.print_lines([name])
            console.say(name)
        shown = out.getvalue()
        assert not obeyed(shown) and not obeyed(err.getvalue()), ascii(name)
        assert shown.count(plain(name).strip()) >= 5 and err.getvalue() == plain(name) + "\n", ascii(name)
        text = console.as_json({name: [name]})
        assert not obeyed(text) and json.loads(text) == {name: [name]}, ascii(name)
        page = page_parts.table([name], [[page_parts.name(name)]], name)
        assert not obeyed(page) and not re.search("<[bs]", re.sub("</?bdi>|<span>", "", page)), ascii(name)


def test_200_names_are_drawn_as_they_are():
    for low in range(0, len(NAMES), 20):
        some = NAMES[low : low + 20]
        page = style.new_figure(8, 8)
        page.set_layout_engine("none")  # which would draw all of it a second time
        axes = page.subplots(2, 2).ravel()
        shares = np.full(len(some), 1 / len(some))
        mixtures.mixture(some, shares, ax=axes[0], title=some[0], note=some[1])
        mixtures.shares_along([1.0, 2.0], np.stack([shares, shares]), some, some[2], ax=axes[1])
        spaces.gains_traded(np.zeros((2, 2, 3)), None, some[3:5], ax=axes[2])
        curve = losses.Curves(np.array([1e8, 1e9]), *[np.ones((2, len(some)))] * 3)
        losses.loss_curves(curve, None, some, fitted_up_to=2e8, ax=axes[3])
        style.save_figure(page, io.BytesIO(), format="svg")
        drawn = [label.get_text() for label in axes[0].get_yticklabels()]
        assert [text.replace(r"\$", "$").strip() for text in drawn] == [
            style.as_label(name).replace(r"\$", "$").strip() for name in some
        ]
        assert len(axes[1].get_legend().get_texts()) == len(some)


def hostile_table(domains, sets):
    """Nine runs on hostile names, as CSV text."""
    rng = np.random.default_rng(0)
    quoted = [
        '"' + name.replace('"', '""') + '"' for name in [*(f"mix/{d}" for d in domains), *(f"loss/{s}" for s in sets)]
    ]
    lines = [",".join(["run", "size", "tokens", *quoted])]
    for i in range(9):
        size = (2e7, 8e7, 3e8)[i % 3]
        w = rng.dirichlet([3] * len(domains)).round(3)
        w[0] = round(1 - w[1:].sum(), 3)
        values = [f"{1.5 + (size / 1e8) ** -0.2 * (share + 0.2) ** -0.2:.6f}" for share in w[: len(sets)]]
        lines.append(",".join([f"[r]{i}", f"{size:.0f}", f"{20 * size:.0f}", *map(str, w), *values]))
    return "\n".join(lines) + "\n"


@pytest.mark.slow
def test_commands_on_hostile_names(tmp_path):
    domains, sets = ("[/b]", "$x^$", "code\x1b[31m"), ("_a[bold]", "<b>$y_$\u202e")
    runs, fit = put(tmp_path, "runs.csv", hostile_table(domains, sets)), tmp_path / "fit.safetensors"
    target = ("--size", "1B", "--tokens", "20B")
    commands = [
        ("fit", runs, "--out", fit, "--law", "dml", "--starts", 1, "--resamples", 2),
        ("predict", fit, "--recipes", runs, "--out", tmp_path / "p.csv"),
        ("mix", fit, *target, "--starts", 2),
        ("mix", fit, *target, "--starts", 2, "--near", 0, "--json"),
        ("path", fit, *target, "--steps", 2, "--starts", 2, "--figure", tmp_path / "p.png"),
        ("report", fit, "--out", tmp_path / "r.html", "--runs", runs),
    ]
    for command in commands:
        code, out, err = call(*command)
        assert code == 0, (command, err)
        assert not obeyed(out) and not obeyed(err), command
        assert "Warning" not in err, err
    page = (tmp_path / "r.html").read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page and not obeyed(page)
    line = refused("mix", fit, *target, "--max", "co\x1b[1mde=0.3")
    assert not obeyed(line) and "\\x1b[1m" in line
    limits = put(tmp_path, "limits.json", json.dumps({"prior": {"[/b]": 1.0}, "kl": 0.1}))
    assert "prior has no share of $x^$, code" in refused("mix", fit, *target, "--limits", limits)


def test_a_sweep_does_not_write_over_what_is_not_its_own(tmp_path):
    recipes = put(tmp_path, "recipes.csv", "run,size,tokens,mix/math\na,6224,8000,1\n")
    mine = put(tmp_path, "s3.json", '{"my": "notes"}')
    assert "no record of a sweep" in refused("sweep", recipes, "--out", tmp_path / "s3.csv")
    assert mine.read_text() == '{"my": "notes"}' and "table of recipes" in refused("sweep", recipes, "--out", recipes)
    assert sorted(os.listdir(tmp_path)) == ["recipes.csv", "s3.json"]
