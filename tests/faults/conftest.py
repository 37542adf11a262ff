"""Faults: short by default, long with DEEPLIGHT_FAULTS=long (`make faults`), which writes figures down."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import RATES, SETTINGS, planted
from whole_runs import IS_LONG

from deeplight_jax.config import default_config, override

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # inherited by what a shell starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def long():
    """Whether this is the long form."""
    return IS_LONG


@pytest.fixture
def figure(request):
    """Writes what a test counted to the file that DEEPLIGHT_FIGURES names, a line of JSON each."""

    def write(what, **counted):
        if file := os.environ.get("DEEPLIGHT_FIGURES"):
            line = {"test": request.node.name, "what": what, "long": IS_LONG, **counted}
            with Path(file).open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")

    return write


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return planted(tmp_path_factory, rows=3_000, largest=20, pairs=4)


@pytest.fixture(scope="session")
def settings(world):
    """Overrides of a run of three epochs of 24 steps, which prunes in the last two and saves in mid-epoch."""
    own = {"data.dir": world.directory, "data.batch_size": 100, "train.checkpoint_steps": 7}
    return SETTINGS | RATES | own


@pytest.fixture(scope="session")
def config(settings):
    return override(default_config(), settings)


@pytest.fixture(scope="session")
def deeplight(tmp_path_factory):
    """Starts the `deeplight` command as a process of its own; compiled programs are kept between them."""
    cache = tmp_path_factory.mktemp("compiled")
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "COLUMNS": "200",
    }
    environment["XLA_FLAGS"] = environment["XLA_FLAGS"].replace("device_count=8", "device_count=1")

    def start(*words, **variables):
        command = [sys.executable, "-m", "deeplight_jax", *map(str, words)]
        return subprocess.Popen(
            command,
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def train_words(settings, tmp_path_factory):
    """The words of a `train` command on the session's config, but for --workdir."""
    file = tmp_path_factory.mktemp("config") / "default.py"
    file.write_text("from deeplight_jax.config import default_config as get_config\n")
    return ["train", "--config", file, *(f"--config.{key}={value}" for key, value in settings.items())]
