"""One program at a time in a directory: a lock that names its owner.

    DIR/lock    {"host", "pid", "started"} of the program that holds it; after a kill it means nothing

The kernel holds the lock (`flock`) and drops it with the process, however it ends, so a lock left by a dead
process, or by one whose pid another has now, is never in the way. Linux passes `flock` on NFS to the server,
so it holds between machines there, too. Where a file system has no locks, the record alone decides: an owner
on this host is dead if its pid is, or has another start time; one on another host is taken to be alive.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deeplight_jax.errors import RunError

_LOG = logging.getLogger(__name__)
_NAME = "lock"
_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Hold a directory while the block runs; it is made if it is missing.

    Raises:
      RunError: another program holds it (its host, pid and start are named), or it cannot be written.
    """
    path = directory / _NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write to {directory} ({error.strerror}); name another --workdir") from error
    with file:
        before = _record(file)
        if not _lock(file, before):
            raise RunError(f"{directory} is in use by {_owner(_record(file))}; wait for it, end it, or name "
                           f"another --workdir (if it is gone, delete {path})")  # fmt: skip
        if before:
            _LOG.info("%s: its last program, %s, did not end by itself", directory, _owner(before))
        _write(file, this_process())
        try:
            yield
        finally:
            _write(file, None)


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process of a record may still run; known for this host alone."""
    if owner.get("host") != platform.node():
        return True
    return _started(int(owner["pid"])) == owner.get("started")


def _lock(file: Any, before: dict[str, Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NO_LOCKS:
            raise RunError(f"cannot lock {file.name} ({error.strerror}); name another --workdir") from error
        return not before or not is_alive(before)
    return True


def this_process() -> dict[str, Any]:
    """The record of the program that calls; `is_alive` of it holds while that runs."""
    return {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """What tells a process from a later one of the same pid; None if there is none."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else f"{boot}+{fields[18]}"  # starttime, in clock ticks
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "unknown"


def _owner(record: dict[str, Any]) -> str:
    return f"process {record.get('pid', '?')} on {record.get('host', 'an unknown host')}"


def _record(file: Any) -> dict[str, Any]:
    file.seek(0)
    try:
        record = json.loads(file.read() or "{}")
    except ValueError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("pid"), int) else {}


def _write(file: Any, record: dict[str, Any] | None) -> None:
    with suppress(OSError):  # on a full disk the kernel's lock holds without a record
        file.seek(0)
        file.truncate()
        file.write(json.dumps(record) + "\n" if record else "")
        file.flush()
