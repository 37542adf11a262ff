"""Models: golden parameter counts, and forward and gradient against float64 loops."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import oracle

from deeplight_jax.config import default_config, override
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import ConfigError
from deeplight_jax.models import MODELS, abstract_params, build_model, init_params

SMALL = Schema(
    (
        Field("x", "numeric", 1),
        Field("y", "numeric", 1),
        Field("a", "categorical", 4),
        Field("b", "categorical", 3),
    )
)
CATEGORICAL = Schema(
    (Field("a", "categorical", 4), Field("b", "categorical", 3), Field("c", "categorical", 6))
)


def rows(schema, batch, seed=0, unknown=False):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, f.size, batch) for f in schema.categorical], axis=1).astype(np.int32)
    values = rng.normal(size=(batch, len(schema.numeric))).astype(np.float32)
    return (np.zeros_like(ids), np.zeros_like(values)) if unknown else (ids, values)


def config_of(name, **model):
    sizes = {"embedding_dim": 3, "hidden": (5, 4), "embedding_std": 0.5, "cin": (4, 6, 3), "hash_buckets": 17}
    sizes |= {"cross_layers": 2, "attention_layers": 2, "attention_units": 3, **model, "name": name}
    return override(default_config(), {f"model.{k}": v for k, v in sizes.items()})


@cache
def made(name, schema, **model):
    """A small model, its parameters moved off their symmetric starts, and its labels."""
    model_ = build_model(config_of(name, **model), schema)
    params, labels = init_params(model_, schema, jax.random.key(1))
    noisy = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), params)
    return model_, noisy, labels


CASES = [(n, {}) for n in MODELS] + [
    ("fwfm", {"linear_field_weight": False}),
    ("deepfwfm", {"field_matrix": "full"}),
    ("deepfwfm", {"hidden": (7,)}),
    ("fwfm", {"linear": "weights"}),
    ("deepfwfm", {"linear": "weights"}),
    ("nfm", {"nfm_pooling": "pairwise"}),
    ("xdeepfm", {"cin": (5,)}),
    ("xdeepfm", {"cin_split_half": False}),
]


def expected(name, options, schema, params, ids, values):
    kind = "xdeepfm, all maps on" if options.get("cin_split_half") is False else name
    return oracle(kind, schema, params, ids, values)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("schema", [SMALL, CATEGORICAL], ids=["mixed", "categorical"])
def test_forward_equals_the_oracle(name, options, schema):
    model, params, _ = made(name, schema, **options)
    apply = jax.jit(lambda *row: model.apply({"params": params}, *row))
    for batch, unknown in ((1, False), (6, False), (3, True)):
        ids, values = rows(schema, batch, unknown=unknown)
        logits = apply(ids, values)
        assert logits.shape == (batch,)
        wanted = expected(name, options, schema, params, ids, values)
        np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_gradient_equals_finite_differences_of_the_oracle(name, options):
    model, params, _ = made(name, SMALL, **options)
    ids, values = rows(SMALL, 4)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(model.apply({"params": p}, ids, values))))(params)
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    rng = np.random.default_rng(3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(wide):
        found = gradient
        for key in path:
            found = found[key.key]
        for _ in range(4):
            index = tuple(rng.integers(0, s) for s in leaf.shape)
            up, down = (
                expected(name, options, SMALL, _bumped(wide, path, index, by), ids, values).sum()
                for by in (1e-6, -1e-6)
            )
            assert float(found[index]) == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-5)


def _bumped(tree, path, index, by):
    """The tree with one entry of one leaf moved."""

    def move(at, x):
        x = x.copy()
        if at == path:
            x[index] += by
        return x

    return jax.tree_util.tree_map_with_path(move, tree)


def test_labels_follow_the_papers_components():
    _, _, labels = made("deepfwfm", SMALL)
    assert labels["embedding"]["table"] == "embedding"
    assert labels["fwfm"]["r"] == "field"
    assert [labels["deep"][f"hidden_{i}"]["kernel"] for i in range(2)] == ["dnn", "dnn"]
    unpruned = (labels["deep"]["hidden_0"]["bias"], labels["deep"]["output"]["kernel"], labels["fwfm"]["v"])
    assert unpruned == ("", "", "")  # never biases, never the last one-unit layer
    config = override(default_config(), {"sparsity.prune_linear": True})
    _, released = abstract_params(build_model(config, SMALL), SMALL)
    assert released["fwfm"]["v"] == "dnn"


_DEEP = {"deep/hidden_0/kernel": "dnn", "deep/hidden_1/kernel": "dnn"}
_TABLE = {"embedding/table": "embedding"}
_ATTENTION = [f"{name}_{i}" for name in ("query", "key", "value", "residual") for i in range(2)]
PRUNABLE = {
    "lr": {"weights/table": "embedding"},
    "poly2": {"pairs/table": "embedding"},
    "fm": _TABLE,
    "ffm": _TABLE,
    "fwfm": {**_TABLE, "fwfm/r": "field"},
    "fmfm": {**_TABLE, "m": "field"},
    "widedeep": {**_TABLE, **_DEEP},
    "deepfm": {**_TABLE, **_DEEP},
    "nfm": {**_TABLE, **_DEEP},
    "pnn": {**_TABLE, **_DEEP},
    "dcn": {**_TABLE, **_DEEP, "cross/kernel_0": "cross", "cross/kernel_1": "cross"},
    "dcnv2": {**_TABLE, **_DEEP, "cross/kernel_0": "cross", "cross/kernel_1": "cross"},
    "autoint": {**_TABLE, **{f"attention/{name}": "attention" for name in _ATTENTION}},
    "xdeepfm": {**_TABLE, **_DEEP, **{f"cin/kernel_{i}": "cin" for i in range(3)}},
    "deepfwfm": {**_TABLE, **_DEEP, "fwfm/r": "field"},
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_prunable(name):
    """These parameters and no other: no bias, no output unit, no first-order weight."""
    _, labels = abstract_params(build_model(config_of(name), SMALL), SMALL)
    leaves = jax.tree_util.tree_leaves_with_path(labels)
    found = {"/".join(key.key for key in path): code for path, code in leaves if code}
    assert found == PRUNABLE[name]


@pytest.mark.parametrize("name", [n for n, paths in PRUNABLE.items() if "deep/hidden_0/kernel" in paths])
def test_every_deep_net_drops_units(name):
    model, params, _ = made(name, SMALL)
    ids, values = rows(SMALL, 6)

    @jax.jit
    def logits(seed, rate):
        return model.apply({"params": params}, ids, values, rate, rngs={"dropout": jax.random.key(seed)})

    without = model.apply({"params": params}, ids, values)
    np.testing.assert_allclose(logits(0, 0.0), without, rtol=1e-5, atol=1e-6)
    assert np.abs(logits(0, 0.5) - without).max() > 1e-3
    assert np.abs(logits(0, 0.5) - logits(1, 0.5)).max() > 1e-3


def test_bfloat16_compute_keeps_float32_weights():
    model, params, _ = made("deepfwfm", SMALL)
    half, _, _ = made("deepfwfm", SMALL, compute_dtype="bfloat16")
    ids, values = rows(SMALL, 6)
    logits = half.apply({"params": params}, ids, values)
    assert logits.dtype == jnp.bfloat16
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
    np.testing.assert_allclose(logits, model.apply({"params": params}, ids, values), rtol=0.05, atol=0.05)


def test_initial_scales():
    schema = Schema((Field("a", "categorical", 5000), Field("b", "categorical", 5000)))
    params, _ = init_params(build_model(default_config(), schema), schema, jax.random.key(0))
    assert float(params["embedding"]["table"].std()) == pytest.approx(0.01, rel=0.02)
    kernel = params["deep"]["hidden_1"]["kernel"]
    assert float(kernel.std()) == pytest.approx(np.sqrt(2 / 800), rel=0.02)  # Glorot
    wide, _ = init_params(build_model(default_config(), CRITEO_LIKE), CRITEO_LIKE, jax.random.key(0))
    assert float(wide["fwfm"]["r"].std()) == pytest.approx(1 / np.sqrt(39), rel=0.1)


CRITEO_LIKE = Schema(tuple(Field(f"C{i}", "categorical", 2) for i in range(39)))


def test_unknown_model_is_named():
    with pytest.raises(
        ConfigError, match=r"model.name='deepfm2' is not one of autoint, dcn, dcnv2, deepfm, deepfwfm"
    ):
        build_model(override(default_config(), {"model.name": "deepfm2"}), SMALL)
