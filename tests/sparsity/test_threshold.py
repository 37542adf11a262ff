"""Exact selection against a stable sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.threshold import smallest

FLOATS = st.floats(width=32, allow_nan=False)
FEW_VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-40, np.float32(np.inf)])


def oracle(arrays, count):
    """The first `count` of a stable sort by magnitude over all arrays, in order."""
    flat = np.concatenate([np.abs(a.ravel()) for a in arrays])
    marked = np.zeros(flat.size, bool)
    marked[np.argsort(flat, kind="stable")[:count]] = True
    parts = np.split(marked, np.cumsum([a.size for a in arrays])[:-1])
    return [p.reshape(a.shape) for p, a in zip(parts, arrays, strict=True)]


ARRAYS = st.tuples(
    hnp.arrays(np.float32, (5, 3), elements=FLOATS | FEW_VALUES),
    hnp.arrays(np.float32, (8,), elements=FLOATS | FEW_VALUES),
)
select = jax.jit(lambda arrays, count: smallest(arrays, count))


@settings(deadline=None, max_examples=300)
@given(ARRAYS, st.integers(0, 23))
def test_equals_a_stable_sort(arrays, count):
    found = select([jnp.asarray(a) for a in arrays], count)
    for mark, expected in zip(found, oracle(arrays, count), strict=True):
        np.testing.assert_array_equal(mark, expected)


select_signed = jax.jit(lambda arrays, count: smallest(arrays, count, signed=True))


@settings(deadline=None, max_examples=200)
@given(ARRAYS, st.integers(0, 23))
def test_signed_equals_a_stable_sort_by_value(arrays, count):
    flat = np.concatenate([a.ravel() for a in arrays]).astype(np.float64)
    marked = np.zeros(flat.size, bool)
    marked[np.argsort(flat, kind="stable")[:count]] = True
    found = select_signed([jnp.asarray(a) for a in arrays], count)
    np.testing.assert_array_equal(np.concatenate([np.asarray(m).ravel() for m in found]), marked)


def test_signed_nan_is_last_whatever_its_sign():
    x = np.asarray([np.nan, -np.nan, np.inf, -np.inf, -1.0], np.float32)
    (mark,) = smallest([jnp.asarray(x)], 3, signed=True)
    assert np.asarray(mark).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_ties_go_by_index(value):
    (mark,) = smallest([jnp.full((5, 4), value)], 7)
    assert np.flatnonzero(np.asarray(mark).ravel()).tolist() == list(range(7))


@pytest.mark.parametrize("count", [0, 1, 499_999, 999_999, 1_000_000])
def test_exact_at_a_million(count):
    x = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    (mark,) = jax.jit(lambda x, c: smallest([x], c))(x, count)
    np.testing.assert_array_equal(mark, oracle([x], count)[0])


@pytest.mark.parametrize("count", [1, 60_000, 120_001, 199_999])
@pytest.mark.parametrize("shape", ["ties", "one value", "clustered", "sample misled"])
def test_exact_whatever_a_sample_makes_of_it(shape, count):
    rng = np.random.default_rng(0)
    x = {
        "ties": rng.integers(-3, 4, 200_000),
        "one value": np.full(200_000, 0.25),
        "clustered": 1 + rng.normal(size=200_000) * 1e-6 + 1e20 * (rng.random(200_000) < 0.3),
        "sample misled": np.where(np.arange(200_000) % 3 == 0, 1e-30, 1 + rng.random(200_000)),  # every third
    }[shape].astype(np.float32)
    parts = [x[:50_000].reshape(5_000, 10), x[50_000:]]
    found = jax.jit(lambda parts, c: smallest(parts, c))(parts, count)
    for mark, expected in zip(found, oracle(parts, count), strict=True):
        np.testing.assert_array_equal(mark, expected)


def test_narrow_floats_and_nan():
    (mark,) = smallest([jnp.asarray([3, 1, 2, 1], jnp.bfloat16)], 2)
    assert np.asarray(mark).tolist() == [False, True, False, True]
    (mark,) = smallest([jnp.asarray([np.nan, np.inf, 1.0])], 2)
    assert np.asarray(mark).tolist() == [False, True, True]
    nans = np.asarray([0x7FFFFFFF, 0x7FC00000, 0x7F800000], np.uint32).view(np.float32)
    (mark,) = smallest([jnp.asarray(nans)], 3)
    assert np.asarray(mark).all()


def test_works_under_vmap():
    x = np.random.default_rng(1).integers(-3, 4, (6, 40)).astype(np.float32)
    counts = np.asarray([0, 1, 7, 20, 39, 40])
    marks = jax.vmap(lambda row, c: smallest([row], c)[0])(x, counts)
    for row, count, mark in zip(x, counts, marks, strict=True):
        np.testing.assert_array_equal(mark, oracle([row], count)[0])


def test_too_many_values_are_refused():
    class Huge:
        size = 2**31

    with pytest.raises(ConfigError, match="share one threshold"):
        smallest([Huge()], 1)  # pyright: ignore[reportArgumentType]
