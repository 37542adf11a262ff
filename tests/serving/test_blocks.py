"""Blocks of rows score as the formulas do: any net, whole and partial blocks, tables near and far."""

from dataclasses import replace

import numpy as np
import pytest
from levels import NATIVE_LEVELS
from random_models import MIXED, config_of, random_params, random_rows, schema_of

from deeplight_jax.serving.artifact import Artifact
from deeplight_jax.serving.compact import compact
from deeplight_jax.serving.engine import build
from deeplight_jax.serving.structure import Layer, sparse, with_table
from deeplight_jax.serving.tables import FORMATS

pytestmark = pytest.mark.skipif(not NATIVE_LEVELS, reason="the native engine was not built")
NETS = {"inputs": ("deepfwfm", {}), "pooled": ("nfm", {}), "products": ("nfm", {"nfm_pooling": "pairwise"})}
ROWS = [*range(4, 71, 3), 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65]
KEPT = {"dnn": 1.0, "embedding": 0.7, "field": 0.5}


def with_net(made, widths, seed):
    """The model with a random net of hidden layers of these widths, units of no weights among them."""
    rng, layers, last = np.random.default_rng(seed), [], made.net_inputs
    for width in widths:
        dense = rng.normal(size=(width, last)) * (rng.random((width, last)) < rng.random((width, 1)))
        layers.append(Layer(sparse(dense), rng.normal(size=width).astype(np.float32)))
        last = width
    return replace(made, layers=tuple(layers), output=rng.normal(size=last).astype(np.float32))


def oracle(made, ids, values):
    """One row's logit in float64."""
    numeric, dim = len(made.schema.numeric), made.dim
    rows = made.rows(np.arange(made.schema.num_rows)).astype(float)
    logit = float(made.bias[0])
    e, z = [], [float(value) for value in values]
    for i in range(numeric):
        logit += z[i] * rows[i, dim]
        e.append([z[i] * rows[i, d] for d in range(dim)])
    for c, id_ in enumerate(ids):
        row = rows[made.schema.offsets[c] + id_]
        logit += row[dim]
        e.append(list(row[:dim]))
        z += e[-1]
    for r in range(len(z)):
        for at in range(made.quadratic.indptr[r], made.quadratic.indptr[r + 1]):
            logit += z[r] * float(made.quadratic.values[at]) * z[made.quadratic.indices[at]]
    pairs = [(i, j) for i in range(len(e)) for j in range(i)]
    pooled = [sum(e[i][d] * e[j][d] for i, j in pairs) for d in range(dim)]
    products = [sum(e[i][d] * e[j][d] for d in range(dim)) for i, j in made.products]
    x = {"inputs": z, "pooled": pooled, "products": products}[made.net_input]
    for layer in made.layers:
        out = []
        for u, bias in enumerate(layer.bias):
            entries = range(layer.weights.indptr[u], layer.weights.indptr[u + 1])
            total = sum(float(layer.weights.values[at]) * x[layer.weights.indices[at]] for at in entries)
            out.append(max(0.0, float(bias) + total))
        x = out
    if made.all_pairs:
        logit += sum(pooled)
    return logit + sum(float(w) * value for w, value in zip(made.output, x, strict=True))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("widths", [(), (1,), (4,), (9,), (6, 3), (8, 5, 4), (33, 18, 7)], ids=str)
def test_any_net_in_blocks_of_any_size(net, widths):
    name, options = NETS[net]
    made = compact(config_of(name, **options).model, MIXED, random_params(name, MIXED, 1, KEPT, **options))
    assert made.net_input == net
    made = with_net(made, widths, len(widths))
    ids, values = random_rows(MIXED, max(ROWS), 2)
    wanted = np.array([oracle(made, *row) for row in zip(ids, values, strict=True)])
    for level in NATIVE_LEVELS:
        engine = build(Artifact(made, {}, {}), level)
        for rows in ROWS:
            found = engine.logits(ids[-rows:], values[-rows:])
            np.testing.assert_allclose(found, wanted[-rows:], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dim", [3, 20])  # rows of one cache line and of two
def test_tables_larger_than_the_cache_keeps(level, form, dim):
    schema = schema_of(2, (4, 9000, 3, 12000, 700))
    params = random_params("deepfwfm", schema, 3, KEPT, embedding_dim=dim)
    made = with_table(compact(config_of("deepfwfm", embedding_dim=dim).model, schema, params), form)
    ids, values = random_rows(schema, 333, 4)
    wanted = build(Artifact(made, {}, {}), "numpy").logits(ids, values)
    engine = build(Artifact(made, {}, {}), level)
    for rows in (4, 32, 33, 64, 333):
        np.testing.assert_allclose(
            engine.logits(ids[:rows], values[:rows]), wanted[:rows], rtol=2e-5, atol=2e-5
        )


@pytest.mark.parametrize("level", NATIVE_LEVELS)
def test_units_that_only_fill_up_a_group_add_nothing(level):
    """The last layer's one unit is cut to 0 from -inf; what fills up its group would be 0 times infinity."""
    made = compact(config_of("deepfwfm").model, MIXED, random_params("deepfwfm", MIXED, 5, KEPT))
    huge = Layer(sparse(3e38 * np.eye(1, made.inputs)), np.ones(1, np.float32))
    cut = Layer(sparse(-np.ones((1, 1))), np.zeros(1, np.float32))
    made = replace(made, layers=(huge, cut), output=np.ones(1, np.float32))
    ids, values = random_rows(MIXED, 40, 6)
    values[:, 0] = 1e3
    found = build(Artifact(made, {}, {}), level).logits(ids, values)
    without = replace(made, layers=(), output=np.zeros(made.inputs, np.float32))
    np.testing.assert_array_equal(found, build(Artifact(without, {}, {}), level).logits(ids, values))


@pytest.mark.parametrize("level", NATIVE_LEVELS)
@pytest.mark.parametrize("net", NETS)
def test_an_infinite_input_reaches_the_units_that_read_it_and_no_others(net, level):
    """Units of one group read as many inputs; those that only make up for it are 0, not 0 times infinity."""
    name, options = NETS[net]
    made = compact(config_of(name, **options).model, MIXED, random_params(name, MIXED, 1, KEPT, **options))
    table, inputs = made.table.copy(), made.net_inputs
    table[: len(MIXED.numeric)] = 0
    table[: len(MIXED.numeric), 0] = 1  # what is infinite is value 0 of pooled pairs, and product 0
    few = np.zeros((2, inputs))
    few[0, -1], few[1, -2:] = 1, -2
    layers = [few]
    if net == "inputs":  # all of them finite: here it is unit 0, which unit 1 of the next layer cuts to 0
        huge = np.eye(1, inputs) * 1e10
        layers = [np.concatenate([huge, few[1:], -few[1:]]), np.array([[0, 1, 0], [-1, 0, 0], [0, 1, 1]])]
    made = replace(
        made,
        table=table,
        quadratic=sparse(np.zeros((made.inputs, made.inputs))),
        layers=tuple(Layer(sparse(w), np.ones(len(w), np.float32)) for w in layers),
        output=np.ones(len(layers[-1]), np.float32),
    )
    ids, values = random_rows(MIXED, 70, 2)
    values[:] = 1e30
    wanted = np.array([oracle(made, *row) for row in zip(ids, values, strict=True)])
    engine = build(Artifact(made, {}, {}), level)
    np.testing.assert_allclose(engine.logits(ids, values), wanted, rtol=2e-5, atol=2e-5)
    for row in range(10):
        alone = engine.logits(ids[row : row + 1], values[row : row + 1])
        np.testing.assert_allclose(alone, wanted[row : row + 1], rtol=2e-5, atol=2e-5)
