"""Mask trees as sets of kept weights: union, intersection, majority, and how two of them differ.

Trees are compared leaf by leaf, so they must have one structure and one shape at each leaf. Every function
works on the trees of any optax project; those that return masks keep NumPy arrays NumPy and may be jitted.
"""

from __future__ import annotations

import operator
from functools import reduce
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deeplight_jax.errors import MaskError
from deeplight_jax.sparsity.components import UNPRUNED, Labels, Masks
from deeplight_jax.sparsity.overlap import Overlap, overlap_of


def from_params(params: Any, labels: Labels) -> Masks:
    """Masks that keep what is not zero, as pruned parameters show them.

    Args:
      params: pytree of arrays.
      labels: pytree of component codes, structured as `params`; "" has no mask.

    Raises:
      MaskError: `labels` has another structure; the first differing path is named.
    """
    _check_paths(params, labels)
    return jax.tree.map(lambda p, code: optax.MaskedNode() if code == UNPRUNED else p != 0, params, labels)


def union(first: Masks, *rest: Masks) -> Masks:
    """Keeps what any of the trees keeps.

    Raises:
      MaskError: trees of different structure or shapes; the first differing path is named.
    """
    return _combine(operator.or_, first, rest)


def intersect(first: Masks, *rest: Masks) -> Masks:
    """Keeps what all of the trees keep; raises as `union` does."""
    return _combine(operator.and_, first, rest)


def xor(first: Masks, second: Masks) -> Masks:
    """Keeps what exactly one of the two trees keeps; raises as `union` does."""
    return _combine(operator.xor, first, (second,))


def majority(first: Masks, *rest: Masks) -> Masks:
    """Keeps what more than half of the trees keep, so a tie is pruned; raises as `union` does."""
    check_alike(first, *rest)
    return jax.tree.map(
        lambda *keeps: 2 * sum(k.astype(np.int32) for k in keeps) > len(keeps), first, *rest
    )  # fmt: skip


def jaccard(a: Masks, b: Masks) -> jax.Array:
    """f32[], kept in both / kept in either over all leaves together, 1 where nothing is kept; may be jitted.

    Counts are i32, so at most 2^31 - 1 weights. Raises as `union` does.
    """
    both = _count(intersect(a, b))
    either = _count(union(a, b))
    return jnp.where(either == 0, 1.0, both / jnp.maximum(either, 1))


def diff(a: Masks, b: Masks) -> dict[str, Overlap]:
    """How two mask trees differ, by the path of each masked leaf ("deep/hidden_0/kernel"); see `total`.

    Raises:
      MaskError: trees of different structure or shapes; the first differing path is named.

    Cost:
      Copies both to the host; three passes over their bools.
    """
    check_alike(a, b)
    theirs = leaves_by_path(b)
    return {
        path: overlap_of(np.asarray(keep), np.asarray(theirs[path]))
        for path, keep in leaves_by_path(a).items()
        if not is_unmasked(keep)
    }


def complete(masks: Masks, like: Any, labels: Labels) -> Masks:
    """Masks for every labelled leaf: the given ones, and all True where a component was not pruned.

    Args:
      masks: mask tree; leaves may be unmasked that `labels` give a component.
      like: parameters, or their `jax.ShapeDtypeStruct`s.
      labels: component codes, structured as `like`.

    Raises:
      MaskError: `masks` do not fit `like`, or mask a leaf that has no component; the first path is named.
    """
    given, known = leaves_by_path(masks), leaves_by_path(like)
    if strange := [path for path in given if path not in known]:
        raise MaskError(f"{strange[0]} has a mask, but the model has no such parameter")

    def blank(leaf: Any, code: str) -> Any:
        return optax.MaskedNode() if code == UNPRUNED else jax.ShapeDtypeStruct(leaf.shape, np.dtype(bool))

    def fill(path: Any, leaf: Any, code: str) -> Any:
        keep = given.get(path_of(path), optax.MaskedNode())
        if code != UNPRUNED and is_unmasked(keep):
            return np.ones(leaf.shape, bool)
        return keep

    filled = jax.tree_util.tree_map_with_path(fill, like, labels)
    _check_leaves(filled, jax.tree.map(blank, like, labels), "the masks", "the model")
    return filled


def check_alike(first: Masks, *rest: Masks) -> None:
    """Refuse mask trees of different structure or shapes, and leaves that are no masks.

    Raises:
      MaskError: naming the first differing path and what each side has there.
    """
    for path, leaf in leaves_by_path(first).items():
        if not is_unmasked(leaf) and getattr(leaf, "dtype", None) != np.dtype(bool):
            raise MaskError(f"{path} holds {_describe(leaf)}, not a bool mask; from_params makes masks")
    for number, other in enumerate(rest, start=2):
        _check_leaves(first, other, "the first", f"tree {number}")


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """Leaves and `optax.MaskedNode`s by path, in the tree's order."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_unmasked)
    return {path_of(path): leaf for path, leaf in flat}


def is_unmasked(leaf: Any) -> bool:
    """Whether a mask tree has no mask here."""
    return isinstance(leaf, optax.MaskedNode)


def path_of(path: Any) -> str:
    """A leaf's path as text: "deep/hidden_0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _combine(function: Any, first: Masks, rest: tuple[Masks, ...]) -> Masks:
    check_alike(first, *rest)
    return jax.tree.map(lambda *keeps: reduce(function, keeps), first, *rest)


def _count(masks: Masks) -> jax.Array:
    return sum((jnp.sum(k, dtype=jnp.int32) for k in jax.tree.leaves(masks)), jnp.int32(0))


def _check_paths(tree: Any, labels: Labels) -> None:
    """As `_check_leaves`, whatever the leaves are."""
    a, b = (jax.tree.map(lambda _: optax.MaskedNode(), t) for t in (tree, labels))
    _check_leaves(a, b, "the parameters", "the labels")


def _check_leaves(a: Any, b: Any, name_a: str, name_b: str) -> None:
    ours, theirs = leaves_by_path(a), leaves_by_path(b)
    for one, other in zip_longest(ours, theirs):
        path = one if one is not None and (one == other or one not in theirs) else other
        has_a, has_b = (_describe(t[path]) if path in t else "nothing" for t in (ours, theirs))
        if has_a != has_b:
            raise MaskError(f"trees differ at {path}: {has_a} in {name_a}, {has_b} in {name_b}")
    if jax.tree.structure(a) != jax.tree.structure(b):
        raise MaskError(f"trees differ in their containers: {_containers(a)} in {name_a}, "
                        f"{_containers(b)} in {name_b}")  # fmt: skip


def _describe(leaf: Any) -> str:
    if is_unmasked(leaf):
        return "no mask"
    return f"{getattr(leaf, 'dtype', type(leaf).__name__)}{list(np.shape(leaf))}"


def _containers(tree: Any) -> str:
    return str(jax.tree.structure(tree)).removeprefix("PyTreeDef(").removesuffix(")")
