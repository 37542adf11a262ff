"""Masks in a file: one safetensors file, a bit a weight, readable without the parameters.

Each mask is a U8 tensor, the bits of `packing.Packed`, named by its path. The one metadata entry holds every
path with its shape (null where nothing is masked), what the writer says about the masks, and a SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from safetensors.numpy import save

from deeplight_jax.errors import MaskError
from deeplight_jax.files import replacing
from deeplight_jax.sparsity.algebra import check_alike, is_unmasked, leaves_by_path, path_of
from deeplight_jax.sparsity.components import Masks
from deeplight_jax.sparsity.maskbits import ENTRY, FORMAT, digest, read_by_path
from deeplight_jax.sparsity.packing import pack


def write_masks(file: str | Path, masks: Masks, about: Mapping[str, Any] | None = None) -> None:
    """Write a mask tree of nested dicts, whole or not at all; equal masks give equal bytes.

    Args:
      file: replaced if it exists.
      masks: bool arrays and `optax.MaskedNode`s in nested dicts, as Flax makes them.
      about: JSON-able facts to keep with them.

    Raises:
      MaskError: the tree holds other containers or other leaves, or the file cannot be written.
    """
    file = Path(file)
    if not file.name:
        raise MaskError(f"cannot write {file}: it names no file")
    check_alike(masks)
    _check_nested_dicts(masks)
    leaves = leaves_by_path(masks)
    masked = {path: keep for path, keep in leaves.items() if not is_unmasked(keep)}
    shapes = {path: list(keep.shape) if path in masked else None for path, keep in leaves.items()}
    packed = {path: np.asarray(pack(keep).bits) for path, keep in masked.items()}
    header = {"format": FORMAT, "masks": shapes, "about": dict(about or {})}
    header["sha256"] = digest(header, packed)
    content = save(packed, {ENTRY: json.dumps(header)})
    try:
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise MaskError(f"cannot write {file} ({error.strerror}); name another place") from error


def read_masks(file: str | Path) -> tuple[Masks, dict[str, Any]]:
    """Masks as nested dicts of numpy bools, and what was said about them.

    Raises:
      MaskError: the file is missing, damaged, or holds no masks.
    """
    masks, about = read_by_path(file)
    return nested({path: optax.MaskedNode() if keep is None else keep for path, keep in masks.items()}), about


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of leaves by path."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree


def _check_nested_dicts(masks: Masks) -> None:
    """Refuse trees that their paths alone cannot give back."""
    flat, _ = jax.tree_util.tree_flatten_with_path(masks, is_leaf=is_unmasked)
    for path, _ in flat:
        names = [key.key if isinstance(key, jax.tree_util.DictKey) else None for key in path]
        if not names or not all(isinstance(name, str) and "/" not in name for name in names):
            raise MaskError(f"{path_of(path) or 'the root'} cannot be written: a file holds nested dicts "
                            "whose names have no '/'; convert the tree to such")  # fmt: skip
