"""A planted world and a config so small that a whole run takes a second."""

import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.data.synthetic import World, prepare_synthetic


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "data"
    return prepare_synthetic(path, World(rows=4_000, largest=30, pairs=5))


@pytest.fixture(scope="session")
def config(world):
    return override(
        default_config(),
        {
            "data.dir": world.directory,
            "data.batch_size": 128,
            "model.embedding_dim": 3,
            "model.hidden": (8, 6),
            "optim.learning_rate": 3e-3,
            "sparsity.dnn": 0.9,
            "sparsity.field": 0.8,
            "sparsity.embedding": 0.4,
            "sparsity.warmup_epochs": 1.0,
            "sparsity.short_schedule": "rescale",
            "train.epochs": 3,
            "eval.batch_size": 300,
        },
    )
