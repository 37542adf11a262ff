"""A planted world and a config so small that a whole run takes a second."""

import pytest
from tiny import RATES, SETTINGS, planted

from deeplight_jax.config import default_config, override


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return planted(tmp_path_factory, rows=4_000, largest=30, pairs=5)


@pytest.fixture(scope="session")
def config(world):
    return override(default_config(), {"data.dir": world.directory, **SETTINGS, **RATES})
