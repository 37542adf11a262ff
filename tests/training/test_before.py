"""The model before pruning: from the run's warm-up, the run it started from, or its dense twin."""

import shutil

import jax
import numpy as np
import pytest

from deeplight_jax.config import override
from deeplight_jax.training.before import params_before
from deeplight_jax.training.inspect import load_run
from deeplight_jax.training.loop import train

DENSE = {f"sparsity.{code}": 0.0 for code in ("dnn", "field", "embedding")}


@pytest.fixture(scope="module")
def folder(world, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("before")
    train(override(config, {**DENSE, "train.epochs": 1}), folder / "warmup", data=world)
    train(override(config, DENSE), folder / "dense", data=world)
    train(override(config, {"train.keep": 9}), folder / "own", data=world)
    train(
        override(config, {"train.init_from": folder / "warmup", "train.keep": 1}),
        folder / "begun",
        data=world,
    )
    return folder


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_its_own_warmup_comes_first(folder):
    found = load_run(folder / "own")
    before = params_before(found, folder / "own", folder / "dense")
    assert before.source == f"its warm-up, step {found.plan.warmup_steps}"
    assert same(before.params, load_run(f"{folder / 'own'}@{found.plan.warmup_steps}").params)
    assert all(
        np.count_nonzero(leaf) == leaf.size for leaf in jax.tree.leaves(before.params["deep"]["hidden_0"])
    )


def test_then_the_run_it_started_from(folder):
    before = params_before(load_run(folder / "begun"), folder / "begun", folder / "dense")
    assert before.source == "the run it started from, warmup"
    assert same(before.params, load_run(folder / "warmup").params)


def test_then_its_dense_twin_or_nothing(folder, tmp_path):
    run = tmp_path / "alone"
    shutil.copytree(folder / "own", run)
    found = load_run(run)
    for path in (run / "checkpoints").iterdir():
        if path.name.partition(".")[0] == str(found.plan.warmup_steps):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert params_before(found, run) is None
    before = params_before(found, run, folder / "dense")
    assert before.source == "its dense twin, dense"
    assert same(before.params, load_run(folder / "dense").params)
    assert params_before(found, run, tmp_path / "none") is None


def test_another_shape_is_not_before_it(folder, world, config):
    shape = {**DENSE, "model.hidden": (4, 4), "train.epochs": 1}
    train(override(config, shape), folder / "narrow", data=world)
    found = load_run(folder / "begun")
    changed = found._replace(config=override(found.config, {"train.init_from": ""}))
    assert params_before(changed, folder / "begun", folder / "narrow") is None
