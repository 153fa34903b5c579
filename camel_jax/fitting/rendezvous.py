"""Processes of a job meet before they compute: they agree on what they compute, and hear at once when one of them is gone.

Plain sockets at the address that was given and nowhere else. Process 0 listens until all have come and hears what each is about to
compute; where two differ, or one of them has failed, all are told why and none begins. The connections stay: one that breaks says
that its process is gone.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable

WAIT = 45.0  # seconds for all to come
_LONGEST = 1 << 16  # bytes of a message


class Group:
    """The connections of one process to the others: process 0 has one to each, the others have one to process 0."""

    def __init__(self, number: int, links: dict[int, socket.socket]):
        self.number, self.links = number, links
        self.left = False
        self.ended: dict[int, threading.Event] = {}

    def watch(self, lost: Callable[[str], None]) -> None:
        """Call ``lost`` with the reason, in a thread of its own, as soon as a process is gone that something is expected of.

        Process 0 expects the others until they or it ``leave``; the others expect process 0 until it does.
        """
        for other, link in self.links.items():
            self.ended[other] = threading.Event()
            threading.Thread(target=self._watch, args=(other, link, lost), daemon=True).start()

    def _watch(self, other: int, link: socket.socket, lost: Callable[[str], None]) -> None:
        link.settimeout(None)
        told = _hear(link)
        if told.get("bye") and self.number == 0:
            _hear(link)  # until it has ended
        elif not told.get("bye") and not (self.number == 0 and self.left):
            reason = told.get("lost") or f"process {other} of the job is gone"
            if self.number == 0:
                for one in self.links.values():
                    with contextlib.suppress(OSError):
                        _send(one, {"lost": reason})
            lost(reason)
        self.ended[other].set()

    def leave(self) -> None:
        """Nothing more is expected of this process, which may end when this returns.

        The others stay until process 0 has left, since JAX ends all where one ends early, and process 0 until the others have
        ended, since it holds what JAX connects them by.
        """
        self.left = True
        for link in self.links.values():
            with contextlib.suppress(OSError):
                _send(link, {"bye": True})
        for ended in self.ended.values():
            ended.wait(WAIT if self.number == 0 else None)


def meet(address: str, count: int, number: int, facts: dict[str, str], wait: float = WAIT) -> Group:
    """Meet the other processes of a job and compare what each is about to do.

    Args:
      address: host:port of process 0, where it listens. count: of processes. number: of this one.
      facts: what all must have alike, such as {"table": digest}; {"error": reason} of a process that cannot go on.
      wait: seconds for all to come.

    Raises:
      ValueError: they differ, one of them failed, or not all came in time.

    >>> group = meet("127.0.0.1:0", 1, 0, {"table": "abc"})
    >>> group.leave()
    """
    host, _, port = address.rpartition(":")
    place, deadline = (host.strip("[]"), int(port)), time.monotonic() + wait
    return (
        _gather(place, address, count, facts, deadline)
        if number == 0
        else _join(place, address, number, facts, deadline)
    )


def _gather(place: tuple[str, int], address: str, count: int, facts: dict[str, str], deadline: float) -> Group:
    """Process 0: wait for all, compare, tell all."""
    links: dict[int, socket.socket] = {}
    told, problem = {0: facts}, _failure({0: facts})
    try:
        family = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)[0][0]
        server = socket.create_server(place, family=family, backlog=count)
    except OSError as error:
        raise ValueError(f"process 0 cannot listen at {address}: {error.strerror or error}") from None
    with server:
        while len(links) < count - 1 and not _failure({k: v for k, v in told.items() if k}):
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                link, _ = server.accept()
            except OSError:
                missing = [str(k) for k in range(1, count) if k not in links]
                problem = problem or f"process {', '.join(missing)} of {count} did not come to {address} in time"
                break
            link.settimeout(5.0)
            try:
                hello = _receive(link)
                number, own = int(hello["number"]), {str(k): str(v) for k, v in dict(hello["facts"]).items()}
            except (OSError, ValueError, KeyError, TypeError):
                link.close()  # a stranger
                continue
            if not 0 < number < count or number in links:
                own = {"error": f"there are two of its number, or more processes than {count}"}
                number = number if number not in links else count + len(links)
            links[number], told[number] = link, own
    problem = problem or _failure(told) or _difference(told)
    for link in links.values():
        with contextlib.suppress(OSError):
            _send(link, {"problem": problem})
    if problem:
        raise ValueError(problem)
    return Group(0, links)


def _join(place: tuple[str, int], address: str, number: int, facts: dict[str, str], deadline: float) -> Group:
    """Another process: find process 0, tell it, and hear."""
    while True:
        try:
            link = socket.create_connection(place, timeout=max(min(deadline - time.monotonic(), 5.0), 0.1))
            break
        except OSError as error:
            if time.monotonic() > deadline or isinstance(error, socket.gaierror):
                raise ValueError(f"process 0 does not answer at {address}: {error.strerror or error}") from None
            time.sleep(0.2)
    try:
        _send(link, {"number": number, "facts": facts})
        link.settimeout(max(deadline - time.monotonic(), 0.0) + 5.0)
        answer = _receive(link)
    except OSError:
        answer = {}
    if "problem" not in answer:
        raise ValueError(f"process 0 at {address} did not answer as a process of this job does")
    if answer["problem"]:
        raise ValueError(str(answer["problem"]))
    return Group(number, {0: link})


def _failure(told: dict[int, dict[str, str]]) -> str:
    """What a process that cannot go on said."""
    return next(
        (f"process {k} of the job cannot go on: {own['error']}" for k, own in told.items() if "error" in own), ""
    )


def _difference(told: dict[int, dict[str, str]]) -> str:
    """Which facts differ, between which processes."""
    for other, own in told.items():
        unlike = [name for name in told[0] | own if told[0].get(name) != own.get(name)]
        if unlike:
            return f"processes 0 and {other} of the job differ in their {' and '.join(unlike)}: every process needs the same"
    return ""


def _send(link: socket.socket, message: dict) -> None:
    link.sendall(json.dumps(message).encode() + b"\n")


def _hear(link: socket.socket) -> dict:
    """One message; {} where the other side is gone."""
    try:
        return _receive(link)
    except OSError:
        return {}


def _receive(link: socket.socket) -> dict:
    """One message; {} where the other side has closed or sends something else."""
    text = b""
    while not text.endswith(b"\n") and len(text) < _LONGEST:
        part = link.recv(4096)
        if not part:
            break
        text += part
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
