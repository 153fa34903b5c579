"""Strategies for what a hostile or careless user hands in: cells, tables, limits, archives and words of a command line."""

import json

from hypothesis import strategies as st

WORDS = st.sampled_from(
    [
        *["", " ", "0", "-1", "1", "0.5", "1e400", "nan", "inf", "-inf", "1_000", "1,5", "70M", "2B", "7B-A1B", "55B-A", "25 %"],
        *["true", "[]", "{}", '"', "'", "=", "a=b", "web=0.5", "web=nan", "web+code=0.3", "=1", "web=", "../x", "/", "-", "--", "\0"],
        *["$x^$", "[/b]", "\x1b[31m", "漢字", "e\u0301", "\ud800", "9" * 400, "1e-320", "0x10", "١٢"],
    ]
)  # fmt: skip
TEXT = st.one_of(WORDS, st.text(max_size=12), st.floats().map(str), st.integers().map(str))
HEADER = ["run", "size", "tokens", "mix/web", "mix/code", "loss/web", "loss/code"]
NAMES = st.one_of(
    st.sampled_from([*HEADER, "mix/", "loss/", "mix/web ", "acc/qa", "supply/web", "size_total", "Tokens"]), TEXT
)


def _row(i: int) -> list[str]:
    share = round((i * 37 % 11) / 10, 1)
    loss = f"{3 - 0.1 * i + share:.3f}"
    return [f"r{i}", f"{20 + 30 * (i % 3)}M", f"{1 + i % 4}B", f"{share:g}", f"{1 - share:g}", loss, loss]


@st.composite
def tables(draw) -> bytes:
    """A table: a good one of 0 to 14 rows with cells, names, lines or bytes changed."""
    rows = [list(HEADER), *(_row(i) for i in range(draw(st.integers(0, 14))))]
    for _ in range(draw(st.integers(0, 4))):
        i, j = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(HEADER) - 1))
        rows[i][j] = draw(NAMES if i == 0 else TEXT)
    if draw(st.booleans()):
        j = draw(st.integers(0, len(HEADER) - 1))
        for row in rows[1:]:
            row[j] = draw(st.sampled_from([row[j], "1e9", "3", ""]))
    for _ in range(draw(st.integers(0, 1))):
        rows.insert(draw(st.integers(0, len(rows))), draw(st.lists(TEXT, max_size=9)))
    separator = draw(st.sampled_from([",", ",", ",", ";", "\t"]))
    text = "\n".join(separator.join(row) for row in rows).encode(errors="surrogatepass")
    return altered(draw, text) if draw(st.integers(0, 4)) == 0 else text


def altered(draw, content: bytes) -> bytes:
    """Bytes with some flipped, cut, doubled or put in."""
    at, length = draw(st.integers(0, max(len(content) - 1, 0))), draw(st.integers(0, 40))
    kind = draw(st.sampled_from(["flip", "cut", "end", "twice", "insert"]))
    if kind == "flip" and content:
        return content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
    if kind == "cut":
        return content[:at] + content[at + length + 1 :]
    if kind == "end":
        return content[:at]
    if kind == "twice":
        return content[: at + length] + content[at:]
    return content[:at] + draw(st.binary(min_size=1, max_size=12)) + content[at:]


NUMBERS = st.one_of(st.floats(), st.integers(-3, 10**18), st.booleans(), st.none(), WORDS)
DOMAINS = st.one_of(st.sampled_from(["web", "code", "web+code", "math"]), TEXT)
SHARES = st.dictionaries(DOMAINS, NUMBERS, max_size=3)
VALUES = st.one_of(SHARES, NUMBERS, st.lists(NUMBERS, max_size=3))
LIMITS = st.dictionaries(
    st.sampled_from(
        [
            "min",
            "max",
            "fix",
            "supply",
            "cost",
            "cost_budget",
            "max_epochs",
            "kl",
            "distance",
            "max_domains",
            "prior",
            "floor",
            "",
        ]
    ),
    VALUES,
    max_size=4,
)


@st.composite
def limits_files(draw) -> tuple[str, bytes]:
    """(name, content) of a file of limits."""
    content = json.dumps(draw(LIMITS)).encode()
    if draw(st.integers(0, 2)) == 0:
        content = altered(draw, content)
    name = draw(st.sampled_from(["l.json", "l.json", "l.toml", "l.txt"]))
    if name == "l.toml":
        pairs = draw(st.dictionaries(st.sampled_from(["min", "max", "kl", "x"]), TEXT, max_size=3))
        content = "\n".join(f"{k} = {v}" for k, v in pairs.items()).encode(errors="replace")
    return name, content
