"""Kinds of files that every command reads a run table from."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest

from camel_jax.tables import read as tables
from camel_jax.tables.sheet import TableError, standard_input

TEXT = "run,size,tokens,mix/web,mix/code,loss/web\na,70M,2B,0.75,0.25,3.1\nb,160M,4B,0.5,0.5,2.8\n"
LINES = "".join(
    json.dumps({"run": r, "size": s, "tokens": t, "mix": {"web": w, "code": 1 - w}, "loss": {"web": x}}) + "\n"
    for r, s, t, w, x in (("a", "70M", 2e9, 0.75, 3.1), ("b", 1.6e8, "4B", 0.5, 2.8))
)


def parquet():
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(TEXT)).to_parquet(buffer)
    return buffer.getvalue()


FILES = {
    "t.csv": TEXT.encode(),
    "t.csv.gz": gzip.compress(TEXT.encode(), mtime=0),
    "t.tsv.gz": gzip.compress(TEXT.replace(",", "\t").encode(), mtime=0),
    "t.jsonl": LINES.encode(),
    "t.ndjson.gz": gzip.compress(LINES.encode(), mtime=0),
    "t.parquet": parquet(),
}


def check(runs):
    assert runs.run_names == ("a", "b") and runs.domains == ("web", "code") and runs.sets == ("web",)
    np.testing.assert_array_equal(runs.losses[:, 0], [3.1, 2.8])
    np.testing.assert_array_equal(runs.recipe.n_active, [7e7, 1.6e8])


@pytest.mark.parametrize("name", FILES)
def test_file(name, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    check(tables.read_runs(tmp_path / name))


@pytest.mark.parametrize("name", FILES)
def test_standard_input(name, monkeypatch):
    class Stream:
        buffer = io.BytesIO(FILES[name])

    monkeypatch.setattr("sys.stdin", Stream)
    standard_input.cache_clear()
    try:
        check(tables.read_runs("-"))
        assert tables.read_header("-")[0] == "run"  # a command may read its table twice
    finally:
        standard_input.cache_clear()


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("t.jsonl", b"", "is empty"),
        ("t.jsonl", b"[1, 2]\n", "line 1: is no object"),
        ("t.jsonl", b'{"run": "a"}\n{"run"\n', "line 2: is not JSON"),
        ("t.jsonl", b'{"run": "\xff"}\n', "not UTF-8"),
        ("t.jsonl", b"[" * 100_000, "line 1: is not JSON"),
        ("t.jsonl", LINES.replace("0.75", '"most"', 1).encode(), "'most' is not a number"),
        ("t.csv.gz", FILES["t.csv.gz"][:30], "gzip file is damaged"),
        ("t.xlsx.gz", b"x", "unknown kind of file .xlsx"),
    ],
)
def test_one_clear_line(name, content, fragment, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=fragment):
        tables.read_runs(tmp_path / name)
