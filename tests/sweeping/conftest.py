"""A planted world and a sweep so small that its members take a second each."""

import pytest
from tiny import SETTINGS, planted

from deeplight_jax.config import default_config, override
from deeplight_jax.sweeping import Sweep, axis, codes, zipped


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return planted(tmp_path_factory, rows=2_000, largest=20, pairs=5)


@pytest.fixture(scope="session")
def config(world):
    own = {"data.dir": world.directory, "sparsity.interval_steps": 3, "eval.batch_size": 100}
    return override(default_config(), SETTINGS | own)


@pytest.fixture(scope="session")
def sweep(config):
    """Three members of one program."""
    rates = codes("D50-R50-F20", "D90-R80-F40", "D90-R80-F40")
    return Sweep(config, zipped(rates, axis("optim.learning_rate", [3e-3, 3e-3, 1e-2])))
