"""Whole runs pruned in other ways: what the config names is what the masks show."""

import json

import jax
import numpy as np
import pytest

from deeplight_jax.config import from_json, override, to_json
from deeplight_jax.errors import ConfigError
from deeplight_jax.training.inspect import load_masks, load_run
from deeplight_jax.training.loop import train
from deeplight_jax.training.plan import make_plan


def rate(keep):
    return 1 - keep.mean()


def test_rows_and_units_are_whole(config, tmp_path):
    ways = {"sparsity.embedding_scope": "rows", "sparsity.dnn_scope": "units", "sparsity.dnn": 0.5,
            "sparsity.criterion": "saliency", "sparsity.schedule": "one_shot"}  # fmt: skip
    result = train(override(config, ways), tmp_path / "run")
    masks = load_masks(tmp_path / "run").masks
    table = masks["embedding"]["table"]
    assert (table.all(axis=1) == table.any(axis=1)).all()
    assert rate(table) == pytest.approx(0.4, abs=1 / len(table))
    for layer, dead in (("hidden_0", 4), ("hidden_1", 3)):
        keep = masks["deep"][layer]["kernel"]
        assert (keep.all(axis=0) == keep.any(axis=0)).all()
        assert (~keep.any(axis=0)).sum() == dead
    assert result["components"]["dnn"]["rate"] == pytest.approx(0.5, abs=0.01)


def test_fields_one_by_one_and_n_of_m(config, world, tmp_path):
    ways = {"sparsity.embedding_scope": "per_field", "sparsity.dnn_scope": "2:4", "sparsity.dnn": 0.5,
            "sparsity.criterion": "movement", "sparsity.schedule": "polynomial"}  # fmt: skip
    train(override(config, ways), tmp_path / "run")
    masks = load_masks(tmp_path / "run").masks
    start = 0
    for field in world.schema.fields:
        part = masks["embedding"]["table"][start : start + field.size]
        assert abs((~part).sum() - 0.4 * part.size) <= 0.51 + 0.005 * part.size
        start += field.size
    for layer in ("hidden_0", "hidden_1"):
        keep = masks["deep"][layer]["kernel"]
        whole = keep[: len(keep) // 4 * 4].reshape(-1, 4, keep.shape[1])
        assert (whole.sum(axis=1) == 2).all()


def test_rigl_resumes_bit_for_bit(config, tmp_path):
    ways = {"sparsity.growth": "gradient", "train.checkpoint_steps": 20, "train.epochs": 2}
    config = override(config, ways)
    train(config, tmp_path / "calm")

    def stop(what, done, total):
        if what == "training" and done == 47:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "stopped", progress=stop)
    train(config, tmp_path / "stopped")
    calm, stopped = (load_run(tmp_path / name) for name in ("calm", "stopped"))
    jax.tree.map(np.testing.assert_array_equal, calm.params, stopped.params)
    assert rate(np.asarray(calm.masks["embedding"]["table"])) == pytest.approx(0.4, abs=0.01)


def test_configs_from_before_other_ways_and_mistakes(config):
    older = json.loads(to_json(config))
    for key in ("criterion", "schedule", "growth", "growth_rate", "dnn_scope", "embedding_scope"):
        del older["sparsity"][key]
    assert from_json(json.dumps(older)) == config
    for change, message in (
        ({"sparsity.criterion": "magnitud"}, "one of magnitude, .*; did you mean 'magnitude'"),
        ({"sparsity.growth": "rigl"}, "one of none, random, gradient"),
        ({"sparsity.dnn_scope": "2/4"}, "layer, global, units, or N:M"),
        ({"sparsity.growth_rate": 0.0}, r"a share in \(0, 1\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            override(config, change)
    with pytest.raises(ConfigError, match=r"2:4 prunes 0\.5"):
        make_plan(override(config, {"sparsity.dnn_scope": "2:4"}), 4000)
    with pytest.raises(ConfigError, match="needs the fields' rows"):
        make_plan(override(config, {"sparsity.embedding_scope": "per_field"}), 4000)
    grown = {"sparsity.dnn_scope": "2:4", "sparsity.dnn": 0.5, "sparsity.growth": "random"}
    with pytest.raises(ConfigError, match="cannot grow"):
        make_plan(override(config, grown), 4000)
    masks = {"sparsity.init_masks": "m.safetensors", "sparsity.growth": "random", "sparsity.dnn": 0.0,
             "sparsity.field": 0.0, "sparsity.embedding": 0.0, "sparsity.regrow": False}  # fmt: skip
    plan = make_plan(override(config, masks), 4000)
    assert plan.warmup_steps < plan.total_steps  # masks that move at the count they came with
