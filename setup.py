"""The native engine as an optional extension: where it cannot be compiled, scoring falls back to NumPy.

A wheel also carries experiments/ and sweeps/, in deeplight_jax/shipped/, where commands find them by name.
"""

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

NATIVE = Path("deeplight_jax/serving/native")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fvisibility=hidden", "-pthread"]  # never -ffast-math


class BuildPy(build_py):
    """Python files, and those that a checkout has beside the package."""

    def run(self):
        super().run()
        for folder in ("experiments", "sweeps") if not self.editable_mode else ():
            target = Path(self.build_lib, "deeplight_jax/shipped", folder)
            self.mkpath(str(target))
            for file in sorted(Path(folder).glob("*.py")):
                self.copy_file(str(file), str(target / file.name))


setup(
    cmdclass={"build_py": BuildPy},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
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
    ],
)
