"""The native engine, where it was built: `load` hands a compact structure to the C++ kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from deeplight_jax.serving.structure import Compact, Csr

_deeplight: Any
try:
    from deeplight_jax.serving.native import _deeplight  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:  # no compiler when the package was installed
    _deeplight = None

LEVELS = ("avx512", "avx2", "portable")
OUT_OF_MEMORY = 3  # DL_MEMORY of deeplight.h
_NET_INPUT = {"none": 0, "inputs": 1, "pooled": 2, "products": 3}  # DL_NET_... of deeplight.h


def available() -> bool:
    """Whether the native engine was built."""
    return _deeplight is not None


def load(compact: Compact, level: str | None = None) -> tuple[Callable[..., int], str]:
    """A structure's native scorer and the vector level that it uses.

    Args:
      compact: checked; its table is read in place, everything else is copied.
      level: one of `LEVELS`; by default the best of this processor.

    Returns:
      `score(ids, values, out, probabilities)`, C-contiguous i32[row, categorical], f32[row, numeric] and
      f32[row] to be filled; it returns 0, or another number if a row cannot be scored. Threads may share it.

    Raises:
      ValueError: the level is not there, or the structure points outside itself.
    """
    about = (
        len(compact.schema.numeric),
        compact.dim,
        compact.table.shape[1],
        float(compact.bias[0]),
        int(compact.all_pairs),
        _NET_INPUT[compact.net_input],
    )
    handle = _deeplight.load(
        level,
        np.array([f.size for f in compact.schema.categorical], np.int32),
        compact.table,
        about,
        _csr(compact.quadratic),
        compact.products,
        tuple((_csr(layer.weights), layer.bias) for layer in compact.layers),
        compact.output,
    )
    return partial(_deeplight.score, handle), _deeplight.level(handle)


def _csr(matrix: Csr) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    return matrix.indptr, matrix.indices, matrix.values, matrix.columns
