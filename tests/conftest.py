"""Eight CPU devices for the tests of sharded programs, and fast compilation: most programs here run once."""

import os

from hypothesis import settings

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)

settings.register_profile(
    "patient", deadline=None
)  # the first example compiles, on a machine that may be busy
settings.load_profile("patient")
