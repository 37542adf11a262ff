"""Freed memory is kept where malloc can be told to."""

import ctypes
import platform
import subprocess
import sys

import pytest

from deeplight_jax.data.synthetic import World, prepare_synthetic

CHILD = """
import ctypes, sys, threading
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
blocks = []
thread = threading.Thread(target=lambda: blocks.append(libc.malloc(100 << 20)))
thread.start()
thread.join()
assert blocks[0] and libc.mallinfo2().hblks == mapped  # of a thread, and more than a heap of its own holds
"""  # noqa: E501
RUN = """
import ctypes, sys, tempfile
from deeplight_jax.config import default_config, override
from deeplight_jax.training.loop import train
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
def heaps():
    with tempfile.NamedTemporaryFile("r") as told:
        stream = libc.fopen(told.name.encode(), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return told.read().count("<heap nr=")
before = heaps()
train(override(default_config(), {"data.dir": sys.argv[1], "model.hidden": (8,), "train.epochs": 1}), sys.argv[2])
assert heaps() == before, (before, heaps())
"""  # noqa: E501


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_large_freed_block_stays_in_the_process():
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("glibc before 2.33 cannot be asked")
    found = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_runs_threads_have_no_heaps_of_their_own(tmp_path):
    """A heap holds 64 MiB; what a thread asks for beyond is mapped and unmapped in each step."""
    data = prepare_synthetic(tmp_path / "data", World(rows=600))
    words = [sys.executable, "-c", RUN, str(data.directory), str(tmp_path / "run")]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
