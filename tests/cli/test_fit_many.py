"""``camel-jax fit TABLES... --out-dir FOLDER``: a fit for each good table, and a row for each."""

import csv
import json

from commands import call, own_flags, put, refused  # noqa: F401  (own_flags is used by its name)
from malformed import GOOD

QUICK = ("--law", "chinchilla", "--starts", "1", "--resamples", "2")


def table(factor):
    """Eight runs of two sizes."""
    lines = ["run,size,tokens,mix/web,mix/code,loss/web"]
    for i in range(8):
        size, web = (1e6, 4e6)[i % 2], 0.5 - 0.05 * i
        loss = factor * (2 + (size / 1e6) ** -0.3 + 0.1 / (1 + i))
        lines.append(f"r{i},{size:.0f},{20 * size * (1 + i):.0f},{web:.2f},{1 - web:.2f},{loss}")
    return "\n".join(lines) + "\n"


def test_every_good_table_gets_a_fit_and_every_table_a_row(tmp_path):
    paths = [put(tmp_path, f"{name}.csv", table(factor)) for name, factor in (("one", 1.0), ("two", 1.1))]
    bad, out = put(tmp_path, "bad.csv", "run,size\n1,2\n"), tmp_path / "fits"
    code, text, err = call("fit", *paths, bad, "--out-dir", out, *QUICK, "--json")
    assert code == 0 and "bad.csv" in err and "Traceback" not in err
    assert sorted(p.name for p in out.iterdir()) == ["fits.csv", "one.npz", "two.npz"]
    with (out / "fits.csv").open() as file:
        rows = {row["table"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["one", "two", "bad"] and float(rows["one"]["runs"]) == 8 and rows["bad"]["error"]
    assert [row["table"] for row in json.loads(text)] == list(rows)


def test_what_belongs_to_one_table_is_refused(tmp_path):
    path = put(tmp_path, "t.csv", GOOD)
    out = ("--out-dir", tmp_path / "fits")
    assert "--bayes belongs to the fit of one table" in refused("fit", path, *out, "--bayes")
    assert "two tables are called t" in refused("fit", path, path, *out, *QUICK)
