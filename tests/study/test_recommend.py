"""What a study recommends and when it may stop, in Python and from the command line; the loop closed on tiny models."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from commands import call, own_flags, refused  # noqa: F401  (own_flags is used by its name)
from planted_runs import DOMAINS, TEACHES, measured

import camel_jax as cj
from camel_jax.study.recommend import judge

LIMITS = ("--max", "books=0.3")
NEW = ("--domains", ",".join(DOMAINS), "--target-size", "1B", "--ladder", "10M,30M,100M", "--law", "dml", *LIMITS)


def said(verdict="no", **more):
    """The judgement on a study with nothing left open, but for what is changed."""
    test = SimpleNamespace(mean_relative_error=0.01, blind_error=0.05)
    best = SimpleNamespace(weights=np.array([0.4, 0.6]))
    ranges = SimpleNamespace(low=np.array([0.35, 0.5]), high=np.array([0.5, 0.65]))
    given = {
        "best": best,
        "ranges": ranges,
        "fitted": SimpleNamespace(backtests=(test,)),
        "worth": SimpleNamespace(go_on=False, sentence="."),
        "before": [{"runs": 8, "weights": [0.38, 0.62]}],
        "runs": 16,
        "under_way": 0,
    }
    return judge(**(given | more))


def test_a_study_stops_when_nothing_speaks_for_going_on():
    go_on, reasons = said()
    assert not go_on and len(reasons) == 2 and "not worth its cost" in reasons[0] and "2.0 points" in reasons[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"under_way": 3}, "3 runs are under way"),
        ({"fitted": SimpleNamespace(backtests=())}, "no size was held out"),
        (
            {"fitted": SimpleNamespace(backtests=(SimpleNamespace(mean_relative_error=0.05, blind_error=0.04),))},
            "blind to mixtures",
        ),
        ({"worth": SimpleNamespace(go_on=True, sentence="saves.")}, "is worth its cost: saves."),
        ({"before": []}, "the first recommendation"),
        ({"before": [{"runs": 16, "weights": [0.38, 0.62]}]}, "the first recommendation"),  # of the same runs
        ({"before": [{"runs": 8, "weights": [0.2, 0.8]}]}, "20.0 points of share have moved, beyond"),
    ],
)
def test_each_of_these_speaks_for_going_on(change, why):
    go_on, reasons = said(**change)
    assert go_on and why in reasons[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study from the command line: two asks told, one left under way, a recommendation after each."""
    home = tmp_path_factory.mktemp("commands")
    place = home / "study.db"
    assert call("study", "new", place, *NEW)[0] == 0
    for i in range(2):
        assert call("study", "ask", place, "--budget", "5e18", "--max-runs", 14, "--out", home / f"next{i}.csv")[0] == 0
        asked = cj.Study(place).under_way().runs
        losses = [measured(run) for run in asked]
        rows = [
            f"{run.run},{run.n_active:.0f},{run.tokens:.0f},{','.join(map(repr, run.weights))},{','.join(map(repr, x.values()))}"
            for run, x in zip(asked, losses, strict=True)
        ]
        header = (
            "run,size,tokens," + ",".join(f"mix/{d}" for d in DOMAINS) + "," + ",".join(f"loss/{d}" for d in DOMAINS)
        )
        (home / f"runs{i}.csv").write_text("\n".join([header, *rows]) + "\n")
        code, out, err = call("study", "tell", place, home / f"runs{i}.csv")
        assert (
            code == 0
            and out == f"{len(rows)} new results; runs: {len(rows) * (i + 1)} finished, 0 under way, 0 dropped\n"
        ), err
        code, out, err = call("study", "recommend", place, "--out", home / f"mixture{i}.json", "--resamples", 8)
        assert code == 0 and ("Go on (" in out or "Stop (" in out), err
    return home


@pytest.mark.slow
def test_commands_keep_one_study(folder):
    place = folder / "study.db"
    code, out, _ = call("study", "show", place, "--out", folder / "history.csv")
    assert code == 0 and "28 finished" in out and "cap books <= 0.3" in out and out.count("note: after") == 2
    lines = (folder / "history.csv").read_text().splitlines()
    assert len(lines) == 29 and lines[0].startswith("run,ask,state,replicates,size,size_total,tokens,cost,mix/web")
    told = json.loads(call("study", "tell", place, folder / "runs0.csv", "--json")[1])
    assert told == {"new": 0, "states": {"finished": 28, "under way": 0, "dropped": 0}}
    made = json.loads((folder / "mixture1.json").read_text())
    assert made["weights"]["books"] <= 0.3 + 1e-9 and abs(sum(made["weights"].values()) - 1) < 1e-9


@pytest.mark.slow
def test_runs_by_hand_and_failures(folder):
    place = folder / "study.db"
    code, out, _ = call(
        "study", "ask", place, "--budget", "1e18", "--max-runs", 2, "--out", folder / "more.csv", "--json"
    )
    first, second = (run["run"] for run in json.loads(out)["runs"])
    assert call("study", "show", place, "--under-way", "--out", folder / "again.csv")[0] == 0
    assert (folder / "again.csv").read_bytes() == (folder / "more.csv").read_bytes()
    losses = [f"--loss={d}=3.0" for d in DOMAINS]
    code, out, _ = call("study", "tell", place, "--run", first, *losses, "--failed", second)
    assert code == 0 and out == "1 new results; runs: 29 finished, 0 under way, 1 dropped\n"
    assert "was told as 3 and now is 4" in refused("study", "tell", place, "--run", first, "--loss", "web=4.0")
    assert call("study", "tell", place, "--failed", first)[0] == 0  # the others go on without it


@pytest.mark.slow
def test_bad_input_is_one_line(folder):
    place = folder / "study.db"
    assert "is there already" in refused("study", "new", place, *NEW)
    assert "no study 'study'" in refused("study", "show", folder / "none.db")
    assert "say what is told" in refused("study", "tell", place)
    assert "belong to --run" in refused("study", "tell", place, "--loss", "web=3")
    assert "not NAME=VALUE" in refused("study", "tell", place, "--run", "x", "--loss", "web")
    assert "say where with --out" in refused("study", "show", place, "--under-way")
    assert "the name must end in" in refused("study", "ask", place, "--budget", "1e18", "--out", folder / "x.txt")
    assert "too small" in refused("study", "ask", place, "--budget", "1e9", "--out", folder / "x.csv")
    assert (
        "domains of" in refused("study", "new", folder / "y.db", *NEW[:-1], "weeb=0.3")
        or not (folder / "y.db").exists()
    )


@pytest.mark.slow
def test_a_recommendation_is_near_the_planted_best(folder):
    made = cj.Study(folder / "study.db").recommend(resamples=8)
    grid = np.random.default_rng(0).dirichlet(np.ones(3), 20_000)
    grid = grid[grid[:, 2] <= 0.3]

    def planted(w):
        return (1.6 + 40 * 1e9**-0.25 + 79 * (w @ TEACHES.T + 0.05) ** -0.3 * 2e10**-0.25).mean(-1)

    regret = planted(made.mixture.weights) - planted(grid).min()
    assert regret < 0.1 * (planted(np.array([0.4, 0.3, 0.3])) - planted(grid).min()) + 1e-3
    assert made.runs == 28 and made.evidence and made.reasons and made.worth is not None
    text = made.summary()
    assert made.verdict in text and "back-test" in text and len(repr(made)) < 1500
    assert json.loads(json.dumps(made.to_dict()))["verdict"] == made.verdict


@pytest.mark.slow
def test_the_loop_closes_on_tiny_models_without_a_person(tmp_path):
    """Ask, train, tell, recommend, twice; sizes are asked in round numbers and trained as the models there are."""
    pytest.importorskip("flax")
    place = tmp_path / "study.db"
    domains = ("--domains", "math,knowledge,code", "--target-size", "100K", "--ladder", "6K,14K,25K", "--law", "dml")
    assert call("study", "new", place, *domains)[0] == 0
    for i in range(2):
        asked, trained = tmp_path / f"next{i}.csv", tmp_path / f"runs{i}.csv"
        again = ("--replicates", i)
        assert call("study", "ask", place, "--budget", "3e11", "--max-runs", 9, *again, "--out", asked)[0] == 0
        code, _, err = call("sweep", asked, "--out", trained, "--workers", 1, "--domain-bytes", 60_000, "--context", 32)
        assert code == 0, err
        assert i or "the nearest model is trained: 6K as 6224" in err
        assert call("study", "tell", place, trained)[0] == 0
        code, out, err = call("study", "recommend", place, "--out", tmp_path / "mixture.json", "--resamples", 8)
        assert code == 0 and "Evidence" in out, err
    study = cj.Study(place)
    history = study.history()
    assert set(history["state"]) == {"finished"} and set(history["size"]) <= {6224.0, 13944.0, 24736.0}
    assert {6224.0, 13944.0} <= set(history["size"]) and len(study.decisions()) == 2
    twin = history[history["replicates"] != ""].iloc[0]
    first = history[history["run"] == twin["replicates"]].iloc[0]
    assert twin["mix/math"] == pytest.approx(first["mix/math"]) and twin["loss/math"] != first["loss/math"]
    made = json.loads((tmp_path / "mixture.json").read_text())
    assert set(made["weights"]) == {"math", "knowledge", "code"}


@pytest.mark.slow
def test_a_study_of_the_default_law_from_ask_to_recommendation(tmp_path):
    place = tmp_path / "study.db"
    caps = {"books": (None, 0.3)}
    study = cj.Study(place, domains=list(DOMAINS), target="1B", ladder=["10M", "30M", "100M"], bounds=caps)
    proposal = study.ask(5e18, max_runs=16)
    assert {run.n_active for run in proposal.runs} == {1e7, 3e7, 1e8}
    for run in proposal.runs:
        assert study.tell(run.run, measured(run)) == 1
    made = study.recommend(resamples=4)
    assert made.fit.law.name == "blend" and set(made.fit.part_weights) >= {"camel", "sodm_joint"}
    assert made.mixture.weights[2] <= 0.3 + 1e-9 and made.mixture.status == "converged"
    uniform = np.array([0.4, 0.3, 0.3])

    def planted(w):
        return (1.6 + 40 * 1e9**-0.25 + 79 * (w @ TEACHES.T + 0.05) ** -0.3 * 2e10**-0.25).mean(-1)

    grid = np.random.default_rng(0).dirichlet(np.ones(3), 20_000)
    best = planted(grid[grid[:, 2] <= 0.3]).min()
    assert planted(made.mixture.weights) - best < max(0.5 * (planted(uniform) - best), 5e-3)
    again = cj.Study(place)  # opened anew, with the law it was begun with
    assert again.settings.law == "blend" and len(again.decisions()) == 1
