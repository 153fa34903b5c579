"""Type checkers see the public names of the package from a user's script: what they infer, and that they find mistakes."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("user_script.py")
ROOT = SCRIPT.parents[1]
SEEN = {  # what is revealed on the line that starts so
    "reveal_type(runs)": "Runs",
    "reveal_type(fitted)": "Fit",
    "reveal_type(fitted.losses_at(": "LossesAt",
    "reveal_type(best)": "MixtureResult",
    "reveal_type(best.probability_better)": "float",
    "reveal_type(study.ask(": "Proposal",
    "reveal_type(study.tell(": "int",
    "reveal_type(study.recommend().go_on)": "bool",
    "reveal_type(study.runs())": "Runs",
    "reveal_type(cj.leaderboard(": "Leaderboard",
}
WRONG = ("cj.fit(runs)", 'cj.Study("study.db", domians=')


def line_of(start):
    """The number of the script's line that starts so, from 1."""
    return next(i for i, line in enumerate(SCRIPT.read_text().splitlines(), 1) if line.startswith(start))


def check(found, errors):
    """Compare types by line with those that must be seen; mistakes must be found on their lines and on no others."""
    told = {start: found.get(line_of(start)) for start in SEEN}
    assert told == SEEN
    assert sorted(set(errors)) == sorted(line_of(start) for start in WRONG)


@pytest.mark.slow
def test_pyright_sees_the_public_types(tmp_path):
    (tmp_path / SCRIPT.name).write_text(SCRIPT.read_text())
    settings = {"include": [SCRIPT.name], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "-p", str(tmp_path), "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    found, errors = {}, []
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        line = one["range"]["start"]["line"] + 1
        if match := re.fullmatch(r'Type of ".*" is "(.+)"', one["message"], re.DOTALL):
            found[line] = match[1]
        elif one["severity"] == "error":
            errors.append(line)
    check(found, errors)


@pytest.mark.slow
def test_mypy_sees_the_public_types(tmp_path):
    pytest.importorskip("mypy")
    options = ["--follow-imports", "silent", "--ignore-missing-imports", "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(SCRIPT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        cwd=ROOT,
    )
    found, errors = {}, []
    for line, kind, text in re.findall(rf"^.*{SCRIPT.name}:(\d+): (note|error): (.+)$", done.stdout, re.MULTILINE):
        if match := re.fullmatch(r'Revealed type is "(.+)"', text):
            found[int(line)] = match[1].rpartition(".")[2]
        elif kind == "error":
            errors.append(int(line))
    check(found, errors)
