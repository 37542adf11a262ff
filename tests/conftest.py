"""Eight CPU devices for the tests of sharded programs, and fast compilation: most programs here run once.

Fusions go through XLA's older emitters where it still has them, since MLIR's take twice as long to compile;
a program's code is made by one thread in one piece, since pytest-xdist's workers have the other cores.

What one test has compiled the others, their workers and their child processes load from one folder, which
lives as long as the session: half of the suite's time was the same programs compiled again.
"""

import os
import shutil
import tempfile

import pytest
from hypothesis import settings
from jaxlib.version import __version_info__ as jaxlib_version

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_parallel_codegen_split_count=1",
        *(["--xla_cpu_use_fusion_emitters=false"] if jaxlib_version < (0, 11) else []),
    ]
)

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers have it from their controller
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="deeplight-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


settings.register_profile(
    "patient", deadline=None
)  # the first example compiles, on a machine that may be busy
settings.load_profile("patient")
