"""A pruned run on raw rows with vocabularies, trained once through the command line, and its artifact."""

import os
import shutil

import pytest
from c_library import ROOT, SANITIZE, Library, build
from small_run import raw_rows, trained

from deeplight_jax.cli import main


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    raw = raw_rows(folder / "day1.txt", 3000, seed=1)
    assert main(["prepare", "criteo", str(raw), "--out", str(folder / "data"), "--threads", "1"]) == 0
    return folder / "data"


@pytest.fixture(scope="session")
def run(data):
    return trained(data.parent / "run", data, "smoke,D50-R50-F20")


@pytest.fixture(scope="session")
def exported(run):
    path = run.parent / "model.safetensors"
    assert main(["export", "--run", str(run), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def native_build():
    """libdeeplight's directory; `make sanitize` names another, where it lies built with the sanitizers."""
    if not all(map(shutil.which, ("make", "cc", "c++"))):
        pytest.skip("no make or no C and C++ compiler")
    return build(ROOT / os.environ.get("DEEPLIGHT_TEST_BUILD", "build/tests"))


@pytest.fixture(scope="session")
def library(native_build):
    return Library(native_build / "libdeeplight.so")


@pytest.fixture(scope="session")
def linked(native_build):
    """The library's directory and the flags it was built with: those of `make sanitize`, where that runs."""
    return native_build, SANITIZE.split() if "DEEPLIGHT_TEST_BUILD" in os.environ else []
