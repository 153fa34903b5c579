"""The command line in process: exit codes, one-line errors, files that are whole or absent, the same bytes twice."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from commands import SMALL, call, own_flags, put, refused, small_table  # noqa: F401  (own_flags is used by its name)
from malformed import GOOD, WRONG

from camel_jax.runtime import jaxlib_knows


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_wrong_tables_end_in_one_line(case, tmp_path):
    path = put(tmp_path, case[0], case[1])
    line = refused("fit", path, "--out", tmp_path / "fit.npz")
    assert str(path) in line and all(fragment in line for fragment in case[2])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("given", "quick", "missing"),
    [("", True, ()), ("--xla_backend_optimization_level=2", True, ("level=1",)), ("", False, ("level", "emitters"))],
)
def test_engine_compiles_quickly_unless_told_otherwise(given, quick, missing):
    """A process without flags gets those of short programs; one's own flags stay, and long programs are left alone."""
    code = f"""import os
from camel_jax.runtime import start_engine
start_engine(quick={quick})
start_engine()
import jax
print(os.environ["XLA_FLAGS"], jax.numpy.ones(2).sum())"""
    env = os.environ | {"XLA_FLAGS": given, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    flags = done.stdout.split()
    assert given in done.stdout and len(set(flags)) == len(flags)
    assert not any(part in done.stdout for part in missing)
    assert any("optimization_level=" in flag for flag in flags) == quick
    assert any("emitters=false" in flag for flag in flags) == (quick and jaxlib_knows("xla_cpu_use_fusion_emitters"))


def test_a_retired_flag_is_not_passed_on(tmp_path, monkeypatch):
    """A process ends at a flag that its jaxlib has no more, though the name may still stand in the library."""
    (tmp_path / "libjax_common.so").write_bytes(b"x\0xla_kept\0help\0\x0b\x08xla_gone\x18\x02_xla_gone\0xla_gone_2\0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(submodule_search_locations=[tmp_path]))
    assert jaxlib_knows("xla_kept") and jaxlib_knows("xla_gone_2")
    assert not jaxlib_knows("xla_gone") and not jaxlib_knows("xla_never")


def test_help_and_usage():
    code, out, err = call()
    assert code == 0 and err == ""
    assert all(command in out for command in ("demo", "fit", "predict", "mix"))
    assert "No such command" in refused("fits")
    assert "say where the fit goes: --out" in refused("fit", "t.csv")
    assert "say where the fit goes: --out" in refused("fit", "t.csv", "u.csv", "--out", "f.npz")
    assert "--out belongs to the fit of one table" in refused("fit", "t.csv", "--out-dir", "d", "--out", "f.npz")
    assert "--resamples" in refused("fit", "t.csv", "--out", "f.npz", "--resamples", "-1")
    assert "--resamples" in refused("fit", "t.csv", "--out", "f.npz", "--resamples", "many")


def test_bad_options_are_found_before_work(tmp_path):
    path = put(tmp_path, "t.csv", GOOD)
    assert "no folder" in refused("fit", path, "--out", tmp_path / "none" / "f.npz")
    assert "is a folder" in refused("fit", path, "--out", put_folder(tmp_path / "f.npz"))
    assert "written as .npz" in refused("fit", path, "--out", tmp_path / "f.csv")
    assert "the laws are blend, camel, camel_paper, chinchilla" in refused(
        "fit", path, "--out", tmp_path / "g.npz", "--law", "cammel"
    )
    assert "--skills" in refused("fit", path, "--out", tmp_path / "g.npz", "--law", "dml", "--skills", "3")
    assert "THEIRS=OURS" in refused("fit", path, "--out", tmp_path / "g.npz", "--map", "size")
    assert "no such file" in refused("fit", tmp_path / "no.csv", "--out", tmp_path / "g.npz")
    assert "is a folder" in refused("fit", tmp_path, "--out", tmp_path / "g.npz")


def test_too_few_runs_is_said(tmp_path):
    line = refused("fit", put(tmp_path, "t.csv", GOOD), "--out", tmp_path / "f.npz")
    assert "needs at least" in line and "runs" in line


def put_folder(path):
    path.mkdir()
    return path


# One small study through all commands; fits and programs are shared by the tests below.


NEXT = "run,size,tokens,mix/wiki,mix/code,mix/web\nnext,1B,20B,0.2,0.3,0.5\nother,590M-A12M,1T,0,0,1\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder with runs.csv, next.csv and fit.npz."""
    folder = tmp_path_factory.mktemp("study")
    put(folder, "runs.csv", small_table())
    put(folder, "next.csv", NEXT)
    code, out, _ = call("fit", folder / "runs.csv", "--out", folder / "fit.npz", *SMALL, "--json")
    assert code == 0
    put(folder, "fit.json", out)
    return folder


def test_fit_summary_and_same_bytes(study):
    summary = json.loads((study / "fit.json").read_text())
    assert (
        summary["runs"] == 12 and summary["domains"] == ["web", "code", "wiki"] and summary["sets"] == ["web", "code"]
    )
    assert summary["law"] == "blend" and sum(summary["weights_of_laws"].values()) == pytest.approx(1.0)
    assert max(summary["in_sample_error_percent"].values()) < 2
    again = study / "again.npz"
    code, out, err = call("fit", study / "runs.csv", "--out", again, *SMALL)
    assert code == 0 and "12 runs" in out and "Traceback" not in err
    (test,) = summary["back_tests"]
    assert test["size"] == pytest.approx(3e8) and 0 < test["mean_relative_error"] < 0.2
    assert summary["evidence"][0].startswith("back-test: fitted below 300M, the law was off by")
    shown = out[out.index("\nEvidence\n") :]  # below the error in sample
    assert all(f"- {line}" in shown for line in summary["evidence"])
    assert again.read_bytes() == (study / "fit.npz").read_bytes()


def test_predict_writes_points_inside_intervals(study):
    arguments = ("predict", study / "fit.npz", "--recipes", study / "next.csv")
    code, out, err = call(*arguments)
    assert (code, err) == (0, "") or "predicting" in err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["run"] for row in rows] == ["next", "other"] and rows[1]["size_total"] == "590000000"
    for row in rows:
        for s in ("web", "code"):
            assert 0.5 < float(row[f"low/{s}"]) < float(row[f"point/{s}"]) < float(row[f"high/{s}"]) < 6
    assert call(*arguments, "--out", study / "p.csv")[0] == 0
    assert (study / "p.csv").read_text() == out
    told = json.loads(call(*arguments, "--json")[1])
    assert told["predictions"][0]["point/web"] == pytest.approx(float(rows[0]["point/web"]), rel=1e-6)
    narrow = list(csv.DictReader(io.StringIO(call(*arguments, "--level", 0.5)[1])))
    assert float(narrow[0]["high/web"]) < float(rows[0]["high/web"])
    assert "no domain of the fit" in refused(
        "predict", study / "fit.npz", "--recipes", put(study, "odd.csv", NEXT.replace("mix/wiki", "mix/news"))
    )


@pytest.mark.slow
def test_mix_meets_limits_and_repeats(study):
    # as many starts as a report has, by default: the same program
    arguments = ("mix", study / "fit.npz", "--size", "1B", "--tokens", "20B", "--max", "code=0.2")
    code, out, _ = call(*arguments, "--out", study / "mixture.json", "--json")
    told = json.loads(out)
    assert code == 0 and told["status"] == "converged" and told["tokens"] == 2e10
    assert told["weights"]["code"] <= 0.2 and sum(told["weights"].values()) == pytest.approx(1, abs=1e-12)
    low, high = told["near_optimal"]["shares"]["code"]
    assert low <= told["weights"]["code"] <= high + 1e-9
    assert (study / "mixture.json").read_text() == out
    code, again, _ = call(*arguments)
    assert code == 0 and "limit reached: cap code <= 0.2" in again and "90 % interval" in again
    assert "target: 3.33 times the largest fitted size, 300M" in again and "of draws" in again
    assert all(f"- {line}" in again for line in told["evidence"])
    assert told["evidence"][-1].startswith("optimum: ") and again.count("optimum: ") == 1


def test_mix_within_what_was_measured(study):
    """Without limits the best share of wiki, which helps no set, is nothing; no run had so little."""
    rows = list(csv.DictReader(io.StringIO((study / "runs.csv").read_text())))
    arguments = ("mix", study / "fit.npz", "--size", "1B", "--tokens", "20B", "--within-measured", "--near", 0)
    code, out, _ = call(*arguments, "--json")
    told = json.loads(out)
    assert code == 0 and told["status"] == "converged"
    for name, share in told["weights"].items():
        measured = [float(row[f"mix/{name}"]) for row in rows]
        assert min(measured) - 1e-6 <= share <= max(measured) + 1e-6
    least = min(float(row["mix/wiki"]) for row in rows)
    assert told["weights"]["wiki"] == pytest.approx(least, abs=1e-6)
    assert any(x["name"] == f"smallest measured share of wiki >= {least:.4g}" and x["binds"] for x in told["limits"])
    line = refused(*arguments, "--min", "wiki=0.9")
    assert "floor wiki >= 0.9" in line and "largest measured share of wiki <= " in line
    target = ("--size", "1B", "--tokens", "20B", "--starts", 2)
    for command in (
        ("budget", study / "fit.npz", "--flops", "1e20", "--starts", 2),
        ("front", study / "fit.npz", *target, "--first", "web", "--second", "code"),
        ("path", study / "fit.npz", *target),
    ):
        assert "largest measured share of wiki <= " in refused(*command, "--within-measured", "--min", "wiki=0.9")


@pytest.mark.slow
def test_a_table_of_single_domains_gets_no_share_of_draws(study):
    lines = (study / "runs.csv").read_text().splitlines()
    for i, line in enumerate(lines[1:], 1):
        cells = line.split(",")
        cells[3:6] = [str(int((i - 1) // 3 % 3 == k)) for k in range(3)]
        lines[i] = ",".join(cells)
    runs, fit = put(study, "single.csv", "\n".join(lines)), study / "single.npz"
    code, text, _ = call("fit", runs, "--out", fit, "--law", "dml", "--starts", 1, "--resamples", 2)
    assert code == 0 and "no run of the table mixes domains" in text
    arguments = ("mix", fit, "--size", "1B", "--tokens", "20B", "--starts", 2, "--near", 0)
    code, text, _ = call(*arguments)
    assert code == 0 and "draws cannot say which mixture is better" in text and "% of draws" not in text
    assert json.loads(call(*arguments, "--json")[1])["probability_better"] is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max", "news=0.2"], "news"),
        (["--max", "code"], "NAME=VALUE"),
        (["--max", "code=much"], "'much' is not a number"),
        (["--max", "code=0.1", "--max", "code=0.2"], "given twice"),
        (["--min", "code=0.7", "--min", "web=0.6"], "no mixture meets all limits"),
        (["--size", "big"], "'big' is not a count"),
        (["--tokens", "1,000"], "comma"),
        (["--objective", "loss/news"], "unknown validation set 'news'"),
        (["--objective", "accuracy"], "no benchmark law"),
        (["--objective", "acc/qa=1"], "no benchmark law"),
        (["--risk", "median"], "risk must be one of"),
        (["--kl", "0.1"], "--prior belongs together with --kl"),
        (["--cost", "web=2"], "--cost and --cost-budget belong together"),
        (["--max-epochs", "2"], "give --supply"),
        (["--limits", "none.toml"], "no such file"),
        (["--supply", "web=lots"], "'lots' is not a count"),
        (["--out", "none/mixture.json"], "no folder"),
        (["--out", "mixture.csv"], "must end in .json"),
        (["--reference", "none.csv"], "no such file"),
    ],
)
def test_mix_refuses_what_makes_no_sense(study, options, says):
    given = {"--size": "1B", "--tokens": "20B"}
    arguments = [x for name, value in given.items() if name not in options for x in (name, value)]
    assert says in refused("mix", study / "fit.npz", *arguments, *options)


THREE = """
max_domains = 3
cost_budget = 3.0
prior = {web = 0.6, code = 0.2, wiki = 0.2}
distance = 0.9
cost = {code = 3}
supply = {web = "1T"}
max_epochs = 4
[min]
code = 0.4
"web+wiki" = 0.35
[max]
code = 0.3
"web+wiki" = 0.3
wiki = 0.1
[fix]
wiki = 0.2
"""


def test_a_file_with_three_contradictions_is_told_all_of_them(study):
    target = ("mix", study / "fit.npz", "--size", "1B", "--tokens", "20B")
    line = refused(*target, "--limits", put(study, "three.toml", THREE))
    for pair in (
        "floor code >= 0.4 + cap code <= 0.3",
        "floor group web+wiki >= 0.35 + cap group web+wiki <= 0.3",
        "cap wiki <= 0.1 + fixed wiki = 0.2",
    ):
        assert pair in line
    assert "give it once" in refused(*target, "--limits", study / "three.toml", "--distance", 0.2)
    assert "code is given twice" in refused(*target, "--limits", study / "three.toml", "--max", "code=0.2")
    assert "unknown limit 'floor'" in refused(*target, "--limits", put(study, "odd.toml", "floor = {web = 0.1}"))
    assert "cannot be read" in refused(*target, "--limits", put(study, "bad.json", "{"))


def test_limits_of_a_file_are_those_of_the_options(study):
    from camel_jax.cli.limits import gather
    from camel_jax.cli.options import NearLimits, ShareLimits, Spending

    names = ("web", "code", "wiki")
    path = put(study, "same.json", json.dumps({
        "min": {"web+wiki": 0.3}, "max": {"code": 0.3}, "fix": {"wiki": 0.1}, "supply": {"web": "2T"}, "max_epochs": 4,
        "cost": {"code": 3}, "cost_budget": 1.5, "prior": {"web": 0.6, "code": 0.3, "wiki": 0.1}, "kl": 0.1,
        "max_domains": 2,
    }))  # fmt: skip
    prior = put(study, "prior.csv", "mix/web,mix/code,mix/wiki\n0.6,0.3,0.1\n")
    one = gather(names, ShareLimits(path))
    two = gather(
        names, ShareLimits(None, ["web+wiki=0.3"], ["code=0.3"], ["wiki=0.1"], ["web=2T"], 4),
        NearLimits(prior, kl=0.1, max_domains=2), Spending(["code=3"], 1.5),
    )  # fmt: skip
    assert list(one["kl"][0].values()) == two["kl"][0].tolist() and one["kl"][1] == two["kl"][1]
    assert {**one, "kl": None} == {**two, "kl": None} and one["supply"] == {"web": 2e12}


def test_budget_refuses_what_is_no_number(study):
    assert "is not a number" in refused("budget", study / "fit.npz", "--flops", "much")


def test_what_is_no_fit(study):
    wrong = put(study, "wrong.npz", b"PK nothing")
    for arguments in (
        ("predict", wrong, "--recipes", study / "next.csv"),
        ("mix", wrong, "--size", "1B", "--tokens", "1B"),
    ):
        assert "wrong.npz" in refused(*arguments)
    assert "no such file" in refused("mix", study / "none.npz", "--size", "1B", "--tokens", "1B")


def test_leaderboard_judges_at_the_largest_size(study, tmp_path):
    out, figure = tmp_path / "board.csv", tmp_path / "board.png"
    asked = ("leaderboard", study / "runs.csv", "--laws", "chinchilla,dml,nearest_run", "--starts", "1")
    code, text, _ = call(*asked, "--out", out, "--figure", figure, "--json")
    rows = {row["method"]: row for row in csv.DictReader(out.open())}
    printed = {row["method"]: row for row in json.loads(text)}
    assert code == 0 and set(rows) == set(printed) == {"chinchilla", "dml", "nearest_run"}
    assert figure.read_bytes().startswith(b"\x89PNG")
    for name, row in rows.items():
        assert row["table"] == "runs" and (row["fitted"], row["held_out"]) == ("8", "4")
        assert float(row["error_low"]) <= float(row["error"]) <= float(row["error_high"])
        assert float(row["error"]) == pytest.approx(printed[name]["error"])
        assert (row["cover90"] == "") == (name == "nearest_run")
    assert float(rows["chinchilla"]["error"]) < float(rows["nearest_run"]["error"])
    code, text, _ = call("leaderboard", study / "runs.csv", "--laws", "nearest_run", "--out", out, "--holdout", "2")
    assert code == 0 and "fitted on 4 rows, judged on 8" in text and " nearest_run " in text
    assert "say sizes=K" in refused("leaderboard", study / "runs.csv", "--out", out, "--holdout", "all")
    assert "runs: cannot hold out 3" in refused("leaderboard", study / "runs.csv", "--out", out, "--holdout", "sizes=3")


def test_interrupt_leaves_nothing_half_written(study):
    """Ctrl-C in the middle of a fit: exit code 130, one line, no new file."""
    before = sorted(p.name for p in study.iterdir())
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored if a shell started us with &
    start = f"{heed}; from camel_jax.cli import main; main()"
    command = [sys.executable, "-c", start, "fit", "runs.csv", "--out", "cut.npz"]
    command += ["--resamples", "2000", "--law", "camel"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=study, **pipes)
    assert process.stderr is not None
    for line in process.stderr:  # announced after a second, so the fit is under way
        if "fitting" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)  # while a compilation holds the main thread, too
    assert process.returncode == 130 and err.strip().splitlines()[-1] == "interrupted" and "Traceback" not in err
    assert sorted(p.name for p in study.iterdir()) == before


@pytest.mark.slow
def test_a_posterior_is_read_like_a_fit(study):
    bayes = ("--law", "chinchilla", "--bayes", "--chains", 2, "--draws", 50, "--starts", 1)
    code, out, err = call("fit", study / "runs.csv", "--out", study / "bayes.npz", *bayes, "--json")
    assert code == 0, err
    told = json.loads(out)["posterior"]
    assert told["chains"] == 2 and told["draws"] == 50 and "R-hat" in told["verdict"]
    assert told["converged"] or "do not rely on these intervals" in err
    rows = list(csv.DictReader(io.StringIO(call("predict", study / "bayes.npz", "--recipes", study / "next.csv")[1])))
    assert all(float(row["low/web"]) < float(row["point/web"]) < float(row["high/web"]) for row in rows)
    assert "belong to --bayes" in refused("fit", study / "runs.csv", "--out", study / "b.npz", "--draws", 100)
    assert "take one of them" in refused(
        "fit", study / "runs.csv", "--out", study / "b.npz", "--law", "blend", "--bayes"
    )
