"""Models: golden parameter counts, and forward and gradient against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplight_jax.config import default_config, override
from deeplight_jax.data.schema import Field, Schema
from deeplight_jax.errors import ConfigError
from deeplight_jax.models import MODELS, abstract_params, build_model, init_params

CRITEO = Schema(
    tuple(Field(f"I{i}", "numeric", 1) for i in range(1, 14))
    + tuple(Field(f"C{i}", "categorical", 51_001) for i in range(1, 26))
    + (Field("C26", "categorical", 1_326_055 - 13 - 25 * 51_001),)
)
AVAZU = Schema(tuple(Field(f"A{i}", "categorical", 1_544_392 // 23 + (i == 0) * 11) for i in range(23)))
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


def count(schema, **model):
    config = override(default_config(), {f"model.{k}": v for k, v in model.items()})
    params, _ = abstract_params(build_model(config, schema), schema)
    return sum(int(np.prod(p.shape)) for p in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("lr", {}, 1_326_056),
        ("fm", {}, 14_586_606),
        ("fwfm", {"linear_field_weight": False}, 13_261_682),
        ("deepfwfm", {}, 13_739_321),
    ],
)
def test_golden_parameter_counts_on_criteo(name, options, published):
    assert CRITEO.num_rows == 1_326_055
    assert count(CRITEO, name=name, **options) == published


@pytest.mark.parametrize(
    ("name", "published"), [("lr", 1_544_393), ("fm", 32_432_233), ("deepfwfm", 31_208_053)]
)
def test_golden_parameter_counts_on_avazu(name, published):
    """The published DeepFwFM counts R as n x n there."""
    assert AVAZU.num_rows == 1_544_392
    options = {"embedding_dim": 20, "hidden": (300, 300, 300), "field_matrix": "full"}
    assert count(AVAZU, name=name, **options) == published


def rows(schema, batch, seed=0, unknown=False):
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, f.size, batch) for f in schema.categorical], axis=1).astype(np.int32)
    values = rng.normal(size=(batch, len(schema.numeric))).astype(np.float32)
    return (np.zeros_like(ids), np.zeros_like(values)) if unknown else (ids, values)


def oracle(name, schema, params, ids, values):
    """Logits in float64, one row and one field at a time; no code shared with the package."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    starts, at = [], 0
    for field in schema.fields:
        starts.append(at)
        at += field.size
    m = sum(f.kind == "numeric" for f in schema.fields)

    def embed(table, b):
        rows = [table[starts[f]] * float(values[b, f]) for f in range(m)]
        return rows + [table[starts[m + c] + ids[b, c]] for c in range(ids.shape[1])]

    logits = []
    for b in range(len(ids)):
        if name == "lr":
            logits.append(p["bias"] + sum(float(w[0]) for w in embed(p["weights"]["table"], b)))
            continue
        e = embed(p["embedding"]["table"], b)
        n = len(e)
        if name == "fm":
            z = p["bias"] + sum(float(w[0]) for w in embed(p["weights"]["table"], b))
            logits.append(z + sum(e[i] @ e[j] for i in range(n) for j in range(i + 1, n)))
            continue
        terms = p["fwfm"]
        weight = terms.get("field_weight", np.ones(n))
        z = terms["bias"] + sum(weight[f] * (e[f] @ terms["v"][f]) for f in range(n))
        at = 0
        for i in range(n):
            for j in range(i + 1, n):
                r = terms["r"][at] if terms["r"].ndim == 1 else (terms["r"][i, j] + terms["r"][j, i]) / 2
                z += r * (e[i] @ e[j])
                at += 1
        if name == "deepfwfm":
            h = np.concatenate(e)
            for layer in sorted(k for k in p["deep"] if k.startswith("hidden")):
                h = np.maximum(h @ p["deep"][layer]["kernel"] + p["deep"][layer]["bias"], 0)
            z += float(h @ p["deep"]["output"]["kernel"][:, 0])
        logits.append(z)
    return np.asarray(logits)


def made(name, schema, **model):
    config = override(
        default_config(),
        {"model.name": name, "model.embedding_dim": 3, "model.hidden": (5, 4), "model.embedding_std": 0.5}
        | {f"model.{k}": v for k, v in model.items()},
    )
    model_ = build_model(config, schema)
    params, labels = init_params(model_, schema, jax.random.key(1))
    noisy = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), params)
    return model_, noisy, labels


CASES = [(n, {}) for n in MODELS] + [
    ("fwfm", {"linear_field_weight": False}),
    ("deepfwfm", {"field_matrix": "full"}),
    ("deepfwfm", {"hidden": (7,)}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("schema", [SMALL, CATEGORICAL], ids=["mixed", "categorical"])
@pytest.mark.parametrize(("batch", "unknown"), [(1, False), (6, False), (3, True)])
def test_forward_equals_the_oracle(name, options, schema, batch, unknown):
    model, params, _ = made(name, schema, **options)
    ids, values = rows(schema, batch, unknown=unknown)
    logits = model.apply({"params": params}, ids, values)
    assert logits.shape == (batch,)
    np.testing.assert_allclose(logits, oracle(name, schema, params, ids, values), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_gradient_equals_finite_differences_of_the_oracle(name, options):
    model, params, _ = made(name, SMALL, **options)
    ids, values = rows(SMALL, 4)
    gradient = jax.grad(lambda p: jnp.sum(model.apply({"params": p}, ids, values)))(params)
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    rng = np.random.default_rng(3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(wide):
        found = gradient
        for key in path:
            found = found[key.key]
        for _ in range(4):
            index = tuple(rng.integers(0, s) for s in leaf.shape)
            up, down = (
                oracle(name, SMALL, _bumped(wide, path, index, by), ids, values).sum() for by in (1e-6, -1e-6)
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
    with pytest.raises(ConfigError, match=r"model.name='deepfm2' is not one of deepfwfm, fm, fwfm, lr"):
        build_model(override(default_config(), {"model.name": "deepfm2"}), SMALL)
