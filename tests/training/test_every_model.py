"""Every model prunes while it trains: jitted, batch split over eight devices, float32 and bfloat16."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from whole_runs import LONG

from deeplight_jax.config import COMPONENT_LETTERS, default_config, override
from deeplight_jax.data.schema import Batch, Field, Schema
from deeplight_jax.models import MODELS, abstract_params, build_model
from deeplight_jax.sparsity.masks import count_components
from deeplight_jax.training.optimizer import build_optimizer
from deeplight_jax.training.plan import make_plan
from deeplight_jax.training.state import init_state
from deeplight_jax.training.step import make_train_step

SCHEMA = Schema(
    (Field("x", "numeric", 1), *(Field(f"c{i}", "categorical", size) for i, size in enumerate((9, 5, 7))))
)
RATE, STEPS, ROWS = 0.5, 6, 16
STRUCTURES = ["deepfwfm", "xdeepfm", "autoint", "dcnv2"]  # pairs, maps, attention, crossing


def config_of(name, dtype):
    model = {"name": name, "embedding_dim": 4, "hidden": (8, 6), "cin": (4, 6), "attention_units": 4}
    model |= {"cross_layers": 2, "hash_buckets": 32, "compute_dtype": dtype}
    sparsity = dict.fromkeys(COMPONENT_LETTERS.values(), RATE)
    sparsity |= {"interval_steps": 2, "warmup_epochs": 1.0, "damping_steps": 1e-3}
    settings = {f"model.{k}": v for k, v in model.items()} | {f"sparsity.{k}": v for k, v in sparsity.items()}
    return override(default_config(), settings | {"data.batch_size": ROWS, "train.epochs": STEPS})


def batch(seed):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, f.size, ROWS) for f in SCHEMA.categorical], axis=1)
    weight = np.ones(ROWS, np.float32)
    weight[-3:] = 0  # padding
    label = rng.integers(0, 2, ROWS)
    values = rng.normal(size=(ROWS, 1)).astype(np.float32)
    return Batch(ids.astype(np.int32), values, label.astype(np.float32), weight)


@cache  # read by two tests
def trained(name, dtype, devices):
    """State after warm-up and pruning events, trained with the batch split over `devices`."""
    config = config_of(name, dtype)
    model = build_model(config, SCHEMA)
    _, labels = abstract_params(model, SCHEMA)
    optimizer = build_optimizer(config, labels, make_plan(config, ROWS))
    step = make_train_step(model, optimizer, config)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    state = jax.device_put(init_state(model, SCHEMA, optimizer, 0), NamedSharding(mesh, PartitionSpec()))
    losses = []
    for i in range(STEPS):
        rows = jax.device_put(batch(i), NamedSharding(mesh, PartitionSpec("data")))
        state, loss = step(state, rows)
        losses.append(float(loss))
    return state, labels, losses


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float32") for name in MODELS]
    + [(n, "bfloat16") if n in STRUCTURES else pytest.param(n, "bfloat16", marks=LONG) for n in MODELS],
)
def test_prunes_and_trains_on_eight_devices(name, dtype):
    assert len(jax.devices()) == 8
    state, labels, losses = trained(name, dtype, devices=8)
    assert np.isfinite(losses).all()
    assert {p.dtype for p in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    counts = count_components(state.projected(), labels)
    pruned = set(jax.tree.leaves(labels)) - {""}
    assert pruned <= set(counts)
    for code in pruned:
        assert counts[code].nonzero == counts[code].total - _cut(labels, state, code)


def _cut(labels, state, code):
    """Weights that a rate of one half takes away, rounded array by array or over all of them together."""
    sizes = [
        p.size
        for p, label in zip(jax.tree.leaves(state.params), jax.tree.leaves(labels), strict=True)
        if label == code
    ]
    return round(RATE * sum(sizes)) if code == "embedding" else sum(round(RATE * s) for s in sizes)


@pytest.mark.parametrize("name", STRUCTURES)
def test_eight_devices_train_as_one(name):
    one, _, losses_of_one = trained(name, "float32", devices=1)
    eight, _, losses_of_eight = trained(name, "float32", devices=8)
    np.testing.assert_allclose(losses_of_eight, losses_of_one, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(eight.masks), jax.tree.leaves(one.masks), strict=True):
        np.testing.assert_array_equal(a, b)
