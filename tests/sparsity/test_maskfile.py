"""Files of masks: exact, small, the same bytes for the same masks, and mistakes named."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save_file

import deeplight_jax as dl
from deeplight_jax.errors import MaskError

write_masks, read_masks = dl.masks.write_masks, dl.masks.read_masks
names = st.text(
    st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4
)
leaves = arrays(bool, array_shapes(min_dims=0, max_dims=3, max_side=9)) | st.builds(optax.MaskedNode)
trees = st.recursive(
    st.dictionaries(names, leaves, min_size=1, max_size=3),
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=4,
)


@given(trees)
def test_round_trip(tmp_path_factory, tree):
    file = tmp_path_factory.mktemp("masks") / "m.safetensors"
    write_masks(file, tree, {"runs": ["a@3"]})
    back, about = read_masks(file)
    assert about == {"runs": ["a@3"]}
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for before, after in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert after.dtype == bool
        np.testing.assert_array_equal(after, before, strict=True)
    first = file.read_bytes()
    write_masks(file, back, about)
    assert file.read_bytes() == first
    assert [p.name for p in file.parent.iterdir()] == ["m.safetensors"]


def test_device_arrays_take_a_bit_each(tmp_path):
    keep = jnp.arange(800_000).reshape(1000, 800) % 3 == 0
    write_masks(tmp_path / "m.safetensors", {"w": keep, "bias": optax.MaskedNode()})
    assert (tmp_path / "m.safetensors").stat().st_size < 100_300
    np.testing.assert_array_equal(read_masks(tmp_path / "m.safetensors")[0]["w"], keep)


def test_what_cannot_be_written_is_named(tmp_path):
    keep = np.ones(3, bool)
    for tree, message in (
        ({"a": [keep]}, "a/0 cannot be written: a file holds nested dicts"),
        ({"a/b": keep}, "a/b cannot be written"),
        (keep, "the root cannot be written"),
        ({"a": {"w": np.ones(3)}}, r"a/w holds float64\[3\], not a bool mask"),
    ):
        with pytest.raises(MaskError, match=message):
            write_masks(tmp_path / "m.safetensors", tree)
    with pytest.raises(MaskError, match=r"cannot write .*none/m.safetensors \(No such file"):
        write_masks(tmp_path / "none" / "m.safetensors", {"a": keep})
    with pytest.raises(MaskError, match=r"cannot write \.: it names no file"):
        write_masks(".", {"a": keep})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "m.safetensors"
    with pytest.raises(MaskError, match=r"cannot read masks from .*m.safetensors .*merge"):
        read_masks(file)
    write_masks(file, {"a": np.ones(30, bool)})
    whole = file.read_bytes()
    for damaged in (
        whole[:-1],
        whole[:9],
        b"",
        whole.replace(b"[30]", b"[99]"),
        whole.replace(b"[30]", b'"30"'),
    ):
        file.write_bytes(damaged)
        with pytest.raises(MaskError, match="cannot read masks from"):
            read_masks(file)
    for metadata in (None, {"deeplight_masks": json.dumps({"format": 2})}, {"deeplight_masks": "[]"}):
        save_file({"a": np.ones(3, np.uint8)}, file, metadata)
        with pytest.raises(MaskError, match="cannot read masks from"):
            read_masks(file)
