"""A PostgreSQL server of one's own for tests: the system's programs, an empty folder, a socket and no port."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any


def programs() -> pathlib.Path | None:
    """The folder of initdb and pg_ctl, or None where there is no server on this machine."""
    found = shutil.which("pg_ctl")
    places = [pathlib.Path(found).resolve().parent] if found else []
    places += sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def lacking() -> str:
    """Why there can be no server, or ""."""
    if programs() is None:
        return "no PostgreSQL server here (apt-get install postgresql)"
    if os.name == "posix" and os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        return "PostgreSQL does not run as root, and there is no user postgres"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    return ""


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """The URL of a database on a fresh server that ends with the block."""
    place = programs()
    assert place is not None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path is short
    data = folder / "data"
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = {"user": owner.pw_uid, "group": owner.pw_gid, "cwd": folder}

    def call(*command: object) -> None:
        line = [str(part) for part in command]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, **user)
        assert done.returncode == 0, f"{line}: {done.stdout}\n{done.stderr}"

    try:
        call(place / "initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        call(place / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
        try:
            yield f"postgresql://tester@/postgres?host={folder}"
        finally:
            call(place / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
