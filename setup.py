"""The native engine as an optional extension: where it cannot be compiled, scoring falls back to NumPy."""

import os
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("deeplight_jax/serving/native")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fvisibility=hidden", "-pthread"]  # never -ffast-math

setup(
    ext_modules=[
        Extension(
            "deeplight_jax.serving.native._deeplight",
            sources=sorted(path.as_posix() for path in NATIVE.glob("*.cpp")),
            depends=sorted(path.as_posix() for path in NATIVE.glob("*.h*")),
            extra_compile_args=FLAGS + os.environ.get("DEEPLIGHT_CFLAGS", "").split(),  # the sanitizers'
            extra_link_args=["-pthread"],
            language="c++",
            py_limited_api=True,
            optional=True,
        )
    ]
)
