"""Masks: scopes, exact counts, and what they do to parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplight_jax.errors import ConfigError
from deeplight_jax.sparsity.components import Component
from deeplight_jax.sparsity.masks import apply_masks, count_components, full_masks, map_masked, select_masks

LABELS = {"a": "dnn", "b": "dnn", "r": "field", "t": "embedding", "u": "embedding", "bias": ""}
COMPONENTS = (
    Component("dnn", 0.5, "layer"),
    Component("field", 0.5, "symmetric"),
    Component("embedding", 0.5, "global"),
)


def params(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"a": (6, 5), "b": (5, 4), "r": (15,), "t": (30, 3), "u": (7,), "bias": (5,)}
    scale = {"a": 1.0, "b": 100.0, "t": 1.0, "u": 50.0}
    return {n: jnp.asarray(rng.normal(size=s) * scale.get(n, 1), jnp.float32) for n, s in shapes.items()}


select = jax.jit(lambda tree, rates: select_masks(tree, LABELS, COMPONENTS, rates))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 5))
def test_rates_are_exact_per_scope(d, r, f, seed):
    tree = params(seed)
    masks = select(tree, {"dnn": d / 100, "field": r / 100, "embedding": f / 100})

    def pruned(name):
        return int((~np.asarray(masks[name])).sum())

    assert pruned("a") == round(np.float32(d / 100) * np.float32(30))  # layer: each to its own rate
    assert pruned("b") == round(np.float32(d / 100) * np.float32(20))
    assert pruned("r") == round(np.float32(r / 100) * np.float32(15))
    assert pruned("t") + pruned("u") == round(np.float32(f / 100) * np.float32(97))  # global: together
    assert isinstance(masks["bias"], optax.MaskedNode)
    for name in ("a", "b", "r", "t", "u"):
        keep, magnitude = np.asarray(masks[name]), np.abs(np.asarray(tree[name]))
        if keep.any() and not keep.all():
            assert magnitude[~keep].max() <= magnitude[keep].min()


def test_global_threshold_spans_arrays_and_layer_threshold_does_not():
    tree = params()
    masks = select_masks(tree, LABELS, COMPONENTS, {"dnn": 0.5, "field": 0.0, "embedding": 0.5})
    assert np.asarray(masks["u"]).sum() > 3  # 50 times larger: nearly all kept under one threshold
    assert np.asarray(masks["b"]).sum() == 10  # 100 times larger, and yet half is pruned


def test_symmetric_matrix_keeps_pairs_together():
    w = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    np.fill_diagonal(w, 1e-6)
    masks = select_masks({"r": w}, {"r": "field"}, COMPONENTS[1:2], {"field": 0.5})
    keep = np.asarray(masks["r"])
    np.testing.assert_array_equal(keep, keep.T)
    assert not keep.diagonal().any()  # the smallest go first
    assert abs(int((~keep).sum()) - 0.5 * 81) <= 1  # all n^2 counted, to within one pair
    score = np.abs(w + w.T)
    assert score[~keep].max() <= score[keep].min()


def test_apply_and_map():
    tree = params()
    masks = select_masks(tree, LABELS, COMPONENTS, {"dnn": 0.5, "field": 0.5, "embedding": 0.5})
    out = apply_masks(tree, masks)
    for name, value in tree.items():
        keep = True if name == "bias" else np.asarray(masks[name])
        np.testing.assert_array_equal(out[name], np.where(keep, value, 0))
    untouched = map_masked(lambda keep, p: p, full_masks(tree, LABELS, COMPONENTS), tree)
    jax.tree.map(np.testing.assert_array_equal, untouched, tree)


def test_counts():
    tree = {**params(), "r": jnp.zeros(15)}
    counts = count_components(tree, LABELS)
    assert {k: tuple(v) for k, v in counts.items()} == {
        "dnn": (50, 50), "field": (15, 0), "embedding": (97, 97), "other": (5, 5),
    }  # fmt: skip
    assert counts["field"].rate == 1.0
    assert counts["dnn"].rate == 0.0


def test_a_target_is_a_rate():
    for target in (-0.1, 1.0, 90):
        with pytest.raises(ConfigError, match="not a rate"):
            Component("dnn", target)
