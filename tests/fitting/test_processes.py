"""Jobs of many processes on one machine: the same fit everywhere, a dead process ends the job, a stopped fit continues."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from typing import Any

import jax
import numpy as np
import pytest

import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting import lanes, processes, separable

STUDY = """
import sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import camel_jax as cj
from camel_jax import laws
from camel_jax.evaluation import simulate
from camel_jax.fitting import processes

def solved(solver):
    runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(2e7, 1e8), checkpoints=1)
    options = {"starts": 3, "resamples": 3, "max_steps": 30, "solver": solver}
    fitted = cj.fit(laws.chinchilla(), runs, key=jax.random.key(1), **options)
    return [*fitted.objective, *fitted.resampled_objective, *np.asarray(fitted.predict(runs.recipe)).ravel()]
"""
WORKER = """
address, count, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
processes.join_job(address, count, number, start_seconds=120, heartbeat_seconds=int(sys.argv[4]))
assert jax.process_count() == count and processes.is_first() == (number == 0)
if sys.argv[5:] == ["dies"] and number == 1:
    import os
    os._exit(1)
for solver in ("least_squares", "lbfgs"):
    print(*solved(solver), flush=True)
"""


def environment():
    kept = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")
    gone = ("SLURM", "OMPI", "JAX_")
    clean = {k: v for k, v in os.environ.items() if k.startswith(kept) or not k.startswith(gone)}
    return clean | {"JAX_PLATFORMS": "cpu"}


def start(count, *more, heartbeat=60):
    """The processes of a job on this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    code = textwrap.dedent(STUDY + WORKER)
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, address, str(count), str(i), str(heartbeat), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def alone():
    code = textwrap.dedent(STUDY) + "for solver in ('least_squares', 'lbfgs'): print(*solved(solver))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    return [[float(x) for x in line.split()] for line in out.stdout.splitlines()]


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_process_gets_what_one_alone_gets(count, alone):
    for job in start(count):
        out, err = job.communicate(timeout=300)
        assert job.returncode == 0, err[-2000:]
        lines = [[float(x) for x in line.split()] for line in out.splitlines() if not line.startswith("[")]
        for one, other in zip(alone, lines, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-10)


@pytest.mark.slow
def test_a_dead_process_ends_the_others():
    begun = time.monotonic()
    jobs = start(2, "dies", heartbeat=10)
    try:
        _, err = jobs[0].communicate(timeout=120)
    finally:
        for job in jobs:
            job.kill()
            job.communicate()
    assert jobs[0].returncode != 0 and err
    assert time.monotonic() - begun < 120


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("localhost:1", 2, None), "needs all of"),
        (("localhost:1", 2, 2), "not one of 0 to 1"),
        (("localhost", 2, 0), "not host:port"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        processes.join_job(*given)


def test_shares_are_equal_and_cover_all_lanes(monkeypatch):
    for n, count in ((1, 3), (7, 3), (8, 4)):
        monkeypatch.setattr(jax, "process_count", lambda count=count: count)
        parts = []
        for i in range(count):
            monkeypatch.setattr(jax, "process_index", lambda i=i: i)
            parts.append(processes.share(n))
        assert len({len(part) for part in parts}) == 1
        assert np.concatenate(parts)[:n].tolist() == list(range(n))


@pytest.mark.parametrize("name", ["chinchilla", "camel"])
def test_a_stopped_fit_continues(name, tmp_path, monkeypatch):
    runs = simulate.study(jax.random.key(0), n_domains=2, n_mixtures=6, sizes=(2e7, 1e8), checkpoints=1)
    law = laws.camel(skills=2) if name == "camel" else laws.chinchilla()
    options: dict[str, Any] = {
        "key": jax.random.key(1),
        "starts": 2,
        "resamples": 2,
        "resume": tmp_path / "kept",
        "chunk": 1,
    }
    solver = "_solve_chunk" if name == "camel" else "least_squares"
    home = lanes if name == "camel" else separable
    plain, calls = getattr(home, solver), []

    def stops_late(*args, **kwargs):
        calls.append(1)
        if len(calls) == (3 if name == "camel" else 2):
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(home, solver, stops_late)
    with pytest.raises(KeyboardInterrupt):
        cj.fit(law, runs, **options)
    done = len(list((tmp_path / "kept").glob("*.safetensors")))
    assert done == len(calls) - 1
    monkeypatch.setattr(home, solver, lambda *args, **kwargs: calls.append(1) or plain(*args, **kwargs))
    calls.clear()
    fitted = cj.fit(law, runs, **options)
    fresh = len(calls)
    monkeypatch.setattr(home, solver, plain)
    whole = cj.fit(law, runs, **dict(options, resume=None))
    np.testing.assert_array_equal(fitted.resampled_objective, whole.resampled_objective)
    np.testing.assert_array_equal(fitted.objective, whole.objective)
    assert fresh == len(list((tmp_path / "kept").glob("*.safetensors"))) - done
    other = cj.fit(law, runs, **dict(options, max_steps=7))  # other settings find nothing of theirs
    assert not np.array_equal(other.objective, whole.objective)
