"""Masks at a bit a weight: 13.7 million take 1.7 MB."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deeplight_jax.sparsity.algebra import check_alike
from deeplight_jax.sparsity.components import Masks


@partial(jax.tree_util.register_dataclass, data_fields=["bits"], meta_fields=["shape"])
@dataclass(frozen=True)
class Packed:
    """One packed mask.

    Attributes:
      bits: u8[ceil(size / 8)]; weight i, in row-major order, is bit i % 8 (lowest first) of byte i // 8.
      shape: of the mask.
    """

    bits: Any
    shape: tuple[int, ...]


def pack(masks: Masks) -> Any:
    """The same tree with a `Packed` in place of each bool array, on the device where it was; may be jitted.

    Raises:
      MaskError: a leaf is not a bool mask; its path is named.
    """
    check_alike(masks)
    return jax.tree.map(
        lambda keep: Packed(_of(keep).packbits(keep.reshape(-1), bitorder="little"), tuple(keep.shape)), masks
    )


def unpack(packed: Any) -> Masks:
    """The masks that `pack` was given."""
    return jax.tree.map(_unpack, packed, is_leaf=lambda x: isinstance(x, Packed))


def _unpack(leaf: Packed) -> Any:
    bits = _of(leaf.bits).unpackbits(leaf.bits, count=math.prod(leaf.shape), bitorder="little")
    return bits.astype(bool).reshape(leaf.shape)


def _of(array: Any) -> Any:
    """The module whose functions take this array: JAX's for what lives on a device or is traced."""
    return jnp if isinstance(array, jax.Array) else np
