"""Exports of trackers as people hand them in: what is right all the same, and what must end in one clear line."""

import json

HEAD = "Name,State,n_params,tokens,mix.web,mix.code,eval/web/loss,eval/code/loss"
ROWS = [
    "a,finished,70000000,2000000000,0.75,0.25,3.1,2.2",
    "b,finished,160000000,4000000000,0.5,0.5,2.8,1.8",
    "c,finished,160000000,4000000000,0.25,0.75,2.9,1.7",
    "d,finished,410000000,8000000000,0.6,0.4,2.5,1.5",
]
GOOD = "\n".join([HEAD, *ROWS]) + "\n"


def table(*rows, head=HEAD):
    return "\n".join([head, *rows]) + "\n"


def changed(row, column, cell):
    names, rows = HEAD.split(","), [r.split(",") for r in ROWS]
    rows[row][names.index(column)] = cell
    return table(*(",".join(r) for r in rows))


def with_column(name, cells):
    return table(*(f"{row},{cell}" for row, cell in zip(ROWS, cells, strict=True)), head=f"{HEAD},{name}")


def dicts(rows=ROWS):
    names = HEAD.split(",")
    for row in rows:
        run = dict(zip(names, row.split(","), strict=True))
        yield {
            "run": run["Name"],
            "state": run["State"],
            "config": {
                "model": {"n_params": int(run["n_params"])},
                "mixture": {k: float(run[f"mix.{k}"]) for k in ("web", "code")},
            },
            "summary": {"tokens": float(run["tokens"])}
            | {f"eval/{k}/loss": float(run[f"eval/{k}/loss"]) for k in ("web", "code")},
        }


def spread():
    """As the client's own example writes it: mappings as Python prints them, in columns."""
    lines = ["name,state,summary,config"]
    for run in dicts():
        cells = [
            run["run"],
            run["state"],
            str(run["summary"] | {"_step": 10}),
            str(run["config"] | {"_wandb": {"x": 1}}),
        ]
        lines.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    return "\n".join(lines) + "\n"


def long_table(n):
    names = HEAD.split(",")
    extra = [f"grads/layer{i}/norm" for i in range(n)]
    return table(*(row + ",0.1" * n for row in ROWS), head=",".join(names + extra))


def ratios(rows=ROWS):
    return "run,name,index,web,code\n" + "".join(
        f"id{r[0]},{r[0]},{i},{','.join(r.split(',')[4:6])}\n" for i, r in enumerate(rows)
    )


def metrics(rows=ROWS):
    out = "run,name,index,size,tokens,eval/web/loss,eval/code/loss\n"
    return out + "".join(
        f"id{r[0]},{r[0]},{i},{','.join(r.split(',')[2:4])},{','.join(r.split(',')[6:])}\n" for i, r in enumerate(rows)
    )


# name -> files, arguments; each must give the four runs of GOOD under their names
RIGHT = {
    "plain": ({"t.csv": GOOD}, []),
    "rows in another order": ({"t.csv": table(*ROWS[::-1])}, []),
    "semicolons": ({"t.csv": GOOD.replace(",", ";")}, []),
    "a crashed run that was run again": ({"t.csv": table("a,crashed,70000000,1000000000,0.75,0.25,4.1,3.2", *ROWS)}, []),
    "a run that is still running": ({"t.csv": table(*ROWS, "e,running,70000000,1000000000,1,0,4.1,3.2")}, []),
    "names in capitals": ({"t.csv": GOOD.replace("Name,State", "NAME,STATE")}, []),
    "thousands of columns": ({"t.csv": long_table(3000)}, []),
    "nested names with slashes": ({"t.csv": GOOD.replace("mix.", "config/data/mixture/").replace("n_params", "config/model/n_params")}, []),
    "mappings as text": ({"t.csv": spread()}, []),
    "JSON lines": ({"t.jsonl": "".join(json.dumps(run) + "\n" for run in dicts())}, []),
    "JSON lines with NaN": ({"t.jsonl": "".join(json.dumps(run | {"junk": float("nan")}) + "\n" for run in dicts())}, []),
    "bits per token": (
        {"t.csv": GOOD.replace(",3.1,2.2", ",4.472354627,3.173929091").replace(",2.8,1.8", ",4.039546115,2.596851073")
         .replace(",2.9,1.7", ",4.183815619,2.452581569").replace(",2.5,1.5", ",3.606737602,2.164042561")},
        ["--unit", "loss=bits per token"],
    ),
    "perplexities": (
        {"t.csv": GOOD.replace("/loss", "/perplexity").replace(",3.1,2.2", ",22.197951281,9.025013499")
         .replace(",2.8,1.8", ",16.444646771,6.049647464").replace(",2.9,1.7", ",18.174145369,5.473947392")
         .replace(",2.5,1.5", ",12.182493961,4.481689070")},
        [],
    ),
    "shares in percent": (
        {"t.csv": GOOD.replace("0.75,0.25", "75,25").replace("0.5,0.5", "50,50").replace("0.25,0.75", "25,75").replace("0.6,0.4", "60,40")},
        ["--normalize"],
    ),
    "shares with percent signs": (
        {"t.csv": GOOD.replace("0.75,0.25", "75%,25%").replace("0.5,0.5", "50%,50%").replace("0.25,0.75", "25%,75%").replace("0.6,0.4", "60%,40%")},
        ["--normalize"],
    ),
    "counts of documents": (
        {"t.csv": GOOD.replace("0.75,0.25", "3000,1000").replace("0.5,0.5", "7,7").replace("0.25,0.75", "1,3").replace("0.6,0.4", "6,4")},
        ["--normalize"],
    ),
    "train losses beside": ({"t.csv": with_column("train/loss", ["1", "2", "3", "4"])}, []),
    "losses in two units": ({"t.csv": with_column("eval/web/bpb", ["1", "0.9", "0.9", "0.8"])}, []),
    "a renamed metric": (
        {"t.csv": table("a,finished,70000000,2000000000,0.75,0.25,,2.2,3.1", *(f"{row}," for row in ROWS[1:]), head=f"{HEAD},val/web/loss")},
        [],
    ),
    "size and tokens with suffixes": ({"t.csv": GOOD.replace("000000000,", "B,").replace("000000,", "M,")}, []),
    "size given for all": (
        {"t.csv": "\n".join(",".join(r.split(",")[:2] + r.split(",")[3:]) for r in GOOD.split("\n")[:-1])},
        ["--set", "size=70M"],
    ),
    "two files by id": ({"ratios.csv": ratios(), "metrics.csv": metrics()}, []),
    "two files by id, in another order": ({"ratios.csv": ratios(ROWS[::-1]), "metrics.csv": metrics()}, []),
    "two files, mixtures without metrics": ({"ratios.csv": ratios([*ROWS, "e,finished,1,1,0.5,0.5,1,1"]), "metrics.csv": metrics()}, []),
    "two files by id, metrics first": ({"metrics.csv": metrics(), "ratios.csv": ratios()}, []),
    "recipes and losses apart": (
        {
            "recipes.csv": "\n".join(",".join(line.split(",")[:1] + line.split(",")[2:6]) for line in GOOD.split("\n")[:-1]),
            "losses.csv": "\n".join(",".join(line.split(",")[:1] + line.split(",")[6:]) for line in table(*ROWS[::-1]).split("\n")[:-1]),
        },
        [],
    ),
    "a domain that some runs do not name": (
        {"t.csv": table(*(f"{row}," for row in ROWS), head=f"{HEAD},mix.books").replace("0.6,0.4,2.5,1.5,", "0.6,0.4,2.5,1.5,0")},
        [],
    ),
    "byte order mark and windows line ends": ({"t.csv": "﻿" + GOOD.replace("\n", "\r\n")}, []),
    "blank columns": ({"t.csv": with_column("notes", ["", "", "", ""])}, []),
}  # fmt: skip

# name -> files, arguments, what the one line must say
WRONG = {
    "no mixture": ({"t.csv": GOOD.replace("mix.", "opt.")}, [], ["mix/"]),
    "a run without a mixture": ({"t.csv": table("a,finished,70000000,2000000000,,,3.1,2.2", *ROWS[1:])}, [], ["no mixture", "a"]),
    "a run with half a mixture": ({"t.csv": changed(0, "mix.web", "")}, [], ["mix/web", "0.25"]),
    "a negative share": ({"t.csv": changed(0, "mix.web", "-0.75")}, ["--map", "mix.*=mix/*"], ["mix/web", "not negative"]),
    "a share that is text": ({"t.csv": changed(0, "mix.web", "most")}, [], ["mix/web", "'most'"]),
    "shares in percent, not asked": (
        {"t.csv": GOOD.replace("0.75,0.25", "75,25").replace("0.5,0.5", "50,50").replace("0.25,0.75", "25,75").replace("0.6,0.4", "60,40")},
        [],
        ["100", "--normalize"],
    ),
    "counts, not asked": ({"t.csv": changed(0, "mix.web", "30")}, [], ["30.25", "--normalize"]),
    "all shares zero": ({"t.csv": changed(0, "mix.web", "0").replace("0,0.25", "0,0")}, ["--normalize"], ["zero"]),
    "one unit of losses in one row, another in another": ({"t.csv": changed(0, "eval/web/loss", "22.2")}, [], ["22.2", "perplexity"]),
    "perplexity called loss": ({"t.csv": changed(1, "eval/web/loss", "181.2")}, [], ["eval/web/loss", "perplexity"]),
    "a loss of zero": ({"t.csv": changed(1, "eval/web/loss", "0")}, [], ["eval/web/loss", "above zero"]),
    "perplexity of less than one": ({"t.csv": changed(0, "eval/web/loss", "0.5")}, ["--unit", "loss=perplexity"], ["0.5", "at least 1"]),
    "a loss that is text": ({"t.csv": changed(0, "eval/web/loss", "diverged")}, [], ["'diverged'", "not a number"]),
    "accuracy in two units": ({"t.csv": with_column("qa/acc", ["0.5", "0.6", "55", "0.4"])}, ["--unit", "acc=fraction"], ["qa/acc", "55", "mixed"]),
    "percent that is none": ({"t.csv": with_column("qa/acc", ["0.5", "0.6", "0.5", "0.4"])}, ["--unit", "acc=percent"], ["qa/acc", "fraction"]),
    "unknown unit": ({"t.csv": GOOD}, ["--unit", "loss=furlongs"], ["furlongs", "nats per token"]),
    "bits per byte and nats per token": (
        {"t.csv": GOOD.replace("eval/code/loss", "eval/code/bpb")},
        ["--map", "eval/code/bpb=loss/code", "--unit", "eval/code/bpb=bpb"],
        ["per byte", "per token"],
    ),
    "two columns of one meaning": (
        {"t.csv": with_column("val/web/loss", ["3.1", "2.8", "2.9", "2.6"])},
        ["--map", "val/web/loss=loss/web", "--map", "eval/web/loss=loss/web"],
        ["'eval/web/loss'", "'val/web/loss'", "2.5", "2.6"],
    ),
    "no run names": ({"t.csv": GOOD.replace("Name", "remark")}, [], ["run"]),
    "a run without a name": ({"t.csv": changed(0, "Name", "")}, [], ["line 2", "names no run"]),
    "one run twice": ({"t.csv": table(*ROWS, ROWS[0])}, [], ["occurs twice", "a"]),
    "one name, two mixtures": ({"t.csv": table(*ROWS, "a,finished,70000000,4000000000,0.5,0.5,3,2")}, [], ["mixture changes", "a"]),
    "two projects with one run name": (
        {"t.csv": table(*(f"{row},p" for row in ROWS), "a,finished,70000000,4000000000,0.75,0.25,3.0,2.0,q", head=f"{HEAD},Project")},
        [],
        ["two runs are called 'a'", "Project"],
    ),
    "two ids with one run name": (
        {"t.csv": table(*(f"{row},x{i}" for i, row in enumerate(ROWS)), "a,finished,70000000,4000000000,0.75,0.25,3.0,2.0,z", head=f"{HEAD},ID")},
        [],
        ["two runs are called 'a'", "ID"],
    ),
    "two files with one run name": (
        {"t.csv": GOOD, "u.csv": table("a,finished,70000000,2000000000,0.5,0.5,3.0,2.0")},
        [],
        ["both have a run 'a'", "mix/web"],
    ),
    "two files that disagree": (
        {"t.csv": GOOD, "u.csv": table("a,finished,70000000,2000000000,0.75,0.25,3.2,2.2")},
        [],
        ["run 'a'", "loss/web", "3.1", "3.2"],
    ),
    "no tokens": ({"t.csv": GOOD.replace("tokens", "when")}, [], ["tokens"]),
    "no size": ({"t.csv": GOOD.replace("n_params", "width")}, [], ["size"]),
    "tokens that are text": ({"t.csv": changed(0, "tokens", "many")}, [], ["tokens", "many"]),
    "size in millions": ({"t.csv": GOOD.replace("000000,2000", ",2000")}, [], ["size", "below 1000"]),
    "nothing measured": ({"t.csv": GOOD.replace("eval/web/loss", "x").replace("eval/code/loss", "y")}, [], ["loss/<set>"]),
    "no run finished": ({"t.csv": GOOD.replace("finished", "crashed")}, [], ["none of its 4 runs finished", "--unfinished"]),
    "empty file": ({"t.csv": ""}, [], ["is empty"]),
    "header alone": ({"t.csv": HEAD + "\n"}, [], ["no rows"]),
    "one column twice": ({"t.csv": GOOD.replace("eval/code/loss", "eval/web/loss")}, [], ["'eval/web/loss'", "twice"]),
    "a short line": ({"t.csv": table(*ROWS, "e,finished")}, [], ["line 6", "2 cells"]),
    "JSON lines that are none": ({"t.jsonl": '{"run": "a"}\nfinished\n'}, [], ["line 2", "not JSON"]),
    "a name twice in a JSON line": ({"t.jsonl": '{"run": "a", "run": "b"}\n'}, [], ["line 1", "'run' occurs twice"]),
    "half a gzip file": ({"t.csv.gz": b"\x1f\x8b\x08\x00\x00\x00"}, [], ["gzip"]),
    "mappings that are cut off": ({"t.csv": spread().replace("'code': 0.25}", "'code': 0.2")}, [], ["line 2", "no mapping"]),
    "two files, a metric without a mixture": ({"ratios.csv": ratios(ROWS[1:]), "metrics.csv": metrics()}, [], ["no mixture", "'ida'"]),
    "two files, an id with two mixtures": (
        {"ratios.csv": ratios() + "ida,a,9,0.5,0.5\n", "metrics.csv": metrics()},
        [],
        ["another mixture", "'ida'"],
    ),
    "two files without a common id": ({"ratios.csv": ratios().replace("id", "no"), "metrics.csv": metrics()}, [], ["no run in common"]),
    "no such file": ({}, ["absent.csv"], ["absent.csv", "no such file"]),
    "another kind of file": ({"t.xlsx": b"PK\x03\x04"}, [], ["no table"]),
    "a folder of nothing": ({"d/readme.md": "hello"}, [], ["holds no records"]),
    "a mapping of a column that is not there": ({"t.csv": GOOD}, ["--map", "eval/books/loss=loss/books"], ["'eval/books/loss'"]),
    "a mapping to nothing known": ({"t.csv": GOOD}, ["--map", "n_params=parameters"], ["'parameters'", "size"]),
    "a corpus beside a mixture": ({"t.csv": with_column("corpus", ["x", "y", "x", "y"])}, ["--domain-column", "corpus"], ["mixture beside"]),
    "a run without a corpus": (
        {"t.csv": with_column("corpus", ["x", "", "x", "y"])},
        ["--domain-column", "corpus", "--map", "mix.web=", "--map", "mix.code="],
        ["names no corpus"],
    ),
}  # fmt: skip
