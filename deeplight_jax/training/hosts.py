"""Several hosts, one run: they find each other, agree, and only the first writes.

Every host runs the same program over the same steps. What decides how it goes on must therefore be the same
on all: evaluations are (each has every logit), signals are agreed on (`any_asked`), files are read behind a
`meet`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn

import jax
import numpy as np

from deeplight_jax.errors import ConfigError, DeeplightError, RunError

HEARTBEAT_S = 30  # without a sign of life from a host for so long, the others end
START_S = 300  # within which all hosts must have come
AGREE_STEPS = 10  # between questions whether a signal has arrived anywhere
_LOST = ("gloo", "connection", "heartbeat", "unavailable", "deadline", "aborted", "nccl", "timed out")


def join(coordinator: str, hosts: int, host: int | None, heartbeat_s: int = HEARTBEAT_S) -> None:
    """Find the other hosts; call it before anything computes.

    Args:
      coordinator: HOST:PORT of host 0; "" where Slurm, GKE, a TPU pod or MPI says by itself who is there.
      hosts: how many; 0 with a coordinator of "".
      host: number of this one, from 0.
      heartbeat_s: after so many seconds without a sign of life from a host the others end.

    Raises:
      ConfigError: the numbers make no sense, nothing says who the hosts are, or they do not come.
    """
    if coordinator and (host is None or not 0 <= host < hosts):
        raise ConfigError(f"--host {host} of --hosts {hosts}: hosts are numbered from 0")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `stopping`
    found = {"coordinator_address": coordinator, "num_processes": hosts, "process_id": host}
    try:
        jax.distributed.initialize(
            **(found if coordinator else {}),
            initialization_timeout=START_S,
            heartbeat_timeout_seconds=heartbeat_s,
        )
    except (ValueError, RuntimeError) as error:
        how = (
            "name --coordinator HOST:PORT, --hosts N and --host I" if not coordinator else "are all started?"
        )
        raise ConfigError(
            f"the hosts of this run do not find each other ({first_line(error)}); {how}"
        ) from error


def is_first() -> bool:
    """Whether this host writes the run's files; the only host does."""
    return jax.process_index() == 0


def leave(status: int) -> NoReturn:
    """End this process at once: JAX's own exit waits for hosts that may not come."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def are_several() -> bool:
    """Whether there are other hosts."""
    return jax.process_count() > 1


def meet(where: str) -> None:
    """Wait until every host is there."""
    if are_several():
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(where)


def same_on_all(step: int, directory: str) -> int:
    """The newest step that this host sees in a directory, which every host must see.

    Raises:
      RunError: another host sees another.
    """
    if are_several():
        from jax.experimental.multihost_utils import process_allgather

        seen = np.unique(process_allgather(np.int32(step))).tolist()
        if len(seen) > 1:
            raise RunError(f"the hosts see different checkpoints in {directory} (newest: {seen}); "
                           "name a --workdir on a file system that all of them share")  # fmt: skip
    return step


def any_asked(asked: bool, step: int) -> bool:
    """Whether any host was asked to end: the same answer on each, given at every `AGREE_STEPS`-th step."""
    if not are_several():
        return asked
    if step % AGREE_STEPS:
        return False
    from jax.experimental.multihost_utils import process_allgather

    return bool(np.any(process_allgather(np.int32(asked))))


def first_does(action: Callable[..., Any], *args: Any) -> None:
    """What one host does for all."""
    if is_first():
        action(*args)


@contextmanager
def first_holds(lock: AbstractContextManager[Any]) -> Iterator[None]:
    """The lock, held by one host for all."""
    with lock if is_first() else nullcontext():
        yield


@contextmanager
def lost_told() -> Iterator[None]:
    """A lost host, told as what a user can do about it.

    Raises:
      RunError: a collective has failed.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError, OSError) as error:
        if lost := as_lost(error):
            raise lost from error
        raise


def as_lost(error: Exception) -> RunError | None:
    """What a user is told where an error comes of a lost host; None where it comes of something else."""
    ours = isinstance(error, DeeplightError)  # worded already, with a path that may hold any word
    if ours or not are_several() or not any(word in str(error).lower() for word in _LOST):
        return None
    return RunError(
        f"another host is lost ({first_line(error)}); start all hosts again with the same command: "
        "they go on from the last checkpoint"
    )


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
