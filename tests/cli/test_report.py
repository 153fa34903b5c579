"""``report`` and ``explore``: one page of a decision, made anew or from a file of ``mix``."""

import hashlib
import html
import json
import pathlib
import re

import pytest
from commands import SMALL, call, own_flags, put, refused, small_table  # noqa: F401  (own_flags is used by its name)

TARGET = ("--size", "1B", "--tokens", "20B")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder with runs.csv and fit.npz."""
    folder = tmp_path_factory.mktemp("study")
    put(folder, "runs.csv", small_table())
    code, out, _ = call("fit", folder / "runs.csv", "--out", folder / "fit.npz", *SMALL, "--json")
    assert code == 0
    put(folder, "fit.json", out)
    return folder


def data_of(page):
    found = re.search('id="data">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])["decision"]


@pytest.mark.slow
def test_report_is_one_whole_page(study):
    page = study / "report.html"
    arguments = ("report", study / "fit.npz", "--out", page)
    code, out, err = call(*arguments, "--runs", study / "runs.csv", "--baselines", "nearest_run", "--json")
    assert code == 0, err
    told, text = json.loads(out), page.read_text()
    largest = json.loads((study / "fit.json").read_text())["active_parameters"][1]
    assert told["size"] == pytest.approx(10 * largest)
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert all(f"<li>{html.escape(line)}</li>" in text for line in told["evidence"])
    assert "target: 10 times the largest fitted size, 300M" in text
    assert "default-src &#x27;none&#x27;; script-src &#x27;sha256-" in text
    assert not re.search(r' style="| src="|url\(h|@import', text)  # nothing is fetched
    for name, share in told["weights"].items():
        shown = "&lt; 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"
        assert re.search(f"<bdi>{name}</bdi></th>.*?<strong>{shown}</strong>", text)
    ratio = told["equivalent_compute"]
    assert ratio["low"] <= ratio["point"] <= ratio["high"] and f"{100 * ratio['point']:.3g} %</p>" in text
    assert 'id="figure-backtest"' in text and "nearest run" in text and 'id="figure-losses"' in text
    assert f"fit.npz, SHA-256 {hashlib.sha256((study / 'fit.npz').read_bytes()).hexdigest()}" in text


def test_what_makes_no_sense_is_refused(study):
    arguments = ("report", study / "fit.npz", "--out", study / "refused.html")
    assert "must end in .html" in refused("report", study / "fit.npz", "--out", study / "report.pdf")
    assert "no such file" in refused("report", study / "none.npz", "--out", study / "refused.html")
    other = put(study, "other.csv", (study / "runs.csv").read_text().replace("loss/web", "loss/news"))
    assert "no loss/ column for web" in refused(*arguments, "--runs", other)
    other = put(study, "other.csv", (study / "runs.csv").read_text().replace("mix/web", "mix/news"))
    assert "its domains are news" in refused(*arguments, "--runs", other)
    assert "--next-budget needs the table" in refused(*arguments, "--next-budget", "1e18")
    assert not (study / "refused.html").exists()


@pytest.mark.slow
def test_a_decision_that_was_made_before(study):
    limits = ("--max", "code=0.2", "--seed", 3)
    code, _, _ = call("mix", study / "fit.npz", *TARGET, *limits, "--out", study / "chosen.json")
    assert code == 0
    arguments = ("report", study / "fit.npz", "--from", study / "chosen.json", "--out", study / "chosen.html")
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    told, text = json.loads(out), (study / "chosen.html").read_text()
    chosen = json.loads((study / "chosen.json").read_text())
    assert told["weights"] == chosen["weights"] and told["gain"] == chosen["gain"] and told["notes"] == []
    assert "<title>Mixture for 1B on 20B tokens</title>" in text and "cap code &lt;= 0.2" in text
    assert data_of(text)["limits"]["high"][list(chosen["weights"]).index("code")] == 0.2
    assert "--max belongs to the decision" in refused(*arguments, "--max", "code=0.1")
    moved = chosen["weights"] | {"code": 0.1, "web": chosen["weights"]["web"] + chosen["weights"]["code"] - 0.1}
    put(study, "other.json", json.dumps(chosen | {"weights": moved}))
    code, out, _ = call(
        "report", study / "fit.npz", "--from", study / "other.json", "--out", study / "other.html", "--json"
    )
    assert code == 0 and "are not those of the decision" in json.loads(out)["notes"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sets": ["a", "b"]}, "other sets"),
        ({"request": {"size": 1}}, "its request"),
        ({"weights": 3}, "not a saved mixture"),
    ],
)
def test_files_that_are_no_decision_of_this_fit(study, change, says):
    code, out, _ = call("mix", study / "fit.npz", *TARGET, "--near", 0, "--json")
    assert code == 0
    put(study, "bad.json", json.dumps(json.loads(out) | change))
    assert says in refused("report", study / "fit.npz", "--from", study / "bad.json", "--out", study / "bad.html")
    put(study, "bad.json", "[]")
    assert "not a mixture.json" in refused(
        "report", study / "fit.npz", "--from", study / "bad.json", "--out", study / "bad.html"
    )


@pytest.mark.slow
def test_explore_opens_the_page_as_a_file(study, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    code, _, _ = call("explore", study / "fit.npz", *TARGET, "--out", study / "e.html")
    assert code == 0 and opened == [(study / "e.html").resolve().as_uri()]
    code, _, err = call("explore", study / "fit.npz", "--no-browser", *TARGET)
    wrote = re.search(r"wrote (.*)\n", err)
    assert wrote is not None
    where = pathlib.Path(wrote[1])
    assert code == 0 and len(opened) == 1
    assert where.name == "fit.html" and where.read_text().startswith("<!doctype html>")
