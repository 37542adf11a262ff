"""Freed memory is kept where malloc can be told to."""

import ctypes
import platform
import subprocess
import sys

import pytest

CHILD = """
import ctypes, sys
from deeplight_jax.training.memory import keep_freed_memory
class Malloc(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Malloc
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
assert keep_freed_memory() and keep_freed_memory()
mapped = libc.mallinfo2().hblks
block = libc.malloc(64 << 20)
assert libc.mallinfo2().hblks == mapped  # not mapped on its own
libc.free(block)
assert libc.mallinfo2().fordblks >= 64 << 20  # kept
"""  # noqa: E501


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_large_freed_block_stays_in_the_process():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("glibc before 2.33 cannot be asked")
    found = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
