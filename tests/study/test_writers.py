"""Several writers at once, on SQLite and on a real PostgreSQL server: killed at random, nothing is lost and nothing is there twice."""

import json
import multiprocessing
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from postgres_server import lacking, running_server

import camel_jax as cj

SETTINGS = {"domains": ["web", "code"], "target": "1B", "ladder": ["10M", "30M"], "law": "dml"}


@pytest.fixture(scope="module")
def server():
    if why := lacking():
        pytest.skip(why)
    with running_server() as url:
        yield url


def test_postgres_keeps_what_sqlite_keeps(server, tmp_path):
    studies = [cj.Study(place, **SETTINGS) for place in (server, tmp_path / "study.db")]
    for study in studies:
        proposal = study.ask(1e17, max_runs=3)
        first, second, third = (run.run for run in proposal.runs)
        assert study.tell(first, {"web": 3.0, "code": 2.0}) == 1 and study.tell(first, {"web": 3.0}) == 0
        assert study.tell(second, {"web": 2.9}, tokens="20M") == 1  # a checkpoint on the way
        with pytest.raises(cj.StudyError, match=r"was told as 3 and now is 3\.5"):
            study.tell(first, {"web": 3.5})
        study.drop(third)
        assert study.states() == {"finished": 1, "under way": 1, "dropped": 1}
        study._store.add_decision(1, {"weights": [0.5, 0.5]})
    tables = [study.history().drop(columns=["asked", "told"]) for study in studies]
    assert tables[0].equals(tables[1])
    again = cj.Study(server)
    assert again.settings == studies[0].settings and again.decisions()[0]["runs"] == 1
    with pytest.raises(cj.StudyError, match="another law"):
        cj.Study(server, law="sodm")
    with pytest.raises(cj.StudyError, match="no study 'other'"):
        cj.Study(server, name="other")


def _begin(place, name, out):
    study = cj.Study(place, name=name, **SETTINGS)
    out.put(study.tell("same", {"web": 3.0}, size="10M", tokens="1B", mixture=[0.5, 0.5]))


@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_one_of_several_that_begin_at_once_begins_it(place, tmp_path, request):
    where = tmp_path / "study.db" if place == "sqlite" else request.getfixturevalue("server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["camel_jax.study.study"])
    queue = context.Queue()
    workers = [context.Process(target=_begin, args=(where, "at once", queue)) for _ in range(6)]
    for worker in workers:
        worker.start()
    assert sorted(queue.get(timeout=60) for _ in workers) == [0, 0, 0, 0, 0, 1]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    study = cj.Study(where, name="at once")
    np.testing.assert_array_equal(study.runs().losses, [[3.0]])


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_killed_writers_lose_nothing_and_double_nothing(place, request):
    where = "" if place == "sqlite" else request.getfixturevalue("server")
    script = pathlib.Path(__file__).parents[2] / "benchmarks" / "design" / "study_kills.py"
    command = [sys.executable, str(script), "--kills", "25", "--results", "40"]
    command += ["--url", where] if place == "postgresql" else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["place"] == place and counts["kills"] == 25 and counts["told"] == counts["there"] == 320
    assert counts["lost"] == counts["doubled"] == counts["altered"] == 0
