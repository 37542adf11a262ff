"""A pruned run on raw rows with vocabularies, trained once through the command line, and its artifact."""

import pytest
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
