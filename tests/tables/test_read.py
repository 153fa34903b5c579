"""Run tables: what is read, what is rejected, and in which words."""

import dataclasses
import io
import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import FRAME, GOOD, HEADER, READABLE, ROWS, WRONG, changed, table, with_column

from camel_jax.recipes.sizes import format_count, format_size, parse_count, parse_size, parse_tokens
from camel_jax.tables import read, sheet, write
from camel_jax.tables.sheet import TableError


def put(folder, case):
    path = folder / case[0]
    path.write_bytes(case[1] if isinstance(case[1], bytes) else case[1].encode())
    return path


def text_table(text):
    return read.read_runs(pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False))


@pytest.mark.parametrize("case", READABLE.values(), ids=READABLE.keys())
def test_reads_what_is_right(case, tmp_path):
    runs = read.read_runs(put(tmp_path, case))
    by_run = {runs.run_names[r]: i for i, r in enumerate(runs.run)}
    row = by_run["d"]
    assert len(runs.domains) == 2 and len(runs.sets) == 2
    assert runs.recipe.n_active[row] == runs.recipe.n_total[row] == 410e6
    assert runs.recipe.tokens[row] == 8e9
    web = next(i for i, name in enumerate(runs.domains) if name in ("web", "新闻"))
    assert runs.recipe.weights[row, web] == 0.6
    assert runs.losses[row, next(i for i, name in enumerate(runs.sets) if name in ("web", "新闻"))] == 2.5
    np.testing.assert_allclose(runs.recipe.weights.sum(1), 1, atol=1e-15)


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_rejects_in_one_clear_line(case, tmp_path):
    path = put(tmp_path, case)
    with pytest.raises(TableError) as error:
        read.read_runs(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message
    for fragment in case[2]:
        assert fragment in message


def test_enough_malformed_tables():
    assert len(WRONG) >= 40


def test_folder_and_absent_file(tmp_path):
    with pytest.raises(TableError, match="is a folder"):
        read.read_runs(tmp_path)
    with pytest.raises(TableError, match="no such file"):
        read.read_runs(tmp_path / "none.csv")
    with pytest.raises(TypeError, match="path or a DataFrame"):
        read.read_runs(3)  # pyright: ignore[reportArgumentType]


def test_all_problems_in_one_message():
    text = changed(0, "loss/web", "-1").replace("0.5,0.5", "0.5,0.6").replace("410M", "big")
    with pytest.raises(TableError) as error:
        text_table(text)
    columns = [problem.column for problem in error.value.problems]
    assert columns == ["size", "mix/*", "loss/web"]
    assert str(error.value).startswith("DataFrame: 3 problems: (1) column 'size', row 5 (run d)")


def test_many_bad_rows_are_counted():
    rows = [f"r{i},70M,2B,0.5,0.6,3.1,2.2" for i in range(200)]
    with pytest.raises(TableError, match=r"row 1 \(run r0\), row 2 \(run r1\), row 3 \(run r2\) and 197 more"):
        text_table(table(*rows))


def test_missing_losses_stay_missing():
    runs = text_table(GOOD.replace("3.0,2.1", ",NaN"))
    assert np.isnan(runs.losses).sum() == 2 and np.isnan(runs.losses[1]).all()


def test_shares_are_renormalised_within_tolerance():
    runs = text_table(changed(2, "mix/web", "0.5004"))
    assert runs.recipe.weights[2].sum() == pytest.approx(1, abs=1e-15)
    assert runs.recipe.weights[2, 0] == pytest.approx(0.5004 / 1.0004)
    with pytest.raises(TableError, match=r"sum to 1\.002"):
        text_table(changed(2, "mix/web", "0.502"))


def test_sizes_of_experts():
    runs = text_table(GOOD.replace("410M", "7B-A150M"))
    assert (runs.recipe.n_total[-1], runs.recipe.n_active[-1]) == (7e9, 150e6)
    runs = text_table(with_column("size_total", ["70M", "70M", "1B", "1B", "8B"]))
    assert runs.recipe.n_total.tolist() == [70e6, 70e6, 1e9, 1e9, 8e9]
    assert runs.recipe.n_active.tolist() == [70e6, 70e6, 160e6, 160e6, 410e6]


def test_supply_blank_is_unlimited():
    runs = text_table(with_column("supply/code", ["2T", "2T", "", "1e12", "3B"]))
    supply = np.asarray(runs.recipe.supply)
    assert supply[:, 1].tolist() == [2e12, 2e12, math.inf, 1e12, 3e9]
    assert np.isinf(supply[:, 0]).all()


def test_foreign_names_are_mapped(tmp_path):
    text = GOOD.replace("run,size,tokens", "id,n_params,n_toks").replace("mix/", "p_").replace("loss/", "val loss ")
    path = put(tmp_path, ("foreign.csv", text))
    names = {"id": "run", "n_params": "size", "n_toks": "tokens", "p_*": "mix/*", "val loss *": "loss/*"}
    runs = read.read_runs(path, columns=names)
    assert runs.domains == ("web", "code") and runs.sets == ("web", "code") and runs.run_names == tuple("abcd")
    with pytest.raises(TableError, match="'nothing' is not in the table; it has 'id'"):
        read.read_runs(path, columns={**names, "nothing": "size"})
    with pytest.raises(TableError, match="two columns the name 'size'"):
        read.read_runs(path, columns={**names, "n_toks": "size"})
    assert read.read_runs(path, columns={**names, "val loss code": None}).sets == ("web",)


def test_unknown_columns_are_told_not_fatal():
    told = []
    runs = read.read_runs(FRAME.assign(seed=1, note="x"), on_ignored=told.extend)
    assert told == ["seed", "note"] and len(runs) == len(ROWS)


def test_frames_of_any_type():
    frame = FRAME.assign(run=[1, 1, 2, 3, 4]).astype({"loss/web": "Float64", "loss/code": "float32"})
    frame.loc[0, "loss/web"] = pd.NA
    runs = read.read_runs(frame)
    assert runs.run_names == ("1", "2", "3", "4") and np.isnan(runs.losses[0, 0])
    assert runs.losses.dtype == np.float64
    with pytest.raises(TableError, match="True is not a number"):
        read.read_runs(FRAME.assign(**{"loss/web": True}))
    with pytest.raises(TableError, match="is not a number"):
        read.read_runs(FRAME.assign(**{"loss/web": [[1.0]] * len(FRAME)}))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_written_tables_read_back(suffix, tmp_path):
    text = with_column("acc/qa", ["0.1", "", "0.3", "1", "0"]).replace("410M", "1.5B-A410M").replace("3.0,2.1", ",2.1")
    runs = text_table(text)
    runs = dataclasses.replace(runs, recipe=dataclasses.replace(runs.recipe, supply=np.array([1e12, np.inf])))
    path = tmp_path / f"t.{suffix}"
    write.write_runs(runs, path)
    back = read.read_runs(path)
    for got, want in [
        (back.losses, runs.losses),
        (back.accuracies, runs.accuracies),
        (back.run, runs.run),
        (back.recipe.n_total, runs.recipe.n_total),
        (back.recipe.n_active, runs.recipe.n_active),
        (back.recipe.tokens, runs.recipe.tokens),
        (back.recipe.weights, runs.recipe.weights),
        (back.recipe.supply, np.broadcast_to(np.asarray(runs.recipe.supply), (len(runs), 2))),
    ]:
        np.testing.assert_array_equal(got, want)
    assert (back.domains, back.sets, back.tasks, back.run_names) == (
        runs.domains,
        runs.sets,
        runs.tasks,
        runs.run_names,
    )
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        write.write_runs(runs, tmp_path / "t.xlsx")


def test_recipes_in_the_order_of_the_fit():
    frame = FRAME.drop(columns=["loss/web", "loss/code"])
    recipe, ids = read.read_recipes(frame, domains=("code", "web"))
    assert ids == ["a", "a", "b", "c", "d"] and recipe.weights[0].tolist() == [0.25, 0.75]
    with pytest.raises(TableError, match="no column 'mix/books', a domain of the fit"):
        read.read_recipes(frame, domains=("code", "web", "books"))
    with pytest.raises(TableError, match="column 'mix/code' is no domain of the fit"):
        read.read_recipes(frame, domains=("web",))


def test_shipped_table_holds_what_its_description_says():
    folder = pathlib.Path(read.__file__).parents[1] / "data"
    runs = read.read_runs(folder / "proxy_runs.csv", on_ignored=lambda names: None)
    record = json.loads((folder / "proxy_runs.json").read_text())
    assert len(runs) == 241 and np.isfinite(runs.losses).all() and np.isfinite(runs.accuracies).all()
    r = runs.recipe
    active, total, tokens = (np.asarray(x) for x in (r.n_active, r.n_total, r.tokens))
    dense = active == total
    full = dense & (tokens == tokens.max())
    mixtures = {
        size: len(np.unique(runs.recipe.weights[full & (active == size)], axis=0)) for size in np.unique(active)
    }
    assert list(mixtures.values()) == [25, 25, 25, 25, 20]
    assert len(np.unique(active[dense & (tokens < tokens.max())])) == 3
    assert len(np.unique((total / active)[~dense].round(1))) >= 2
    assert set(active[~dense]) < set(active[dense])
    made = {(row["run"], row["tokens"]): row for row in record["runs"]}
    names = [runs.run_names[i] for i in runs.run]
    assert sorted(made) == sorted(zip(names, tokens.astype(int).tolist(), strict=True))
    assert {row["seed"] for row in record["runs"]} == {0, 1, 2}


def test_public_tables_read(data_folder):
    for name in ("slimpajama", "pile5", "redpajama7", "regmix_pile17", "openlm_benchmarks"):
        runs = read.read_runs(data_folder / f"{name}.csv")
        raw = pd.read_csv(data_folder / f"{name}.csv")
        assert len(runs) == len(raw) and [f"mix/{d}" for d in runs.domains] == [c for c in raw if c.startswith("mix/")]
        np.testing.assert_allclose(runs.losses, raw.filter(like="loss/").to_numpy(), rtol=0)


CELLS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(
        ["", "nan", "-inf", "0", "1e-320", "1e308", "7B", "-1", "0,5", "50%", "1_0", "٣", "½", "0x10", "a\tb"]
    ),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters='\0"\r\n,;\t'), max_size=6),
)


@given(row=st.integers(0, len(ROWS) - 1), column=st.integers(0, 6), cell=CELLS)
@settings(max_examples=300, deadline=None)
def test_any_cell_is_read_right_or_rejected(row, column, cell):
    """Whatever stands in one cell: the table is read with that number, or one TableError comes."""
    name = HEADER.split(",")[column]
    text = changed(row, name, cell)
    try:
        runs = read._to_runs(sheet.sheet_from_text(text.encode(), "t.csv", lambda rule: TableError("t.csv", [])))
    except TableError as error:
        assert "\n" not in str(error) and len(str(error)) < 900
        return
    assert len(runs) == len(ROWS)
    if column >= 5:
        got = runs.losses[row, column - 5]
        assert np.isnan(got) if cell.strip().lower() in ("", "nan", "na", "n/a", "null", "none") else got == float(cell)
    elif column in (1, 2):
        got = (runs.recipe.n_active, runs.recipe.tokens)[column - 1][row]
        assert 1e3 <= got <= 1e19


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_rejected_in_words(raw):
    with pytest.raises(TableError):
        read._to_runs(sheet.sheet_from_text(raw, "t.csv", lambda rule: TableError("t.csv", [])))


@given(st.text(st.sampled_from('run,size;tokens/mix loss"\n\t0.5'), max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_near_table_is_rejected_in_words(text):
    with pytest.raises(TableError):
        read._to_runs(sheet.sheet_from_text(text.encode(), "t.csv", lambda rule: TableError("t.csv", [])))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7B", (7e9, 7e9)),
        ("590M-A12M", (590e6, 12e6)),
        ("55B-A1.2B", (55e9, 1.2e9)),
        ("1.2e9", (1.2e9, 1.2e9)),
        (" 7b - a150m ", (7e9, 150e6)),
        (124_000_000, (124e6, 124e6)),
        ("1e9-A1e8", (1e9, 1e8)),
    ],
)
def test_sizes_as_written(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B",
        "7BB",
        "7B-A",
        "A12M",
        "7B-12M",
        "12M-A590M",
        "seven",
        "1,2B",
        "-7B",
        "nan",
        "inf",
        "7 %",
        None,
        True,
        "12",
    ],
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


def test_tokens_as_written():
    assert parse_tokens("1T") == 1e12 and parse_tokens("0.3B") == 3e8 and parse_tokens(2e9) == 2e9


@given(st.floats(1e3, 9.99e14))
def test_short_text_keeps_three_digits(value):
    assert parse_count(format_count(value)) == pytest.approx(value, rel=0.0051)
    assert parse_size(format_size(value, value)) == parse_size(format_count(value))


def test_mixtures_alone_need_a_share_and_name_what_there_is():
    with pytest.raises(TableError, match="no column 'mix/<domain>'; the table has 'domain', 'share'"):
        read.read_mixtures(pd.DataFrame({"domain": ["web"], "share": [1.0]}))
