"""A planted world and a sweep so small that its members take a second each."""

import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.sweeping import Sweep, axis, codes, zipped


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "data"
    return prepare_synthetic(path, World(rows=2_000, largest=20, pairs=5))


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
            "sparsity.warmup_epochs": 1.0,
            "sparsity.interval_steps": 3,
            "sparsity.short_schedule": "rescale",
            "train.epochs": 3,
            "eval.batch_size": 100,
        },
    )


@pytest.fixture(scope="session")
def sweep(config):
    """Three members of one program."""
    rates = codes("D50-R50-F20", "D90-R80-F40", "D90-R80-F40")
    return Sweep(config, zipped(rates, axis("optim.learning_rate", [3e-3, 3e-3, 1e-2])))
