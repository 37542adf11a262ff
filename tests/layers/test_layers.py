"""Layers against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from deeplight_jax.data.schema import field_pairs
from deeplight_jax.layers.embedding import look_up
from deeplight_jax.layers.interaction import fm_pairs, fwfm_pairs, linear_term
from deeplight_jax.layers.mlp import Dropout, drop_units, hash_bits
from deeplight_jax.layers.prunable import Prunable, prunable, split_labels

SHAPES = [(1, 2, 1), (3, 5, 4), (7, 11, 3)]


def embeddings(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_pair_terms(shape):
    e = embeddings(shape)
    batch, n, _ = shape
    pairs = list(zip(*field_pairs(n), strict=True))
    r = np.random.default_rng(1).normal(size=len(pairs))
    fm, fwfm = np.zeros(batch), np.zeros(batch)
    for b in range(batch):
        for weight, (i, j) in zip(r, pairs, strict=True):
            assert i < j
            product = sum(e[b, i, k] * e[b, j, k] for k in range(shape[2]))
            fm[b] += product
            fwfm[b] += weight * product
    f32 = jnp.asarray(e, jnp.float32)
    np.testing.assert_allclose(fm_pairs(f32), fm, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fwfm_pairs(f32, jnp.asarray(r, jnp.float32)), fwfm, rtol=1e-5, atol=1e-5)


def test_full_matrix_counts_as_its_symmetric_half():
    e = jnp.asarray(embeddings((4, 6, 3)), jnp.float32)
    w = np.random.default_rng(2).normal(size=(6, 6)).astype(np.float32)
    pairs = np.asarray([0.5 * (w[i, j] + w[j, i]) for i in range(6) for j in range(i + 1, 6)])
    np.testing.assert_allclose(fwfm_pairs(e, jnp.asarray(w)), fwfm_pairs(e, jnp.asarray(pairs)), rtol=1e-5)
    gradient = jax.grad(lambda w: fwfm_pairs(e, w).sum())(jnp.asarray(w))
    np.testing.assert_array_equal(gradient, gradient.T)
    np.testing.assert_array_equal(np.diag(gradient), 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_term(shape):
    e, v = embeddings(shape), embeddings(shape[1:], 1)
    w = embeddings(shape[1], 2)
    plain = [sum(float(e[b, f] @ v[f]) for f in range(shape[1])) for b in range(shape[0])]
    weighted = [sum(w[f] * float(e[b, f] @ v[f]) for f in range(shape[1])) for b in range(shape[0])]
    f32 = [jnp.asarray(x, jnp.float32) for x in (e, v, w)]
    np.testing.assert_allclose(linear_term(*f32[:2]), plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(linear_term(*f32), weighted, rtol=1e-5, atol=1e-5)


def test_look_up():
    table = np.arange(20.0).reshape(10, 2).astype(np.float32)
    ids = np.asarray([[0, 3], [2, 0]], np.int32)
    values = np.asarray([[0.5, 2.0], [0.0, -1.0]], np.float32)
    offsets = np.asarray([2, 5], np.int32)  # rows 0 and 1 are the numeric fields'
    out = np.asarray(look_up(*map(jnp.asarray, (table, offsets, ids, values))))
    for b in range(2):
        np.testing.assert_allclose(out[b, 0], table[0] * values[b, 0])
        np.testing.assert_allclose(out[b, 1], table[1] * values[b, 1])
        np.testing.assert_allclose(out[b, 2], table[2 + ids[b, 0]])
        np.testing.assert_allclose(out[b, 3], table[5 + ids[b, 1]])
    only = look_up(jnp.asarray(table), jnp.asarray(offsets), jnp.asarray(ids), jnp.zeros((2, 0)))
    assert only.shape == (2, 2, 2)


@pytest.mark.parametrize("bits", ["hash", "threefry"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_rate_scale_and_independence(bits, rate):
    x = jnp.ones((512, 300))
    drop = jax.jit(lambda key: Dropout(bits).apply({}, x, jnp.float32(rate), rngs={"dropout": key}))
    one, same, other = (np.asarray(drop(jax.random.key(s))) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    kept = one != 0
    np.testing.assert_allclose(one[kept], 1 / (1 - rate), rtol=1e-6)
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / x.size) + 1e-9
    if rate:
        both = (kept & (other != 0)).mean()  # two steps drop independently
        assert abs(both - (1 - rate) ** 2) < 0.01
        for axis in (0, 1):  # no row or column is favoured: each binomial within five deviations
            n = x.shape[axis]
            deviation = np.abs(kept.mean(axis) - (1 - rate)) / np.sqrt(rate * (1 - rate) / n)
            assert deviation.max() < 5


def test_hash_bits_are_uniform():
    bits = np.asarray(hash_bits(jnp.asarray([1, 2], jnp.uint32), (1 << 18,)))
    counts = np.bincount(bits >> 24, minlength=256)
    assert ((counts - 1024) ** 2 / 1024).sum() < 350  # chi-squared, 255 degrees: p > 1e-4
    ones = [(bits >> b & 1).mean() for b in range(32)]
    assert np.abs(np.asarray(ones) - 0.5).max() < 0.005
    assert len(np.unique(bits)) == bits.size  # the finaliser is a bijection of the index


def test_no_dropout_without_a_rate():
    x = jnp.arange(6.0)
    assert Dropout().apply({}, x, None) is x
    np.testing.assert_array_equal(drop_units(x, jnp.float32(0), jnp.zeros(6, jnp.uint32)), x)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        w = self.param("w", prunable(nn.initializers.ones, "mine"), (3,))
        return x * w + self.param("b", prunable(nn.initializers.zeros, ""), (3,))


def test_labels_are_declared_where_parameters_are_made():
    boxed = Net().init(jax.random.key(0), jnp.ones(3))["params"]
    assert isinstance(boxed["w"], Prunable)
    params, labels = split_labels(boxed)
    assert labels == {"w": "mine", "b": ""}
    np.testing.assert_array_equal(params["w"], np.ones(3))
    np.testing.assert_array_equal(Net().apply({"params": params}, jnp.ones(3)), np.ones(3))
    _, abstract = split_labels(jax.eval_shape(Net().init, jax.random.key(0), jnp.ones(3))["params"])
    assert abstract == labels
