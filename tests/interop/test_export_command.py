"""``camel-jax export``: what is printed and written, and one line for what cannot be."""

import io
import json

import pytest
from commands import call

MIXTURE = {"tokens": 1e12, "weights": {"web": 0.61234567, "code": 0.3, "books": 0.08765433, "none": 0.0}}


@pytest.fixture
def mixture(tmp_path):
    path = tmp_path / "mixture.json"
    path.write_text(json.dumps(MIXTURE | {"limits": [{"name": "cap code <= 0.3"}]}))
    return path


def test_written_and_told(mixture, tmp_path):
    out = tmp_path / "data.yaml"
    code, told, err = call(
        "export", mixture, "--to", "levanter", "--out", out, "--supply", "web=800B", "--max-epochs", 4
    )
    assert code == 0 and f"wrote {out}" in err
    assert "612B" in told and "0.765" in told and "1/2048" in told
    first = out.read_bytes()
    assert call("export", mixture, "--to", "levanter", "--out", out)[0] == 0 and out.read_bytes() == first
    code, told, _ = call("export", mixture, "--to", "levanter", "--json")
    shares = {row["domain"]: row["share"] for row in json.loads(told)["domains"]}
    assert sum(shares.values()) == 1.0 and shares["code"] <= 0.3 and "none" not in shares
    assert first.decode() == json.loads(told)["text"]


def test_several_paths_of_a_domain(mixture):
    arguments = ["--path", "web=/a", "--path", "web=/b", "--path", "code=/c", "--path", "books=/d"]
    _, told, _ = call("export", mixture, "--to", "megatron", *arguments)
    assert told.split() == ["306173", "/a", "306173", "/b", "300000", "/c", "87654", "/d"]
    code, _, err = call("export", mixture, "--to", "torchtitan", *arguments)
    assert code == 2 and "takes one path a domain" in err


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--to", "word"], ["--to word", "olmo-core"]),
        (["--to", "budget", "--max", "code=0.2"], ["code 0.3", "largest share 0.2"]),
        (["--to", "budget", "--min", "books=0.2"], ["books", "least share 0.2"]),
        (["--to", "budget", "--max", "web+books=0.5"], ["web+books", "0.7"]),
        (["--to", "budget", "--supply", "web=100B"], ["6.12 epochs", "--max-epochs"]),
        (["--to", "budget", "--supply", "prose=100B"], ["'prose'"]),
        (["--to", "levanter", "--path", "prose=/x"], ["--path", "DOMAIN=PATH"]),
        (["--to", "axolotl"], ["--documents web=COUNT"]),
        (["--to", "levanter", "--lattice", "3", "--max", "code=0.31", "--min", "code=0.29"], ["--lattice"]),
    ],
)
def test_refused_in_one_line(arguments, fragments, mixture, tmp_path):
    out = tmp_path / "out.yaml"
    code, told, err = call("export", mixture, *arguments, "--out", out)
    assert (code, told) == (2, "") and len(err.splitlines()) == 1 and err.startswith("error: ")
    assert all(fragment in err for fragment in fragments) and not out.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", '{"web": "x"}', '{"web": 0.5}', '{"web": -1, "code": 2}', '{"weights": {}}']
)
def test_no_mixture(text, tmp_path):
    path = tmp_path / "m.json"
    path.write_text(text)
    code, _, err = call("export", path, "--to", "budget", "--tokens", "1B")
    assert code == 2 and str(path) in err and len(err.splitlines()) == 1


def test_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"web": 0.25, "code": 0.75}'))
    assert call("export", "-", "--to", "megatron")[1].split() == ["250000", "web", "750000", "code"]
    monkeypatch.setattr("sys.stdin", io.StringIO("web"))
    assert "-: holds no mixture" in call("export", "-", "--to", "megatron")[2]


def test_plain_shares(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"web": 0.5, "code": 0.5}')
    assert call("export", path, "--to", "budget")[0] == 2
    code, told, _ = call("export", path, "--to", "budget", "--tokens", "1B", "--sequence-length", 4096)
    rows = [line.split(",") for line in told.splitlines()[1:]]
    assert code == 0 and sum(int(row[3]) for row in rows) == 10**9 // 4096
