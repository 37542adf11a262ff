"""Mask trees as sets: the laws of sets, counts that add up, oracles in loops, and mistakes named by path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deeplight_jax as dl
from deeplight_jax.errors import MaskError
from deeplight_jax.sparsity.algebra import complete

SHAPES = {"a": (4, 3), "r": (6,), "s": ()}
masks = dl.masks


def tree(seed, kept=0.5):
    """A mask tree of numpy bools, with a leaf that has no mask."""
    rng = np.random.default_rng(seed)
    a, r, s = (np.asarray(rng.random(shape) < kept) for shape in SHAPES.values())
    return {"deep": {"a": a, "bias": optax.MaskedNode()}, "r": [r, s]}


trees = st.builds(tree, st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def bits(mask_tree):
    return [bool(bit) for leaf in jax.tree.leaves(mask_tree) for bit in np.ravel(leaf)]


@given(trees, trees, trees)
def test_laws_of_sets(a, b, c):
    union, intersect, xor = masks.union, masks.intersect, masks.xor
    assert equal(union(a, b), union(b, a))
    assert equal(union(a, b, c), union(a, union(b, c)))
    assert equal(intersect(a, b, c), intersect(intersect(a, b), c))
    assert equal(intersect(a, union(b, c)), union(intersect(a, b), intersect(a, c)))
    assert equal(union(a, intersect(a, b)), a)
    assert equal(xor(a, b), xor(union(a, b), intersect(a, b)))
    assert equal(xor(xor(a, b), b), a)
    assert equal(masks.majority(a, b, c), union(intersect(a, b), intersect(a, c), intersect(b, c)))
    assert equal(masks.majority(a), a)
    assert equal(masks.majority(a, b), intersect(a, b))  # a tie is pruned


@given(st.lists(trees, min_size=1, max_size=6))
def test_operations_are_those_of_a_loop(many):
    columns = list(zip(*map(bits, many), strict=True))
    assert bits(masks.union(*many)) == [any(c) for c in columns]
    assert bits(masks.intersect(*many)) == [all(c) for c in columns]
    assert bits(masks.majority(*many)) == [sum(c) > len(c) / 2 for c in columns]


def counted(a, b):
    """(both, only a, only b, neither, expected by chance) of two bool arrays, one weight at a time."""
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for x, y in zip(np.ravel(a), np.ravel(b), strict=True):
        counts[bool(x), bool(y)] += 1
    both, only_a, only_b, neither = counts.values()
    n = both + only_a + only_b + neither
    return both, only_a, only_b, neither, n * ((both + only_a) / n) * ((both + only_b) / n)


@given(trees, trees)
def test_diff_is_that_of_a_loop_and_adds_up(a, b):
    found = masks.diff(a, b)
    assert list(found) == ["deep/a", "r/0", "r/1"]
    for overlap, x, y in zip(found.values(), jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert overlap[:4] == counted(x, y)[:4]
        assert overlap.by_chance == pytest.approx(counted(x, y)[4])
        assert overlap.size == x.size
        assert overlap.both + overlap.only_a == x.sum()
        assert overlap.both + overlap.only_b == y.sum()
        assert 0 <= overlap.jaccard <= 1
        assert 0 <= overlap.chance <= 1
    whole = masks.total(found.values())
    assert whole.size == len(bits(a))
    either = sum(x or y for x, y in zip(bits(a), bits(b), strict=True))
    both = sum(x and y for x, y in zip(bits(a), bits(b), strict=True))
    assert whole.jaccard == (both / either if either else 1.0)
    assert float(masks.jaccard(a, b)) == pytest.approx(whole.jaccard, rel=1e-6)
    mirrored = masks.diff(b, a)["deep/a"]
    assert mirrored.jaccard == found["deep/a"].jaccard
    assert (mirrored.only_a, mirrored.only_b) == (found["deep/a"].only_b, found["deep/a"].only_a)


def test_chance_is_what_independent_random_masks_overlap():
    rng = np.random.default_rng(0)
    a, b = ({"w": rng.random(400_000) < kept} for kept in (0.3, 0.1))
    overlap = masks.diff(a, b)["w"]
    assert overlap.chance == pytest.approx(0.3 * 0.1 / (0.3 + 0.1 - 0.3 * 0.1), rel=0.02)
    assert overlap.jaccard == pytest.approx(overlap.chance, rel=0.03)
    layers = {"v": np.ones(10, bool), "w": np.zeros(90, bool)}
    assert masks.total(masks.diff(layers, layers).values()).chance == 1.0  # rates of 0 and 1 leave no choice
    assert masks.total([]).jaccard == 1.0


def test_jitted_as_on_the_host():
    a, b, c = tree(0), tree(1), tree(2)
    for function in (masks.union, masks.intersect, masks.majority):
        assert equal(jax.jit(function)(a, b, c), function(a, b, c))
        assert isinstance(function(a, b, c)["deep"]["a"], np.ndarray)  # the host's arrays stay there
    assert equal(jax.jit(masks.xor)(a, b), masks.xor(a, b))
    assert float(jax.jit(masks.jaccard)(a, b)) == float(masks.jaccard(a, b))


def test_from_params():
    params = {"w": jnp.array([0.0, -0.0, 1e-30, jnp.nan]), "bias": jnp.ones(2)}
    found = masks.from_params(params, {"w": "dnn", "bias": ""})
    np.testing.assert_array_equal(found["w"], [False, False, True, True])
    assert isinstance(found["bias"], optax.MaskedNode)
    with pytest.raises(MaskError, match="trees differ at bias: no mask in the parameters, nothing in the"):
        masks.from_params(params, {"w": "dnn"})


def test_trees_that_do_not_fit_are_named_by_path():
    a = tree(0)
    assert equal(masks.union(a), a)
    for change, message in (
        ({"r": [a["r"][0][:5], a["r"][1]]}, r"at r/0: bool\[6\] in the first, bool\[5\] in tree 3"),
        ({"r": [a["r"][0]]}, r"at r/1: bool\[\] in the first, nothing in tree 3"),
        ({"deep": {"a": a["deep"]["a"], "bias": np.ones(2, bool)}}, r"bias: no mask in the first, bool\[2\]"),
        ({"more": np.ones(2, bool)}, r"at more: nothing in the first, bool\[2\] in tree 3"),
        ({"r": tuple(a["r"])}, r"differ in their containers: .*\[\*, \*\].*in the first, .*\(\*, \*\)"),
    ):
        with pytest.raises(MaskError, match=message):
            masks.union(a, a, {**a, **change})
    with pytest.raises(MaskError, match=r"w holds float32\[2\], not a bool mask; from_params"):
        masks.diff({"w": jnp.ones(2)}, {"w": jnp.ones(2)})


def test_complete_fills_what_was_not_pruned():
    like = {"w": jax.ShapeDtypeStruct((2, 2), jnp.float32), "r": jnp.ones(3), "bias": jnp.ones(2)}
    labels = {"w": "dnn", "r": "field", "bias": ""}
    given = {"w": np.eye(2, dtype=bool), "r": optax.MaskedNode(), "bias": optax.MaskedNode()}
    filled = complete(given, like, labels)
    assert equal(filled, {"w": np.eye(2, dtype=bool), "r": np.ones(3, bool), "bias": optax.MaskedNode()})
    assert equal(complete({}, like, labels), complete(filled, like, labels) | {"w": np.ones((2, 2), bool)})
    for change, message in (
        ({"w": np.ones((2, 3), bool)}, r"at w: bool\[2, 3\] in the masks, bool\[2, 2\] in the model"),
        ({"bias": np.ones(2, bool)}, r"at bias: bool\[2\] in the masks, no mask in the model"),
        ({"v": np.ones(2, bool)}, "v has a mask, but the model has no such parameter"),
    ):
        with pytest.raises(MaskError, match=message):
            complete({**given, **change}, like, labels)
