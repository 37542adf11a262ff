"""Faults: short by default, long with DEEPLIGHT_FAULTS=long (`make faults`), which writes figures down."""

import json
import os
from pathlib import Path

import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.data.synthetic import World, prepare_synthetic

LONG = os.environ.get("DEEPLIGHT_FAULTS") == "long"


@pytest.fixture(scope="session")
def long():
    """Whether this is the long form."""
    return LONG


@pytest.fixture
def figure(request):
    """Writes what a test counted to the file that DEEPLIGHT_FIGURES names, a line of JSON each."""

    def write(what, **counted):
        if file := os.environ.get("DEEPLIGHT_FIGURES"):
            line = {"test": request.node.name, "what": what, "long": LONG, **counted}
            with Path(file).open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")

    return write


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "data"
    return prepare_synthetic(path, World(rows=3_000, largest=20, pairs=4))


@pytest.fixture(scope="session")
def settings(world):
    """Overrides of a run of three epochs of 24 steps, which prunes in the last two and saves in mid-epoch."""
    return {
        "data.dir": world.directory,
        "data.batch_size": 100,
        "model.embedding_dim": 3,
        "model.hidden": (8, 6),
        "optim.learning_rate": 3e-3,
        "sparsity.dnn": 0.9,
        "sparsity.field": 0.8,
        "sparsity.embedding": 0.4,
        "sparsity.warmup_epochs": 1.0,
        "sparsity.short_schedule": "rescale",
        "train.epochs": 3,
        "train.checkpoint_steps": 7,
        "eval.batch_size": 300,
    }


@pytest.fixture(scope="session")
def config(settings):
    return override(default_config(), settings)
