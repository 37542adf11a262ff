"""Masks of a file of `sparsity.maskfile` by path; knows NumPy alone, so reading them starts no JAX."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from deeplight_jax.errors import MaskError

ENTRY, FORMAT = "deeplight_masks", 2  # a single entry: safetensors writes several in no fixed order


def read_by_path(file: str | Path) -> tuple[dict[str, np.ndarray | None], dict[str, Any]]:
    """bool masks by path, None where nothing is masked, and what was said about them.

    Raises:
      MaskError: the file is missing, damaged, or holds no masks.
    """
    try:
        with safe_open(str(file), framework="numpy") as found:
            header = json.loads((found.metadata() or {}).get(ENTRY, "{}"))
            if header.get("format") not in (1, FORMAT):  # 1: without a digest
                raise ValueError(f"it holds no masks of format {FORMAT}")
            bits = {path: found.get_tensor(path) for path, s in header["masks"].items() if s is not None}
        if header["format"] != 1 and header.pop("sha256") != digest(header, bits):
            raise ValueError("it is damaged: its SHA-256 differs from what it was written with")
        shapes = header["masks"].items()
        masks = {path: None if shape is None else _mask(bits[path], shape) for path, shape in shapes}
        return masks, header["about"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaskError(
            f"cannot read masks from {file} ({error}); `deeplight masks merge` writes such files"
        ) from error


def digest(header: Mapping[str, Any], bits: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of what a file says (but for this digest) and of every mask's bits, by path."""
    about = json.loads(json.dumps({key: header[key] for key in ("format", "masks", "about")}))
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for path in sorted(bits):
        found.update(bits[path].tobytes())
    return found.hexdigest()


def _mask(bits: np.ndarray, shape: list[int]) -> np.ndarray:
    size = math.prod(shape)
    if bits.dtype != np.uint8 or bits.shape != (-(-size // 8),):
        raise ValueError(f"{bits.dtype}{list(bits.shape)} cannot be the bits of {shape}")
    return np.unpackbits(bits, count=size, bitorder="little").view(bool).reshape(shape)
