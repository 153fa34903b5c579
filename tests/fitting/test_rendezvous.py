"""Processes of a job meet: alike they go on, unlike or failed none does, and a process that is gone is told of."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from camel_jax.fitting.rendezvous import meet

TABLE = pathlib.Path(__file__).parents[2] / "camel_jax" / "data" / "proxy_runs.csv"


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def met(*facts, count=None, wait=10.0, numbers=None):
    """What each of some processes of a job gets: its group, or the text of its error."""
    address, out = free_address(), {}

    def one(i, number, own):
        try:
            out[i] = meet(address, count or len(facts), number, own, wait)
        except ValueError as error:
            out[i] = str(error)

    numbers = range(len(facts)) if numbers is None else numbers
    threads = [
        threading.Thread(target=one, args=(i, n, own)) for i, (n, own) in enumerate(zip(numbers, facts, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(wait + 10)
    return [out[i] for i in range(len(facts))]


def test_equal_processes_go_on():
    groups = met(*[{"table": "a", "law": "b"}] * 4)
    assert [sorted(group.links) for group in groups] == [[1, 2, 3], [0], [0], [0]]
    lost = []
    for group in groups:
        group.watch(lost.append)
    begun, ends = time.monotonic(), [threading.Thread(target=end, args=(group,)) for group in groups]
    for thread in ends:
        thread.start()
    for thread in ends:
        thread.join(20)
    assert lost == [] and time.monotonic() - begun < 5


def end(group):
    """What a process does that has nothing more to do."""
    group.leave()
    vanish(group)


def vanish(group):
    """What the others see of a process that is gone."""
    for link in group.links.values():
        with contextlib.suppress(OSError):  # the other side was first
            link.shutdown(socket.SHUT_RDWR)


def test_a_process_that_is_gone_when_it_was_done_is_not_missed():
    first, killed, other = met(*[{"table": "a"}] * 3)
    lost = []
    for group in (first, killed, other):
        group.watch(lost.append if group is not killed else lambda reason: None)
    waits = threading.Thread(target=killed.leave)
    waits.start()
    time.sleep(0.2)
    assert waits.is_alive()  # for process 0
    vanish(killed)
    waits.join(5)
    begun, ends = time.monotonic(), [threading.Thread(target=end, args=(group,)) for group in (first, other)]
    for thread in ends:
        thread.start()
    for thread in ends:
        thread.join(20)
    assert lost == [] and time.monotonic() - begun < 5


def test_processes_that_are_done_wait_for_the_first_and_hear_that_it_is_gone():
    first, other = met(*[{"table": "a"}] * 2)
    lost = []
    other.watch(lost.append)
    waits = threading.Thread(target=other.leave)
    waits.start()
    vanish(first)
    waits.join(5)
    assert lost == ["process 0 of the job is gone"] and not waits.is_alive()


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (({"table": "a"}, {"table": "b"}), "processes 0 and 1 of the job differ in their table"),
        (({"table": "a", "law": "x"}, {"table": "a", "law": "x"}, {"table": "b", "law": "y"}), "0 and 2 .* table and law"),
        (({"table": "a"}, {"error": "t.csv: no such file"}), "process 1 of the job cannot go on: t.csv: no such file"),
        (({"error": "t.csv: no such file"}, {"table": "a"}), "process 0 of the job cannot go on: t.csv: no such file"),
    ],
)  # fmt: skip
def test_unlike_or_failed_processes_all_hear_why(facts, says):
    begun = time.monotonic()
    for told in met(*facts):
        assert re.search(says, told) and "\n" not in told
    assert time.monotonic() - begun < 5


def test_one_that_never_comes_ends_the_wait():
    (told,) = met({"table": "a"}, count=3, wait=0.3)
    assert "process 1, 2 of 3 did not come" in told
    (told,) = met({"table": "a"}, count=2, wait=0.3, numbers=[1])
    assert "process 0 does not answer at 127.0.0.1:" in told
    assert all("two of its number" in told for told in met(*[{"table": "a"}] * 3, numbers=[0, 1, 1], wait=3.0)[:1])


def test_strangers_are_not_processes():
    address, out = free_address(), []
    thread = threading.Thread(target=lambda: out.append(meet(address, 2, 0, {"table": "a"}, 10.0)))
    thread.start()
    host, port = address.split(":")
    for noise in (b"GET / HTTP/1.1\r\n\r\n\n", b"\xff\xfe\n", b'{"number": []}\n', b"[1]\n", b"[" * 70000):
        for _ in range(50):
            try:
                with socket.create_connection((host, int(port)), timeout=5) as stranger:
                    stranger.sendall(noise)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
    meet(address, 2, 1, {"table": "a"}, 10.0)
    thread.join(20)
    assert sorted(out[0].links) == [1]


def waits(address):
    with pytest.raises(ValueError, match="did not come"):
        meet(address, 2, 0, {"table": "a"}, 1.0)


def test_it_listens_only_where_it_was_told():
    address = free_address()
    port = address.split(":")[1]
    thread = threading.Thread(target=waits, args=[address])
    thread.start()
    time.sleep(0.3)
    bound = pathlib.Path("/proc/net/tcp")
    if bound.exists():
        entries = [line.split()[1] for line in bound.read_text().splitlines()[1:] if line.split()[3] == "0A"]
        assert [e.split(":")[0] for e in entries if int(e.split(":")[1], 16) == int(port)] == ["0100007F"]
    thread.join(20)


def test_a_process_that_is_gone_is_told_of_at_once():
    groups = met(*[{"table": "a"}] * 3)
    lost = {0: [], 2: []}
    for i in lost:
        groups[i].watch(lost[i].append)
    groups[1].links[0].close()
    deadline = time.monotonic() + 5
    while not all(lost.values()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lost == {0: ["process 1 of the job is gone"], 2: ["process 1 of the job is gone"]}


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "sent"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGTERM)])
def test_a_killed_process_ends_the_group_in_one_line(victim, sent, tmp_path):
    address = free_address()
    words = [
        "fit",
        str(TABLE),
        "--out",
        str(tmp_path / "o.fit"),
        "--law",
        "camel",
        "--distributed",
        "--coordinator",
        address,
    ]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI"))} | {"JAX_PLATFORMS": "cpu"}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", "from camel_jax.cli import main; main()", *words, "--processes", "2", "--process-id", str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for i in range(2)
    ]  # fmt: skip
    time.sleep(20)
    jobs[victim].send_signal(sent)
    begun = time.monotonic()
    _, err = jobs[1 - victim].communicate(timeout=60)
    _, own = jobs[victim].communicate()
    assert sent == signal.SIGKILL or own.splitlines()[-1] == "interrupted"
    assert jobs[1 - victim].returncode == 2 and time.monotonic() - begun < 60
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: process {victim} of the job is gone: this process ends, too"] and "Traceback" not in err
