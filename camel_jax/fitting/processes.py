"""One fit over many processes: JAX's own distributed engine, with the lanes of a batch split over the processes of a job.

Every process makes the same call with the same arguments. Each solves its share of the lanes on its own devices, and the results are
gathered to all, so that what follows is the same everywhere. A process that dies is noticed by JAX's heartbeats, which end the others.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import jax
import numpy as np

from camel_jax.storage import digest_tree
from camel_jax.types import Array

HEARTBEAT = 60  # seconds without a sign of life after which the job ends
GONE = 2.0  # seconds in which a process that is gone is noticed
START = 45  # seconds to wait for all processes to join


def join_job(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    start_seconds: int = START,
    heartbeat_seconds: int = HEARTBEAT,
) -> None:
    """Join the processes of a job; before anything else runs on a device.

    Args:
      coordinator: host:port of process 0; found from SLURM, GKE, Cloud TPU or Open MPI if all three are None.
      processes: number of processes. process_id: of this one, from 0.
      start_seconds: how long to wait for the others. heartbeat_seconds: how long a silent process is waited for.

    Raises:
      ValueError: only some of the three are given, no job was found, or the others did not come in time.
    """
    check_job(coordinator, processes, process_id)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            initialization_timeout=start_seconds,
            coordinator_bind_address=coordinator if process_id == 0 else None,
            heartbeat_timeout_seconds=heartbeat_seconds,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"could not join the processes of the job: {reason}") from None


def check_job(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    """Whether a description of a job makes sense.

    Raises:
      ValueError: it does not.
    """
    given = (coordinator, processes, process_id)
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError("by hand, a job needs all of coordinator, processes and process id; under SLURM or GKE none")
    if processes is not None and process_id is not None and not 0 <= process_id < processes:
        raise ValueError(f"process id {process_id} is not one of 0 to {processes - 1}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"coordinator {coordinator!r} is not host:port")


def digest(*parts: Any) -> str:
    """What arrays, names and settings come to, in 16 digits: equal where a fit of them is.

    >>> digest(np.arange(3), "camel") == digest(np.arange(3), "camel") != digest(np.arange(4), "camel")
    True
    """
    found = hashlib.sha256()
    digest_tree(found, parts)
    return found.hexdigest()[:16]


def is_first() -> bool:
    """Whether this process is the one that prints and writes; True outside a job."""
    return jax.process_index() == 0


def share(n: int) -> np.ndarray:
    """Indices of the lanes of this process, equally many in each: the last of ``n`` is repeated where they do not divide."""
    each = -(-n // jax.process_count())
    return np.minimum(np.arange(each) + each * jax.process_index(), n - 1)


def gather(tree: Any, n: int) -> Any:
    """Lanes of all processes in order, on the host of each; undoes ``share``.

    Args:
      tree: leaves whose leading axis is a multiple of the number of lanes of this process.
      n: lanes in all.
    """
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    each = -(-n // jax.process_count())

    def one(x: Array) -> np.ndarray:
        x = np.asarray(x)
        try:
            every = multihost_utils.process_allgather(x, tiled=True)
        except RuntimeError as error:
            time.sleep(GONE)  # whoever watches the processes knows which one is gone
            raise ValueError(f"the processes of the job lost each other: {str(error).splitlines()[0]}") from None
        return np.asarray(every)[: n * (len(x) // each)]

    return jax.tree.map(one, tree)
