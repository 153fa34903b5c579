"""Tables as people hand them in: right, odd but readable, and wrong. Shared by the tests of tables and command line."""

import io

import pandas as pd

HEADER = "run,size,tokens,mix/web,mix/code,loss/web,loss/code"
ROWS = [
    "a,70M,2B,0.75,0.25,3.1,2.2",
    "a,70M,4B,0.75,0.25,3.0,2.1",
    "b,160M,4B,0.5,0.5,2.8,1.8",
    "c,160M,4B,0.25,0.75,2.9,1.7",
    "d,410M,8B,0.6,0.4,2.5,1.5",
]


def table(*rows, header=HEADER):
    """Text of a table, the good one by default."""
    return "\n".join([header, *(rows or ROWS)]) + "\n"


def changed(row, column, cell):
    """The good table with one cell replaced."""
    names, rows = HEADER.split(","), [r.split(",") for r in ROWS]
    rows[row][names.index(column)] = cell
    return table(*(",".join(r) for r in rows))


def with_column(name, cells):
    """The good table with one more column."""
    return table(*(f"{r},{c}" for r, c in zip(ROWS, cells, strict=True)), header=f"{HEADER},{name}")


def parquet(frame):
    """Bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


GOOD = table()
FRAME = pd.read_csv(io.StringIO(GOOD))

# name of the file, its text or bytes
READABLE = {
    "plain": ("t.csv", GOOD),
    "bom": ("t.csv", b"\xef\xbb\xbf" + GOOD.encode()),
    "windows line ends": ("t.csv", GOOD.replace("\n", "\r\n").encode()),
    "old mac line ends": ("t.csv", GOOD.replace("\n", "\r").encode()),
    "no last line end": ("t.csv", GOOD.rstrip("\n")),
    "semicolons": ("t.csv", GOOD.replace(",", ";")),
    "semicolons and decimal commas": ("t.csv", GOOD.replace(",", ";").replace(".", ",")),
    "tabs": ("t.tsv", GOOD.replace(",", "\t")),
    "spreadsheet hint": ("t.csv", "sep=;\n" + GOOD.replace(",", ";")),
    "bom, semicolons, windows": ("t.csv", b"\xef\xbb\xbf" + GOOD.replace(",", ";").replace("\n", "\r\n").encode()),
    "spaces around": ("t.csv", GOOD.replace(",", " , ")),
    "quoted": ("t.csv", "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in GOOD.split("\n")[:-1])),
    "blank lines": ("t.csv", GOOD.replace("\n", "\n\n")),
    "trailing delimiters": ("t.csv", GOOD.replace("\n", ",,\n")),
    "raw numbers": ("t.csv", GOOD.replace("70M", "70000000").replace("2B", "2e9").replace("160M", "1.6E+08")),
    "lower case suffixes": ("t.csv", GOOD.replace("B,", "b,").replace("M,", "m,")),
    "unicode names": ("t.csv", GOOD.replace("web", "新闻").replace("code", "codé")),
    "reordered columns": ("t.csv", FRAME[FRAME.columns[::-1]].to_csv(index=False)),
    "reordered rows": ("t.csv", table(*ROWS[::-1])),
    "missing losses": ("t.csv", GOOD.replace("3.0,2.1", ",NaN").replace("1.8", "NA")),
    "shares off by 5e-4": ("t.csv", changed(2, "mix/web", "0.5004")),
    "zero share": ("t.csv", table(*ROWS, "e,70M,2B,1,0,3.0,4.0")),
    "extra columns": ("t.csv", with_column("seed", "12345")),
    "accuracies": ("t.csv", with_column("acc/qa", ["0.1", "", "0.3", "1", "0"])),
    "supply": ("t.csv", with_column("supply/web", ["2T", "", "1e12", "3B", "3B"])),
    "parquet": ("t.parquet", parquet(FRAME)),
}

# name of the file, its text or bytes, what the message must say
WRONG = {
    "empty file": ("t.csv", "", ["is empty"]),
    "blank file": ("t.csv", "\n \n\n", ["is empty"]),
    "bom only": ("t.csv", b"\xef\xbb\xbf", ["is empty"]),
    "header only": ("t.csv", HEADER + "\n", ["no rows"]),
    "no header": ("t.csv", "\n".join(ROWS) + "\n", ["no column", "'run'"]),
    "prose": ("t.csv", "Dear all,\nplease find the table attached.\n", ["no column"]),
    "json": ("t.csv", '[{"run": 1}]', ["no column"]),
    "unknown suffix": ("t.xlsx", GOOD, ["unknown kind of file .xlsx"]),
    "no suffix": ("table", GOOD, ["no suffix"]),
    "parquet called csv": ("t.csv", parquet(FRAME), ["is not text"]),
    "csv called parquet": ("t.parquet", GOOD, ["cannot be read as Parquet"]),
    "empty parquet": ("t.parquet", b"", ["cannot be read as Parquet"]),
    "half a parquet": ("t.parquet", parquet(FRAME)[:200], ["cannot be read as Parquet"]),
    "latin-1": ("t.csv", GOOD.replace("web", "café").encode("latin-1"), ["line 1", "not UTF-8"]),
    "utf-16": ("t.csv", GOOD.encode("utf-16"), ["UTF-16"]),
    "nul bytes": ("t.csv", GOOD.encode() + b"\0\0\0", ["is not text"]),
    "open quote": ("t.csv", GOOD.replace("b,160M", '"b,160M'), ["not CSV"]),
    "short line": ("t.csv", table(*ROWS, "e,70M,2B"), ["line 7", "3 cells where the header has 7"]),
    "long line": ("t.csv", table(*ROWS, "e,70M,2B,0.5,0.5,3,2,9,9"), ["line 7", "9 cells"]),
    "thousands separators": ("t.csv", GOOD.replace("70M", "70,000,000"), ["line 2", "9 cells"]),
    "quoted thousands separators": ("t.csv", GOOD.replace("70M", '"70,000,000"'), ["'size'", "70,000,000", "comma"]),
    "no run column": ("t.csv", GOOD.replace("run,", "id,"), ["no column 'run'", "'id'"]),
    "no size": ("t.csv", GOOD.replace("size", "params"), ["no column 'size'"]),
    "no tokens, near miss": ("t.csv", GOOD.replace("tokens", "Tokens"), ["did you mean 'tokens'"]),
    "no mixture": ("t.csv", GOOD.replace("mix/", "share of "), ["mix/<domain>"]),
    "no losses": ("t.csv", GOOD.replace("loss/", "perplexity on "), ["loss/<set>"]),
    "underscore for slash": ("t.csv", GOOD.replace("loss/code", "loss_code"), ["'loss_code'", "loss/<set>"]),
    "capitals": ("t.csv", GOOD.replace("mix/code", "Mix/code"), ["'Mix/code'"]),
    "near size_total": ("t.csv", with_column("size-total", ["7B"] * 5), ["did you mean 'size_total'"]),
    "column twice": ("t.csv", GOOD.replace("loss/code", "loss/web"), ["'loss/web' occurs twice"]),
    "nameless domain": ("t.csv", GOOD.replace("mix/code", "mix/"), ["'mix/'", "no name after the slash"]),
    "duplicate run and tokens": ("t.csv", table(*ROWS, ROWS[2]), ["line 7 (run b)", "occurs twice"]),
    "no run id": ("t.csv", changed(1, "run", ""), ["line 3", "no run id"]),
    "negative share": ("t.csv", changed(0, "mix/code", "-0.25"), ["'mix/code'", "line 2 (run a)", "negative share"]),
    "shares in percent": ("t.csv", GOOD.replace("0.75,0.25", "75,25").replace("0.5,0.5", "50,50"), ["percent"]),
    "shares with percent signs": ("t.csv", GOOD.replace("0.75,0.25", "75%,25%"), ["'75%'", "0.25"]),
    "shares sum to 0.9": ("t.csv", changed(4, "mix/web", "0.5"), ["line 6 (run d)", "sum to 0.9"]),
    "all shares zero": ("t.csv", GOOD.replace("0.5,0.5", "0,0"), ["line 4 (run b)", "sum to 0"]),
    "blank share": ("t.csv", changed(0, "mix/web", ""), ["'mix/web'", "is blank"]),
    "nan share": ("t.csv", changed(0, "mix/web", "nan"), ["'mix/web'", "is blank"]),
    "infinite share": ("t.csv", changed(0, "mix/web", "inf"), ["'mix/web'", "finite"]),
    "text share": ("t.csv", changed(0, "mix/web", "most"), ["'most' is not a number"]),
    "zero size": ("t.csv", changed(2, "size", "0"), ["'size'", "line 4 (run b)", "not positive"]),
    "negative tokens": ("t.csv", changed(2, "tokens", "-4B"), ["'tokens'", "line 4 (run b)", "not positive"]),
    "infinite tokens": ("t.csv", changed(2, "tokens", "inf"), ["'tokens'", "not finite"]),
    "nan size": ("t.csv", changed(2, "size", "NaN"), ["'size'", "is blank"]),
    "blank tokens": ("t.csv", changed(2, "tokens", ""), ["'tokens'", "is blank"]),
    "text size": ("t.csv", changed(2, "size", "small"), ["'small' is not a count"]),
    "size in millions": ("t.csv", GOOD.replace("70M", "70").replace("160M", "160"), ["below 1000"]),
    "huge size": ("t.csv", changed(2, "size", "1e300"), ["above 1e19"]),
    "tiny tokens": ("t.csv", changed(2, "tokens", "1e-300"), ["below 1000"]),
    "decimal comma in size": ("t.csv", GOOD.replace(",", ";").replace("160M", "1,6e8"), ["'size'", "comma"]),
    "active above total": ("t.csv", changed(4, "size", "150M-A7B"), ["more active than total"]),
    "active above size_total": ("t.csv", with_column("size_total", ["60M"] * 5), ["more active than total"]),
    "two different totals": (
        "t.csv",
        with_column("size_total", ["7B"] * 5).replace("410M", "2B-A410M"),
        ["line 6 (run d)", "differs from the total"],
    ),
    "swapped size and loss": ("t.csv", GOOD.replace("b,160M,4B,0.5,0.5,2.8", "b,2.8,4B,0.5,0.5,160e6"), ["loss above"]),
    "zero loss": ("t.csv", changed(3, "loss/web", "0"), ["'loss/web'", "line 5 (run c)", "positive"]),
    "negative loss": ("t.csv", changed(3, "loss/web", "-2.9"), ["'loss/web'", "line 5 (run c)", "positive"]),
    "infinite loss": ("t.csv", changed(3, "loss/web", "inf"), ["'loss/web'", "finite"]),
    "overflowing loss": ("t.csv", changed(3, "loss/web", "1e999"), ["'loss/web'", "finite"]),
    "tiny loss": ("t.csv", changed(3, "loss/web", "1e-300"), ["'loss/web'", "below 1e-06"]),
    "perplexity": ("t.csv", changed(3, "loss/web", "181.2"), ["'loss/web'", "perplexity"]),
    "text loss": ("t.csv", changed(3, "loss/web", "diverged"), ["'diverged' is not a number"]),
    "unmeasured set": ("t.csv", with_column("loss/new", [""] * 5), ["'loss/new'", "no measured loss"]),
    "accuracy in percent": ("t.csv", with_column("acc/qa", ["10", "20", "30", "40", "50"]), ["'acc/qa'", "percent"]),
    "negative accuracy": ("t.csv", with_column("acc/qa", ["-0.1", "0", "0", "0", "0"]), ["'acc/qa'", "0 and 1"]),
    "supply of no domain": ("t.csv", with_column("supply/books", ["1T"] * 5), ["supply of 'books'"]),
    "negative supply": ("t.csv", with_column("supply/web", ["-1T"] * 5), ["'supply/web'", "not positive"]),
    "mixture changes within a run": ("t.csv", changed(1, "mix/web", "0.5").replace("0.5,0.25", "0.5,0.5"), ["changes"]),
    "size changes within a run": ("t.csv", changed(1, "size", "71M"), ["line 3 (run a)", "changes between"]),
}
