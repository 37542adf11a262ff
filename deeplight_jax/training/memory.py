"""How the process treats the memory that a step frees."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_LARGEST = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Let malloc keep what a step frees for the next one, in this process; returns whether it could be set.

    XLA on CPU allocates a step's scratch (a table's gradient: 53 MB at the paper's size) anew each time. By
    glibc's defaults it is mapped and unmapped, and clearing its pages costs as much as Adam's arithmetic. So
    is, whatever the defaults, what a thread asks for beyond the 64 MiB of a heap of its own, as pruned steps
    do: threads that start from now on share one. Call it before JAX starts its own, that is, computes. The
    process then holds its peak of memory to its end. Other C libraries, and devices, are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _LARGEST, _M_TRIM_THRESHOLD: _LARGEST}
    return all(mallopt(name, value) for name, value in wanted.items())
