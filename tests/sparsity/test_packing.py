"""Packed masks: bit for bit what they were, an eighth as large."""

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import deeplight_jax as dl
from deeplight_jax.errors import MaskError

masks = dl.masks
leaves = arrays(bool, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=11))


@given(st.lists(leaves, max_size=3))
def test_round_trip(keeps):
    tree = {"none": optax.MaskedNode(), "some": keeps}
    packed = masks.pack(tree)
    back = masks.unpack(packed)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for before, small, after in zip(keeps, packed["some"], back["some"], strict=True):
        assert small.bits.dtype == np.uint8
        assert small.bits.shape == (-(-before.size // 8),)
        assert after.dtype == bool
        np.testing.assert_array_equal(after, before)


@given(leaves)
def test_bits_are_in_row_major_order_lowest_first(keep):
    packed = masks.pack({"w": keep})["w"]
    found = [packed.bits[i // 8] >> (i % 8) & 1 for i in range(keep.size)]
    assert found == [int(x) for x in keep.ravel()]


def test_jitted_as_on_the_host():
    keep = np.random.default_rng(0).random((7, 5)) < 0.3
    tree = {"w": keep, "bias": optax.MaskedNode()}
    on_device = jax.jit(masks.pack)(tree)
    np.testing.assert_array_equal(on_device["w"].bits, masks.pack(tree)["w"].bits)
    assert on_device["w"].shape == (7, 5)
    back = jax.jit(masks.unpack)(on_device)
    np.testing.assert_array_equal(back["w"], keep)
    assert isinstance(back["bias"], optax.MaskedNode)


def test_only_masks_are_packed():
    with pytest.raises(MaskError, match=r"a/w holds int64\[3\], not a bool mask"):
        masks.pack({"a": {"w": np.arange(3)}})
