"""A model's field-pair weights R as one number a pair."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplight_jax.data.schema import Schema, field_pairs
from deeplight_jax.sparsity.algebra import leaves_by_path
from deeplight_jax.sparsity.components import Labels


def pair_weights(params: Any, labels: Labels, schema: Schema) -> np.ndarray | None:
    """The weight of every field pair.

    Args:
      params: of a model, projected or not.
      labels: their component codes.
      schema: its fields.

    Returns:
      f64[pair], in the order of `Schema.pairs`: R_ij; of R as n x n, 0.5(R_ij + R_ji); of FmFM's matrices,
      their Frobenius norm. None where the model has no component R.
    """
    leaves = leaves_by_path(params)
    paths = [path for path, code in leaves_by_path(labels).items() if code == "field"]
    if not paths:
        return None
    r = np.asarray(leaves[paths[0]], np.float64)
    first, second = field_pairs(schema.num_fields)
    if r.shape == (schema.num_fields, schema.num_fields):
        return (0.5 * (r + r.T))[first, second]
    return np.sqrt(np.sum(r**2, axis=(1, 2))) if r.ndim == 3 else r
