"""Runs of a tiny planted world, dense and two pruned seeds; a field has a name that pages must escape."""

import json

import pytest
from tiny import RATES, SETTINGS

from deeplight_jax.config import default_config, override
from deeplight_jax.data.prepared import open_prepared, write_manifest
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.data.synthetic import World, prepare_synthetic
from deeplight_jax.training.loop import train

EVIL = "<script>alert('$x$')</script>&C26"


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """RUNS/dense, RUNS/pruned/seed-0 and seed-1, and a folder that is no run any more."""
    folder = tmp_path_factory.mktemp("reported") / "RUNS"
    data = prepare_synthetic(folder.parent / "data", World(rows=2_000, largest=20, pairs=5))
    data = _rename(data.directory, data.schema.fields[-1].name)
    config = override(default_config(), {"data.dir": data.directory, **SETTINGS, "train.keep": 3})
    train(config, folder / "dense", data=data)
    for seed in (0, 1):
        train(override(config, {**RATES, "seed": seed}), folder / "pruned" / f"seed-{seed}", data=data)
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{", encoding="utf-8")
    return folder


def _rename(directory, name):
    """The same rows with another name for a field."""
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    manifest = json.loads(json.dumps(manifest).replace(json.dumps(name), json.dumps(EVIL)))
    fields = tuple(Field(**field) for field in manifest["schema"])
    write_manifest(directory, Schema(fields), manifest["rows"], {"synthetic": manifest["synthetic"]})
    return open_prepared(directory)
