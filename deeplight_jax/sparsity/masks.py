"""Keep-masks as pytrees: chosen from parameters, applied to them, counted. The public module `dl.masks`.

A mask tree has the parameters' structure: a bool array (True = keep) at each leaf of a pruned component and
`optax.MaskedNode()` elsewhere. Set algebra, bit-packing and files of masks have modules of their own and are
named here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deeplight_jax.sparsity.algebra import diff as diff
from deeplight_jax.sparsity.algebra import from_params as from_params
from deeplight_jax.sparsity.algebra import intersect as intersect
from deeplight_jax.sparsity.algebra import is_unmasked
from deeplight_jax.sparsity.algebra import jaccard as jaccard
from deeplight_jax.sparsity.algebra import majority as majority
from deeplight_jax.sparsity.algebra import union as union
from deeplight_jax.sparsity.algebra import xor as xor
from deeplight_jax.sparsity.choices import marks_on, pools_of, smallest_of_groups
from deeplight_jax.sparsity.components import UNPRUNED, Component, Labels
from deeplight_jax.sparsity.components import Masks as Masks
from deeplight_jax.sparsity.maskfile import read_masks as read_masks
from deeplight_jax.sparsity.maskfile import write_masks as write_masks
from deeplight_jax.sparsity.overlap import Overlap as Overlap
from deeplight_jax.sparsity.overlap import total as total
from deeplight_jax.sparsity.packing import Packed as Packed
from deeplight_jax.sparsity.packing import pack as pack
from deeplight_jax.sparsity.packing import unpack as unpack
from deeplight_jax.sparsity.summary import MaskSummary as MaskSummary
from deeplight_jax.sparsity.summary import summarize as summarize
from deeplight_jax.sparsity.threshold import smallest

Params = Any


class Count(NamedTuple):
    """Parameters of one component: `rate` = 1 - nonzero / total."""

    total: int
    nonzero: int

    @property
    def rate(self) -> float:
        return 1 - self.nonzero / self.total if self.total else 0.0


def full_masks(params: Params, labels: Labels, components: Sequence[Component]) -> Masks:
    """Masks that keep everything."""
    codes = {c.code for c in components}
    return jax.tree.map(
        lambda p, label: jnp.ones(p.shape, bool) if label in codes else optax.MaskedNode(), params, labels
    )


def select_masks(
    params: Params,
    labels: Labels,
    components: Sequence[Component],
    rates: Mapping[str, jax.typing.ArrayLike],
    *,
    signed: bool = False,
) -> Masks:
    """Keeps the largest magnitudes of every component (Algorithm 1, line 7).

    Args:
      params: pytree of float arrays: parameters, or scores of them.
      labels: pytree of component codes, structured as `params`.
      components: those to prune.
      rates: fraction to prune by component code, f32[] each; may be traced. round(rate * size) weights
        are pruned, exactly (of rows, units or groups of M: as many of these).
      signed: keep the largest values, not magnitudes.

    Returns:
      Masks, structured as `params`.
    """
    leaves, treedef = jax.tree.flatten(params)
    codes = treedef.flatten_up_to(labels)
    masks: list[Any] = [optax.MaskedNode()] * len(leaves)
    for component in components:
        members = [i for i, code in enumerate(codes) if code == component.code]
        pruned = _smallest(component, [leaves[i] for i in members], rates[component.code], signed)
        for i, marks in zip(members, pruned, strict=True):
            masks[i] = ~marks
    return treedef.unflatten(masks)


def _smallest(
    component: Component, leaves: Sequence[jax.Array], rate: jax.typing.ArrayLike, signed: bool
) -> list[jax.Array]:
    """Marks of what a component prunes of its leaves."""
    if component.group:
        return [smallest_of_groups(x, component.group, rate, signed=signed) for x in leaves]
    pools = pools_of(component, leaves, signed)
    marked = [smallest(pool, count_at(rate, sum(x.size for x in pool)), signed=signed) for pool in pools]
    return marks_on(component, marked, leaves)


def apply_masks(params: Params, masks: Masks) -> Params:
    """Parameters with pruned weights at zero; leaves without a mask pass unchanged."""
    return map_masked(lambda keep, p: jnp.where(keep, p, jnp.zeros_like(p)), masks, params)


def map_masked(function: Any, masks: Masks, tree: Any, *rest: Any) -> Any:
    """`function(keep, leaf, ...)` at masked leaves, the leaf of `tree` elsewhere."""
    return jax.tree.map(
        lambda keep, leaf, *more: leaf if is_unmasked(keep) else function(keep, leaf, *more),
        masks,
        tree,
        *rest,
        is_leaf=is_unmasked,
    )


def count_components(params: Params, labels: Labels) -> dict[str, Count]:
    """Total and non-zero weights by component code, the unpruned rest as "other"; copies to the host."""
    leaves, treedef = jax.tree.flatten(params)
    counts: dict[str, Count] = {}
    for leaf, code in zip(leaves, treedef.flatten_up_to(labels), strict=True):
        name = "other" if code == UNPRUNED else code
        before = counts.get(name, Count(0, 0))
        nonzero = int(np.count_nonzero(np.asarray(leaf)))
        counts[name] = Count(before.total + leaf.size, before.nonzero + nonzero)
    return counts


def count_at(rate: jax.typing.ArrayLike, size: int) -> jax.Array:
    """i32[], round(rate * size); f32 rounding moves it by at most 1e-7 of the size."""
    return jnp.round(jnp.asarray(rate, jnp.float32) * size).astype(jnp.int32)
