"""Real clients write what is read: twenty runs each, compared cell by cell with what was logged."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from logged import STEPS, Logged

from camel_jax.interop.assemble import import_runs
from camel_jax.interop.guess import guess
from camel_jax.interop.sources import open_sources

LOGGED = Logged()
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "WANDB_ERROR_REPORTING": "false"}


def imported(source, checkpoints="all", kind=None, change=None, **options):
    found = open_sources([str(source)], kind)
    mapping = guess(found).mapping
    mapping.checkpoints = checkpoints
    if change:
        change(mapping)
    return import_runs(found, mapping, **options)


@pytest.fixture(scope="module")
def wandb_folder(tmp_path_factory):
    wandb = pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("wandb")
    settings = wandb.Settings(mode="offline", silent=True, console="off", disable_git=True, x_disable_stats=True)

    def log(run, i, evaluations):
        for step, losses in evaluations:
            run.log({"train/loss": 5.0, "tokens": LOGGED.tokens(step)}, step=step)
            run.log(losses, step=step)

    for i, name in enumerate(LOGGED.names):
        evaluations = list(LOGGED.evaluations(i))
        options = {"project": "swarm", "name": name, "id": f"id{i}", "dir": folder, "settings": settings}
        if i == 0:  # an earlier try under the same name that crashed
            with pytest.raises(RuntimeError), wandb.init(**options | {"id": "early"}, config=LOGGED.config(i)) as run:
                log(run, i, [(50, {"eval/web/loss": 9.0, "eval/code/loss": 9.0})])
                raise RuntimeError
        if i == 1:  # stopped and resumed: one id in two folders
            run = wandb.init(**options, config=LOGGED.config(i))
            log(run, i, [*evaluations[:2], (250, {"eval/web/loss": 8.0, "eval/code/loss": 8.0})])
            run.finish(exit_code=1)
            time.sleep(1.1)  # folders are named by the second
            evaluations = evaluations[1:]
        run = wandb.init(**options, config=LOGGED.config(i))
        log(run, i, evaluations)
        if i == 2:
            run.config.update({"extra": {"nested": 1}})
        run.finish()
    return folder


def test_wandb_offline(wandb_folder):
    result = imported(wandb_folder)
    LOGGED.check(result.runs)
    told = " | ".join(result.notes)
    assert "1 runs did not finish" in told and "exit 1" in told  # the early try
    assert "run r1 (id id1) was resumed: 2 parts" in told and "went back to 2,000,000,000 tokens" in told
    assert "run r4: loss/code and loss/web not finite" in told
    LOGGED.check(imported(wandb_folder / "wandb", "last").runs, checkpoints=False)
    assert len(imported(wandb_folder, "2").runs) == 40


def test_wandb_needs_no_guess_about_duplicates(wandb_folder):
    with pytest.raises(ValueError, match=r"2 runs are called 'r0'.*--name-by id"):
        imported(wandb_folder, unfinished=True)
    result = imported(wandb_folder, unfinished=True, name_by="id")
    assert {"early", "id0"} <= set(result.runs.run_names)


def test_wandb_cut_off_and_damaged(wandb_folder, tmp_path):
    log = next(wandb_folder.rglob("*-id7.wandb"))
    data = log.read_bytes()
    cut = tmp_path / "run-cut.wandb"
    cut.write_bytes(data[: len(data) - 40])
    with pytest.raises(ValueError, match="none of its 1 runs finished"):
        imported(cut)
    result = imported(cut, unfinished=True)
    assert len(result.runs) >= 2 and any("cut off" in note for note in result.notes)
    bad = tmp_path / "run-bad.wandb"
    bad.write_bytes(data[:100] + b"\xff" + data[101:])
    with pytest.raises(ValueError, match="checksum"):
        imported(bad)
    bad.write_bytes(data[:6] + b"\x07" + data[7:])
    with pytest.raises(ValueError, match="version 7 of the log is unknown"):
        imported(bad)


def log_mlflow(mlflow, crash=True):
    mlflow.set_experiment("swarm")
    for i, name in enumerate(LOGGED.names):
        config = LOGGED.config(i)
        if i == 0 and crash:
            with pytest.raises(RuntimeError), mlflow.start_run(run_name=name):
                mlflow.log_metric("eval/web/loss", 9.0, step=50)
                raise RuntimeError
        with mlflow.start_run(run_name=name):
            mlflow.log_param("n_params", config["model"]["n_params"])
            mlflow.log_params({f"mixture.{domain}": share for domain, share in config["mixture"].items()})
            for step, losses in LOGGED.evaluations(i):
                mlflow.log_metric("tokens", LOGGED.tokens(step), step=step)
                mlflow.log_metrics(losses, step=step)


@pytest.mark.parametrize("store", ["folder", "sqlite"])
def test_mlflow_store(store, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("mlruns" if store == "folder" else "mlflow.db")
    mlflow.set_tracking_uri(path.as_uri() if store == "folder" else f"sqlite:///{path}")
    log_mlflow(mlflow)
    result = imported(path)
    # a SQL store has no infinity: the largest number stands for it
    LOGGED.check(result.runs)
    assert any("1 runs did not finish and are left out (1 FAILED): r0" in note for note in result.notes)


@pytest.mark.slow
def test_mlflow_server(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("flask_cors")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = pathlib.Path(sys.executable).with_name("mlflow")
    if not program.exists():
        pytest.skip("no mlflow program")
    server = subprocess.Popen(
        [
            program,
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/s.db",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ""},
        start_new_session=True,
    )
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        else:
            pytest.fail("the server did not start")
        address = f"http://127.0.0.1:{port}"
        mlflow.set_tracking_uri(address)
        log_mlflow(mlflow)
        LOGGED.check(imported(address).runs)
        LOGGED.check(imported(f"{address}#swarm").runs)
        with pytest.raises(ValueError, match="no experiment 'other'"):
            imported(f"{address}#other")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


@pytest.mark.parametrize("package", ["tensorboardX", "tensorboard"])
def test_tensorboard(package, tmp_path):
    module = pytest.importorskip(
        "tensorboardX" if package == "tensorboardX" else "torch.utils.tensorboard", exc_type=ImportError
    )
    for i, name in enumerate(LOGGED.names):
        parts = [list(LOGGED.evaluations(i))]
        if i == 1:  # resumed: a second file in the same folder
            parts = [[*parts[0][:2], (250, {"eval/web/loss": 8.0})], parts[0][2:]]
        for k, part in enumerate(parts):
            writer = module.SummaryWriter(str(tmp_path / name), filename_suffix=f".{k}")
            for step, losses in part:
                for tag, value in losses.items():
                    writer.add_scalar(tag, value, step)
            if k == 0:
                config = LOGGED.config(i)
                flat = {"n_params": config["model"]["n_params"]} | {
                    f"mixture/{d}": s for d, s in config["mixture"].items()
                }
                writer.add_hparams(flat, {"done": 1.0})
            writer.close()

    def steps(mapping):
        mapping.tokens_per_step = 10_000_000

    result = imported(tmp_path, change=steps)
    extra = [i for i, t in enumerate(result.runs.recipe.tokens) if t == LOGGED.tokens(250)]
    assert len(extra) == 1  # what the first part logged last was never taken back: steps are all that the files tell
    LOGGED.check(_without(result.runs, extra), rtol=1e-7)
    broken = next((tmp_path / "r2").glob("events*"))
    broken.write_bytes(broken.read_bytes().replace(b"brain.Event:2", b"brain.Event:9"))
    with pytest.raises(ValueError, match="unknown version"):
        imported(tmp_path)


def _without(runs, rows):
    import numpy as np

    from camel_jax.tables.runs import select

    return select(runs, np.setdiff1d(np.arange(len(runs)), rows))


def test_steps():
    assert all(LOGGED.tokens(step) for step in STEPS)
