"""Scores of a compact structure by NumPy alone: what serves where the native engine was not built."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from deeplight_jax.serving.structure import Compact

_CHUNK_ROWS = 2048  # rows scored together: what they need stays near the processor


class _Dense(NamedTuple):
    """The structure's matrices as BLAS wants them; NumPy has no faster loop over non-zeros."""

    quadratic: np.ndarray | None  # f32[input, input]
    kernels: list[np.ndarray]  # f32[input, unit] of each hidden layer


def forward(compact: Compact) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function of checked ids i32[row, categorical] and values f32[row, numeric] to logits f32[row].

    Cost: the dense multiply-adds of the live units; 4 inputs^2 bytes for field pairs.
    """
    quadratic = compact.quadratic.dense() if len(compact.quadratic.values) else None
    dense = _Dense(quadratic, [np.ascontiguousarray(layer.weights.dense().T) for layer in compact.layers])

    def logits(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        out = np.empty(len(ids), np.float32)
        for start in range(0, len(ids), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            out[chunk] = _chunk(compact, dense, ids[chunk], values[chunk])
        return out

    return logits


def _chunk(compact: Compact, dense: _Dense, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    numeric, dim, rows = len(compact.schema.numeric), compact.dim, len(ids)
    taken, own = compact.rows(ids + compact.schema.offsets), compact.rows(np.arange(numeric))
    e = taken[:, :, :dim]
    z = np.concatenate([values, e.reshape(rows, -1)], axis=1)
    out = compact.bias + taken[:, :, dim].sum(axis=1) + values @ own[:, dim]
    if dense.quadratic is not None:
        out += np.einsum("bi,bi->b", z @ dense.quadratic, z)
    needs_fields = compact.all_pairs or compact.net_input in ("pooled", "products")
    if needs_fields:
        e = np.concatenate([values[:, :, None] * own[:, :dim], e], axis=1)
    pooled = 0.5 * (np.square(e.sum(axis=1)) - np.square(e).sum(axis=1)) if needs_fields else z[:, :0]
    if compact.all_pairs:
        out += pooled.sum(axis=1)
    if compact.net_input == "none":
        return out
    first, second = compact.products.T
    x = {
        "inputs": lambda: z,
        "pooled": lambda: pooled,
        "products": lambda: np.einsum("bpk,bpk->bp", e[:, first], e[:, second]),
    }[compact.net_input]()
    for kernel, layer in zip(dense.kernels, compact.layers, strict=True):
        x = np.maximum(x @ kernel + layer.bias, 0)
    return out + x @ compact.output
